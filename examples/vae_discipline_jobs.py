"""Runs that ask what the Cayley-Menger discipline of a battery VAE does, and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from run_store import RunResult, RunStore

from batteries.cell.manifest import Count
from batteries.io import canonical_json
from composer.vae.plan import VaePlan
from composer.vae.reading_document import VaeReading

HIGH = ("high/johanna-64", "high/johanna-64-s1", "high/johanna-64-s2", "high/fresnel-64")
NARROW = ("low/johanna-64", "low/fresnel-64", "mid/johanna-64", "mid/fresnel-64")
OFF = ("low/fresnel-64@1.0.0", "low/fresnel-256@2.0.0")  # former cells at 1.25 and 1.32 of exact
ARMS = {"disciplined": 0.1, "without": 0.0}  # weight of the term
BOTTLENECK, ARRAYS = 32, 2
FORM = 1  # of the experiment: results of another are done again


@dataclass(frozen=True)
class Setting:
    """Runs that differ in the weight of the discipline and in their seeds only.

    Attributes:
        words: Name in the table.
        cells: Cells that are implanted.
        rate: Peak learning rate.
        steps: Optimiser steps.
        batch: Images a step.
        reading_every: Steps between readings.
        seeds: Seeds.
    """

    words: str
    cells: tuple[str, ...] = (*HIGH, *NARROW)
    rate: float = 1e-3
    steps: int = 120
    batch: int = 4
    reading_every: int = 20
    seeds: tuple[int, ...] = (1, 2, 3)


SETTINGS = {
    "usual": Setting("usual rate"),
    "tenfold": Setting("tenfold rate", rate=1e-2),
    "long": Setting("tenfold rate, long", NARROW, 1e-2, 3000, batch=8, reading_every=300, seeds=(1,)),
    "off": Setting("two cells off", (*OFF, "low/johanna-64", "mid/johanna-64"), 3e-3, 600, reading_every=50),
}


@dataclass(frozen=True)
class Job:
    """One run: a weight of the discipline, a setting and a seed."""

    arm: str
    name_of_setting: str
    seed: int

    @property
    def setting(self) -> Setting:
        """Setting."""
        return SETTINGS[self.name_of_setting]

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.arm}-{self.name_of_setting}-{self.seed}"

    @property
    def command(self) -> str:
        """Command that does this run alone."""
        return f"python examples/vae_discipline.py --only {self.name}"

    @property
    def plan(self) -> VaePlan:
        """Training plan, on the 16 noise types."""
        return VaePlan(
            steps=self.setting.steps,
            size=32,
            batch=self.setting.batch,
            rate=self.setting.rate,
            kl=1e-3,
            warm_up=40,
            discipline=ARMS[self.arm],
            seed=self.seed,
            reading_every=self.setting.reading_every,
        )

    @property
    def plan_digest(self) -> str:
        """SHA-256 of all that the result depends on, except for the cells."""
        return canonical_json.sha256(self.plan.to_bytes() + canonical_json.dump([FORM, self.setting.cells, BOTTLENECK, ARRAYS]))


class Result(RunResult):
    """Result of a job.

    Attributes:
        parameters: Number of parameters.
        readings: Readings along the training.
        finite_samples: Whether all values of 16 samples are finite.
    """

    parameters: Count
    readings: tuple[VaeReading, ...]
    finite_samples: bool


Results = Mapping[Job, Result]
JOBS = tuple(Job(arm, name, seed) for name, setting in SETTINGS.items() for seed in setting.seeds for arm in ARMS)


class Store(RunStore[Job, Result]):
    """Results of these jobs, see :class:`run_store.RunStore`."""

    def __init__(self, folder: Path, kept: Path) -> None:
        super().__init__(folder, kept, JOBS, Result)
