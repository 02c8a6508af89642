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

CELLS = (
    *("high/johanna-64", "high/johanna-64-s1", "high/johanna-64-s2", "high/fresnel-64"),
    *("low/johanna-64", "low/fresnel-64", "mid/johanna-64", "mid/fresnel-64"),
)
ARMS = {"disciplined": 0.1, "without": 0.0}  # weight of the term
RATES = {"usual": 1e-3, "tenfold": 1e-2}
SEEDS = (1, 2, 3)
BOTTLENECK, ARRAYS = 32, 2
FORM = 1  # of the experiment: results of another are done again


@dataclass(frozen=True)
class Job:
    """One run: a weight of the discipline, a rate and a seed."""

    arm: str
    rate: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.arm}-{self.rate}-{self.seed}"

    @property
    def command(self) -> str:
        """Command that does this run alone."""
        return f"python examples/vae_discipline.py --only {self.name}"

    @property
    def plan(self) -> VaePlan:
        """Training plan, on the 16 noise types."""
        return VaePlan(
            steps=120,
            size=32,
            batch=4,
            rate=RATES[self.rate],
            kl=1e-3,
            warm_up=40,
            discipline=ARMS[self.arm],
            seed=self.seed,
            reading_every=20,
        )

    @property
    def plan_digest(self) -> str:
        """SHA-256 of all that the result depends on, except for the cells."""
        return canonical_json.sha256(self.plan.to_bytes() + canonical_json.dump([FORM, CELLS, BOTTLENECK, ARRAYS]))


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
JOBS = tuple(Job(arm, rate, seed) for seed in SEEDS for rate in RATES for arm in ARMS)


class Store(RunStore[Job, Result]):
    """Results of these jobs, see :class:`run_store.RunStore`."""

    def __init__(self, folder: Path, kept: Path) -> None:
        super().__init__(folder, kept, JOBS, Result)
