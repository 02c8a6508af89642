"""Runs that compare the readouts of a spec, and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from run_store import Losses, RunResult, RunStore

import batteries
from batteries.cell.manifest import Count
from batteries.cell.spec import Preset, Readout
from batteries.io import canonical_json

BATCHES: dict[Preset, int] = {"low": 32, "mid": 32, "high": 16}
READOUTS: tuple[Readout, ...] = ("svd", "linear", "none")
SEEDS = (1, 2, 3, 4, 5)
STEPS = 600
EVERY = 100  # steps between readings
SIZE = 64  # pixels a side


@dataclass(frozen=True)
class Job:
    """One run: a preset with a readout, and a seed."""

    band: Preset
    readout: Readout
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.band}-{self.readout}-{self.seed}"

    @property
    def command(self) -> str:
        """Command that does this run alone."""
        return f"python examples/readouts.py --only {self.name}"

    @property
    def plan(self) -> batteries.Plan:
        """Training plan, on the 16 noise types."""
        return batteries.Plan(
            spec=batteries.CellSpec.preset(self.band, readout=self.readout),
            size=SIZE,
            steps=STEPS,
            batch=BATCHES[self.band],
            seed=self.seed,
            reading_every=EVERY,
            checkpoint_every=EVERY,
            optimiser="muon",
        )

    @property
    def plan_digest(self) -> str:
        """SHA-256 of the plan."""
        return canonical_json.sha256(self.plan.to_bytes())


class Result(RunResult):
    """Result of a job.

    Attributes:
        parameters: Number of parameters of the cell.
        losses: Losses of the read-outs of the cell; None if the run diverged.
        untrained: Mean losses of the read-outs of untrained cells of the same spec; None if the run diverged.
    """

    parameters: Count
    losses: Losses | None = None
    untrained: Losses | None = None


Results = Mapping[Job, Result]
JOBS = tuple(Job(band, readout, seed) for band in BATCHES for seed in SEEDS for readout in READOUTS)
NAMED = {job.name: job for job in JOBS}


class Store(RunStore[Job, Result]):
    """Results of these jobs, see :class:`run_store.RunStore`."""

    def __init__(self, folder: Path, kept: Path) -> None:
        super().__init__(folder, kept, JOBS, Result)
