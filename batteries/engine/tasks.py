"""Tasks that run in other processes, their outcomes, and how both cross to a worker and back.

A task and its answer cross as pickles. Each is packed where it is made, so that what cannot be packed, or cannot be unpacked on
the other side, is an error of that task alone.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batteries import __version__
from batteries.errors import BatteriesError, InputError

Answer = tuple[Any, BatteriesError | None]  # value, error
Loads = Callable[[bytes], Any]
MAIN_GUARD, ENGINE_VERSION = "MAIN_GUARD", "ENGINE_VERSION"
OF_THE_RUN = {MAIN_GUARD, ENGINE_VERSION}  # codes of errors that every task of a run would have


@dataclass(frozen=True)
class Task:
    """A call that is made in another process.

    Attributes:
        name: Name, unique in a run, usable as a file name.
        call: Function of a module.
        arguments: Arguments, which can be pickled.
        gpus: GPUs, or a share of one, that are kept for the task; processors are one per task.
    """

    name: str
    call: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    gpus: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The end of a task.

    Attributes:
        task: The task.
        value: Value that the call returned.
        error: Error of the call: its own, if it is one of this package's; ``TASK_FAILED`` for any other exception, with its
            traceback as a note; ``WORKER_LOST`` if the last attempt's process ended before it answered. None after a success.
        attempts: Attempts that were made; all but the last lost their process.
    """

    task: Task
    value: Any = None
    error: BatteriesError | None = None
    attempts: int = 1

    def result(self) -> Any:
        """Return the value.

        Raises:
            BatteriesError: error of the task.
        """
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True)
class Attempt:
    """One attempt of a task.

    Attributes:
        task: The task.
        payload: Pickle of its call and arguments.
        number: Number of the attempt, from 1.
    """

    task: Task
    payload: bytes
    number: int = 1


@dataclass(frozen=True)
class Lost:
    """Loss of a worker.

    Attributes:
        how: End of the process.
    """

    how: str


def packed(task: Task, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes | BatteriesError:
    """Pickle a task's call and arguments; return a ``TASK_FAILED`` if that is impossible."""
    try:
        return dumps((task.call, task.arguments))
    except Exception as error:  # a class's own pickling may raise anything
        return failed(error)


def attempted(version: str, payload: bytes, loads: Loads = pickle.loads) -> bytes:
    """Make a task's call, in a worker, with torch on one thread, and return the pickled answer.

    Args:
        version: Version of this package in the driver.
        payload: Pickle of the call and its arguments.
        loads: Function that unpickles them.
    """
    try:
        _refuse_other_version(version)
        call, arguments = loads(payload)
        use_one_thread()
        answer: Answer = call(*arguments), None
    except BaseException as error:  # a task that exits or is interrupted does not end its worker
        answer = None, _typed(error)
    try:
        return pickle.dumps(answer)
    except Exception as error:
        plain = _in_words(answer[1]) if answer[1] is not None else failed(error)
        return pickle.dumps((None, plain))


def answered(answer: bytes) -> Answer:
    """Unpickle an answer in the driver.

    Raises:
        BatteriesError: an error that every task of the run would have.
    """
    try:
        value, error = pickle.loads(answer)  # noqa: S301 - made by a worker of this run
    except Exception as problem:
        value, error = None, failed(problem)
    if error is not None and error.code in OF_THE_RUN:
        raise error
    return value, error


def use_one_thread() -> None:
    """Set torch's threads to one, where torch is loaded: an earlier task of the process may have changed them."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


def failed(error: BaseException) -> BatteriesError:
    """Return a ``TASK_FAILED`` for an exception, with its traceback as a note."""
    found = "".join(traceback.format_exception_only(error)).strip()
    typed = BatteriesError("task failed", code="TASK_FAILED", found=found)
    typed.add_note("".join(traceback.format_exception(error)))
    return typed


def lost(how: str) -> BatteriesError:
    """Return a ``WORKER_LOST``.

    Args:
        how: End of the process.
    """
    return BatteriesError(
        "worker lost",
        code="WORKER_LOST",
        expected="a process that lives until its task is done",
        found=how,
        remedy="If memory ran out, use fewer workers.",
        retryable=True,
    )


def other_version(found: object) -> BatteriesError:
    """Return the error of a worker that has another version of this package than the driver, or none."""
    return InputError(
        "worker with another version of svae-batteries",
        code=ENGINE_VERSION,
        expected=__version__,
        found=found,
        remedy=f"Install svae-batteries {__version__} wherever tasks run, and start again.",
    )


def _refuse_other_version(version: str) -> None:
    if version != __version__:
        raise InputError(
            "worker with another version of svae-batteries",
            code=ENGINE_VERSION,
            expected=version,
            found=__version__,
            remedy=f"Install svae-batteries {version} wherever tasks run, and start again.",
        )


def _typed(error: BaseException) -> BatteriesError:
    return error if isinstance(error, BatteriesError) else failed(error)


def _in_words(error: BatteriesError) -> BatteriesError:
    """Replace the values in an error, which cannot be pickled, by their text."""
    for name in ("expected", "found", "where"):
        value = getattr(error, name)
        setattr(error, name, None if value is None else str(value))
    return error
