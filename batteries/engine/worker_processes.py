"""Worker processes of this machine: fresh interpreters, each with a connection of its own and on one thread.

A worker shares no lock and no pipe with another, so that the death of one, at any moment, concerns its own task alone; see
docs/decisions/0041-engine.md. Processes are started and never forked, since torch has threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from batteries import __version__
from batteries.engine.tasks import Attempt, Lost, Task
from batteries.errors import BatteriesError, InputError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
GRACE = 2.0  # seconds for a process to end by itself
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import json, sys
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
given = json.loads(connection.recv_bytes())
sys.path[:], sys.argv[:] = given["path"], given["argv"]
from batteries.engine.worker_main import serve
serve(connection, given["driver"], given["version"], given["program"] and tuple(given["program"]))
"""  # Ctrl-C reaches every process of a terminal: the driver alone decides
NO_SHADOWS = "-P"  # else a json.py of the working directory would be the worker's


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    attempt: Attempt | None = None


class WorkerProcesses:
    """Worker processes, started as tasks need them and used for many tasks.

    Args:
        workers: Largest number of processes.
    """

    dumps = staticmethod(pickle.dumps)

    def __init__(self, workers: int) -> None:
        self._most = workers
        self._workers: list[_Worker] = []

    @property
    def has_room(self) -> bool:
        """True if another task can start."""
        return self.running < self._most

    @property
    def running(self) -> int:
        """Number of tasks under way."""
        return sum(worker.attempt is not None for worker in self._workers)

    def refuse(self, task: Task) -> None:
        """Refuse a task that cannot run here.

        Raises:
            InputError: a task that needs GPUs for itself (``ENGINE``).
        """
        if task.gpus:
            raise InputError(
                "processes cannot keep a GPU for a task", code="ENGINE", expected="ray", found="processes", where=task.name
            )

    def start(self, attempt: Attempt) -> None:
        """Start a task in an idle worker, or in a new one.

        Raises:
            BatteriesError: the system starts no process (``WORKER_START``).
        """
        idle = (worker for worker in self._workers if worker.attempt is None and worker.process.poll() is None)
        worker = next(idle, None) or self._started()
        worker.attempt = attempt
        with contextlib.suppress(OSError):  # a dead worker is found by `ended`
            worker.connection.send_bytes(attempt.payload)

    def ended(self, seconds: float) -> Iterator[tuple[Attempt, bytes | Lost]]:
        """Yield the attempts that end within some seconds, with their answers.

        Args:
            seconds: Longest time to wait for the first.
        """
        wait([worker.connection for worker in self._workers], seconds)
        for worker in list(self._workers):
            answer = self._answer(worker)
            if isinstance(answer, Lost):
                self._workers.remove(worker)
            if answer is not None and worker.attempt is not None:
                attempt, worker.attempt = worker.attempt, None
                yield attempt, answer

    def close(self) -> None:
        """End all processes, and wait for them."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.connection.close()
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(GRACE)
            worker.process.kill()
            worker.process.wait()

    def _answer(self, worker: _Worker) -> bytes | Lost | None:
        """Return the answer of a worker, or its loss; None while it works or waits."""
        gone = worker.process.poll() is not None
        try:
            if worker.connection.poll():
                return worker.connection.recv_bytes()
        except (EOFError, OSError):  # also in the middle of an answer
            gone = True
        if not gone:
            return None
        worker.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(GRACE)
        worker.process.kill()
        return Lost(_words(worker.process.wait()))

    def _started(self) -> _Worker:
        ours, theirs = Pipe()
        given = {
            "path": sys.path,
            "argv": sys.argv,
            "driver": os.getpid(),
            "version": __version__,
            "program": _program(),
        }
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, NO_SHADOWS, "-c", PROGRAM, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=_stderr(),
                    stderr=_stderr(),
                    env={**os.environ, **ONE_THREAD},
                    pass_fds=[theirs.fileno()],
                )
        except OSError as error:
            ours.close()
            raise _unstarted(error) from error
        with contextlib.suppress(OSError):  # a dead worker is found by `ended`
            ours.send_bytes(json.dumps(given).encode())  # a command line has room for a few thousand file names
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker


def _unstarted(error: OSError) -> BatteriesError:
    remedy = "Use fewer workers: the system allows no more processes, or has no memory for one."
    return BatteriesError("worker cannot be started", code="WORKER_START", found=error, remedy=remedy, retryable=True)


def _stderr() -> int:
    """Return the descriptor of this process's stderr, where tasks may write: its stdout may be a document."""
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


def _program() -> tuple[str, str] | None:
    """Return the module or the file of this program, by which a worker can load it; None for a prompt."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return "module", spec.name
    return ("path", str(Path(file).resolve())) if file and Path(file).is_file() else None


def _words(code: int) -> str:
    if code >= 0:
        return f"a process that ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"a process ended by {signal.Signals(-code).name}"
    return f"a process ended by signal {-code}"
