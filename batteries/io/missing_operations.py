"""Operations that a file system may lack, and how to proceed without them.

Memory cards, network shares and file systems in user space may lack hard links, locks or permissions, or be unable to sync or
map a file. The fallbacks keep every file whole; a guarantee that is lost is recorded for the caller who gave it.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

Operation = Literal["link", "lock", "sync", "map", "allow"]

_UNKNOWN = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
ERRORS: dict[Operation, set[int]] = {  # errors of a file system without the operation
    "link": {*_UNKNOWN, errno.EPERM, errno.EINVAL, errno.EXDEV, errno.EMLINK},
    "lock": {*_UNKNOWN, errno.ENOLCK, errno.EINVAL, errno.ENODEV},
    "sync": {*_UNKNOWN, errno.EINVAL},
    "map": {*_UNKNOWN, errno.ENODEV, errno.EINVAL},
    "allow": {*_UNKNOWN, errno.EPERM, errno.EINVAL},
}

_noted: ContextVar[set[Operation] | None] = ContextVar("_noted", default=None)


@contextlib.contextmanager
def noting() -> Iterator[set[Operation]]:
    """Collect the operations found missing inside this ``with``."""
    found: set[Operation] = set()
    before = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(before)


@contextlib.contextmanager
def without(operation: Operation) -> Iterator[None]:
    """Ignore the error of an operation that the file system lacks; any other error propagates."""
    try:
        yield
    except OSError as error:
        if error.errno not in ERRORS[operation]:
            raise
        if (noted := _noted.get()) is not None:
            noted.add(operation)
