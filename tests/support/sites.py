"""Registries in memory for sites, and readers of their pages."""

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from batteries.cell.cell import Cell
from batteries.text import plain
from registry import MemoryStore
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.release import Attested, Pin, Release
from registry.reports.number_format import number
from registry.site.cell_page import look
from registry.site.contents import Contents
from registry.stores.snapshot import Snapshot

NOTHING = "\N{EN DASH}"
VOID = {"meta", "link", "img", "input", "br"}
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> \"' --></style> {{ 7 * 7 }} \u202egnp\u2066 \u0000 a\u0336 مرحبا 😈"
)


def store_of(cells, attestations=(), yanked=(), number=1):
    """A registry of cells whose figures nothing measured, attested and yanked as given, in one index."""
    store, table, attested = MemoryStore(), {}, {}
    for cell in cells:
        store.put(store_keys.blob(cell.digest), cell.to_bytes())
        store.put(store_keys.manifest(cell.name, cell.version), cell.manifest.to_bytes())
        reason = dict(yanked).get(f"{cell.name}@{cell.version}")
        table.setdefault(cell.name, {})[cell.version] = Release.of(cell.manifest).model_copy(update={"yanked": reason})
    for one in attestations:
        data = one.to_bytes()
        pin = Pin.of(data)
        store.put(store_keys.attestation(one.cell, pin.sha256), data)
        attested.setdefault(one.cell, {})[one.protocol] = Attested(sha256=pin.sha256, size=pin.size, verdict=one.verdict)
    store.swap_index(None, Index(number=number, cells=table, attestations=attested).sealed())
    return store


def contents_of(*cells, **more):
    return Contents(Snapshot.take(store_of(cells, **more)))


def renamed(cell, **identity):
    """The same weights under another identity."""
    manifest = cell.manifest
    return Cell(cell.weights, manifest.model_copy(update={"identity": manifest.identity.model_copy(update=identity)}))


class Page(HTMLParser):
    """A page as a program reads it: fields of the manifest, links, identifiers, and the text of the whole."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.fields = []  # path, text, values
        self.tags, self.links, self.ids, self.titles = [], [], set(), []
        self.text, self.raw, self.rows, self.codes = "", "", [], {}
        self._open, self._reading = [], []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        self.ids |= {given["id"]} if "id" in given else set()
        self.links += [given["href"]] if tag == "a" else []
        if "data-name" in given and given.get("class") == "code":
            self._block = given["data-name"]
        if tag == "tr":
            self.rows.append(given)
        if "data-field" in given:
            self._reading.append([json.loads(given["data-field"]), "", [], len(self._open)])
        if tag == "data" and self._reading:
            self._reading[-1][2].append(given["value"])
        if tag not in VOID:
            self._open.append((tag, given.get("id")))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self._open, f"</{tag}> of nothing"
        assert self._open[-1][0] == tag, (tag, self._open[-3:])
        self._open.pop()
        if self._reading and self._reading[-1][3] == len(self._open):
            path, text, values, _ = self._reading.pop()
            self.fields.append((path, text, values))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_data(self, data):
        if self._open and self._open[-1][0] in ("style", "script"):
            return
        self.text += data
        if self._open and self._open[-1][0] == "code" and len(self._open) > 1 and self._open[-2][0] == "pre":
            self.codes[self._block] = self.codes.get(self._block, "") + data
        for reading in self._reading:
            reading[1] += data
        if self._open and self._open[-1][1] == "raw":
            self.raw += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def count(self, tag):
        return sum(one == tag for one, _ in self.tags)


def differences(html, manifest):
    """Fields that a page shows otherwise than the manifest has them."""
    for path, text, values in Page(html).fields:
        found = look(manifest, path)
        if isinstance(found, bool):
            right = text == ("yes" if found else "no")
        elif isinstance(found, int | float):
            kilobytes = f"{found / 1000:,.0f} KB" if path[-1] == "size" and path[0] == "file" else number(found)
            texts = {kilobytes, number(float(f"{found:.2g}"))} if path[-1] == "standard_error" else {kilobytes}
            right = [type(found)(value) for value in values] == [found] and text in texts
        elif isinstance(found, str):
            right = text == plain(found) or (found == "" and text == NOTHING)
        else:
            right = [float(value) for value in values] == list(found) if values else text == ", ".join(map(plain, found))
        if not right:
            yield path, text, found


def broken_links(folder: Path):
    """Links of a site that lead nowhere, or out of it."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            place, _, fragment = link.partition("#")
            target = (path.parent / unquote(place)).resolve() if place else path
            inside = target.is_relative_to(folder.resolve()) and "//" not in link and not link.startswith("/")
            if not inside or not target.is_file() or (fragment and fragment not in pages[target].ids):
                yield path.relative_to(folder.resolve()).as_posix(), link
