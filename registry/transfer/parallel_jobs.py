"""Jobs side by side, in threads that nobody has to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

Done = TypeVar("Done")


def side_by_side(jobs: Sequence[Callable[[], Done]], threads: int) -> Iterator[tuple[int, Done]]:
    """Results of jobs as they come, each with its place.

    An error of a job is raised once those that are under way have ended; no other one is begun. Whoever is interrupted, and
    whoever ends the program, waits for none of them.

    Args:
        jobs: What is to be done.
        threads: How many of them at a time.
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
            except Exception as error:  # raised where its result would have come
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
    """Threads at work, as many as the system lets this process have; where it lets it have none, the work is done here."""
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
