"""Thin layer over the operating system's file calls, one method per call, which all file access goes through.

Tests of a full or failing disk, or of a power loss, replace it with :func:`use`, and so exercise the shipped code.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from batteries.io import operating_system

LOCK_PAUSE = 0.01  # seconds between two attempts to take a held lock
FILE, FOLDER = 0o644, 0o755  # widest permissions of what is made, which a umask may narrow: no other user writes

operating_system.refuse_others()


class Disk:
    """File operations of the operating system. Every call may raise ``OSError``."""

    def open(self, path: Path) -> int:
        """Open a file for reading. A link as last part of the path is refused (``ELOOP``), and a pipe does not block."""
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)

    def follow(self, path: Path) -> int:
        """Open a file for reading as :meth:`open` does, following links."""
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def open_folder(self, path: Path) -> int:
        """Open a folder, in order to :meth:`fsync` it."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def create(self, path: Path) -> int:
        """Create a new file and open it for writing."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE)

    def allow(self, descriptor: int, mode: int) -> None:
        """Set the permissions of an open file or folder, regardless of the umask."""
        os.fchmod(descriptor, mode)

    def read(self, descriptor: int, size: int) -> bytes:
        """Read at most ``size`` bytes; none at the end of the file."""
        return os.read(descriptor, size)

    def map(self, descriptor: int, size: int) -> mmap.mmap:
        """Map the first bytes of a file to memory; writes do not change the file."""
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write bytes from the start of ``data``; return their number, which may be less than all."""
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """Wait until the bytes of a file, or the names in a folder, are on the device.

        On macOS the device may then still hold them in a cache that a power loss empties.
        """
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor, which is invalid afterwards even if this fails."""
        os.close(descriptor)

    def fstat(self, descriptor: int) -> os.stat_result:
        """Return the status of an open file."""
        return os.fstat(descriptor)

    def lstat(self, path: Path) -> os.stat_result:
        """Return the status of a path, without following a link."""
        return path.lstat()

    def scan(self, folder: Path | str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        """List the entries of a folder, in no particular order."""
        return os.scandir(folder)

    def mkdir(self, path: Path) -> None:
        """Create one folder."""
        path.mkdir(FOLDER)

    def link(self, source: Path, target: Path) -> None:
        """Create a hard link under a new name."""
        os.link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file, replacing an existing one."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def lock(self, path: Path, seconds: float) -> int:
        """Take the exclusive lock of a lock file; raises ``TimeoutError`` after ``seconds``."""
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, FILE)
        except PermissionError:  # made by another user; it can be locked if it can be read
            held = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        return _locked(held, seconds)

    def lock_folder(self, folder: Path, seconds: float) -> int:
        """Take the exclusive lock of a folder itself; raises ``TimeoutError`` after ``seconds``."""
        return _locked(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), seconds)

    def unlock(self, held: int) -> None:
        """Release a lock. Its file stays, since others may be waiting for it."""
        import fcntl

        try:
            fcntl.flock(held, fcntl.LOCK_UN)  # explicit, since a child forked meanwhile has the file open too
        finally:
            os.close(held)


def _locked(held: int, seconds: float) -> int:
    """Lock an open file or folder, and return it; it is closed if that fails."""
    import fcntl  # missing on some systems that import this module

    ends = time.monotonic() + seconds
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return held
            if time.monotonic() >= ends:
                raise TimeoutError
            time.sleep(LOCK_PAUSE)
    except BaseException:
        os.close(held)
        raise


current = Disk()


@contextlib.contextmanager
def use(other: Disk) -> Iterator[Disk]:
    """Replace the current disk for every thread of this process inside this ``with``."""
    global current
    before, current = current, other
    try:
        yield other
    finally:
        current = before
