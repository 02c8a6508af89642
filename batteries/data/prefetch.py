"""Prefetching in one background thread: a bounded number of batches is prepared while a step runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from batteries.engine import threads

Made = TypeVar("Made")

DEPTH = 2  # batches ready or being made


def ahead(make: Callable[[int], Made], start: int, stop: int) -> Iterator[Made]:
    """Yield ``make(start)`` to ``make(stop - 1)`` in order, each started while earlier ones are in use.

    The results depend on ``make`` alone; its errors are raised in place of its results. Closing the iterator cancels calls not
    yet started. torch has one thread in the background, since more would compete with the step for its cores.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch", initializer=partial(threads.set_here, 1))
    waiting: deque[Future[Made]] = deque()
    try:
        for index in range(start, stop):
            while len(waiting) < min(DEPTH, stop - index):
                waiting.append(pool.submit(make, index + len(waiting)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
