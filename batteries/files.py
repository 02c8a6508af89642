"""Files that are whole or absent: every byte this project writes to disk goes through here.

A write is a temporary file in the same folder, its bytes, fsync, a link or a rename, and fsync of the folder. ``create``
never replaces (a hard link fails where the name exists); ``replace`` always does, atomically. What was written is on the
device when the call returns. All system calls are those of :mod:`batteries.disk`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from batteries import disk, placeholders
from batteries.errors import BatteriesError, FormatError, InputError, NotFoundError, StoreError

TEMPORARY = ".part"  # suffix of a file that is not there yet; swept by ``sweep``
TEMPORARY_NAME = re.compile(rf"\..+\.(?P<process>\d{{1,9}})\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}")
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOTHING_THERE = (FileNotFoundError, NotADirectoryError)

Data = bytes | memoryview

_in_flight: set[str] = set()  # names of the temporary files that this process is writing


def read(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes.

    Raises:
        NotFoundError: no such file.
        FormatError: larger than ``limit``, a symbolic link, or what stands for another file (``LFS_POINTER`` and others).
        StoreError: the disk would not give it.
    """
    with typed(path):
        data = _read(path, limit + 1)
    if len(data) > limit:
        placeholders.refuse(data, path)
        raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
    placeholders.refuse(data, path)
    return data


def mapped(path: Path, *, limit: int) -> memoryview:
    """The bytes of a regular file of at most ``limit`` bytes as memory, which the system reads where it is looked at.

    What is written there changes no file. Whoever shortens the file in place takes the memory away, and ends the process that
    looks at it; no writer of this package does: a file is replaced or removed, and who has it mapped keeps the old one.

    Raises:
        NotFoundError: no such file.
        FormatError: as :func:`read`.
        StoreError: the disk would not give it.
    """
    with typed(path), _opened(path) as descriptor:
        size = disk.current.fstat(descriptor).st_size
        if size > limit:
            placeholders.refuse(disk.current.read(descriptor, placeholders.LOOKED_AT), path)
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
        found = memoryview(disk.current.map(descriptor, size) if size else b"")  # of nothing there is no map
        placeholders.refuse(found, path)
        return found


def create(path: Path, data: Data) -> bool:
    """Write a new file whole, or leave the one that is there.

    Returns:
        True where this call made the file; False where a file of that name was there already (whatever it holds).

    Raises:
        StoreError: no space, no permission, a failing disk. No partial file stays behind.
    """
    made = True
    with typed(path, writing=True):
        with _temporary(path, data) as temporary:
            try:
                disk.current.link(temporary, path)
            except FileExistsError:
                made = False
        _sync(path.parent)
    return made


def replace(path: Path, *parts: Data) -> None:
    """Write a file whole in place of whatever stood there.

    Args:
        path: The file.
        parts: Its bytes, one part after the other.

    Raises:
        StoreError: no space, no permission, a failing disk. The file is then the old one or the new one, whole.
    """
    with typed(path, writing=True):
        with _temporary(path, *parts) as temporary:
            disk.current.replace(temporary, path)
        _sync(path.parent)


def remove(path: Path) -> bool:
    """Remove a file for good; False where there is none.

    Raises:
        StoreError: no permission, a failing disk.
    """
    with typed(path, writing=True):
        try:
            disk.current.unlink(path)
        except NOTHING_THERE:
            return False
        _sync(path.parent)
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
        _make_folder(folder)
        try:
            disk.current.replace(path, aside)
        except NOTHING_THERE:
            return None
        _sync(folder)
        _sync(path.parent)
    return aside


def sync(folder: Path) -> None:
    """Wait until the names in a folder are on the device.

    Raises:
        StoreError: no such folder, no permission, a failing disk.
    """
    with typed(folder, writing=True):
        _sync(folder)


def walk(folder: Path) -> Iterator[Path]:
    """The regular files below a folder, in no order; none where there is no folder. Links are not followed.

    Raises:
        StoreError: a folder that cannot be listed.
    """
    with typed(folder):
        yield from (Path(entry.path) for entry in _entries(folder))


def sweep(folder: Path) -> int:
    """Remove what killed writers left below ``folder``; returns the number of bytes freed.

    A temporary file belongs to the process whose number its name carries; one that is still being written is left alone.
    What may not be listed or cannot be removed is left to the next sweep.

    Raises:
        StoreError: a failing disk.
    """
    freed = 0
    with typed(folder):
        for entry in _entries(folder, passed_over=PermissionError):
            if entry.name.endswith(TEMPORARY) and _abandoned(entry.name):
                path = Path(entry.path)
                with contextlib.suppress(OSError):
                    size = disk.current.lstat(path).st_size
                    disk.current.unlink(path)
                    freed += size
    return freed


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, and not a link to one.

    Raises:
        StoreError: the disk would not say.
    """
    return stat.S_ISDIR(_mode(path))


def is_link(path: Path) -> bool:
    """Whether a path is a symbolic link, to anything or nothing.

    Raises:
        StoreError: the disk would not say.
    """
    return stat.S_ISLNK(_mode(path))


@contextlib.contextmanager
def lock(path: Path, seconds: float) -> Iterator[None]:
    """Be the only one, of all threads and processes, inside this ``with``.

    Args:
        path: A file that stands for the lock. It is made where need be and never removed.
        seconds: How long to wait for a turn.

    Raises:
        StoreError: no turn in that time (``LOCK_TIMEOUT``), no permission, a failing disk.
    """
    with typed(path, writing=True):
        _make_folder(path.parent)
        try:
            held = disk.current.lock(path, seconds)
        except TimeoutError as error:
            raise StoreError(
                "somebody else keeps the lock",
                code="LOCK_TIMEOUT",
                expected=f"a turn within {seconds:g} seconds",
                where=path,
                remedy="Run the same command again, or look for a stopped process that holds the lock.",
                retryable=True,
            ) from error
    try:
        yield
    finally:
        with typed(path, writing=True):
            disk.current.unlock(held)


@contextlib.contextmanager
def typed(path: Path, *, writing: bool = False) -> Iterator[None]:
    """The operating system's errors about ``path`` as ours.

    Args:
        path: What the errors name.
        writing: Whether something missing is the disk's fault, and not an answer.

    Raises:
        NotFoundError: nothing there, and not ``writing``.
        FormatError: a link of git-annex to what is not fetched (``ANNEX_POINTER``).
        StoreError: any other refusal.
        InputError: no path at all, such as one with a NUL.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not writing:
            placeholders.refuse_link(path)
            raise NotFoundError("no such file", code="NO_FILE", where=path) from error
        raise _store_error(error, path) from error
    except ValueError as error:
        if isinstance(error, BatteriesError):
            raise
        raise InputError("a path that cannot be used", code="BAD_PATH", found=repr(str(path)), where=error) from error


def _read(path: Path, most: int) -> bytes:
    parts: list[bytes] = []
    with _opened(path) as descriptor:
        size = disk.current.fstat(descriptor).st_size + 1  # so that one call reads a file, and the next finds its end
        while most and (part := disk.current.read(descriptor, min(size, most))):
            parts.append(part)
            most -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = disk.current.open(path)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        placeholders.refuse_link(path)
        raise FormatError("a symbolic link", code="SYMLINK", expected="a regular file", where=path) from error
    try:
        yield descriptor
    finally:
        disk.current.close(descriptor)


@contextlib.contextmanager
def _temporary(path: Path, *parts: Data) -> Iterator[Path]:
    """A file beside ``path`` that holds the parts on the device, and is gone afterwards unless it was renamed."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY}")
    _in_flight.add(temporary.name)
    try:
        _write(temporary, parts)
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # what cannot be removed is left to the next sweep
            disk.current.unlink(temporary)
        _in_flight.discard(temporary.name)


def _write(path: Path, parts: Iterable[Data]) -> None:
    descriptor = disk.current.create(path)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                written = disk.current.write(descriptor, rest)
                if not written:
                    raise OSError(errno.EIO, "the disk takes no more bytes")
                rest = rest[written:]
        disk.current.fsync(descriptor)
    finally:
        disk.current.close(descriptor)


def _make_folder(folder: Path) -> None:
    """A folder and its parents, each of them on the device before anything is put into it.

    So a folder that holds something needs no fsync above it. An empty one may be of a writer who died in between.
    """
    try:
        with disk.current.scan(folder) as entries:
            empty = next(entries, None) is None
    except FileNotFoundError:
        if folder == folder.parent:
            raise
        _make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            disk.current.mkdir(folder)
        _sync(folder.parent)
    else:
        if empty:
            with contextlib.suppress(PermissionError):  # above a folder that somebody else made
                _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = disk.current.open_folder(folder)
    try:
        disk.current.fsync(descriptor)
    finally:
        disk.current.close(descriptor)


def _entries(folder: Path, *, passed_over: type[OSError] = FileNotFoundError) -> Iterator[os.DirEntry[str]]:
    """The regular files below a folder, past what is no folder (any more) and folders with the error ``passed_over``."""
    waiting: list[Path | str] = [folder]
    while waiting:
        try:
            with disk.current.scan(waiting.pop()) as entries:
                found = list(entries)
        except (*NOTHING_THERE, passed_over):
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry


def _abandoned(name: str) -> bool:
    ours = TEMPORARY_NAME.fullmatch(name)
    if ours is None or name in _in_flight:
        return False
    process = int(ours["process"])
    return process == os.getpid() or not _runs(process)


def _mode(path: Path) -> int:
    with typed(path):
        try:
            return disk.current.lstat(path).st_mode
        except NOTHING_THERE:
            return 0


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
