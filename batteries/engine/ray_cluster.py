"""Workers of a Ray cluster: one that is started on this machine, or one that runs. Requires the ``cluster`` extra.

Ray is imported when a run starts, never before. Its own retries are off: attempts are counted in one place, by the runner.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from batteries import __version__
from batteries.engine.engine_address import EngineAddress
from batteries.engine.tasks import Attempt, Lost, Task, attempted, other_version
from batteries.errors import BatteriesError, InputError, TransportError

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task without GPUs sees those that the program sees; Ray warns otherwise
}
CONNECT = 10.0  # seconds
TASKS_PER_PROCESSOR = 2  # of a cluster that runs: one under way, and one that need not wait for the driver


class RayCluster:
    """Workers of a Ray cluster.

    Args:
        address: Address of the cluster.
        workers: Most tasks at a time; None for the default.
        granted: Processors of this process, which a cluster that is started here has.

    Raises:
        InputError: no Ray (``EXTRA``), or a program that has joined another cluster (``ENGINE``).
        TransportError: a cluster that cannot be reached (``ENGINE_UNREACHABLE``).
    """

    def __init__(self, address: EngineAddress, workers: int | None, granted: int) -> None:
        self._ray = _imported()
        self._joined = not self._ray.is_initialized()
        starts = address.cluster is None and self._joined
        if self._joined:
            _join(self._ray, address, workers or granted)
        elif address.cluster not in (None, "auto"):
            raise InputError("program has joined a Ray cluster already", code="ENGINE", expected="ray", found=address.cluster)
        self._gpus = self._ray.cluster_resources().get("GPU", 0) if starts else float("inf")
        self._most = workers or (granted if starts else TASKS_PER_PROCESSOR * self._processors())
        self._remote = self._ray.remote(num_cpus=1, max_retries=0)(attempted)
        self._running: dict[Any, Attempt] = {}
        self.dumps: Callable[[Any], bytes] = self._ray.cloudpickle.dumps  # also functions of a program or a notebook

    @staticmethod
    def refuse_missing() -> None:
        """Refuse to go on without Ray.

        Raises:
            InputError: extra missing or not working (``EXTRA``).
        """
        _imported()

    @property
    def has_room(self) -> bool:
        """True if another task can start."""
        return len(self._running) < self._most

    @property
    def running(self) -> int:
        """Number of tasks under way."""
        return len(self._running)

    def refuse(self, task: Task) -> None:
        """Refuse a task that would wait for ever.

        Raises:
            InputError: more GPUs than the cluster that was started here has (``ENGINE``).
        """
        if task.gpus > self._gpus:
            raise InputError("too few GPUs", code="ENGINE", expected=task.gpus, found=self._gpus, where=task.name)

    def start(self, attempt: Attempt) -> None:
        """Hand an attempt to the cluster."""
        options = self._remote.options(num_gpus=attempt.task.gpus, name=attempt.task.name)
        self._running[options.remote(__version__, attempt.payload)] = attempt

    def ended(self, seconds: float) -> Iterator[tuple[Attempt, bytes | Lost]]:
        """Yield the attempts that end within some seconds, with their answers.

        Args:
            seconds: Longest time to wait for the first.

        Raises:
            InputError: a worker without this package, or with another version of it (``ENGINE_VERSION``).
            TransportError: a cluster that is gone (``ENGINE_UNREACHABLE``).
        """
        references = list(self._running)
        try:
            ready, _ = self._ray.wait(references, num_returns=1, timeout=seconds)
            if ready:
                ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        except Exception as error:  # the client's own exceptions vary
            raise _unreachable(error) from error
        for reference in ready:
            yield self._running.pop(reference), self._answer(reference)

    def close(self) -> None:
        """Cancel what runs, and end the cluster if it was started here."""
        for reference in self._running:
            with contextlib.suppress(Exception):  # one that ended meanwhile, or a cluster that is gone
                self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._joined:
            self._ray.shutdown()

    def _answer(self, reference: Any) -> bytes | Lost:
        errors = self._ray.exceptions
        lost = errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError
        try:
            return bytes(self._ray.get(reference))
        except lost as error:
            return Lost(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        except errors.RayTaskError as error:  # the call itself raises nothing, so that its module is missing or another
            raise other_version(str(error).strip().splitlines()[-1]) from error
        except errors.RayError as error:
            raise _unreachable(error) from error

    def _processors(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))


def _imported() -> Any:
    """Return Ray.

    Raises:
        InputError: extra missing or not working (``EXTRA``).
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)  # read when Ray loads, and by the processes that it starts
    try:
        import ray
        import ray.exceptions
    except Exception as error:  # a broken one may raise any exception
        missing = isinstance(error, ModuleNotFoundError)
        raise InputError(
            "Ray is not installed" if missing else "Ray is installed but cannot be imported",
            code="EXTRA",
            found=None if missing else repr(error),
            remedy="pip install 'svae-batteries[cluster]'",
        ) from error
    return ray


def _join(ray: Any, address: EngineAddress, processors: int) -> None:
    """Start a cluster, or join one, without a dashboard and with logs in its own files."""
    if address.cluster is None:
        where = {"address": "local", "num_cpus": processors, "include_dashboard": False}
    else:
        where = {"address": address.cluster}
        _refuse_silent(address.cluster)
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except (Exception, SystemExit) as error:  # Ray may end the program where a node does not answer
        raise _unreachable(error) from error
    finally:  # Ray puts a handler of its own in place of the program's
        if threading.current_thread() is threading.main_thread() and terminated is not None:
            signal.signal(signal.SIGTERM, terminated)


def _refuse_silent(cluster: str) -> None:
    """Refuse an address where nothing listens, for which Ray waits two minutes.

    Raises:
        TransportError: no connection (``ENGINE_UNREACHABLE``).
    """
    if cluster == "auto":
        return
    host, _, port = cluster.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
    except (OSError, ValueError) as error:  # the second for a name that no host can have
        raise _unreachable(error) from error


def _unreachable(error: BaseException) -> BatteriesError:
    return TransportError(
        "Ray cluster cannot be reached",
        code="ENGINE_UNREACHABLE",
        found=" ".join(f"{type(error).__name__}: {error}".split())[:300],
        remedy="See that it runs, with the versions of Ray and of Python that are here, and give its token in RAY_AUTH_TOKEN.",
        retryable=True,
    )
