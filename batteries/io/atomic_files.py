"""Files that are whole or absent: every byte this project writes to disk goes through here.

A write is a temporary file in the same folder, its bytes, fsync, a link or a rename, and fsync of the folder. ``create``
never replaces (a hard link fails where the name exists); ``replace`` always does, atomically. What was written is on the
device when the call returns. All system calls are those of :mod:`batteries.io.filesystem`; what a file system may lack of them
says :mod:`batteries.io.missing_operations`.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from batteries.errors import FormatError
from batteries.io import filesystem, folders, placeholders, temporary_files
from batteries.io.file_lock import lock
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

IS_LINK = {errno.ELOOP, errno.EMLINK}  # a link that is not to be followed; the second on FreeBSD
PIECE = 2**26  # bytes written in one call: whoever wants to stop waits for no more

Data = bytes | memoryview


def read(path: Path, *, limit: int, links: bool = False) -> bytes:
    """Bytes of a regular file of at most ``limit`` bytes.

    Args:
        path: The file.
        limit: Largest number of bytes.
        links: Whether it may be a symbolic link to one: where somebody named it, or its digest is known.

    Raises:
        NotFoundError: no such file.
        FormatError: larger than ``limit``, a symbolic link (``SYMLINK``), a pipe or a device (``NOT_A_FILE``), or what stands
            for another file (``LFS_POINTER`` and others).
        StoreError: the disk would not give it.
    """
    with typed(path):
        data = _read(path, limit + 1, links)
    if len(data) > limit:
        placeholders.refuse(data, path)
        raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
    placeholders.refuse(data, path)
    return data


def mapped(path: Path, *, limit: int, links: bool = False) -> memoryview:
    """Bytes of a regular file of at most ``limit`` bytes as memory, which the system reads where it is looked at.

    What is written there changes no file. Whoever shortens the file in place takes the memory away, and ends the process that
    looks at it; no writer of this package does: a file is replaced or removed, and who has it mapped keeps the old one.
    A file system without maps has it read into memory.

    Args:
        path: The file.
        limit: Largest number of bytes.
        links: As of :func:`read`.

    Raises:
        BatteriesError: as :func:`read`.
    """
    with typed(path), _opened(path, links) as descriptor:
        size = filesystem.current.fstat(descriptor).st_size
        if size > limit:
            placeholders.refuse(filesystem.current.read(descriptor, placeholders.LOOKED_AT), path)
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
        found = _mapped(descriptor, size, limit)
        placeholders.refuse(found, path)
        return found


def create(path: Path, data: Data) -> bool:
    """Write a new file whole, or leave the one that is there.

    Returns:
        True where this call made the file; False where a file of that name was there already (whatever it holds).

    Raises:
        StoreError: no space, no permission, a failing disk. No partial file stays behind.
    """
    with typed(path, writing=True):
        with _temporary(path, [data]) as temporary:
            made = _named(temporary, path)
        folders.flush(path.parent)
    return made


def replace(path: Path, *parts: Data) -> None:
    """Write a file whole in place of whatever stood there.

    Args:
        path: The file.
        parts: Its bytes, one part after the other.

    Raises:
        FormatError: a symbolic link (``SYMLINK``), a pipe or a device (``NOT_A_FILE``) has the name, and keeps it.
        StoreError: no space, no permission, a failing disk. The file is then the old one or the new one, whole.
    """
    replace_from(path, parts)


def replace_from(path: Path, parts: Iterable[Data]) -> None:
    """Write a file as :func:`replace` does, from parts that are made while it is written: one at a time is in memory."""
    with typed(path, writing=True):
        refuse_special(path)
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
    """Remove a file for good; False where there is none.

    Raises:
        StoreError: no permission, a failing disk.
    """
    with typed(path, writing=True):
        try:
            filesystem.current.unlink(path)
        except NOTHING_THERE:
            return False
        folders.flush(path.parent)
    return True


def move_aside(path: Path, folder: Path) -> Path | None:
    """Move a file out of the way, into a folder of the same file system.

    Returns:
        Where it is now: under its name and something random. None where it is not there (any more).

    Raises:
        StoreError: no space, no permission, a failing disk.
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
    if size:  # of nothing there is no map
        with without("map"):
            return memoryview(filesystem.current.map(descriptor, size))
    return memoryview(bytearray(_rest(descriptor, limit)))  # as writable as a map


def _read(path: Path, most: int, links: bool) -> bytes:
    with _opened(path, links) as descriptor:
        return _rest(descriptor, most)


def _rest(descriptor: int, most: int) -> bytes:
    """At most so many bytes, to the end of a file."""
    parts: list[bytes] = []
    size = filesystem.current.fstat(descriptor).st_size + 1  # so that one call reads a file, and the next finds its end
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
        what = "a symbolic link without an end" if links else "a symbolic link"
        raise FormatError(what, code="SYMLINK", expected="a regular file", where=path) from error
    try:
        mode = filesystem.current.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder cannot be read, and says so itself
            raise _not_a_file(path)
        yield descriptor
    finally:
        filesystem.current.close(descriptor)


def refuse_special(path: Path) -> None:
    """Refuse to put a file in the place of a link, a pipe or a device: ``/dev/null`` would be gone for the whole machine.

    Raises:
        FormatError: a symbolic link (``SYMLINK``), a pipe, a socket or a device (``NOT_A_FILE``).
    """
    try:
        mode = filesystem.current.lstat(path).st_mode
    except NOTHING_THERE:
        return
    if stat.S_ISLNK(mode):
        remedy = "Name the file that it leads to, or another one."
        raise FormatError("a symbolic link", code="SYMLINK", expected="a file or nothing", where=path, remedy=remedy)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder is not replaced by a file, and says so itself
        raise _not_a_file(path)


def _not_a_file(path: Path) -> FormatError:
    return FormatError("a pipe, a socket or a device", code="NOT_A_FILE", expected="a regular file", where=path)


def _named(temporary: Path, path: Path) -> bool:
    """Give a temporary file its name, unless another file has it.

    Without hard links that takes a look and a step: of two writers in between them the later one has the name.
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
def _temporary(path: Path, parts: Iterable[Data]) -> Iterator[Path]:
    """File beside ``path`` that holds the parts on the device, and is gone afterwards unless it was renamed."""
    folders.make(path.parent)
    temporary = temporary_files.temporary_of(path)
    temporary_files.in_flight[temporary.name] = temporary
    try:
        _write(temporary, parts)
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # what cannot be removed is left to the next sweep
            filesystem.current.unlink(temporary)
        temporary_files.in_flight.pop(temporary.name, None)


def _write(path: Path, parts: Iterable[Data]) -> None:
    descriptor = filesystem.current.create(path)
    try:
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
