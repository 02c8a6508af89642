"""Carrying out one run: training, measurement, report. Called in a worker, on one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from batteries.ablation.run_report import RunReport, Timing
from batteries.ablation.runs import AblationRun
from batteries.cell.manifest import TrainingPoint
from batteries.engine.process_memory import peak_bytes
from batteries.errors import InputError, PolicyError
from batteries.measurement.measure import measure
from batteries.model.patch_svae import untrained
from batteries.training.run import Run
from batteries.training.tensorboard import Events
from batteries.training.trainer import train

EVENTS = "events"


class StepClock:
    """Watcher that times steps, without the readings between them.

    Attributes:
        seconds: Time of each step, but for the first of a sitting, which pays for what is made once.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since: float | None = None

    def stepped(self, step: int, loss: float) -> None:
        """Note the time of a step."""
        now = time.perf_counter()
        if self._since is not None:
            self.seconds.append(now - self._since)
        self._since = now

    def read(self, point: TrainingPoint) -> None:
        """Leave out the time of a reading."""
        self._since = time.perf_counter()


def carry_out_run(run: AblationRun, folder: Path | None) -> tuple[RunReport, Timing]:
    """Train and measure a run, resuming from the checkpoint in its folder.

    Args:
        run: Run to carry out.
        folder: Folder of its checkpoint and TensorBoard events; None, or a folder that this machine lacks, for neither.

    Raises:
        BatteriesError: any error of :func:`batteries.train` but a divergence, which is a result.
    """
    since, clock = time.perf_counter(), StepClock()
    folder = folder if folder is not None and folder.is_dir() else None
    finished: Run | None = None
    steps = run.plan.steps
    with _events(folder) as watchers:
        try:
            finished = train(run.plan, run.source, run.probe, folder=folder, watchers=[clock, *watchers])
        except PolicyError as error:
            if error.code != "DIVERGED":
                raise
            steps = int(str(error.where).removeprefix("step "))
    report = RunReport(
        program=run.program,
        group=run.group,
        variant=run.variant,
        band=run.band,
        identity=run.identity,
        command=run.command,
        plan=run.plan,
        data=run.source.facts,
        outcome="finished" if finished else "diverged",
        steps=steps,
        trajectory=tuple(finished.trajectory) if finished else (),
        cv_average=finished.cv_average if finished else None,
        measured=measure(finished.model, run.probe) if finished else None,
        untrained=measure(untrained(run.plan.spec, run.plan.seed).eval(), run.probe),
    )
    seconds = time.perf_counter() - since
    return report, Timing(
        seconds=seconds, step_seconds=median(clock.seconds) if clock.seconds else None, peak_bytes=peak_bytes()
    )


@contextlib.contextmanager
def _events(folder: Path | None) -> Iterator[list[Events]]:
    """Open the event log of a run, where there is a folder and the extra is installed."""
    try:
        log = Events(folder / EVENTS) if folder else None
    except InputError:  # the caller says once that the extra is missing
        log = None
    try:
        yield [log] if log else []
    finally:
        if log:
            log.close()
