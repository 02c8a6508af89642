"""Folders: what is in them, and that their names are on the device."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from batteries.io import filesystem
from batteries.io.filesystem_errors import NOTHING_THERE, typed
from batteries.io.missing_operations import without

DEEP = 64  # folders within folders; a layout of this package has three


def walk(folder: Path, *, depth: int = DEEP, links: bool = False) -> Iterator[Path]:
    """Regular files below a folder, in no order; none where there is no folder.

    Args:
        folder: The folder.
        depth: How many folders deep its files lie at most; it ends a walk in circles, too.
        links: Whether symbolic links are followed; else they are passed over.

    Raises:
        StoreError: a folder that cannot be listed.
    """
    with typed(folder):
        yield from (Path(entry.path) for entry in entries(folder, depth=depth, links=links))


def sync(folder: Path) -> None:
    """Wait until the names in a folder are on the device.

    Raises:
        StoreError: no such folder, no permission, a failing disk.
    """
    with typed(folder, writing=True):
        flush(folder)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, and not a link to one.

    Raises:
        StoreError: the disk would not say.
    """
    return stat.S_ISDIR(mode_of(path))


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link, to anything or nothing.

    Raises:
        StoreError: the disk would not say.
    """
    return stat.S_ISLNK(mode_of(path))


def make(folder: Path) -> None:
    """Folder and its parents, each of them on the device before anything is put into it.

    So a folder that holds something needs no fsync above it. An empty one may be of a writer who died in between.
    """
    try:
        with filesystem.current.scan(folder) as entries:
            empty = next(entries, None) is None
    except FileNotFoundError:
        if folder == folder.parent:
            raise
        make(folder.parent)
        with contextlib.suppress(FileExistsError):
            filesystem.current.mkdir(folder)
        flush(folder.parent)
    else:
        if empty:
            with contextlib.suppress(PermissionError):  # above a folder that somebody else made
                flush(folder.parent)


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
    """As :func:`sync`, with the operating system's own errors; a file system that cannot do it is left alone."""
    with without("sync"):
        descriptor = filesystem.current.open_folder(folder)
        try:
            filesystem.current.fsync(descriptor)
        finally:
            filesystem.current.close(descriptor)


def entries(
    folder: Path, *, depth: int = DEEP, links: bool = False, passed_over: type[OSError] = FileNotFoundError
) -> Iterator[os.DirEntry[str]]:
    """Regular files below a folder, past what is no folder (any more) and folders with the error ``passed_over``."""
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
    """Mode of a path, of a link its own; 0 where nothing is."""
    with typed(path):
        try:
            return filesystem.current.lstat(path).st_mode
        except NOTHING_THERE:
            return 0
