"""Maintenance of the cache: removal of unused files, and a check of every file against its digest."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict

from batteries.cell.manifest import MAX_BLOB, Count
from batteries.errors import BatteriesError, InputError, IntegrityError, NotFoundError
from batteries.io import atomic_files
from batteries.io.canonical_json import DIGEST, Document, sha256
from batteries.io.home import REMEDY
from registry.stores.cache import Cache
from registry.stores.rollback_guard import Memory

GRACE = 3600.0  # seconds since the last use during which a file may still be in use
DAY = 86400.0


class Collected(Document):
    """Result of a collection: files removed and files kept, with their sizes.

    Attributes:
        removed: Number of files removed.
        freed: Bytes freed.
        kept: Number of files kept.
        size: Bytes kept.
    """

    model_config = ConfigDict(title="CollectAnswer", defer_build=True)

    removed: Count
    freed: Count
    kept: Count
    size: Count


@dataclass(frozen=True)
class _File:
    path: Path
    size: int
    used: float


def collect(cache: Cache, *, max_size: int | None = None, unused_days: float | None = None) -> Collected:
    """Remove long unused files from the cache, then the least recently used until the rest is small enough.

    The last index of each registry is kept with its signature, as are files used within the hour, which another process may be
    reading. Removed files are fetched again when needed.

    Args:
        cache: Cache to clean.
        max_size: Largest number of bytes to keep.
        unused_days: Number of days without use after which a file is removed.

    Raises:
        InputError: cache not a folder (``NOT_A_FOLDER``).
        StoreError: a file cannot be removed.
    """
    needed = {digest for note in Memory(cache).notes() for digest in note.digests}
    now = time.time()
    found = sorted(_files(cache), key=lambda file: file.used)
    idle = [file for file in found if file.path.name not in needed and abs(now - file.used) > GRACE]
    going = [file for file in idle if unused_days is not None and now - file.used > unused_days * DAY]
    size = sum(file.size for file in found) - sum(file.size for file in going)
    for file in idle:
        if max_size is not None and size > max_size and file not in going:
            going.append(file)
            size -= file.size
    for file in going:
        atomic_files.remove(file.path)
    atomic_files.sweep(cache.folder)
    freed = sum(file.size for file in going)
    return Collected(removed=len(going), freed=freed, kept=len(found) - len(going), size=size)


def check(cache: Cache, *, repair: bool = False) -> list[tuple[str, BatteriesError | None]]:
    """Compare every file of the cache with the digest that is its name.

    Args:
        cache: Cache to check.
        repair: Whether to move damaged files aside, so that the next pull fetches them again, and to remove temporary files of
            killed processes.

    Returns:
        Names, each with its error, or None if intact.
    """
    if repair:
        atomic_files.sweep(cache.folder)
    found: list[tuple[str, BatteriesError | None]] = []
    for file in sorted(_files(cache), key=lambda file: file.path.name):
        error = _fault(file.path)
        if isinstance(error, NotFoundError):  # collected meanwhile
            continue
        if error is not None and repair:
            atomic_files.move_aside(file.path, cache.aside, access=cache.access)
        found.append((file.path.name, error))
    return found


def _fault(path: Path) -> BatteriesError | None:
    try:
        digest = sha256(atomic_files.mapped(path, limit=MAX_BLOB))
    except BatteriesError as error:
        return error
    if digest != path.name:
        return IntegrityError("digest mismatch", code="DIGEST_MISMATCH", expected=path.name, found=digest, where=path)
    return None


def _files(cache: Cache) -> list[_File]:
    found = []
    with atomic_files.typed(cache.blobs):
        place = next(place for place in (cache.blobs, *cache.blobs.parents) if os.path.lexists(place))
        if not place.is_dir():
            raise InputError("cache not a folder", code="NOT_A_FOLDER", expected="a folder", where=place, remedy=REMEDY)
        paths = list(cache.blobs.glob("*")) if place == cache.blobs else []
    for path in paths:
        if DIGEST.fullmatch(path.name):
            with contextlib.suppress(NotFoundError), atomic_files.typed(path):  # another process may collect too
                status = path.lstat()
                found.append(_File(path, status.st_size, status.st_mtime))
    return found
