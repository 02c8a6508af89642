"""Training of an example's run with the time of its steps, and the losses of read-outs of its cell and of untrained ones."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from run_store import MAX_RESULT, Losses

import batteries
from batteries.cell.manifest import TrainingPoint
from batteries.data.probes import Probe
from batteries.data.sources import Source
from batteries.errors import PolicyError
from batteries.io import atomic_files
from batteries.io.canonical_json import load_document
from batteries.model.patch_svae import PatchSVAE, untrained
from batteries.packaging.package import UNTRAINED_SEED
from registry.viability.readouts import read_outs
from registry.viability.tasks import Task


class Clock:
    """Watcher that times training steps, without the readings between them, in CPU seconds of this process."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since: float | None = None  # none before the first step, which pays for what is made once

    def stepped(self, step: int, loss: float) -> None:
        """Note the time of a step."""
        now = time.process_time()
        if self._since is not None:
            self.seconds.append(now - self._since)
        self._since = now

    def read(self, point: TrainingPoint) -> None:
        """Leave out the time of a reading."""
        self._since = time.process_time()


@dataclass(frozen=True, eq=False)
class Trained:
    """Outcome of a run.

    Attributes:
        model: Trained model; None if the run diverged.
        trajectory: Readings along training; empty if it diverged.
        diverged: Step at which the loss was no longer finite.
        step_seconds: Median CPU seconds of a step; None if none was timed.
    """

    model: PatchSVAE | None
    trajectory: tuple[TrainingPoint, ...] = ()
    diverged: str | None = None
    step_seconds: float | None = None


def trained(plan: batteries.Plan, source: Source, probe: Probe, folder: Path) -> Trained:
    """Train a cell on one thread, resuming from the checkpoint in a folder."""
    clock = Clock()
    with batteries.threads(1):
        try:
            run = batteries.train(plan, source, probe, folder=folder, watchers=[clock])
        except PolicyError as error:
            if error.code != "DIVERGED":
                raise
            return Trained(None, diverged=str(error.where))
    return Trained(run.model, tuple(run.trajectory), step_seconds=median(clock.seconds) if clock.seconds else None)


def losses(model: PatchSVAE, task: Task) -> Losses:
    """Measure read-outs of M and of omega alone."""
    rows, omega = read_outs(model, task, "cell")
    return Losses(M=rows.loss, omega=omega.loss)


def untrained_losses(spec: batteries.CellSpec, task: Task, count: int, path: Path) -> Losses:
    """Read the mean losses of untrained cells of a spec from a file, or measure them once."""
    if path.exists():
        return load_document(Losses, atomic_files.read(path, limit=MAX_RESULT), where=path, limit=MAX_RESULT)
    each = [losses(untrained(spec, UNTRAINED_SEED + seed).eval(), task) for seed in range(count)]
    found = Losses(M=fmean(one.M for one in each), omega=fmean(one.omega for one in each))
    atomic_files.replace(path, found.to_bytes())
    return found
