"""Operations that a file system may lack, and do without.

Memory cards, network shares and file systems in user space have no hard links, or no locks, or cannot sync or map a file.
What is done in place of such an operation keeps every file whole; a promise that goes with it is noted, for whoever gave it.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

Operation = Literal["link", "lock", "sync", "map"]

_UNKNOWN = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
ERRORS: dict[Operation, set[int]] = {  # by which a file system says that it has no such operation
    "link": {*_UNKNOWN, errno.EPERM, errno.EINVAL, errno.EXDEV, errno.EMLINK},
    "lock": {*_UNKNOWN, errno.ENOLCK, errno.EINVAL, errno.ENODEV},
    "sync": {*_UNKNOWN, errno.EINVAL},
    "map": {*_UNKNOWN, errno.ENODEV, errno.EINVAL},
}

_noted: ContextVar[set[Operation] | None] = ContextVar("_noted", default=None)


@contextlib.contextmanager
def noting() -> Iterator[set[Operation]]:
    """Collect the operations that turn out to be lacking while this ``with`` lasts."""
    found: set[Operation] = set()
    before = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(before)


@contextlib.contextmanager
def without(operation: Operation) -> Iterator[None]:
    """Do without an operation where the file system lacks it; any other error of it leaves this ``with``."""
    try:
        yield
    except OSError as error:
        if error.errno not in ERRORS[operation]:
            raise
        if (noted := _noted.get()) is not None:
            noted.add(operation)
