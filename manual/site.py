"""Build of the pages with Sphinx, warnings as errors, and a check of every link in what was built."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SOURCES = Path(__file__).parents[1] / "docs"
LINKS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src", "iframe": "src", "object": "data"}
LOADED = {*LINKS} - {"a"}  # what a browser asks for without a click
EXTERNAL = re.compile(r"https://[a-z0-9.-]+\.[a-z]{2,}(/\S*)?", re.IGNORECASE)


class Page(HTMLParser):
    """Links and anchors of a page.

    Attributes:
        links: Tag and address of each link.
        anchors: Every id.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the id and the address of a tag."""
        found = dict(attrs)
        self.anchors |= {value for value in (found.get("id"), found.get("name") if tag == "a" else None) if value}
        if tag in LINKS and (address := found.get(LINKS[tag])) and found.get("rel") != "canonical":
            self.links.append((tag, address))


def build(folder: Path, sources: Path = SOURCES) -> list[str]:
    """Build the pages into a folder.

    Returns:
        Every fault of a link; a page with a warning, or that cannot be built, is one fault.
    """
    from sphinx.cmd.build import build_main

    if build_main(["-b", "html", "-q", "-E", "-W", "--keep-going", "-d", str(folder / ".doctrees"), str(sources), str(folder)]):
        return [f"{sources}: the build has warnings or errors"]
    return faults(folder)


def faults(folder: Path) -> list[str]:
    """Check the links of every page in a folder.

    A link inside has to lead to a file and an anchor that are there, one outside has to have the form of an HTTPS address, and
    nothing may be loaded from another host.
    """
    pages = {
        path.resolve(): Page(path.read_text()) for path in sorted(folder.rglob("*.html")) if "_downloads" not in path.parts
    }
    return [
        f"{path.relative_to(folder.resolve())}: {fault}" for path, page in pages.items() for fault in _faults(path, page, pages)
    ]


def _faults(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    for tag, address in page.links:
        parts = urlsplit(address)
        if parts.scheme == "data":
            continue
        if parts.scheme or parts.netloc:
            if tag in LOADED:
                yield f"{tag} loads {address}"
            elif parts.scheme != "mailto" and not EXTERNAL.fullmatch(address):
                yield f"not an HTTPS address: {address}"
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_file():
            yield f"no such page or file: {address}"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"no such anchor: {address}"


def anchors(paths: Iterable[Path]) -> set[str]:
    """Return the anchors of some pages."""
    return {anchor for path in paths for anchor in Page(path.read_text()).anchors}
