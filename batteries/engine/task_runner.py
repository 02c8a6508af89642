"""Tasks run in other processes, here or on a Ray cluster, with their outcomes as they end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from batteries.engine import processors
from batteries.engine.engine_address import EngineAddress
from batteries.engine.ray_cluster import RayCluster
from batteries.engine.tasks import Attempt, Lost, Outcome, Task, answered, lost, packed
from batteries.engine.worker_main import refuse_in_program
from batteries.engine.worker_processes import WorkerProcesses
from batteries.errors import BatteriesError, ConflictError, InputError

MOST_WORKERS = 4096
LOOK = 0.2  # seconds between two looks at `stop`

Run = Callable[[Iterable[Task]], Iterable[Outcome]]  # `run` with its options, or a function in its place


class Pool(Protocol):
    """Workers of an engine."""

    @property
    def dumps(self) -> Callable[[Any], bytes]:
        """Function that pickles a call and its arguments for a worker."""

    @property
    def has_room(self) -> bool:
        """True if another task can start."""

    @property
    def running(self) -> int:
        """Number of tasks under way."""

    def refuse(self, task: Task) -> None:
        """Refuse a task that cannot run here."""

    def start(self, attempt: Attempt) -> None:
        """Start an attempt of a task."""

    def ended(self, seconds: float) -> Iterator[tuple[Attempt, bytes | Lost]]:
        """Yield the attempts that end within some seconds, with their answers."""

    def close(self) -> None:
        """Cancel what runs, and end what was started."""


def run(
    tasks: Iterable[Task],
    *,
    engine: str = "processes",
    workers: int | None = None,
    retries: int = 2,
    stop: threading.Event | None = None,
) -> Generator[Outcome, None, None]:
    """Run tasks in other processes, each with torch on one thread, and yield their outcomes as they end.

    Tasks are drawn as workers are free for them, so that an iterator of many takes little memory. An outcome is yielded as soon
    as it is there: a caller that writes each loses none if it is killed. A task whose process is lost runs again; one that
    raises fails alone. Closing the generator, an exception in the caller and Ctrl-C cancel what runs and leave no process
    behind; workers of a driver that is killed end within seconds.

    A task's stdin is empty. Its stdout and stderr are the driver's stderr in processes, and the logs of the session on Ray.

    Args:
        tasks: Tasks, of different names.
        engine: ``processes`` of this machine; ``ray``, a Ray cluster that is started here and ends with the run, or that which
            this program has joined; ``ray:auto``, the one that runs on this machine; ``ray:HOST:PORT``, the one that it is a
            node of; ``ray://HOST:PORT``, any other.
        workers: Most tasks at a time. Defaults to the processors that this process is granted; on a cluster that runs already,
            to twice its processors, so that none waits for this one.
        retries: Times that a task runs again after the loss of its process.
        stop: Event that cancels what runs and ends the outcomes.

    Raises:
        InputError: unknown engine, or a task that it cannot run (``ENGINE``); no Ray (``EXTRA``); invalid numbers (``WORKERS``,
            ``RETRIES``); a worker with another version of this package (``ENGINE_VERSION``); a program without a guard
            (``MAIN_GUARD``).
        ConflictError: two tasks of one name (``TWICE``).
        TransportError: a cluster that cannot be reached (``ENGINE_UNREACHABLE``).
        BatteriesError: the system starts no process (``WORKER_START``).
    """
    address = EngineAddress.parse(engine)
    if workers is not None:
        _refuse_number("workers", workers, 1, MOST_WORKERS, "WORKERS")
    _refuse_number("retries", retries, 0, MOST_WORKERS, "RETRIES")
    refuse_in_program()
    if address.kind == "ray":
        RayCluster.refuse_missing()
    return _outcomes(iter(tasks), lambda: _pool(address, workers), retries, stop or threading.Event())


def in_this_process(tasks: Iterable[Task]) -> Iterator[Outcome]:
    """Make the calls of tasks one after the other, here; their errors are raised."""
    for task in tasks:
        yield Outcome(task, task.call(*task.arguments))


def gathered(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return the values of all tasks by name.

    Raises:
        BatteriesError: first error of a task.
    """
    return {outcome.task.name: outcome.result() for outcome in outcomes}


def granted() -> int:
    """Return the number of processors that this process is granted."""
    return min(processors.allowed(), processors.quota() or processors.allowed())


def _pool(address: EngineAddress, workers: int | None) -> Pool:
    if address.kind == "ray":
        return RayCluster(address, workers, granted())
    return WorkerProcesses(workers or granted())


def _outcomes(
    drawn: Iterator[Task], make: Callable[[], Pool], retries: int, stop: threading.Event
) -> Generator[Outcome, None, None]:
    pool = make()
    try:
        attempts = _Attempts(drawn, pool)
        yield from attempts.fill()
        attempts.raise_problem()
        while pool.running and not stop.is_set():
            for attempt, answer in pool.ended(LOOK):
                outcome = _outcome(attempt, answer, retries)
                if outcome is None:
                    attempts.again.append(replace(attempt, number=attempt.number + 1))
                failures = attempts.fill()  # the worker goes on while the caller deals with the outcome
                yield from ([outcome] if outcome else [])
                yield from failures
                attempts.raise_problem()
    finally:
        pool.close()


class _Attempts:
    """Attempts that are still to be made: of tasks whose worker was lost, then of tasks that are drawn."""

    def __init__(self, drawn: Iterator[Task], pool: Pool) -> None:
        self.again: deque[Attempt] = deque()
        self._drawn = drawn
        self._pool = pool
        self._names: set[str] = set()
        self._problem: Exception | None = None

    def fill(self) -> list[Outcome]:
        """Start as many as there is room for, and return the outcomes of tasks that cannot be sent."""
        unsent = []
        while self._pool.has_room and self._problem is None:
            if self.again:
                self._pool.start(self.again.popleft())
                continue
            try:
                task = next(self._drawn, None)
                if task is not None:
                    self._refuse(task)
            except Exception as error:
                self._problem = error
                break
            if task is None:
                break
            payload = packed(task, self._pool.dumps)
            if isinstance(payload, BatteriesError):
                unsent.append(Outcome(task, error=payload))
            else:
                self._pool.start(Attempt(task, payload))
        return unsent

    def raise_problem(self) -> None:
        """Raise what drawing a task raised, once the outcomes that were there have been yielded."""
        if self._problem is not None:
            raise self._problem

    def _refuse(self, task: Task) -> None:
        if task.name in self._names:
            raise ConflictError("two tasks of one name", code="TWICE", found=task.name)
        self._names.add(task.name)
        self._pool.refuse(task)


def _outcome(attempt: Attempt, answer: bytes | Lost, retries: int) -> Outcome | None:
    """Return the outcome of an attempt; None if it was lost and another is to be made."""
    if not isinstance(answer, Lost):
        value, error = answered(answer)
        return Outcome(attempt.task, value, error, attempt.number)
    if attempt.number <= retries:
        return None
    return Outcome(attempt.task, error=lost(answer.how), attempts=attempt.number)


def _refuse_number(what: str, given: Any, least: int, most: int, code: str) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        expected = f"a whole number from {least} to {most}"
        raise InputError(f"invalid number of {what}", code=code, expected=expected, found=repr(given)[:40])
