"""Runs of the front and their results: what each trains, and what is found of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from run_store import Losses, RunResult, RunStore

import batteries
from batteries.cell.manifest import Count, Domain, TrainingPoint
from batteries.cell.spec import PRESETS
from batteries.geometry import attractor
from batteries.io import canonical_json
from batteries.io.canonical_json import Document

Band = Literal["low", "mid", "high"]
Optimiser = Literal["adam", "muon"]

BATCHES: dict[Band, int] = {"low": 32, "mid": 32, "high": 16}
DATA: tuple[Domain, ...] = ("noise", "photos")
RATES: dict[Optimiser, tuple[float, ...]] = {"adam": (1e-3, 3e-3, 1e-2), "muon": (0.01, 0.02, 0.04)}
SEEDS = (1, 2, 3)
STEPS = 600
EVERY = 100  # steps between readings
SIZE = 64  # pixels a side
MIX = 0.25  # share of noise among photographs


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seeds only."""

    band: Band
    data: Domain
    optimiser: Optimiser
    rate: float

    @property
    def name(self) -> str:
        """Name without a seed."""
        return f"{self.band}-{self.data}-{self.optimiser}-{self.rate:g}"

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Its runs."""
        return tuple(Job(self, seed) for seed in SEEDS)


@dataclass(frozen=True)
class Job:
    """One run of the front."""

    setting: Setting
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.setting.name}-{self.seed}"

    @property
    def command(self) -> str:
        """Command that does this run alone."""
        return f"python examples/front.py --only {self.name}"

    @property
    def plan(self) -> batteries.Plan:
        """Training plan, which with the data determines the result."""
        return batteries.Plan(
            spec=batteries.CellSpec.preset(self.setting.band),
            size=SIZE,
            steps=STEPS,
            batch=BATCHES[self.setting.band],
            rate=self.setting.rate,
            schedule="onecycle",
            seed=self.seed,
            reading_every=EVERY,
            checkpoint_every=EVERY,
            optimiser=self.setting.optimiser,
        )

    @property
    def plan_digest(self) -> str:
        """SHA-256 of the plan without its empty fields, and of the kind of data; results of other plans are ignored."""
        plan = self.plan.model_dump(mode="json", exclude_none=True)
        mix = MIX if self.setting.data == "photos" else None
        return canonical_json.sha256(canonical_json.dump({"data": self.setting.data, "mix": mix, "plan": plan}))


SETTINGS = tuple(Setting(band, data, kind, rate) for data in DATA for band in BATCHES for kind in RATES for rate in RATES[kind])
JOBS = tuple(job for setting in SETTINGS for job in setting.jobs)
NAMED = {job.name: job for job in JOBS}


class Share(Document):
    """Swap score of another seed's omega in the place of a cell's own.

    Attributes:
        source: Seed of the other cell.
        worth: Error with the mean omega over that with its own, on the images of the swap.
        share: Share of the mean's cost that the other cell's mapped omega recovers; None if the mean costs nothing.
        bounds: 95% bounds of the share; None if they are infinite.
    """

    source: Count
    worth: float
    share: float | None
    bounds: tuple[float, float] | None


class Content(Document):
    """Content of a trained cell's tokens.

    Attributes:
        spread: Standard deviation over mean of S, over all patches of the probe; averaged over the D values.
        losses: Losses of the read-outs of the cell.
        untrained: Mean losses of the read-outs of untrained cells.
        worth: Error with the mean omega over that with the cell's own.
    """

    spread: float
    losses: Losses
    untrained: Losses
    worth: float


class Result(RunResult):
    """Result of a job.

    Attributes:
        content: Content of the trained cell; None if the run diverged.
        shares: Swap scores of cells of smaller seeds.
    """

    content: Content | None = None
    shares: tuple[Share, ...] = ()


Results = Mapping[Job, Result]


class Store(RunStore[Job, Result]):
    """Results of the front's jobs, see :class:`run_store.RunStore`."""

    def __init__(self, folder: Path, kept: Path) -> None:
        super().__init__(folder, kept, JOBS, Result)


def exact(band: Band) -> float:
    """Return the CV of points uniform on the sphere of a band's width."""
    return attractor.sphere_cv(PRESETS[band]["D"])


def ratio_of(job: Job, point: TrainingPoint) -> float | None:
    """Return the CV of a reading over the exact one; None if it is degenerate."""
    cv, _ = point.deciding_cv
    return None if cv is None else cv / exact(job.setting.band)


def ends_on(job: Job, result: Result) -> bool:
    """Tell whether a run ended on the attractor; degenerate and diverged ones did not."""
    last = result.at(STEPS)
    cv = None if last is None else last.deciding_cv[0]
    return cv is not None and attractor.on_attractor(cv, PRESETS[job.setting.band]["D"])


def of_setting(setting: Setting, found: Results) -> dict[Job, Result]:
    """Select the results of a setting."""
    return {job: found[job] for job in setting.jobs if job in found}


def best(band: Band, data: Domain, optimiser: Optimiser, found: Results) -> Setting | None:
    """Return the setting of least final error among those with all runs here, each of them ending on the attractor."""
    errors = {}
    for setting in SETTINGS:
        own = of_setting(setting, found)
        fits = (setting.band, setting.data, setting.optimiser) == (band, data, optimiser)
        if fits and len(own) == len(SEEDS) and all(ends_on(*run) for run in own.items()):
            errors[setting] = mean_errors(own.values())[STEPS]
    return min(errors, key=lambda setting: errors[setting], default=None)


def mean_errors(results: Iterable[Result]) -> dict[int, float]:
    """Return the mean error over runs at each step that all of them have read."""
    runs = [{point.step: point.mse for point in result.trajectory} for result in results]
    steps = sorted(set.intersection(*map(set, runs))) if runs else []
    return {step: fmean(run[step] for run in runs) for step in steps}


def mean_step(results: Iterable[Result]) -> float | None:
    """Return the mean CPU seconds of a step over runs; None if none was timed."""
    known = [result.step_seconds for result in results if result.step_seconds is not None]
    return fmean(known) if known else None
