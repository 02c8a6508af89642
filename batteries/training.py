"""One training loop: Adam, soft hand, triage of the band, a trajectory of MSE and CV; resumable to the same numbers.

Every step's batch, and every draw of CV, is seeded by (run seed, step), so a run that was killed and resumed passes
through the same states as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from batteries import checkpoint, geometry
from batteries.canonical import Document
from batteries.cell import Cell
from batteries.errors import ConflictError, InputError, PolicyError
from batteries.geometry import Estimate
from batteries.manifest import Band, InputScale, Sha256, Text, TrainingPoint, Triage
from batteries.measure import finite_or_none, read
from batteries.model import PatchSVAE, untrained
from batteries.prefetch import ahead
from batteries.probes import Probe
from batteries.settings import neutral
from batteries.sources import Source, seed_of
from batteries.spec import CellSpec

Schedule = Literal["constant", "cosine", "onecycle"]

SOFT_HAND_DRAWS = 200  # simplices of one patch's M, as published
EMA_DECAY = 0.99
WARM_UP = 0.1  # share of a one-cycle run spent rising
FINAL_RATE = 0.01  # of the peak, at the end of cosine and one-cycle


class Plan(Document):
    """Everything that decides the numbers of a run, but for the data itself.

    Attributes:
        size: Side of the training images, in pixels.
        steps: Optimiser steps.
        batch: Images a step.
        rate: Peak learning rate of Adam (no weight decay).
        schedule: Of the rate.
        clip: Largest norm of the gradient.
        seed: Of weights, data and draws.
        boost: Soft hand: the loss is (1 + boost * prox) * mse, prox a Gaussian of the CV average's relative distance from
            the exact attractor; no gradient passes through it. 0 leaves it out.
        sigma: Width of that Gaussian.
        triage_step: Where the band is checked; a run of the wrong band stops there.
        reading_every: Steps between readings of the trajectory.
        checkpoint_every: Steps between checkpoints.
        start: Digest of the cell whose weights the run starts from; a fresh, seeded cell where left out.
    """

    spec: CellSpec
    size: Annotated[int, Field(ge=1, le=4096)]
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)] = 128
    rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Schedule = "onecycle"
    clip: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    boost: Annotated[float, Field(ge=0)] = 0.5
    sigma: Annotated[float, Field(gt=0)] = 0.15
    triage_step: Annotated[int, Field(ge=1)] = 1000
    reading_every: Annotated[int, Field(ge=1)] = 250
    checkpoint_every: Annotated[int, Field(ge=1)] = 250
    start: Sha256 | None = None

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        done = step / self.steps
        if self.schedule == "constant":
            return self.rate
        if self.schedule == "onecycle" and done < WARM_UP:
            return self.rate * (FINAL_RATE + (1 - FINAL_RATE) * done / WARM_UP)
        start = WARM_UP if self.schedule == "onecycle" else 0.0
        falling = (1 + math.cos(math.pi * (done - start) / (1 - start))) / 2
        return self.rate * (FINAL_RATE + (1 - FINAL_RATE) * falling)

    def describe(self) -> tuple[Text, Text, Text]:
        """Optimiser, schedule and soft hand in words, for the manifest."""
        hand = "off" if self.boost == 0 else f"boost {self.boost:g}, sigma {self.sigma:g}, target exact sphere CV"
        start = f", started from the cell sha256:{self.start}" if self.start else ""
        return f"Adam {self.rate:g}, no weight decay, gradient norm at most {self.clip:g}{start}", self.schedule, hand


@dataclass
class Run:
    """The state of a run between two steps."""

    plan: Plan
    identity: str
    model: PatchSVAE
    optimiser: torch.optim.Adam
    step: int = 0
    cv_average: float | None = None
    trajectory: list[TrainingPoint] = field(default_factory=list)
    triage: Triage | None = None
    cv_at_triage: Estimate | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the tensors."""
        at = self.cv_at_triage
        return {
            "identity": self.identity,
            "step": self.step,
            "cv_average": self.cv_average,
            "trajectory": [point.model_dump(mode="json") for point in self.trajectory],
            "triage": self.triage.model_dump(mode="json") if self.triage else None,
            "cv_at_triage": [at.value, at.standard_error, at.matrices, at.by_image] if at else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of :meth:`state`."""
        self.step, self.cv_average = state["step"], state["cv_average"]
        self.trajectory = [TrainingPoint(**point) for point in state["trajectory"]]
        self.triage = Triage(**state["triage"]) if state["triage"] else None
        if state["cv_at_triage"]:
            value, error, matrices, by_image = state["cv_at_triage"]
            self.cv_at_triage = Estimate(value, error, matrices, tuple(by_image))

    @property
    def stopped(self) -> bool:
        """Whether the triage ended the run."""
        return self.triage is not None and not self.triage.passed


class Watcher(Protocol):
    """Somebody who is told how a run goes: a progress bar, an event log."""

    def stepped(self, step: int, loss: float) -> None:
        """A step was taken."""
        ...

    def read(self, point: TrainingPoint) -> None:
        """A reading was taken."""
        ...


@neutral()
@torch.enable_grad()
def train(
    plan: Plan,
    source: Source,
    probe: Probe,
    *,
    start: Cell | None = None,
    folder: Path | None = None,
    watchers: Sequence[Watcher] = (),
) -> Run:
    """Train a cell, or go on where a killed run of the same plan stood.

    Args:
        plan: What to do.
        source: Training images.
        probe: What the trajectory is read on.
        start: The cell of ``plan.start``.
        folder: Where the checkpoint lives; none is kept where left out.
        watchers: Told of every step and reading.

    Returns:
        The run at its end; ``run.stopped`` where the triage ended it at ``plan.triage_step``.

    Raises:
        ConflictError: the folder holds a checkpoint of another plan, other data or another probe; or the cell to start from
            is not the plan's, or of another spec (``START``).
        PolicyError: the loss is no longer finite (``DIVERGED``); the last checkpoint stays.
        StoreError: the checkpoint cannot be written.
    """
    model = _first_model(plan, start)
    run = Run(
        plan,
        checkpoint.identity(plan, source.facts, probe.digest),
        model,
        torch.optim.Adam(model.parameters(), lr=plan.rate, fused=True),
    )
    saved = folder / "checkpoint.safetensors" if folder else None
    if saved and saved.exists():
        run.restore(checkpoint.read(saved, model, run.optimiser, run.identity))
    batches = ahead(lambda step: source.batch(seed_of(plan.seed, step), plan.batch, plan.size), run.step, plan.steps)
    for images in batches if not run.stopped else ():
        loss = _step(run, images)
        for watcher in watchers:
            watcher.stepped(run.step, loss)
        _take_readings(run, probe, watchers)
        if saved and (run.step % plan.checkpoint_every == 0 or run.step == plan.steps or run.stopped):
            checkpoint.write(saved, model, run.optimiser, run.state())
        if run.stopped:
            break
    model.eval()
    return run


def _first_model(plan: Plan, start: Cell | None) -> PatchSVAE:
    wanted, found = (plan.start, plan.spec), (start and start.digest, start.spec if start else plan.spec)
    if wanted != found:
        raise ConflictError("another cell to start from", code="START", expected=wanted, found=found)
    if start is not None and start.manifest.identity.input != InputScale():
        raise InputError(
            "a cell of another input scale to start from",
            code="START_INPUT",
            expected="mean 0 and standard deviation 1: training gives images as they are",
            found=start.manifest.identity.input,
            where=start.name,
        )
    return PatchSVAE.from_cell(start).train() if start else untrained(plan.spec, plan.seed)


def expected_band(spec: CellSpec) -> Band | None:
    """The band of the spec's exact attractor."""
    return geometry.band(geometry.sphere_cv(spec.D), spec.D) if spec.D >= geometry.SIMPLEX else None


def _step(run: Run, images: Tensor) -> float:
    plan = run.plan
    for group in run.optimiser.param_groups:
        group["lr"] = plan.rate_at(run.step)
    out = run.model(images)
    mse = (out.recon - images).square().mean()
    run.optimiser.zero_grad(set_to_none=True)
    (mse * _soft_hand(run, out.M.detach())).backward()
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), plan.clip)
    loss = mse.item()
    if not math.isfinite(loss + norm.item()):
        remedy = "Lower the rate; the folder's checkpoint is from before."
        raise PolicyError("training diverged", code="DIVERGED", found=f"loss {loss}", where=f"step {run.step}", remedy=remedy)
    run.optimiser.step()
    run.step += 1
    return loss


def _soft_hand(run: Run, M: Tensor) -> float:
    """The factor of the loss: 1 + boost * exp(-(distance / sigma)^2 / 2), distance relative to the attractor."""
    plan = run.plan
    if plan.boost == 0 or plan.spec.D < geometry.SIMPLEX:
        return 1.0
    seed, image = seed_of(plan.seed, run.step, 2), torch.zeros(1, dtype=torch.int64)
    reading = geometry.cv(M[:1, 0], image, draws=SOFT_HAND_DRAWS, seed=seed)
    if isinstance(reading, Estimate):
        before = reading.value if run.cv_average is None else run.cv_average
        run.cv_average = EMA_DECAY * before + (1 - EMA_DECAY) * reading.value
    if run.cv_average is None:
        return 1.0
    distance = run.cv_average / geometry.sphere_cv(plan.spec.D) - 1
    return 1 + plan.boost * math.exp(-((distance / plan.sigma) ** 2) / 2)


def _take_readings(run: Run, probe: Probe, watchers: Sequence[Watcher]) -> None:
    plan = run.plan
    at_triage = run.step == plan.triage_step
    if run.step % plan.reading_every and run.step != plan.steps and not at_triage:
        return
    found = read(run.model, probe.images, probe.cluster)
    cv = found.cv()
    measured = cv if isinstance(cv, Estimate) else None
    point = TrainingPoint(
        step=run.step,
        mse=float(found.mse.mean()),
        cv=measured.value if measured else None,
        cv_standard_error=finite_or_none(measured.standard_error) if measured else None,
    )
    run.trajectory.append(point)
    if at_triage:
        run.cv_at_triage = measured
        label = geometry.band(measured.value, plan.spec.D) if measured else None
        wanted = expected_band(plan.spec)
        run.triage = Triage(step=run.step, expected=wanted, found=label, passed=label == wanted)
    for watcher in watchers:
        watcher.read(point)
