"""Access of other users: to what this package writes, and to what it would have to trust.

What is written is never writable by other users unless the folder that it is in says so. A user's own outputs follow the umask;
what lies in a registry or in the cache is as open as the folder of the registry or cache, under any umask; and what no digest
can prove is private.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from batteries.io import filesystem
from batteries.io.filesystem_errors import NOTHING_THERE
from batteries.io.missing_operations import without

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


@dataclass(frozen=True)
class Access:
    """Rule for the permissions of a file, and of the folders that are made for it.

    Attributes:
        top: Folder below which the umask does not count; None where it always does.
        private: Whether files and folders below ``top`` are closed to other users; otherwise they are as open as the folder
            they are in.
    """

    top: Path | None = None
    private: bool = False

    def give(self, descriptor: int, path: Path) -> None:
        """Set the permissions of a file or folder that was just made, open as ``descriptor``."""
        if self.top is None or self.top not in path.parents:
            return
        folder = stat.S_ISDIR(filesystem.current.fstat(descriptor).st_mode)
        if self.private:
            mode = PRIVATE_FOLDER if folder else PRIVATE_FILE
        else:
            mode = permissions_of(path.parent) & (0o3777 if folder else filesystem.FILE)
        with without("allow"):
            filesystem.current.allow(descriptor, mode)


UMASK = Access()


def permissions_of(folder: Path) -> int:
    """Return the permissions of a folder, following links."""
    return stat.S_IMODE(filesystem.current.lstat(folder.resolve()).st_mode)


def is_open_to_others(status: os.stat_result) -> bool:
    """Return whether another user than this one or the administrator could have written a file or folder, and still could."""
    return status.st_uid not in (os.geteuid(), 0) or bool(status.st_mode & OTHERS_WRITE)


def is_trusted(path: Path) -> bool:
    """Return whether a file and its folder are there, are no links, and no other user could have written either.

    The folder's own folder may be open: what another user puts in the place of the folder is not this user's.
    """
    try:
        found = [filesystem.current.lstat(one) for one in (path.parent, path)]
    except NOTHING_THERE:
        return False
    return [stat.S_IFMT(one.st_mode) for one in found] == [stat.S_IFDIR, stat.S_IFREG] and not any(
        map(is_open_to_others, found)
    )
