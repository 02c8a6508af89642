"""Files that are whole or absent: every byte this project writes to disk goes through here.

A write is a temporary file in the same folder, its bytes, fsync, a rename, and fsync of the folder. ``create`` never
replaces (a hard link fails where the name exists); ``replace`` always does, atomically.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from batteries.errors import FormatError, NotFoundError, StoreError

TEMPORARY = ".part"  # suffix of a file that is not there yet; swept by ``sweep``
TEMPORARY_NAME = re.compile(rf"\..+\.(?P<process>\d+)\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}")
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def read(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes.

    Raises:
        NotFoundError: no such file.
        FormatError: larger than ``limit``, or a symbolic link.
        StoreError: the disk would not give it.
    """
    with typed(path):
        if path.is_symlink():
            raise FormatError("a symbolic link", code="SYMLINK", expected="a regular file", where=path)
        with path.open("rb") as file:
            data = file.read(limit + 1)
    if len(data) > limit:
        raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
    return data


def create(path: Path, data: bytes) -> bool:
    """Write a new file whole, or leave the one that is there.

    Returns:
        True where this call made the file; False where a file of that name was there already (whatever it holds).

    Raises:
        StoreError: no space, no permission, a failing disk. No partial file stays behind.
    """
    with typed(path), _durable(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


def replace(path: Path, data: bytes) -> None:
    """Write a file whole in place of whatever stood there.

    Raises:
        StoreError: no space, no permission, a failing disk. The old file then stays as it was.
    """
    with typed(path), _durable(path, data) as temporary:
        temporary.replace(path)


def sweep(folder: Path) -> int:
    """Remove what killed writers left below ``folder``; returns the number of bytes freed.

    A temporary file belongs to the process whose number its name carries; one whose process still runs is left alone.
    """
    freed = 0
    with typed(folder):
        for path in folder.rglob(f".*{TEMPORARY}"):
            ours = TEMPORARY_NAME.fullmatch(path.name)
            if ours is None or _runs(int(ours["process"])):
                continue
            with contextlib.suppress(FileNotFoundError):
                freed += path.stat().st_size
                path.unlink()
    return freed


@contextlib.contextmanager
def _durable(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file beside ``path`` that holds ``data`` on disk; the folder is synced after the caller named it."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """A folder and its parents, each new one synced into the one above it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def typed(path: Path) -> Iterator[None]:
    """The operating system's errors about ``path`` as ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError("no such file", code="NO_FILE", where=path) from error
    except OSError as error:
        raise _store_error(error, path) from error


def _store_error(error: OSError, path: Path) -> StoreError:
    if error.errno in NO_SPACE:
        remedy = "Free some space, or name another folder, and run the same command again."
        return StoreError("no space left on the disk", code="NO_SPACE", where=path, remedy=remedy, retryable=True)
    return StoreError("the disk refused", code="DISK", found=error.strerror or error, where=path, retryable=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
