"""Temporary files: naming them, and removing those left by killed writers."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

from batteries.io import filesystem
from batteries.io.filesystem_errors import typed
from batteries.io.folders import entries
from batteries.io.operating_system import place

TEMPORARY = ".part"  # suffix of an unfinished file; removed by ``sweep``
# a file's name, the number of a process, the place where that number means it, and a random number
TEMPORARY_NAME = re.compile(rf"\..+\.(?P<process>\d{{1,9}})\.(?P<place>[0-9a-f]{{8}})?[0-9a-f]{{8}}{re.escape(TEMPORARY)}")
FORGOTTEN = 24 * 3600.0  # seconds after the last change of a file of another place: no writing takes so long
NAMED = 48  # characters of the file's name in the temporary name, which keeps it within the file system's limit

_swept: set[Path] = set()
in_flight: dict[str, Path] = {}  # temporary files being written by this process, by name


def temporary_of(path: Path) -> Path:
    """Return a new temporary path beside a file to be written."""
    return path.with_name(f".{path.name[:NAMED]}.{os.getpid()}.{place()}{secrets.token_hex(4)}{TEMPORARY}")


def sweep(folder: Path) -> int:
    """Remove temporary files of killed writers below ``folder``; return the number of bytes freed.

    A temporary file belongs to the process whose number is in its name, and is kept while that process runs. The number means
    another process on another host, in another container, or before the host's last start: a file from there is kept for a day
    after its last change. Folders that may not be listed and files that cannot be removed are left to the next sweep.

    Raises:
        StoreError: failing disk.
    """
    with typed(folder):
        return sum(_removed(Path(entry.path)) for entry in entries(folder, passed_over=PermissionError))


def sweep_once(folder: Path) -> None:
    """Remove temporary files of killed writers in ``folder`` itself, at the first call for it in this process.

    Writers call it before they write, so that a command that was killed leaves nothing after its next run.
    """
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError):
        for entry in entries(folder, depth=0, passed_over=PermissionError):
            _removed(Path(entry.path))


def _removed(path: Path) -> int:
    """Remove a temporary file that was abandoned; return its size, or 0 for any other file."""
    if not (path.name.endswith(TEMPORARY) and _abandoned(path)):
        return 0
    with contextlib.suppress(OSError):
        size = filesystem.current.lstat(path).st_size
        filesystem.current.unlink(path)
        return size
    return 0


def give_up() -> None:
    """Remove the temporary files of this process before it exits."""
    for path in list(in_flight.values()):
        with contextlib.suppress(OSError):
            filesystem.current.unlink(path)


def _abandoned(path: Path) -> bool:
    ours = TEMPORARY_NAME.fullmatch(path.name)
    if ours is None or path.name in in_flight:
        return False
    if ours["place"] != place():
        with contextlib.suppress(OSError):
            return time.time() - filesystem.current.lstat(path).st_mtime > FORGOTTEN
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
