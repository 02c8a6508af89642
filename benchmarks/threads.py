"""Several threads against one, on an idle and a busy machine, with torch's idle threads spinning or asleep.

OpenMP reads how its threads wait when torch loads, so each setting needs a separate process, which runs a stretch of work on
request. A busy machine has as many other processes in an endless loop as there are threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch

import composer
import registry
from batteries import threads
from batteries.noise import random_batch
from benchmarks.harness import Pair
from benchmarks.step import stepper

CELLS = 64
WORK = {
    "step LOW, batch 32": ("ours", "low", 32),
    "step LOW, batch 128": ("ours", "low", 128),
    "step HIGH, batch 32": ("ours", "high", 32),
    "plain step LOW, batch 32": ("plain", "low", 32),
    "plain step HIGH, batch 32": ("plain", "high", 32),
    f"{CELLS} LOW cells, 1 image": ("container", "low", 1),
    f"{CELLS} LOW cells, 16 images": ("container", "low", 16),
}
WAITING = {"spinning": "ACTIVE", "asleep": "PASSIVE"}
STRETCH = 0.2  # least seconds of a stretch
TARGET = 0.7  # share of one thread's speed on a busy machine: as much as a plain step on one thread loses there


@dataclass
class Worker:
    """Process for one piece of work, number of threads and way to wait; its start ends those of other work."""

    work: str
    threads: int
    waiting: str
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)
    running: ClassVar[list[Worker]] = []

    def milliseconds(self) -> float:
        """Measure one call of the work, after a warm-up."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(STRETCH, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def _start(self) -> None:
        for other in [one for one in self.running if one.work != self.work]:
            self.running.remove(other)
            other._end()
        words = [sys.executable, "-m", "benchmarks.threads", self.work, str(self.threads)]
        environment = {**os.environ, "OMP_WAIT_POLICY": WAITING[self.waiting]}
        self._process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.running.append(self)

    def _end(self) -> None:
        if self._process is not None:
            self._process.communicate()  # it exits at the end of its input
            self._process = None


def pairs(smoke: bool) -> list[Pair]:
    """Return every piece of work, spinning and asleep, on an idle and a busy machine."""
    count = torch.get_num_threads()
    found = []
    for work in list(WORK)[-2:-1] if smoke else WORK:
        one = Worker(work, 1, "asleep")
        for waiting in WAITING:
            many = Worker(work, count, waiting)
            for busy in (0, count):
                beside = f"beside {busy} busy processes" if busy else "alone"
                target = TARGET if busy and not work.startswith("plain") else None
                calls = (partial(_beside, busy, worker.milliseconds) for worker in (many, one))
                title = f"{work}: {count} threads, {waiting}, against 1; {beside}"
                found.append(Pair(title, *calls, target, lambda call: float(str(call()))))
    return found[:2] if smoke else found


def _beside(busy: int, call: Callable[[], float]) -> float:
    with _spinning(busy):
        return call()


@contextmanager
def _spinning(count: int) -> Iterator[None]:
    """Run a number of processes in an endless loop, each started before the block."""
    with ExitStack() as ended:
        for _ in range(count):
            words = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
            one = ended.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE))
            ended.callback(one.kill)
            assert one.stdout is not None
            one.stdout.readline()
        yield


def _call(way: str, band: str, size: int) -> Callable[[], object]:
    """Return the work of a process as a function."""
    if way != "container":
        return stepper(way, band, size)
    (cell,) = registry.pull(f"{band}/johanna-64")
    container = composer.compose({f"cell-{n}": cell for n in range(CELLS)})
    images = random_batch(size, (64, 64), 0)[0]
    return torch.no_grad()(lambda: container(images, ("omega", "recon")).groups)


def _serve(work: str, count: int) -> None:
    """Answer each line of stdin, which holds seconds, with the milliseconds of one call."""
    threads(count)
    call = _call(*WORK[work])
    call()
    for line in sys.stdin:
        began, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - began < float(line):
            call()
            calls += 1
        print((time.perf_counter() - began) * 1e3 / calls, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
