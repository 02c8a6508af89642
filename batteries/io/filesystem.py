"""The disk: the one thin object that all work on files goes through, one call each as the operating system has it.

Whoever wants to know what happens when a disk is full, fails or loses its power puts another one in its place with
:func:`use`, and so tests the code that ships.
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

LOCK_PAUSE = 0.01  # seconds between two looks at a lock that somebody else holds

operating_system.refuse_others()


class Disk:
    """What the operating system does with files. Every call may raise ``OSError``."""

    def open(self, path: Path) -> int:
        """Open a file for reading. A link at the end of the path is refused (``ELOOP``), and no pipe makes this wait."""
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)

    def follow(self, path: Path) -> int:
        """Open a file for reading as :meth:`open`, at the end of whatever links lead to it."""
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def open_folder(self, path: Path) -> int:
        """Open a folder, in order to :meth:`fsync` it."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def create(self, path: Path) -> int:
        """Open a file for writing that is not there yet."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def read(self, descriptor: int, size: int) -> bytes:
        """At most ``size`` bytes; none at the end of the file."""
        return os.read(descriptor, size)

    def map(self, descriptor: int, size: int) -> mmap.mmap:
        """First bytes of a file as memory; what is written there changes no file."""
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write the first of these bytes; how many of them is returned, and may be fewer than all."""
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        """Wait until the bytes of a file, or the names in a folder, are on the device.

        On macOS they are then with the device, whose own cache a loss of power may still empty.
        """
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Give a descriptor back. It is gone even where this fails."""
        os.close(descriptor)

    def fstat(self, descriptor: int) -> os.stat_result:
        """What an open file is."""
        return os.fstat(descriptor)

    def lstat(self, path: Path) -> os.stat_result:
        """What a path is; of a link, the link itself."""
        return path.lstat()

    def scan(self, folder: Path | str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        """What is in a folder, in no order."""
        return os.scandir(folder)

    def mkdir(self, path: Path) -> None:
        """Make one folder."""
        path.mkdir()

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name that is not there yet."""
        os.link(source, target)

    def replace(self, source: Path, target: Path) -> None:
        """Give a file another name, in place of the file that had it."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def lock(self, path: Path, seconds: float) -> int:
        """Hold the lock that a file stands for, for this thread alone; raises ``TimeoutError`` after ``seconds``."""
        import fcntl  # not on every system on which this module is asked for

        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
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

    def unlock(self, held: int) -> None:
        """Give a lock back. Its file stays: whoever waits for it would else hold a lock on nothing."""
        import fcntl

        try:
            fcntl.flock(held, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open too
        finally:
            os.close(held)


current = Disk()


@contextlib.contextmanager
def use(other: Disk) -> Iterator[Disk]:
    """Put another disk in the place of the present one, for every thread of this process, until the ``with`` ends."""
    global current
    before, current = current, other
    try:
        yield other
    finally:
        current = before
