"""Files of a site, and relative links between its pages, so that a site opens from a folder, a disk or below any address."""

from __future__ import annotations

import posixpath
from urllib.parse import quote

FRONT = "index.html"
INDEX_JSON = "index.json"
CARD = "README.md"  # with the front matter of a Space of the Hub
NO_JEKYLL = ".nojekyll"  # Pages then serves every file as it is


def page_of(path: str, version: str) -> str:
    """Return the file of the page of a version.

    >>> page_of("low/fresnel-64", "3.2.0")
    'low/fresnel-64/3.2.0.html'
    """
    return f"{path}/{version}.html"


def link(target: str, page: str) -> str:
    """Return the address of a file, relative to a page of the same site.

    >>> link("low/a/1.0.0+b.html", "index.html"), link("index.html", "low/a/1.0.0.html"), link("low/a/1.html", "low/b/1.html")
    ('low/a/1.0.0%2Bb.html', '../../index.html', '../a/1.html')
    """
    # from a root, since between relative paths relpath asks for the working directory, which may be gone
    return quote(posixpath.relpath(f"/{target}", f"/{posixpath.dirname(page)}"))
