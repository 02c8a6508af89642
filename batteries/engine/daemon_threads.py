"""Concurrent jobs in daemon threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

Done = TypeVar("Done")


def side_by_side(jobs: Sequence[Callable[[], Done]], threads: int) -> Iterator[tuple[int, Done]]:
    """Yield the results of jobs as they finish, each with its position.

    After an error no further job is started, and the error is raised once the running ones have ended. An interrupt or the end
    of the program does not wait for running jobs.

    Args:
        jobs: Functions to call.
        threads: Largest number of jobs at a time.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    ended: SimpleQueue[tuple[int, Done | Exception]] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                place = waiting.get_nowait()
            except Empty:
                return
            try:
                ended.put((place, jobs[place]()))
            except Exception as error:  # raised in the caller in place of the result
                ended.put((place, error))

    for place in range(len(jobs)):
        waiting.put(place)
    workers = _started(work, min(threads, len(jobs)))
    try:
        for _ in jobs:
            place, found = ended.get()
            if isinstance(found, Exception):
                stopped.set()
                for worker in workers:
                    worker.join()
                raise found
            yield place, found
    finally:
        stopped.set()


def _started(work: Callable[[], None], count: int) -> list[threading.Thread]:
    """Start as many threads as the system allows; if it allows none, do the work in this thread."""
    workers: list[threading.Thread] = []
    try:
        for _ in range(count):
            worker = threading.Thread(target=work, name="batteries-transfer", daemon=True)
            worker.start()
            workers.append(worker)
    except RuntimeError:
        if not workers:
            work()
    return workers
