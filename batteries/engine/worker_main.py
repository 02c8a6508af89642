"""Program of a worker process: calls one task after the other, until its driver closes the connection or is gone.

The driver's program is loaded here only when a task refers to it by a function or class of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import runpy
import sys
import threading
from functools import cache
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import ModuleType
from typing import Any

from batteries.engine.tasks import MAIN_GUARD, attempted
from batteries.errors import InputError

LOOK = 1.0  # seconds between two looks whether the driver still lives
AS_MODULE = "__mp_main__"  # name of a program that is loaded and not run, as multiprocessing has it

_loading = threading.Event()


def serve(connection: Connection, driver: int, version: str, program: tuple[str, str] | None) -> None:
    """Answer the driver's tasks.

    Args:
        connection: Connection to the driver.
        driver: Process of the driver.
        version: Version of this package in the driver.
        program: ``module`` and its name or ``path`` and the file of the driver's program; None if it has neither.
    """
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, driver, inbox), name="batteries-inbox", daemon=True).start()

    def loads(payload: bytes) -> Any:
        return _Unpickler(io.BytesIO(payload), program).load()

    while True:
        answer = attempted(version, inbox.get(), loads)
        _flush()
        try:
            connection.send_bytes(answer)
        except OSError:  # the driver is gone
            _leave()


def refuse_in_program() -> None:
    """Refuse to run tasks while a worker loads the driver's program, which would start workers without end.

    Raises:
        InputError: a program that runs tasks when it is loaded (``MAIN_GUARD``).
    """
    if _loading.is_set():
        raise InputError(
            "program runs tasks when it is loaded",
            code=MAIN_GUARD,
            expected='if __name__ == "__main__": before the call',
            remedy="A worker loads the program for its functions. Put the call below that line, or the functions in a module.",
        )


def _receive(connection: Connection, driver: int, inbox: SimpleQueue[bytes]) -> None:
    """Take in tasks, and end the process with its driver, also while the main thread computes.

    A killed driver closes the connection; where a process that it forked holds it open, the parent's number tells.
    """
    try:
        while True:
            if connection.poll(LOOK):
                inbox.put(connection.recv_bytes())
            elif os.getppid() != driver:
                break
    except (EOFError, OSError):
        pass
    _leave()


def _leave() -> None:
    """End the process at once: unloading torch takes seconds."""
    _flush()
    os._exit(0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


class _Unpickler(pickle.Unpickler):
    """Unpickler that loads the driver's program when a pickle refers to it."""

    def __init__(self, file: io.BytesIO, program: tuple[str, str] | None) -> None:
        super().__init__(file)
        self._program = program

    def find_class(self, module: str, name: str) -> Any:
        """Return a function or class by the name of its module and its own."""
        if module == "__main__":
            _load(self._program)
        return super().find_class(module, name)


@cache
def _load(program: tuple[str, str] | None) -> None:
    """Load the driver's program as a module, in place of this one's.

    Raises:
        InputError: a program without a file, such as a prompt's or a notebook's (``NO_PROGRAM``).
    """
    if program is None:
        raise InputError(
            "function of a program without a file",
            code="NO_PROGRAM",
            expected="a function of a module",
            remedy="Put the function in a module, and import it.",
        )
    kind, where = program
    _loading.set()
    try:
        run = runpy.run_module if kind == "module" else runpy.run_path
        content = run(where, run_name=AS_MODULE)
    finally:
        _loading.clear()
    loaded = ModuleType(AS_MODULE)
    loaded.__dict__.update(content)
    sys.modules["__main__"] = sys.modules[AS_MODULE] = loaded
