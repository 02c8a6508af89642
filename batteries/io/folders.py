"""Folders: listing, creating and syncing them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from batteries.io import filesystem
from batteries.io.access import OTHERS_WRITE, UMASK, Access
from batteries.io.filesystem_errors import NOTHING_THERE, typed
from batteries.io.missing_operations import without

DEEP = 64  # nested folders; layouts of this package have three levels


def walk(folder: Path, *, depth: int = DEEP, links: bool = False) -> Iterator[Path]:
    """Yield the regular files below a folder, in no particular order; none if there is no folder.

    Args:
        folder: Folder to search.
        depth: Largest depth of folders searched, which also ends loops of links.
        links: Follow symbolic links; otherwise they are skipped.

    Raises:
        StoreError: folder that cannot be listed.
    """
    with typed(folder):
        yield from (Path(entry.path) for entry in entries(folder, depth=depth, links=links))


def sync(folder: Path) -> None:
    """Wait until the names in a folder are on the device.

    Raises:
        StoreError: missing folder, no permission, failing disk.
    """
    with typed(folder, writing=True):
        flush(folder)


def is_folder(path: Path) -> bool:
    """Return True if a path is a folder, not a link to one.

    Raises:
        StoreError: path that cannot be examined.
    """
    return stat.S_ISDIR(mode_of(path))


def is_link(path: Path) -> bool:
    """Return True if a path is a symbolic link, broken or not.

    Raises:
        StoreError: path that cannot be examined.
    """
    return stat.S_ISLNK(mode_of(path))


def make(folder: Path, access: Access = UMASK) -> None:
    """Create a folder and its parents with an access, syncing each before anything is put into it.

    So a folder with contents needs no fsync of its parents. An empty one may be from a writer killed before its fsync.
    """
    try:
        with filesystem.current.scan(folder) as entries:
            empty = next(entries, None) is None
    except FileNotFoundError:
        if folder == folder.parent:
            raise
        make(folder.parent, access)
        with contextlib.suppress(FileExistsError):
            filesystem.current.mkdir(folder)
            _give(folder, access)
        flush(folder.parent)
    else:
        if empty:
            with contextlib.suppress(PermissionError):  # parent of a folder made by another user
                flush(folder.parent)


def close(folder: Path) -> None:
    """Take from other users the right to write to a folder, if it is this user's.

    Raises:
        StoreError: failing disk.
    """
    with typed(folder, writing=True):
        if stat.S_ISDIR(mode_of(folder)) and mode_of(folder) & OTHERS_WRITE:
            _give(folder, Access(folder.parent, private=True))


def _give(folder: Path, access: Access) -> None:
    """Set the permissions of a folder."""
    with contextlib.suppress(PermissionError):  # a umask that closes it to this user too
        descriptor = filesystem.current.open(folder)
        try:
            access.give(descriptor, folder)
        finally:
            filesystem.current.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a folder and the files in it; a folder that is not there is no error.

    Raises:
        StoreError: no permission, another folder inside it, a failing disk.
    """
    with typed(folder, writing=True):
        for entry in entries(folder, depth=0):
            filesystem.current.unlink(Path(entry.path))
        with contextlib.suppress(*NOTHING_THERE):
            filesystem.current.rmdir(folder)


def flush(folder: Path) -> None:
    """Sync a folder as :func:`sync` does, with the operating system's errors; skip it if the file system cannot."""
    with without("sync"):
        descriptor = filesystem.current.open_folder(folder)
        try:
            filesystem.current.fsync(descriptor)
        finally:
            filesystem.current.close(descriptor)


def entries(
    folder: Path, *, depth: int = DEEP, links: bool = False, passed_over: type[OSError] = FileNotFoundError
) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of regular files below a folder, skipping folders that vanish or fail with ``passed_over``."""
    waiting: list[tuple[Path | str, int]] = [(folder, 0)]
    while waiting:
        inside, above = waiting.pop()
        try:
            with filesystem.current.scan(inside) as entries:
                found = list(entries)
        except (*NOTHING_THERE, passed_over):
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=links):
                waiting += [(entry.path, above + 1)] if above < depth else []
            elif entry.is_file(follow_symlinks=links):
                yield entry


def mode_of(path: Path) -> int:
    """Return the mode of a path without following links; 0 if there is nothing."""
    with typed(path):
        try:
            return filesystem.current.lstat(path).st_mode
        except NOTHING_THERE:
            return 0
