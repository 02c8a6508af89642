"""Atomic files: complete or absent. Every byte this project writes to disk goes through here; reading is :mod:`.file_reading`.

A write is a temporary file in the same folder, its bytes, fsync, a link or a rename, and fsync of the folder. ``create``
never replaces (a hard link fails if the name exists); ``replace`` always does, atomically. Data is on the device when the call
returns. All system calls are those of :mod:`batteries.io.filesystem`; :mod:`batteries.io.missing_operations` lists those that a
file system may lack.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from batteries.errors import FormatError
from batteries.io import filesystem, folders, temporary_files
from batteries.io.access import UMASK, Access
from batteries.io.file_lock import lock
from batteries.io.file_reading import mapped, not_a_file, read
from batteries.io.filesystem_errors import NOTHING_THERE, is_closed, typed
from batteries.io.folders import is_folder, is_link, sync, walk
from batteries.io.missing_operations import without
from batteries.io.temporary_files import TEMPORARY, give_up, sweep

__all__ = [
    "TEMPORARY",
    "Data",
    "create",
    "give_up",
    "is_closed",
    "is_folder",
    "is_link",
    "lock",
    "mapped",
    "move",
    "move_aside",
    "read",
    "refuse_special",
    "remove",
    "replace",
    "replace_from",
    "sweep",
    "sync",
    "typed",
    "walk",
]

PIECE = 2**26  # bytes written in one call, so that an interrupt need not wait for all

Data = bytes | memoryview


def create(path: Path, data: Data, *, access: Access = UMASK) -> bool:
    """Write a new file atomically, unless one of that name exists.

    Args:
        path: File to write.
        data: Contents.
        access: Access of other users.

    Returns:
        True if this call made the file; False if a file of that name existed, with any contents.

    Raises:
        StoreError: no space, no permission, failing disk. No partial file is left.
    """
    with typed(path, writing=True):
        with _temporary(path, [data], access) as temporary:
            made = _named(temporary, path)
        folders.flush(path.parent)
    return made


def replace(path: Path, *parts: Data, access: Access = UMASK) -> None:
    """Write a file atomically, replacing an existing one.

    Args:
        path: File to write.
        parts: Contents, to be concatenated.
        access: Access of other users.

    Raises:
        FormatError: symbolic link (``SYMLINK``), pipe or device (``NOT_A_FILE``) of that name, which is kept.
        StoreError: no space, no permission, failing disk. The file is then the old or the new one, complete.
    """
    replace_from(path, parts, access=access)


def replace_from(path: Path, parts: Iterable[Data], *, access: Access = UMASK) -> None:
    """Write a file as :func:`replace` does, from parts that are made while it is written: one at a time is in memory."""
    with typed(path, writing=True):
        refuse_special(path)
        with _temporary(path, parts, access) as temporary:
            filesystem.current.replace(temporary, path)
        folders.flush(path.parent)


def move(path: Path, to: Path) -> None:
    """Give a file another name on the same file system, in place of the file that has it.

    Raises:
        FormatError: a symbolic link (``SYMLINK``), a pipe or a device (``NOT_A_FILE``) has the name, and keeps it.
        StoreError: no space, no permission, a failing disk.
    """
    with typed(to, writing=True):
        refuse_special(to)
        filesystem.current.replace(path, to)
        folders.flush(to.parent)


def remove(path: Path) -> bool:
    """Remove a file durably; return False if there is none.

    Raises:
        StoreError: no permission, failing disk.
    """
    with typed(path, writing=True):
        try:
            filesystem.current.unlink(path)
        except NOTHING_THERE:
            return False
        folders.flush(path.parent)
    return True


def move_aside(path: Path, folder: Path, *, access: Access = UMASK) -> Path | None:
    """Move a file into a folder under a new name, or beside itself if the folder is on another file system.

    Args:
        path: File to move.
        folder: Folder that keeps it.
        access: Access of other users to the folder, if it is made.

    Returns:
        New path, of the file's name and a random suffix; None if the file does not exist.

    Raises:
        FormatError: folder that is a symbolic link (``SYMLINK``), which could lead the file out of its registry.
        StoreError: no space, no permission, failing disk.
    """
    aside = folder / f"{path.name}.{secrets.token_hex(4)}"
    with typed(path, writing=True):
        refuse_special(folder)
        folders.make(folder, access)
        try:
            aside = _put_aside(path, aside)
        except NOTHING_THERE:
            return None
        folders.flush(aside.parent)
        folders.flush(path.parent)
    return aside


def _put_aside(path: Path, aside: Path) -> Path:
    try:
        filesystem.current.replace(path, aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        aside = path.with_name(f"{aside.name}.{aside.parent.name}")
        filesystem.current.replace(path, aside)
    return aside


def refuse_special(path: Path) -> None:
    """Refuse to replace a link, pipe or device: replacing ``/dev/null`` would break the whole machine.

    Raises:
        FormatError: symbolic link (``SYMLINK``), or pipe, socket or device (``NOT_A_FILE``).
    """
    try:
        mode = filesystem.current.lstat(path).st_mode
    except NOTHING_THERE:
        return
    if stat.S_ISLNK(mode):
        remedy = "Name the file that the link leads to, or another one."
        raise FormatError("symbolic link", code="SYMLINK", expected="a file or nothing", where=path, remedy=remedy)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # replacing a folder fails with its own error
        raise not_a_file(path)


def _named(temporary: Path, path: Path) -> bool:
    """Rename a temporary file to its final name, unless a file of that name exists.

    Without hard links that is a check and a rename: if two writers race between them, the later one wins.
    """
    with without("link"):
        try:
            filesystem.current.link(temporary, path)
        except FileExistsError:
            return False
        return True
    if folders.mode_of(path):
        return False
    filesystem.current.replace(temporary, path)
    return True


@contextlib.contextmanager
def _temporary(path: Path, parts: Iterable[Data], access: Access) -> Iterator[Path]:
    """Write the parts to a synced temporary file beside ``path``, removed afterwards unless it was renamed."""
    folders.make(path.parent, access)
    temporary_files.sweep_once(path.parent)
    temporary = temporary_files.temporary_of(path)
    temporary_files.in_flight[temporary.name] = temporary
    try:
        _write(temporary, parts, access)
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # left to the next sweep
            filesystem.current.unlink(temporary)
        temporary_files.in_flight.pop(temporary.name, None)


def _write(path: Path, parts: Iterable[Data], access: Access) -> None:
    descriptor = filesystem.current.create(path)
    try:
        access.give(descriptor, path)
        for part in parts:
            rest = memoryview(part)
            while rest:
                written = filesystem.current.write(descriptor, rest[:PIECE])
                if not written:
                    raise OSError(errno.EIO, "the disk takes no more bytes")
                rest = rest[written:]
        with without("sync"):
            filesystem.current.fsync(descriptor)
    finally:
        filesystem.current.close(descriptor)
