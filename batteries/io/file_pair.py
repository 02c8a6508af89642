"""A file and the manifest beside it, replaced as one: the pair is the old one or the new one at every moment.

A copy of the new manifest stands beside the file from before the file is replaced until the manifest is. Replacing the file is
what decides: before it, file and manifest are the old ones; after it, the copy is the file's manifest. A process that is killed
in between leaves the copy, which readers heed and the next write of the pair removes. Writers take turns: of two at once, one
would put its manifest beside the file of the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from batteries.errors import BatteriesError
from batteries.io import atomic_files, filesystem
from batteries.io.atomic_files import Data
from batteries.io.file_lock import turn

SUFFIX = ".json"
WAIT = 20.0  # longest wait for another writer of the folder, in seconds


def write(path: Path, parts: Iterable[Data], manifest: bytes) -> None:
    """Write a file, and its manifest as ``NAME.json`` in the same folder.

    Args:
        path: File to write.
        parts: Contents, to be concatenated.
        manifest: Bytes of the manifest.

    Raises:
        FormatError: symbolic link (``SYMLINK``), pipe or device (``NOT_A_FILE``) of either name, which is kept.
        StoreError: no space, no permission, failing disk.
    """
    with turn(path.parent, WAIT):
        _write(path, parts, manifest)


def _write(path: Path, parts: Iterable[Data], manifest: bytes) -> None:
    atomic_files.refuse_special(path.with_suffix(SUFFIX))
    coming, before = coming_of(path), _state(path)
    atomic_files.replace(coming, manifest)
    try:
        atomic_files.replace_from(path, parts)
    except BaseException:
        if _state(path) == before:  # no manifest is coming; else the copy is that of the file, which is the new one
            with contextlib.suppress(BatteriesError):
                atomic_files.remove(coming)
        raise
    atomic_files.replace(path.with_suffix(SUFFIX), manifest)
    atomic_files.remove(coming)


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from the one that replaces it; None if it cannot be looked at."""
    try:
        found = filesystem.current.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def check_writable(path: Path) -> None:
    """Check that a file and its manifest can be written, before the work whose result they are to hold.

    Raises:
        FormatError: symbolic link (``SYMLINK``), pipe or device (``NOT_A_FILE``) of either name.
        StoreError: no space, no permission, failing disk.
    """
    for place in (path, path.with_suffix(SUFFIX)):
        atomic_files.refuse_special(place)
    with turn(path.parent, WAIT):
        atomic_files.replace(coming_of(path), b"")
        atomic_files.remove(coming_of(path))


def coming_of(path: Path) -> Path:
    """Return the path of the copy of the manifest that a file being replaced will have."""
    return path.with_name(f".{path.stem}{SUFFIX}.coming")


def manifest_of(path: Path, fits: Callable[[bytes], bool], *, limit: int) -> tuple[bytes, Path]:
    """Read the manifest of a file; return it with its path.

    Args:
        path: File.
        fits: Function that tells whether a manifest is that of the file as it was read; errors of this package mean no.
        limit: Largest manifest, in bytes.

    Raises:
        NotFoundError: no manifest.
        FormatError: manifest too large.
        StoreError: unreadable manifest.
    """
    coming = coming_of(path)
    try:
        data = atomic_files.read(coming, limit=limit)
        if fits(data):
            return data, coming
    except BatteriesError:  # there only while a pair is written, or if that was interrupted
        pass
    beside = path.with_suffix(SUFFIX)
    return atomic_files.read(beside, limit=limit, links=True), beside
