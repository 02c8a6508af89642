"""Files of result lines that several sessions share: each writes what it adds, and none loses what another wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from batteries.io import atomic_files
from batteries.io.file_lock import lock

MAX_KEPT = 2**26  # bytes
PATIENCE = 60.0  # seconds, with another process that writes


def read(path: Path) -> bytes:
    """Return the lines of a file; none if there is no file."""
    return atomic_files.read(path, limit=MAX_KEPT) if path.exists() else b""


def merge(path: Path, merged: Callable[[bytes], bytes]) -> None:
    r"""Replace the lines of a file by a function of those that it has now, one process at a time.

    Raises:
        StoreError: another process that writes for a minute (``LOCK_TIMEOUT``), or a failing disk.

    >>> path = Path("lines.jsonl")
    >>> merge(path, lambda before: before + b"1\n")
    >>> merge(path, lambda before: before + b"2\n")
    >>> read(path)
    b'1\n2\n'
    """
    with lock(path.with_name(f".{path.name}.lock"), PATIENCE):
        atomic_files.replace(path, merged(read(path)))
