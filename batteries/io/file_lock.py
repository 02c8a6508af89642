"""Locks: one thread of all processes at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from batteries.errors import StoreError
from batteries.io import filesystem, folders
from batteries.io.filesystem_errors import typed
from batteries.io.missing_operations import without


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
        folders.make(path.parent)
        try:
            with without("lock"):
                held = filesystem.current.lock(path, seconds)
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
                filesystem.current.unlock(held)
