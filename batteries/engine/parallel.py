"""Independent pieces of work in parallel threads, each with torch on as few threads as keep all cores busy.

An operator of torch splits its work among threads and waits for them, and a piece that fits in a cache consists of many small
operators. Pieces with a core each never wait, and do not leave torch's idle workers spinning on each other's core.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar, copy_context
from typing import TypeVar

import torch

from batteries.engine import dispatch
from batteries.engine.threads import start_kept

MOST_WORKERS = 8  # threads: more would wait for the interpreter's lock

Piece = TypeVar("Piece")
Result = TypeVar("Result")


_failures: ContextVar[Sequence[BaseException]] = ContextVar("failures of the pieces beside this one", default=())


class LeftError(Exception):
    """End of a long piece whose result is no longer wanted."""


def run(pieces: Sequence[Piece], work: Callable[[Piece], object], *, alone: bool = False, long: bool = False) -> None:
    """Call ``work`` on every piece, on as many threads as torch has.

    Modes that observe operators do not see other threads, so under one all work is done in this thread.

    Args:
        pieces: Inputs of the calls.
        work: Function that is safe to run concurrently.
        alone: Gives every piece, even a single one, one thread of torch's, so that no bit of its result depends on the number
            of threads, and the caller's gradient mode. Otherwise gradients are off, and a single piece runs in this thread.
            Under a mode that observes operators the pieces have the caller's threads.
        long: Gives pieces that take seconds threads apart from those of short ones, which would wait for them.

    Raises:
        BaseException: first exception of ``work``, or of the thread that waits, once all threads have ended; long pieces should
            call :func:`leave_if_failed` now and then.
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
        _failures.set(failed)
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

    under_way = [_pool(threads, share, long).submit(copy_context().run, work_on) for _ in range(threads)]
    try:
        wait(under_way)
    except BaseException as error:  # such as Ctrl-C, which reaches only the thread that waits
        failed.append(error)
        wait(under_way)
    if failed:
        raise failed[0]


def leave_if_failed() -> None:
    """End this piece if another one failed, or if its caller was interrupted.

    Raises:
        LeftError: for :func:`run`, which raises the first exception instead.
    """
    if _failures.get():
        raise LeftError


def results(calls: Sequence[Callable[[], Result]], *, long: bool = False) -> list[Result]:
    """Return the results of independent calls, in order, as :func:`run` with ``alone``.

    Raises:
        BaseException: first exception of a call, once all threads have ended.
    """
    found: dict[int, Result] = {}

    def work(index: int) -> None:
        found[index] = calls[index]()

    run(range(len(calls)), work, alone=True, long=long)
    return [found[index] for index in range(len(calls))]


def workers(pieces: int) -> int:
    """Return the number of threads to use for a number of pieces."""
    return max(1, min(pieces, torch.get_num_threads(), MOST_WORKERS))


_pools: dict[tuple[int, int, bool], ThreadPoolExecutor] = {}
_making = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # a child has only one thread


def _pool(threads: int, share: int, long: bool) -> ThreadPoolExecutor:
    """Return the pool of a number of threads with a share of torch's threads each, made once and used by all callers.

    Neither the caller's number of torch threads nor that of new threads changes.
    """
    with _making:
        if (threads, share, long) not in _pools:
            ready = threading.Barrier(threads)

            def settle() -> None:
                torch.get_num_threads()  # as in batteries.engine.threads.set_here
                torch.set_num_threads(share)
                ready.wait()

            pool = ThreadPoolExecutor(threads, thread_name_prefix="batteries-piece")
            with start_kept():
                wait([pool.submit(settle) for _ in range(threads)])
            _pools[threads, share, long] = pool
        return _pools[threads, share, long]
