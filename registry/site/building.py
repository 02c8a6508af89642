"""Make the site of a registry in a folder. Pages whose inputs did not change stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from batteries import __version__
from batteries.io import canonical_json
from batteries.io.home import home
from batteries.kept_documents import KeptDocuments
from batteries.text import plain
from registry.answers.site import SiteAnswer
from registry.site import site_templates
from registry.site.cell_page import CellView, cell_page, parents_of
from registry.site.contents import CellEntry, Contents, Entry, PackedEntry
from registry.site.front_page import front_page
from registry.site.links import CARD, FRONT, INDEX_JSON, NO_JEKYLL
from registry.site.packed_page import Cells, cells_of, facts_of, packed_page
from registry.site.pictures import pictures
from registry.site.related import Related, related
from registry.site.signatures import comparable, tokens_of
from registry.site.site_folder import SiteFolder
from registry.site.site_index import site_index
from registry.stores.settings import Mode
from registry.stores.snapshot import open_snapshot
from registry.stores.store import Store

SINGLE = (NO_JEKYLL, CARD, INDEX_JSON, FRONT)  # files of every site
KEPT = "site"  # folder of kept tokens in the cache

Page = tuple[str, str, Callable[[], bytes]]  # file, digest of all that it is made from, and its maker


def build_site(
    out: str | Path,
    registry: str | Path | Store | None = None,
    *,
    address: str | None = None,
    mode: Mode | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SiteAnswer:
    """Make the static site of a registry: a table of its cells, a page for each version, and an index as JSON.

    A page is made again if the bytes or figures that it shows changed, or the code that makes it. New pages take the places of
    old ones when all of them are there; until then the site is the old one. Files in the folder that are not of the site stay.

    Args:
        out: Folder of the site: missing, empty, or that of an earlier site.
        registry: Folder, ``hf://owner/repo[@revision]`` or store; left out, the registry in force.
        address: Address of the registry in commands on the pages; by default its own.
        mode: Whether the network may and must be asked, as for :func:`registry.pull`.
        progress: Callback with the steps done and in total: a cell that is compared, or a file.

    Returns:
        The folder, and how many pages were made, kept and removed.

    Raises:
        InputError: a folder of other files (``NOT_A_SITE``).
        StoreError: no space, no permission, or another process makes this site (``LOCK_TIMEOUT``).
        BatteriesError: a registry that cannot be opened, or bytes that differ from its index: the site stays as it was.

    >>> import registry
    >>> store = registry.MemoryStore()
    >>> published = registry.publish(registry.load("low/fresnel-64"), store)
    >>> registry.build_site("site", store).made  # the cell's page, the front page, index.json and two files for its host
    5
    >>> registry.build_site("site", store).made
    0
    """
    contents = Contents(open_snapshot(registry, mode=mode), address)
    with SiteFolder.opened(Path(out).absolute()) as folder:
        contents.fetch()
        compared = len(contents.cells)
        total = 2 * compared + len(contents.packed) + len(SINGLE)
        pages = _pages(contents, lambda done: progress(done, total))
        made = 0
        for done, (name, made_from, make) in enumerate(pages, compared):
            progress(done, total)
            if not folder.keeps(name, made_from):
                folder.add(name, make(), made_from)
                made += 1
        progress(total, total)
        removed = folder.finish()
    return SiteAnswer.of(
        folder=folder.path,
        front=folder.path / FRONT,
        registry=contents.address,
        number=contents.snapshot.index.number,
        pages=len(pages),
        made=made,
        removed=removed,
    )


def _pages(contents: Contents, progress: Callable[[int], None]) -> list[Page]:
    """Return the files of a site, those that link to others after them; report the cells whose tokens are known."""
    kept = KeptDocuments(home() / KEPT)
    tokens = {}
    for done, entry in enumerate(contents.cells):
        progress(done)
        tokens[entry.reference] = tokens_of(contents, entry, kept)
    relations = related(tokens, contents.cells)
    compared = {reference for reference, found in tokens.items() if found}
    index = site_index(contents, relations).to_bytes()
    front = {"index": canonical_json.sha256(index)}
    return [
        *_cell_pages(contents, relations, compared),
        *_packed_pages(contents, kept),
        _page(contents, NO_JEKYLL, {}, lambda: b""),
        _page(contents, CARD, {}, lambda: space_card(contents.address).encode()),
        _page(contents, INDEX_JSON, front, lambda: index),
        _page(contents, FRONT, front, lambda: front_page(contents, FRONT).encode()),
    ]


def _cell_pages(contents: Contents, relations: Mapping[str, Sequence[Related]], compared: set[str]) -> Iterator[Page]:
    parents = {entry.reference: parents_of(entry.manifest, contents) for entry in contents.cells}
    children: dict[str, list[Entry]] = {}
    for entry in contents.cells:
        for parent in {one.entry.reference for one in parents[entry.reference] if one.entry is not None}:
            children.setdefault(parent, []).append(entry)
    for entry in contents.cells:
        reason = comparable(entry.manifest) or "its tokens are constant, or not finite"
        view = CellView(
            entry,
            contents.versions[entry.path],
            relations[entry.reference],
            None if entry.reference in compared else reason,
            parents[entry.reference],
            children.get(entry.reference, ()),
        )
        pins = {protocol: attested.sha256 for protocol, attested in entry.located.attestations.items()}
        shown = {**view.facts, "manifest": entry.located.release.manifest.sha256, "attestations": pins}
        yield _page(contents, entry.page, shown, partial(_cell, contents, view))


def _cell(contents: Contents, view: CellView) -> bytes:
    entry: CellEntry = view.entry
    return cell_page(contents, view, contents.attestations(entry), pictures(contents.cell(entry))).encode()


def _packed_pages(contents: Contents, kept: KeptDocuments) -> Iterator[Page]:
    for entry in contents.packed:
        cells = cells_of(contents, entry, kept)
        shown = {**facts_of(contents, entry, cells), "manifest": entry.located.release.manifest.sha256}
        yield _page(contents, entry.page, shown, partial(_packed, contents, entry, cells))


def _packed(contents: Contents, entry: PackedEntry, cells: Cells) -> bytes:
    return packed_page(contents, entry, cells).encode()


def _page(contents: Contents, name: str, shown: Mapping[str, object], make: Callable[[], bytes]) -> Page:
    everything = {
        **shown,
        "address": contents.address,
        "signed": contents.signed,
        "package": __version__,
        "code": site_templates.digest(),
        "page": name,
    }
    return name, canonical_json.sha256(canonical_json.dump(everything)), make


def space_card(address: str) -> str:
    """Return the card that makes a repository of the Hub a static Space.

    >>> print(space_card("hf://me/cells").splitlines()[1])
    title: "Cells in hf://me/cells"
    """
    title = json.dumps(f"Cells in {plain(address)}"[:100])
    lines = [
        "---",
        f"title: {title}",
        "emoji: 🔋",
        "colorFrom: blue",
        "colorTo: green",
        "sdk: static",
        f"app_file: {FRONT}",
        "---",
    ]
    words = (
        "The site of a registry of cells, made by `batteries site`. Changes made here by hand are lost when it is made again."
    )
    return "\n".join([*lines, "", words, ""])
