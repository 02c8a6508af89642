"""Locks: one thread of all processes at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from batteries.errors import StoreError
from batteries.io import filesystem, folders
from batteries.io.access import UMASK, Access
from batteries.io.filesystem_errors import typed
from batteries.io.missing_operations import without


@contextlib.contextmanager
def lock(path: Path, seconds: float, access: Access = UMASK) -> Iterator[None]:
    """Hold an exclusive lock among all threads and processes inside this ``with``; no lock if the file system has none.

    Args:
        path: Lock file, created if missing and never removed.
        seconds: Longest wait for the lock.
        access: Access of other users to the lock file.

    Raises:
        StoreError: lock not acquired in that time (``LOCK_TIMEOUT``), no permission, failing disk.
    """
    held = None
    with typed(path, writing=True):
        folders.make(path.parent, access)
        try:
            with without("lock"):
                held = filesystem.current.lock(path, seconds)
        except TimeoutError as error:
            raise StoreError(
                "lock held by another process",
                code="LOCK_TIMEOUT",
                expected=f"a free lock within {seconds:g} seconds",
                where=path,
                remedy="Run the same command again, or look for a stopped process that holds the lock.",
                retryable=True,
            ) from error
    try:
        if held is not None:
            with typed(path, writing=True):
                access.give(held, path)
        yield
    finally:
        if held is not None:
            with typed(path, writing=True):
                filesystem.current.unlock(held)


@contextlib.contextmanager
def turn(folder: Path, seconds: float) -> Iterator[None]:
    """Wait for the turn of this thread among all that write to a folder: it is locked itself, and no lock file stays in it.

    The turn comes in any case: where the file system has no locks, and after ``seconds``, since a user who may read the folder
    can lock it for ever.

    Args:
        folder: Folder, made if missing.
        seconds: Longest wait.

    Raises:
        StoreError: no folder can be made.
    """
    with typed(folder, writing=True):
        folders.make(folder)
    held = None
    with contextlib.suppress(OSError):
        held = filesystem.current.lock_folder(folder, seconds)
    try:
        yield
    finally:
        if held is not None:
            with contextlib.suppress(OSError):
                filesystem.current.unlock(held)
