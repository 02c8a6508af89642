"""Number of threads that work runs on: torch's own, as set for the calling Python thread.

This package has no setting of its own. So ``OMP_NUM_THREADS``, the processors available to the process and
``torch.set_num_threads`` apply to its work too, and :func:`threads` changes the same number, temporarily and for one thread.

torch keeps a number for each Python thread. A new thread starts with the number set last by any thread; and a thread that
sets its number before it was first read loses the setting. Both are handled here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import torch

from batteries.errors import InputError

MOST_THREADS = 1024  # threads; OpenMP ends the process if the system cannot start them

_setting = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child must not inherit a lock held by a missing thread
    os.register_at_fork(before=_setting.acquire, after_in_parent=_setting.release, after_in_child=_setting.release)


def threads(count: int) -> ExitStack:
    """Set the number of threads for this package's and torch's work, from now on or inside a ``with``.

    It applies to the calling Python thread and the work it starts; other threads are not affected.

    Args:
        count: Number of threads, from 1 to 1024.

    Raises:
        InputError: not an integer in that range (``THREADS``).

    >>> import batteries, torch
    >>> before = torch.get_num_threads()
    >>> with batteries.threads(1):
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_THREADS:
        raise InputError(
            "not a number of threads", code="THREADS", expected=f"a whole number from 1 to {MOST_THREADS}", found=repr(count)
        )
    before = torch.get_num_threads()
    set_here(count)
    ended = ExitStack()
    ended.callback(set_here, before)
    return ended


def set_here(count: int) -> None:
    """Set torch's number of threads for this Python thread alone."""
    torch.get_num_threads()  # otherwise the first read, later, would replace it with the number set last by any thread
    with start_kept():
        torch.set_num_threads(count)


@contextmanager
def start_kept() -> Iterator[None]:
    """Keep the number that new threads start with unchanged by settings made inside this ``with``."""
    with _setting, ThreadPoolExecutor(1, thread_name_prefix="batteries-keeper") as keeper:
        before = keeper.submit(torch.get_num_threads).result()
        try:
            yield
        finally:
            keeper.submit(torch.set_num_threads, before).result()
