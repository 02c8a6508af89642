"""Files that are whole or absent: every byte this project writes to disk goes through here.

A write is a temporary file in the same folder, its bytes, fsync, a link or a rename, and fsync of the folder. ``create``
never replaces (a hard link fails where the name exists); ``replace`` always does, atomically. What was written is on the
device when the call returns. All system calls are those of :mod:`batteries.disk`; what a file system may lack of them says
:mod:`batteries.lacking`.
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

from batteries import disk
from batteries.errors import BatteriesError, FormatError, InputError, NotFoundError, StoreError
from batteries.lacking import without

TEMPORARY = ".part"  # suffix of a file that is not there yet; swept by ``sweep``
TEMPORARY_NAME = re.compile(rf"\..+\.(?P<process>\d{{1,9}})\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}")
DEEP = 64  # folders within folders; a layout of this package has three
NAMED = 48  # characters of a file's name in that of its temporary file: so it is no longer than a file system allows
IS_LINK = {errno.ELOOP, errno.EMLINK}  # a link that is not to be followed; the second on FreeBSD
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {  # a folder that cannot be reached, written or filled, and no sign of damage
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSYS,
    errno.ENOTSUP,
    *NO_SPACE,
}
NOTHING_THERE = (FileNotFoundError, NotADirectoryError)

PIECE = 2**26  # bytes written in one call: whoever wants to stop waits for no more

Data = bytes | memoryview

_in_flight: dict[str, Path] = {}  # the temporary files that this process is writing, by name


def read(path: Path, *, limit: int, links: bool = False) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes.

    Args:
        path: The file.
        limit: Largest number of bytes.
        links: Whether it may be a symbolic link to one: where somebody named it, or its digest is known.

    Raises:
        NotFoundError: no such file.
        FormatError: larger than ``limit``, a symbolic link (``SYMLINK``), or a pipe or a device (``NOT_A_FILE``).
        StoreError: the disk would not give it.
    """
    with typed(path):
        data = _read(path, limit + 1, links)
    if len(data) > limit:
        raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
    return data


def mapped(path: Path, *, limit: int, links: bool = False) -> memoryview:
    """The bytes of a regular file of at most ``limit`` bytes as memory, which the system reads where it is looked at.

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
        size = disk.current.fstat(descriptor).st_size
        if size > limit:
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=path)
        if size:  # of nothing there is no map
            with without("map"):
                return memoryview(disk.current.map(descriptor, size))
        return memoryview(bytearray(_rest(descriptor, limit)))  # as writable as a map


def create(path: Path, data: Data) -> bool:
    """Write a new file whole, or leave the one that is there.

    Returns:
        True where this call made the file; False where a file of that name was there already (whatever it holds).

    Raises:
        StoreError: no space, no permission, a failing disk. No partial file stays behind.
    """
    with typed(path, writing=True):
        with _temporary(path, data) as temporary:
            made = _named(temporary, path)
        _sync(path.parent)
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
    with typed(path, writing=True):
        _refuse_special(path)
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


def walk(folder: Path, *, depth: int, links: bool = False) -> Iterator[Path]:
    """The regular files below a folder, in no order; none where there is no folder.

    Args:
        folder: The folder.
        depth: How many folders deep its files lie at most; it ends a walk in circles, too.
        links: Whether symbolic links are followed; else they are passed over.

    Raises:
        StoreError: a folder that cannot be listed.
    """
    with typed(folder):
        yield from (Path(entry.path) for entry in _entries(folder, depth=depth, links=links))


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


def give_up() -> None:
    """Remove the temporary files that this process is writing, because it is about to end."""
    for path in list(_in_flight.values()):
        with contextlib.suppress(OSError):
            disk.current.unlink(path)


def is_closed(error: StoreError) -> bool:
    """Whether an error means a folder that cannot be reached, written or filled, and not a disk that fails."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in CLOSED


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
    """Be the only one, of all threads and processes, inside this ``with``; one of several where the file system has no locks.

    Args:
        path: A file that stands for the lock. It is made where need be and never removed.
        seconds: How long to wait for a turn.

    Raises:
        StoreError: no turn in that time (``LOCK_TIMEOUT``), no permission, a failing disk.
    """
    held = None
    with typed(path, writing=True):
        _make_folder(path.parent)
        try:
            with without("lock"):
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
        if held is not None:
            with typed(path, writing=True):
                disk.current.unlock(held)


@contextlib.contextmanager
def typed(path: Path, *, writing: bool = False) -> Iterator[None]:
    """The operating system's errors about ``path`` as ours.

    Args:
        path: The file that the errors name.
        writing: Whether something missing is the disk's fault, and not an answer.

    Raises:
        NotFoundError: nothing there, and not ``writing``.
        StoreError: any other refusal.
        InputError: no path at all, such as one with a NUL.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not writing:
            found = "a symbolic link to nothing" if path.is_symlink() else None
            raise NotFoundError("no such file", code="NO_FILE", found=found, where=path) from error
        raise _store_error(error, path) from error
    except ValueError as error:
        if isinstance(error, BatteriesError):
            raise
        raise InputError("a path that cannot be used", code="BAD_PATH", found=repr(str(path)), where=error) from error


def _read(path: Path, most: int, links: bool) -> bytes:
    with _opened(path, links) as descriptor:
        return _rest(descriptor, most)


def _rest(descriptor: int, most: int) -> bytes:
    """At most so many bytes, to the end of a file."""
    parts: list[bytes] = []
    size = disk.current.fstat(descriptor).st_size + 1  # so that one call reads a file, and the next finds its end
    while most and (part := disk.current.read(descriptor, min(size, most))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


@contextlib.contextmanager
def _opened(path: Path, links: bool) -> Iterator[int]:
    try:
        descriptor = disk.current.follow(path) if links else disk.current.open(path)
    except OSError as error:
        if error.errno not in IS_LINK:
            raise
        what = "a symbolic link without an end" if links else "a symbolic link"
        raise FormatError(what, code="SYMLINK", expected="a regular file", where=path) from error
    try:
        mode = disk.current.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder cannot be read, and says so itself
            raise _not_a_file(path)
        yield descriptor
    finally:
        disk.current.close(descriptor)


def _refuse_special(path: Path) -> None:
    """Refuse to put a file in the place of what was never one of ours: ``/dev/null`` would be gone for the whole machine."""
    try:
        mode = disk.current.lstat(path).st_mode
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
            disk.current.link(temporary, path)
        except FileExistsError:
            return False
        return True
    if _mode(path):
        return False
    disk.current.replace(temporary, path)
    return True


@contextlib.contextmanager
def _temporary(path: Path, *parts: Data) -> Iterator[Path]:
    """A file beside ``path`` that holds the parts on the device, and is gone afterwards unless it was renamed."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name[:NAMED]}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY}")
    _in_flight[temporary.name] = temporary
    try:
        _write(temporary, parts)
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # what cannot be removed is left to the next sweep
            disk.current.unlink(temporary)
        _in_flight.pop(temporary.name, None)


def _write(path: Path, parts: Iterable[Data]) -> None:
    descriptor = disk.current.create(path)
    try:
        for part in parts:
            rest = memoryview(part)
            while rest:
                written = disk.current.write(descriptor, rest[:PIECE])
                if not written:
                    raise OSError(errno.EIO, "the disk takes no more bytes")
                rest = rest[written:]
        with without("sync"):
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
    with without("sync"):
        descriptor = disk.current.open_folder(folder)
        try:
            disk.current.fsync(descriptor)
        finally:
            disk.current.close(descriptor)


def _entries(
    folder: Path, *, depth: int = DEEP, links: bool = False, passed_over: type[OSError] = FileNotFoundError
) -> Iterator[os.DirEntry[str]]:
    """The regular files below a folder, past what is no folder (any more) and folders with the error ``passed_over``."""
    waiting: list[tuple[Path | str, int]] = [(folder, 0)]
    while waiting:
        inside, above = waiting.pop()
        try:
            with disk.current.scan(inside) as entries:
                found = list(entries)
        except (*NOTHING_THERE, passed_over):
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=links):
                waiting += [(entry.path, above + 1)] if above < depth else []
            elif entry.is_file(follow_symlinks=links):
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
