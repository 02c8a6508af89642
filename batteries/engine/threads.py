"""The number of threads that work runs on: torch's own, as the Python thread that asks for the work has it.

There is no second number beside torch's. So ``OMP_NUM_THREADS``, the processors that the system lets a process use and
``torch.set_num_threads`` hold for our work too, and :func:`threads` changes that same number for one Python thread and a time.

torch counts for each Python thread. One that is new to it begins with the number set last, in whichever thread; and one that
sets its number before it was ever asked for it loses what it set. Both are seen to here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import torch

from batteries.errors import InputError

MOST_THREADS = 1024  # threads; where the system has no room for so many, OpenMP ends the process

_setting = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child is not to find it held by a thread that it does not have
    os.register_at_fork(before=_setting.acquire, after_in_parent=_setting.release, after_in_child=_setting.release)


def threads(count: int) -> ExitStack:
    """Run our work, and torch's, on so many threads: from now on, or inside a ``with``, after which it is as before.

    It holds for the Python thread that calls it and for the work it asks for, with what other threads do left alone.

    Args:
        count: Threads, from 1 to 1024.

    Raises:
        InputError: not such a number (``THREADS``).

    >>> before = torch.get_num_threads()
    >>> with threads(1):
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
    """Set torch's number for this Python thread alone."""
    torch.get_num_threads()  # else the first look at it, later, would take the number set last for this thread's
    with start_kept():
        torch.set_num_threads(count)


@contextmanager
def start_kept() -> Iterator[None]:
    """What is set inside this ``with``, by any thread, is not the number that threads begin with afterwards."""
    with _setting, ThreadPoolExecutor(1, thread_name_prefix="batteries-keeper") as keeper:
        before = keeper.submit(torch.get_num_threads).result()
        try:
            yield
        finally:
            keeper.submit(torch.set_num_threads, before).result()
