"""Forecast of a program's time and memory, from a few steps of each kind of run, on the engine that will carry it out.

All workers are busy while they measure, as they will be then, so that what they share is shared here too.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from batteries.ablation.execution import StepClock
from batteries.ablation.runs import AblationRun, distinct
from batteries.cell.manifest import TrainingPoint
from batteries.engine import task_runner
from batteries.engine.process_memory import peak_bytes
from batteries.engine.task_runner import Run
from batteries.engine.tasks import Task
from batteries.errors import PolicyError
from batteries.measurement.measure import measure
from batteries.model.patch_svae import untrained
from batteries.training.trainer import train

STEPS = 4  # timed steps of a kind of run; the first is not timed


@dataclass(frozen=True)
class Cost:
    """Measured cost of a kind of run.

    Attributes:
        step: Seconds of a step.
        reading: Seconds of a reading.
        measuring: Seconds of the figures of a cell on its probe.
        peak_bytes: Largest resident memory of the worker.
    """

    step: float
    reading: float
    measuring: float
    peak_bytes: int

    def seconds(self, run: AblationRun) -> float:
        """Return the forecast time of a run: its steps, its readings, and the figures of its trained and untrained cell."""
        readings = len({*range(run.plan.reading_every, run.plan.steps + 1, run.plan.reading_every), run.plan.steps})
        return self.step * run.plan.steps + self.reading * readings + 2 * self.measuring


@dataclass(frozen=True)
class Forecast:
    """Forecast of some runs of a program.

    Attributes:
        seconds: Forecast time of each computation, by its identity.
        workers: Workers at a time.
        peak_bytes: Largest resident memory of one worker.
    """

    seconds: dict[str, float]
    workers: int
    peak_bytes: int

    @property
    def wall(self) -> float:
        """Seconds until the last worker is done, each taking the next computation when it is free."""
        ends = [0.0] * self.workers
        for seconds in self.seconds.values():
            heapq.heapreplace(ends, ends[0] + seconds)
        return max(ends)


def forecast(
    runs: Sequence[AblationRun],
    *,
    run: Run = task_runner.run,
    workers: int | None = None,
    shown: Callable[[int, int], None] = lambda done, total: None,
) -> Forecast:
    """Forecast what runs take.

    Args:
        runs: Runs without a report.
        run: Function that runs tasks and yields their outcomes; by default one process per processor.
        workers: Number of runs at a time that ``run`` keeps busy; by default one per processor.
        shown: Function that receives the number of kinds measured, and of all.

    Raises:
        BatteriesError: error of the first kind of run that cannot be measured.
    """
    wanted = {identity: same[0] for identity, same in distinct(runs).items()}
    kinds: dict[str, AblationRun] = {}
    for one in wanted.values():
        kinds.setdefault(_kind(one), one)
    costs: dict[str, Cost] = {}
    tasks = [Task(f"kind-{place}", _cost, (one,)) for place, one in enumerate(kinds.values())]
    named = dict(zip((task.name for task in tasks), kinds, strict=True))
    for outcome in run(tasks):
        if outcome.error is not None:
            raise outcome.error
        costs[named[outcome.task.name]] = outcome.value
        shown(len(costs), len(kinds))
    return Forecast(
        {identity: costs[_kind(one)].seconds(one) for identity, one in wanted.items()},
        workers or task_runner.granted(),
        max((cost.peak_bytes for cost in costs.values()), default=0),
    )


def _kind(run: AblationRun) -> str:
    """Return what the cost of a step depends on: the plan but for its seed, schedule, rate and length, and the data."""
    aside = {"seed", "schedule", "rate", "steps", "reading_every", "triage_step", "checkpoint_every", "momentum"}
    return repr((run.plan.model_dump(exclude=aside), run.source.facts.digest))


class _Until(StepClock):
    """Clock that also keeps the time of the reading at the end."""

    reading = 0.0

    def read(self, point: TrainingPoint) -> None:
        """Keep the time since the last step, which is that of the reading."""
        assert self._since is not None
        self.reading = time.perf_counter() - self._since
        super().read(point)


def _cost(run: AblationRun) -> Cost:
    """Measure a kind of run on the first of its plans."""
    clock = _Until()
    plan = run.plan.model_copy(update={"reading_every": STEPS, "steps": max(STEPS, run.plan.steps)})
    begun = time.perf_counter()
    try:
        train(plan, run.source, run.probe, until=STEPS, watchers=[clock])
    except PolicyError as error:  # a divergence is a result, and costs its steps
        if error.code != "DIVERGED":
            raise
    since = time.perf_counter()
    step = median(clock.seconds) if clock.seconds else since - begun  # diverged before a step could be timed
    measure(untrained(plan.spec, plan.seed).eval(), run.probe)
    return Cost(step, clock.reading, time.perf_counter() - since, peak_bytes())
