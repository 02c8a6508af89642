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
from typing import TypeVar

import torch

from batteries import dispatch

MOST = 8  # threads: more would wait for the interpreter's lock

Piece = TypeVar("Piece")


def run(pieces: Sequence[Piece], work: Callable[[Piece], object]) -> None:
    """``work`` on every piece, on as many threads as torch has, without gradients.

    Nobody's counter of operators sees the other threads, so under one there is only this thread; nor is there another where one
    piece is all.

    Args:
        pieces: The work.
        work: Must be safe to run beside itself.

    Raises:
        BaseException: the first that ``work`` raised, when all threads have ended.
    """
    threads = 1 if dispatch.watched() else workers(len(pieces))
    if threads == 1:
        for piece in pieces:
            work(piece)
        return
    left, failed = deque(pieces), list[BaseException]()
    inference = torch.is_inference_mode_enabled()

    def work_on() -> None:
        try:
            with torch.inference_mode(inference), torch.no_grad():
                while not failed:
                    try:
                        piece = left.popleft()
                    except IndexError:
                        return
                    work(piece)
        except BaseException as error:
            failed.append(error)

    under_way = [_pool(threads, max(1, torch.get_num_threads() // threads)).submit(work_on) for _ in range(threads)]
    try:
        wait(under_way)
    except BaseException as error:  # such as Ctrl-C, which reaches only the thread that waits
        failed.append(error)
        wait(under_way)
    if failed:
        raise failed[0]


def workers(pieces: int) -> int:
    """Threads that so many pieces are worth."""
    return max(1, min(pieces, torch.get_num_threads(), MOST))


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_making = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # a child has no threads but one


def _pool(threads: int, share: int) -> ThreadPoolExecutor:
    """So many threads with that share of torch's threads each, made once; callers at the same time use the same ones.

    torch counts threads for each thread of Python, and a new one begins with the number that was set last, anywhere. So that
    nobody else's threads begin with the share of these, one more thread keeps the number of before and sets it again when all
    of these have theirs. The caller's own number is never touched.
    """
    with _making:
        if (threads, share) not in _pools:
            kept, ready = threading.Event(), threading.Barrier(threads + 1)

            def keep() -> None:
                before = torch.get_num_threads()
                kept.set()
                ready.wait()
                torch.set_num_threads(before)

            def settle() -> None:
                torch.get_num_threads()  # else the first look at it, later, would take the number set last for this thread's
                torch.set_num_threads(share)
                ready.wait()

            keeper = threading.Thread(target=keep, name="batteries-keeper")
            keeper.start()
            kept.wait()
            pool = ThreadPoolExecutor(threads, thread_name_prefix="batteries-piece")
            wait([pool.submit(settle) for _ in range(threads)])
            keeper.join()
            _pools[threads, share] = pool
        return _pools[threads, share]
