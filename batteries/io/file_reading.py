"""Reading of regular files: whole, or by a map to memory; links, pipes, devices and stand-ins are refused by name."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from batteries.errors import FormatError
from batteries.io import filesystem
from batteries.io.access import is_open_to_others
from batteries.io.filesystem_errors import typed
from batteries.io.missing_operations import without
from batteries.io.texts import placeholders

IS_LINK = {errno.ELOOP, errno.EMLINK}  # link with O_NOFOLLOW; the second on FreeBSD


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
    writer of this package does so: files are replaced or removed, and existing maps keep the old contents. A file that another
    user could write to is read into memory instead, since it could change after it was verified; so is one on a file system
    without maps.

    Args:
        path: File to map.
        limit: Largest size accepted, in bytes.
        links: Follow symbolic links, as in :func:`read`.

    Raises:
        BatteriesError: any error of :func:`read`.
    """
    with typed(path), _opened(path, links) as descriptor:
        status = filesystem.current.fstat(descriptor)
        if status.st_size > limit:
            placeholders.refuse(filesystem.current.read(descriptor, placeholders.LOOKED_AT), path)
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
        found = _mapped(descriptor, status, limit)
        placeholders.refuse(found, path)
        return found


def not_a_file(path: Path) -> FormatError:
    """Return the error for a pipe, socket or device in the place of a file."""
    return FormatError("not a regular file", code="NOT_A_FILE", expected="a regular file", where=path)


def _mapped(descriptor: int, status: os.stat_result, limit: int) -> memoryview:
    if status.st_size and not is_open_to_others(status):  # an empty file cannot be mapped
        with without("map"):
            return memoryview(filesystem.current.map(descriptor, status.st_size))
    data = _rest(descriptor, limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, "the file grew while it was read")
    return memoryview(bytearray(data))  # as writable as a map


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
            raise not_a_file(path)
        yield descriptor
    finally:
        filesystem.current.close(descriptor)
