"""Temporary files: naming them, and removing those left by killed writers."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from batteries.io import filesystem
from batteries.io.filesystem_errors import typed
from batteries.io.folders import entries

TEMPORARY = ".part"  # suffix of an unfinished file; removed by ``sweep``
TEMPORARY_NAME = re.compile(rf"\..+\.(?P<process>\d{{1,9}})\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}")
NAMED = 48  # characters of the file's name in the temporary name, which keeps it within the file system's limit

in_flight: dict[str, Path] = {}  # temporary files being written by this process, by name


def temporary_of(path: Path) -> Path:
    """Return a new temporary path beside a file to be written."""
    return path.with_name(f".{path.name[:NAMED]}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY}")


def sweep(folder: Path) -> int:
    """Remove temporary files of killed writers below ``folder``; return the number of bytes freed.

    A temporary file belongs to the process whose number is in its name, and is kept while that process runs. Folders that may
    not be listed and files that cannot be removed are left to the next sweep.

    Raises:
        StoreError: failing disk.
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
    """Remove the temporary files of this process before it exits."""
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
