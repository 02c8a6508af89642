"""How numba's kernels come to be, are found to work, and share their work among threads.

Nothing here imports numba before a kernel is asked for, and nothing needs it: where it is missing (it comes with the ``fast``
extra) or does not compile, :func:`load` gives None and the caller takes torch's way.

Threads are started for the call and end with it: callers from several Python threads share nothing, and a process may fork.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

THREAD_WORK = 3_000_000  # nanoseconds of work that are worth a thread: below it, a second thread was slower right after
# work of torch's own, whose idle worker seems to hold its core for milliseconds


def kernel(function: Callable[..., None], **options: Any) -> Any:
    """A function compiled without the interpreter's lock, and kept on disk where there is a folder to keep it in."""
    from numba import njit  # only modules of kernels, which need it themselves, call this

    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # numba found no folder it may write to
        return njit(nogil=True, **options)(function)


def load(find: Callable[[], Any], trial: Callable[[Any], object]) -> Any:
    """What ``find`` gives, after one call on something small, in which it is compiled or read from numba's cache; or None."""
    try:
        found = find()
    except ImportError:
        return None
    try:
        trial(found)
    except OSError:
        trial(found)  # compiled, and not kept: numba's cache could not be written
    except Exception as error:
        warnings.warn(f"a fast kernel does not compile here, torch's way is used: {error}", RuntimeWarning, stacklevel=2)
        return None
    return found


def share(run: Callable[[int, int], object], count: int, nanoseconds: float) -> None:
    """``run(start, stop)`` over ``count`` pieces of work, on as many threads as torch has and the work is worth.

    Args:
        run: Takes pieces from ``start`` to ``stop``; must be safe to run beside itself.
        count: Pieces.
        nanoseconds: One of them takes, roughly.
    """
    threads = min(torch.get_num_threads(), 1 + int(count * nanoseconds / THREAD_WORK))
    if threads == 1:
        run(0, count)
        return
    step = -(-count // (8 * threads))  # a thread that is held up leaves more of them to the others
    starts = deque(range(0, count, step))

    def work() -> None:
        while starts:
            try:
                start = starts.popleft()
            except IndexError:  # another thread took the last
                return
            run(start, min(start + step, count))

    helpers = [threading.Thread(target=work) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
