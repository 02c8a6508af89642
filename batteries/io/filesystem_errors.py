"""Conversion of the operating system's errors about files to this package's errors."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from batteries.errors import BatteriesError, InputError, NotFoundError, StoreError
from batteries.io.texts import placeholders

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CLOSED = {  # folder missing, not writable or full, without a sign of damage
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
    """Convert the operating system's errors about ``path`` to this package's.

    Args:
        path: File that the errors name.
        writing: True if a missing file is a fault of the disk rather than an answer.

    Raises:
        NotFoundError: missing file, unless ``writing``.
        FormatError: git-annex link to content not fetched (``ANNEX_POINTER``).
        StoreError: any other error of the operating system.
        InputError: invalid path, such as one with a NUL.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not writing:
            placeholders.refuse_link(path)
            found = "a broken symbolic link" if path.is_symlink() else None
            raise NotFoundError("no such file", code="NO_FILE", found=found, where=path) from error
        raise _store_error(error, path) from error
    except ValueError as error:
        if isinstance(error, BatteriesError):
            raise
        raise InputError("invalid path", code="BAD_PATH", found=repr(str(path)), where=error) from error


def is_closed(error: StoreError) -> bool:
    """Return True if an error means a folder that is missing, not writable or full, rather than a failing disk."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in CLOSED


def _store_error(error: OSError, path: Path) -> StoreError:
    if error.errno in NO_SPACE:
        remedy = "Free some space, or name another folder, and run the same command again."
        return StoreError("no space left on the disk", code="NO_SPACE", where=path, remedy=remedy, retryable=True)
    if error.errno == errno.EXDEV:
        what, expected = "file on another file system than its new place", "both on one file system"
        remedy = "Mount the whole folder, not a part of it."
        return StoreError(what, code="TWO_FILE_SYSTEMS", expected=expected, where=path, remedy=remedy)
    return StoreError("disk operation failed", code="DISK", found=error.strerror or error, where=path, retryable=True)
