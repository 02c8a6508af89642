"""The operating system's errors about files, as ours."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from batteries.errors import BatteriesError, InputError, NotFoundError, StoreError
from batteries.io import placeholders

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


@contextlib.contextmanager
def typed(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Operating system's errors about ``path`` as ours.

    Args:
        path: The file that the errors name.
        writing: Whether something missing is the disk's fault, and not an answer.

    Raises:
        NotFoundError: nothing there, and not ``writing``.
        FormatError: a link of git-annex to what is not fetched (``ANNEX_POINTER``).
        StoreError: any other refusal.
        InputError: no path at all, such as one with a NUL.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not writing:
            placeholders.refuse_link(path)
            found = "a symbolic link to nothing" if path.is_symlink() else None
            raise NotFoundError("no such file", code="NO_FILE", found=found, where=path) from error
        raise _store_error(error, path) from error
    except ValueError as error:
        if isinstance(error, BatteriesError):
            raise
        raise InputError("a path that cannot be used", code="BAD_PATH", found=repr(str(path)), where=error) from error


def is_closed(error: StoreError) -> bool:
    """Whether an error means a folder that cannot be reached, written or filled, and not a disk that fails."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in CLOSED


def _store_error(error: OSError, path: Path) -> StoreError:
    if error.errno in NO_SPACE:
        remedy = "Free some space, or name another folder, and run the same command again."
        return StoreError("no space left on the disk", code="NO_SPACE", where=path, remedy=remedy, retryable=True)
    return StoreError("the disk refused", code="DISK", found=error.strerror or error, where=path, retryable=True)
