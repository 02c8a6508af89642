"""Runs that ask whether implanting speeds learning, and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from run_store import RunResult, RunStore

from batteries.cell.manifest import Count
from batteries.io import canonical_json
from composer.vae.plan import VaePlan

PHOTOS = ("high/fresnel-64", "mid/fresnel-64", "low/fresnel-64", "low/fresnel-256")
NOISE = ("high/johanna-64", "mid/johanna-64", "low/johanna-64", "low/johanna-64-s1")  # of the same specs
IMPLANTS = {"photographs": PHOTOS, "noise law": NOISE, "text": PHOTOS}
SHUFFLED = {"photographs": NOISE, "noise law": PHOTOS, "text": NOISE}
LAW = "student"  # of batteries.data.unseen, which no cell was trained on
ARMS = ("implanted", "shuffled", "statistics", "random", "single")
SEEDS = (1, 2, 3, 4, 5)
READ_AT = (0, 1, 2, 5, 10, 20, 40, 80)  # steps
BOTTLENECK, ARRAYS = 32, 2
STARTED = {"implanted", "shuffled", "statistics"}  # arms that see images before the first step
FORM = 1  # of the experiment: results of another are done again


@dataclass(frozen=True)
class Job:
    """One run: a domain, a start and a seed."""

    domain: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.domain.replace(' ', '-')}-{self.arm}-{self.seed}"

    @property
    def command(self) -> str:
        """Command that does this run alone."""
        return f"python examples/vae_transfer.py --only {self.name}"

    @property
    def plan(self) -> VaePlan:
        """Training plan."""
        return VaePlan(steps=READ_AT[-1], size=32, batch=8, kl=1e-4, warm_up=0, reading_every=10**6, seed=self.seed)

    @property
    def plan_digest(self) -> str:
        """SHA-256 of all that the result depends on, except for the cells."""
        cells = {"implanted": IMPLANTS, "single": IMPLANTS, "shuffled": SHUFFLED}.get(self.arm, {}).get(self.domain)
        about = [FORM, self.domain, self.arm, cells, READ_AT, BOTTLENECK, ARRAYS, LAW]
        return canonical_json.sha256(self.plan.to_bytes() + canonical_json.dump(about))


class Result(RunResult):
    """Result of a job.

    Attributes:
        parameters: Number of parameters.
        samples: Images seen at each reading, those of the start counted.
        errors: Mean squared error on held-out images at each reading, from the means of the codes.
        seconds: Seconds of training steps until each reading; the start of the model is in all of them.
        cell: Cell that was fine-tuned, in the arm ``single``.
    """

    parameters: Count
    samples: tuple[Count, ...]
    errors: tuple[float, ...]
    seconds: tuple[float, ...]
    cell: str | None = None


Results = Mapping[Job, Result]
JOBS = tuple(Job(domain, arm, seed) for seed in SEEDS for domain in IMPLANTS for arm in ARMS)


class Store(RunStore[Job, Result]):
    """Results of these jobs, see :class:`run_store.RunStore`."""

    def __init__(self, folder: Path, kept: Path) -> None:
        super().__init__(folder, kept, JOBS, Result)
