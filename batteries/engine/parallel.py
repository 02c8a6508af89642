"""Independent pieces of work on threads of their own, each with torch on as few threads as leaves all cores busy.

An operator of torch splits its work among threads and waits for them, and a piece that fits in a cache is made of many small
operators. Two pieces on one core each wait for nobody, and neither leaves torch's idle workers spinning on the other's core.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

import torch

from batteries.engine import dispatch
from batteries.engine.threads import start_kept

MOST_WORKERS = 8  # threads: more would wait for the interpreter's lock

Piece = TypeVar("Piece")


def run(pieces: Sequence[Piece], work: Callable[[Piece], object], *, alone: bool = False) -> None:
    """``work`` on every piece, on as many threads as torch has.

    Nobody's counter of operators sees the other threads, so under one there is only this thread.

    Args:
        pieces: The work.
        work: Must be safe to run beside itself.
        alone: Every piece has one thread of torch's, also where one piece is all, so that no bit of its answer depends on the
            number of threads; and gradients, where the caller has them. Else there are none, and one piece is done here.

    Raises:
        BaseException: the first that ``work`` raised, when all threads have ended.
    """
    watched = dispatch.watched()
    threads = 1 if watched else workers(len(pieces))
    share = 1 if alone else max(1, torch.get_num_threads() // threads)
    if threads == 1 and (watched or share == torch.get_num_threads()):
        for piece in pieces:
            work(piece)
        return
    left, failed = deque(pieces), list[BaseException]()
    inference, gradients = torch.is_inference_mode_enabled(), alone and torch.is_grad_enabled()

    def work_on() -> None:
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                while not failed:
                    try:
                        piece = left.popleft()
                    except IndexError:
                        return
                    work(piece)
        except BaseException as error:
            failed.append(error)

    under_way = [_pool(threads, share).submit(copy_context().run, work_on) for _ in range(threads)]
    try:
        wait(under_way)
    except BaseException as error:  # such as Ctrl-C, which reaches only the thread that waits
        failed.append(error)
        wait(under_way)
    if failed:
        raise failed[0]


def workers(pieces: int) -> int:
    """Threads that so many pieces are worth."""
    return max(1, min(pieces, torch.get_num_threads(), MOST_WORKERS))


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_making = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # a child has no threads but one


def _pool(threads: int, share: int) -> ThreadPoolExecutor:
    """So many threads with that share of torch's threads each, made once; callers at the same time use the same ones.

    Neither the caller's own number nor the one that other threads begin with is touched.
    """
    with _making:
        if (threads, share) not in _pools:
            ready = threading.Barrier(threads)

            def settle() -> None:
                torch.get_num_threads()  # as in batteries.engine.threads.set_here
                torch.set_num_threads(share)
                ready.wait()

            pool = ThreadPoolExecutor(threads, thread_name_prefix="batteries-piece")
            with start_kept():
                wait([pool.submit(settle) for _ in range(threads)])
            _pools[threads, share] = pool
        return _pools[threads, share]
