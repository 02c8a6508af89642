"""Runs of the read-out rounds, which the program ``readout-rounds`` lists, and what is measured of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from run_store import RunResult, RunStore
from torch import Tensor

import batteries
from batteries.ablation import program, runs
from batteries.ablation.runs import AblationRun
from batteries.cell.manifest import TrainingPoint
from batteries.data.probes import Probe
from batteries.errors import PolicyError
from batteries.geometry import attractor, simplex_cv
from batteries.geometry.estimates import Estimate
from batteries.images.image_batch import unjudged
from batteries.io.canonical_json import Document
from batteries.measurement.measure import CV_SEED, read
from batteries.model.patch_svae import PatchSVAE, untrained

PROGRAM = "readout-rounds"
CONTRAST = 3e5  # factor of the images at which the error of an image of zeros is 2e11: their mean square is 1.9
PART = 4  # images of the probe to one that is measured
MATRICES = 256  # rebuilt matrices that a CV is of


@dataclass(frozen=True)
class Job:
    """A run of the program."""

    run: AblationRun

    @property
    def name(self) -> str:
        """Name of its files."""
        return self.run.name.replace("/", "-")

    @property
    def command(self) -> str:
        """Command that does this run alone."""
        return f"python examples/readout_rounds.py --only {self.name}"

    @property
    def plan_digest(self) -> str:
        """Digest of plan, data and probe."""
        return self.run.identity


class Figures(Document):
    """Figures of a cell on every fourth image of the probe of its run.

    Attributes:
        mse: Mean squared error.
        M_ratio: Axial CV of the rows of M over the exact one; None if degenerate.
        received_ratio: Axial CV of the rows that the decoder receives, at unit length, likewise; None if degenerate.
        magnitude_received: Correlation, over patches, of the logarithms of the root mean square of a patch and of what the
            decoder receives of it; None if the latter is constant.
        magnitude: Correlation, over patches, of those of a patch and of its reconstruction; None if one of them is constant.
        contrasted: Mean squared error at :data:`CONTRAST` over that of an image of zeros.
    """

    mse: float
    M_ratio: float | None
    received_ratio: float | None
    magnitude_received: float | None
    magnitude: float | None
    contrasted: float | None


class Result(RunResult):
    """Result of a job.

    Attributes:
        steps: Steps taken.
        largest: Largest error of a step, before its update.
        largest_at: Step that it was the error of.
        untrained: Figures before the first step.
        trained: Figures after the last; None if the run diverged.
    """

    steps: int
    largest: float
    largest_at: int
    untrained: Figures
    trained: Figures | None = None


Results = Mapping[Job, Result]
JOBS = tuple(Job(run) for run in runs.runs_of(program.read_program(PROGRAM)[0]))


class Store(RunStore[Job, Result]):
    """Results of these jobs, see :class:`run_store.RunStore`."""

    def __init__(self, folder: Path, kept: Path) -> None:
        super().__init__(folder, kept, JOBS, Result)


class Largest:
    """Watcher of the largest error of a step.

    Attributes:
        error: Largest error.
        step: Step that it was the error of.
    """

    def __init__(self) -> None:
        self.error, self.step = 0.0, 0

    def stepped(self, step: int, loss: float) -> None:
        """Compare the error of a step."""
        if loss > self.error:
            self.error, self.step = loss, step

    def read(self, point: TrainingPoint) -> None:
        """Do nothing."""


def carry_out(job: Job) -> Result:
    """Train the cell of a job on one thread, from the beginning, and measure it before and after."""
    run, largest = job.run, Largest()
    model, diverged, trajectory, steps = None, None, (), run.plan.steps
    with batteries.threads(1):
        before = figures(untrained(run.plan.spec, run.plan.seed).eval(), run.probe)
        try:
            found = batteries.train(run.plan, run.source, run.probe, watchers=[largest])
            model, trajectory = found.model, tuple(found.trajectory)
        except PolicyError as error:
            if error.code != "DIVERGED":
                raise
            diverged = str(error.where)
            steps = int(diverged.removeprefix("step "))
        after = figures(model, run.probe) if model else None
    return Result(
        name=job.name,
        plan=job.plan_digest,
        data=run.source.facts.digest,
        trajectory=trajectory,
        diverged=diverged,
        steps=steps,
        largest=largest.error,
        largest_at=largest.step,
        untrained=before,
        trained=after,
    )


@torch.no_grad()
def figures(model: PatchSVAE, probe: Probe) -> Figures:
    """Measure a cell on every fourth image of a probe."""
    images, cluster = probe.images[::PART], probe.cluster[::PART]
    found = read(model, images, cluster)
    with unjudged():
        encoded = model.encode(images)
        received = model.received(encoded)  # (B, N, V, D)
        contrasted = (model(CONTRAST * images).recon.double() / CONTRAST - images).square().mean()
        recon = model.decode(encoded)
    ratio = float(contrasted / images.double().square().mean())
    p = model.spec.patch_size
    own, rebuilt = (rearrange(x, "B C (h p) (w q) -> (B h w) (C p q)", p=p, q=p) for x in (images, recon))
    return Figures(
        mse=float(found.mse.mean()),
        M_ratio=_ratio(found.axial_cv(), model.spec.D),
        received_ratio=_ratio(_axial(received, cluster), model.spec.D),
        magnitude_received=_correlation(own, received.flatten(0, 1).flatten(1)),
        magnitude=_correlation(own, rebuilt),
        contrasted=ratio if math.isfinite(ratio) else None,
    )


def _axial(received: Tensor, image: Tensor) -> Estimate | simplex_cv.Degenerate:
    """Estimate the axial CV of rows of unit length in matrices (B, N, V, D) spread evenly over images in clusters (B,)."""
    few = received[:, :: max(1, received.shape[1] * len(received) // MATRICES)]
    rows = few / few.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(few.dtype).tiny)
    cluster = image[:, None].expand(few.shape[:2]).flatten()
    return simplex_cv.axial_cv(rows.flatten(0, 1), cluster, seed=CV_SEED)


def _ratio(cv: Estimate | simplex_cv.Degenerate, D: int) -> float | None:
    return cv.value / attractor.sphere_cv(D) if isinstance(cv, Estimate) else None


def _correlation(ours: Tensor, theirs: Tensor) -> float | None:
    """Correlate the logarithms of the root mean squares of vectors (n, width); None where one is constant to 1 in 10^5."""
    sizes = [x.double().square().mean(dim=1).clamp_min(1e-30).sqrt().log() for x in (ours, theirs)]
    if min(float(size.std()) for size in sizes) < 1e-5:
        return None
    return float(torch.corrcoef(torch.stack(sizes))[0, 1])
