"""The folder of a site. Its files are written beside the old ones, and take their places when all of them are there.

A hidden file lists the pages with digests of their bytes and of all that they were made from: it tells a site from a foreign
folder, a page that need not be made again, and pages that the registry no longer has. Files that it does not list are kept.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from batteries.cell.manifest import Sha256
from batteries.errors import BatteriesError, InputError, NotFoundError
from batteries.io import atomic_files, folders
from batteries.io.canonical_json import Document, load_document, sha256
from registry.site.links import CARD, FRONT, INDEX_JSON, NO_JEKYLL

STATE = ".batteries-site.json"
LOCK = ".batteries-site.lock"
STAGE = ".batteries-site-new"
MAX_STATE = 2**28
MAX_PAGE = 2**28  # bytes of a page that may be kept
WAIT = 1.0  # seconds for another process that makes the same site
PAGE = re.compile(r"[a-z0-9]+(?:/[A-Za-z0-9_-][^/\\\0]*){2}\.html")  # of a version: page_of
GIT = ".git"  # start of the names that a clone has before it has files


class MadePage(Document):
    """Digests of a page's bytes, and of all that it was made from."""

    sha256: Sha256
    made_from: Sha256


class SiteState(Document):
    """Pages of a site, by file."""

    schema_version: Literal["1.0"] = "1.0"
    pages: dict[str, MadePage]


class SiteFolder:
    """A site that is being made again in its folder.

    Args:
        path: Folder; created if missing.
        state: Pages that the last run made.
    """

    def __init__(self, path: Path, state: SiteState) -> None:
        self.path = path
        self._before = state.pages
        self._pages: dict[str, MadePage] = {}
        self._staged: dict[str, Path] = {}

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path) -> Iterator[SiteFolder]:
        """Open a folder to make a site in it, and close it to other writers.

        Raises:
            InputError: a folder of other files (``NOT_A_SITE``).
            StoreError: no space, no permission, or another process makes this site (``LOCK_TIMEOUT``).
            BatteriesError: a damaged list of pages.
        """
        _state_of(path)  # refuses a foreign folder before anything is written into it
        with atomic_files.lock(path / LOCK, WAIT):
            state = _state_of(path)
            folders.remove(path / STAGE)
            if state is None:
                state = SiteState(pages={})
                atomic_files.replace(path / STATE, state.to_bytes())  # from now on the folder is ours
            try:
                yield cls(path, state)
            finally:
                with contextlib.suppress(BatteriesError):
                    folders.remove(path / STAGE)

    def keeps(self, page: str, made_from: str) -> bool:
        """Return whether a page is there, unchanged, and made from the same; it then stays as it is."""
        before = self._before.get(page)
        if before is None or before.made_from != made_from:
            return False
        path = self.path / page
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_PAGE:  # a pipe would be waited for
                return False
            data = path.read_bytes()  # atomic_files.read takes a page of HTML for a failed download
        except OSError:  # a missing page is made again, as a damaged one is
            return False
        if sha256(data) != before.sha256:
            return False
        self._pages[page] = before
        return True

    def add(self, page: str, data: bytes, made_from: str) -> None:
        """Write a page beside the site."""
        self._staged[page] = self.path / STAGE / str(len(self._staged))
        atomic_files.replace(self._staged[page], data)
        self._pages[page] = MadePage(sha256=sha256(data), made_from=made_from)

    def finish(self) -> int:
        """Put the new pages in their places, in the order in which they were added, and remove the old ones.

        Pages are there before others link to them, if those are added later.

        Returns:
            Number of pages that were removed.

        Raises:
            FormatError: a symbolic link (``SYMLINK``), pipe or device (``NOT_A_FILE``) in the place of a page or of its folder,
                which would lead pages out of the site; no page was written or removed.
            StoreError: no space, no permission, a failing disk.
        """
        self._refuse_special()
        for page, staged in self._staged.items():
            with atomic_files.typed(self.path, writing=True):
                folders.make((self.path / page).parent)
            atomic_files.move(staged, self.path / page)
        gone = [page for page in self._before if page not in self._pages]
        for page in gone:
            self._remove(page)
        atomic_files.replace(self.path / STATE, SiteState(pages=self._pages).to_bytes())
        return len(gone)

    def _refuse_special(self) -> None:
        """Refuse links, pipes and devices in the way of pages: a clone of a site has what its maker put there."""
        pages = [self.path / page for page in (*self._staged, *self._before)]
        for path in {self.path / page for page in self._staged} | {folder for page in pages for folder in page.parents}:
            if path.is_relative_to(self.path) and path != self.path:
                atomic_files.refuse_special(path)

    def _remove(self, page: str) -> None:
        """Remove a page, and its folders where they are empty then."""
        atomic_files.remove(self.path / page)
        for folder in (self.path / page).parents:
            if folder == self.path:
                return
            try:
                folder.rmdir()
            except OSError:  # other files are in it
                return


def _state_of(path: Path) -> SiteState | None:
    """Read the list of pages of a folder; None for a folder that is empty or missing.

    Raises:
        InputError: a folder of other files (``NOT_A_SITE``).
        FormatError: damaged list of pages.
    """
    try:
        data = atomic_files.read(path / STATE, limit=MAX_STATE)
    except NotFoundError:
        with atomic_files.typed(path):
            names = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
        foreign = [name for name in names if not name.startswith(GIT) and name not in (LOCK, STAGE)]
        if not foreign:
            return None
        raise InputError(
            "folder of other files",
            code="NOT_A_SITE",
            expected="an empty folder, or that of a site",
            found=", ".join(foreign[:3]),
            where=path,
            remedy="Choose another folder; nothing was changed.",
        ) from None
    state = load_document(SiteState, data, where=path / STATE, limit=MAX_STATE)
    outside = [page for page in state.pages if not _is_page(page)]
    if outside:
        raise InputError("no page of a site", code="NOT_A_SITE", found=repr(outside[0])[:200], where=path / STATE)
    return state


def _is_page(page: str) -> bool:
    """Return whether a site has a page of that name: what the list names is removed, and others may have written it."""
    return page in (FRONT, INDEX_JSON, CARD, NO_JEKYLL) or PAGE.fullmatch(page) is not None
