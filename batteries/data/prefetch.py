"""Work done ahead, in one other thread: a bounded number of batches wait while a step runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from batteries.engine import threads

Made = TypeVar("Made")

DEPTH = 2  # batches in hand or in the making


def ahead(make: Callable[[int], Made], start: int, stop: int) -> Iterator[Made]:
    """``make(start)`` to ``make(stop - 1)``, in order, each begun while the ones before it are used.

    What comes out depends on ``make`` alone; an error of it is raised where its result would have come. Closing the
    iterator gives up what was not begun. torch has one thread there: more would wait for the cores that the step is to use.
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
