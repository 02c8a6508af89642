"""Atomic files: complete or absent. Every byte this project writes to disk goes through here.

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
from batteries.io.file_lock import lock
from batteries.io.filesystem_errors import NOTHING_THERE, is_closed, typed
from batteries.io.folders import is_folder, is_link, sync, walk
from batteries.io.missing_operations import without
from batteries.io.temporary_files import TEMPORARY, give_up, sweep
from batteries.io.texts import placeholders

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

IS_LINK = {errno.ELOOP, errno.EMLINK}  # link with O_NOFOLLOW; the second on FreeBSD
PIECE = 2**26  # bytes written in one call, so that an interrupt need not wait for all

Data = bytes | memoryview


def read(path: Path, *, limit: int, links: bool = False) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Args:
        path: File to read.
        limit: Largest size accepted, in bytes.
        links: Follow symbolic links: for a file that the user named, or whose digest is known.

    Raises:
        NotFoundError: missing file.
        FormatError: larger than ``limit``, symbolic link (``SYMLINK``), pipe or device (``NOT_A_FILE``), or a stand-in for
            another file (``LFS_POINTER`` and others).
        StoreError: failing disk, no permission.
    """
    with typed(path):
        data = _read(path, limit + 1, links)
    if len(data) > limit:
        placeholders.refuse(data, path)
        raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
    placeholders.refuse(data, path)
    return data


def mapped(path: Path, *, limit: int, links: bool = False) -> memoryview:
    """Map a regular file of at most ``limit`` bytes to memory, which the system reads on access.

    Writes to the memory do not change the file. Truncating the file in place would end a process that reads the lost memory; no
    writer of this package does so: files are replaced or removed, and existing maps keep the old contents. On a file system
    without maps the file is read into memory.

    Args:
        path: File to map.
        limit: Largest size accepted, in bytes.
        links: Follow symbolic links, as in :func:`read`.

    Raises:
        BatteriesError: any error of :func:`read`.
    """
    with typed(path), _opened(path, links) as descriptor:
        size = filesystem.current.fstat(descriptor).st_size
        if size > limit:
            placeholders.refuse(filesystem.current.read(descriptor, placeholders.LOOKED_AT), path)
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
        found = _mapped(descriptor, size, limit)
        placeholders.refuse(found, path)
        return found


def create(path: Path, data: Data, *, private: bool = False) -> bool:
    """Write a new file atomically, unless one of that name exists.

    Args:
        path: File to write.
        data: Contents.
        private: Whether only the owner may read it, from its first byte on.

    Returns:
        True if this call made the file; False if a file of that name existed, with any contents.

    Raises:
        StoreError: no space, no permission, failing disk. No partial file is left.
    """
    with typed(path, writing=True):
        with _temporary(path, [data], private) as temporary:
            made = _named(temporary, path)
        folders.flush(path.parent)
    return made


def replace(path: Path, *parts: Data) -> None:
    """Write a file atomically, replacing an existing one.

    Args:
        path: File to write.
        parts: Contents, to be concatenated.

    Raises:
        FormatError: symbolic link (``SYMLINK``), pipe or device (``NOT_A_FILE``) of that name, which is kept.
        StoreError: no space, no permission, failing disk. The file is then the old or the new one, complete.
    """
    replace_from(path, parts)


def replace_from(path: Path, parts: Iterable[Data]) -> None:
    """Write a file as :func:`replace` does, from parts that are made while it is written: one at a time is in memory."""
    with typed(path, writing=True):
        refuse_special(path)
        temporary_files.sweep_once(path.parent)
        with _temporary(path, parts) as temporary:
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


def move_aside(path: Path, folder: Path) -> Path | None:
    """Move a file into a folder of the same file system, under a new name.

    Returns:
        New path, of the file's name and a random suffix; None if the file does not exist.

    Raises:
        StoreError: no space, no permission, failing disk.
    """
    aside = folder / f"{path.name}.{secrets.token_hex(4)}"
    with typed(path, writing=True):
        folders.make(folder)
        try:
            filesystem.current.replace(path, aside)
        except NOTHING_THERE:
            return None
        folders.flush(folder)
        folders.flush(path.parent)
    return aside


def _mapped(descriptor: int, size: int, limit: int) -> memoryview:
    if size:  # an empty file cannot be mapped
        with without("map"):
            return memoryview(filesystem.current.map(descriptor, size))
    return memoryview(bytearray(_rest(descriptor, limit)))  # as writable as a map


def _read(path: Path, most: int, links: bool) -> bytes:
    with _opened(path, links) as descriptor:
        return _rest(descriptor, most)


def _rest(descriptor: int, most: int) -> bytes:
    """Read the rest of a file, up to ``most`` bytes."""
    parts: list[bytes] = []
    size = filesystem.current.fstat(descriptor).st_size + 1  # one call reads the file, the next its end
    while most and (part := filesystem.current.read(descriptor, min(size, most))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def _opened(path: Path, links: bool) -> Iterator[int]:
    try:
        descriptor = filesystem.current.follow(path) if links else filesystem.current.open(path)
    except OSError as error:
        if error.errno not in IS_LINK:
            raise
        if not links:
            placeholders.refuse_link(path)
        what = "loop of symbolic links" if links else "symbolic link"
        raise FormatError(what, code="SYMLINK", expected="a regular file", where=path) from error
    try:
        mode = filesystem.current.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # reading a folder fails with its own error
            raise _not_a_file(path)
        yield descriptor
    finally:
        filesystem.current.close(descriptor)


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
        raise _not_a_file(path)


def _not_a_file(path: Path) -> FormatError:
    return FormatError("not a regular file", code="NOT_A_FILE", expected="a regular file", where=path)


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
def _temporary(path: Path, parts: Iterable[Data], private: bool = False) -> Iterator[Path]:
    """Write the parts to a synced temporary file beside ``path``, removed afterwards unless it was renamed."""
    folders.make(path.parent)
    temporary = temporary_files.temporary_of(path)
    temporary_files.in_flight[temporary.name] = temporary
    try:
        _write(temporary, parts, private)
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # left to the next sweep
            filesystem.current.unlink(temporary)
        temporary_files.in_flight.pop(temporary.name, None)


def _write(path: Path, parts: Iterable[Data], private: bool) -> None:
    descriptor = filesystem.current.create(path)
    try:
        if private:
            filesystem.current.restrict(descriptor)
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
