"""Temporary files: their names, and the end of those that no writer will finish."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from batteries.io import filesystem
from batteries.io.filesystem_errors import typed
from batteries.io.folders import entries

TEMPORARY = ".part"  # suffix of a file that is not there yet; swept by ``sweep``
TEMPORARY_NAME = re.compile(rf"\..+\.(?P<process>\d{{1,9}})\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}")
NAMED = 48  # characters of a file's name in that of its temporary file: so it is no longer than a file system allows

in_flight: dict[str, Path] = {}  # the temporary files that this process is writing, by name


def temporary_of(path: Path) -> Path:
    """Path of a new temporary file beside one that is to be written."""
    return path.with_name(f".{path.name[:NAMED]}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY}")


def sweep(folder: Path) -> int:
    """Remove what killed writers left below ``folder``; returns the number of bytes freed.

    A temporary file belongs to the process whose number its name carries; one that is still being written is left alone.
    What may not be listed or cannot be removed is left to the next sweep.

    Raises:
        StoreError: a failing disk.
    """
    freed = 0
    with typed(folder):
        for entry in entries(folder, passed_over=PermissionError):
            if entry.name.endswith(TEMPORARY) and _abandoned(entry.name):
                path = Path(entry.path)
                with contextlib.suppress(OSError):
                    size = filesystem.current.lstat(path).st_size
                    filesystem.current.unlink(path)
                    freed += size
    return freed


def give_up() -> None:
    """Remove the temporary files that this process is writing, because it is about to end."""
    for path in list(in_flight.values()):
        with contextlib.suppress(OSError):
            filesystem.current.unlink(path)


def _abandoned(name: str) -> bool:
    ours = TEMPORARY_NAME.fullmatch(name)
    if ours is None or name in in_flight:
        return False
    process = int(ours["process"])
    return process == os.getpid() or not _runs(process)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
