"""One training loop: Adam, soft hand, triage of the band, a trajectory of MSE and CV; resumable to the same numbers.

Every step's batch, and every draw of CV, is seeded by (run seed, step), so a run that was killed and resumed passes
through the same states as one that was not.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from batteries.cell.cell import Cell
from batteries.cell.manifest import Band, InputScale, TrainingPoint, Triage
from batteries.cell.spec import CellSpec
from batteries.data.prefetch import ahead
from batteries.data.probes import Probe, probe_of
from batteries.data.sources import OWN_SOURCES, Source, refuse_shown, seed_of
from batteries.engine import parallel
from batteries.engine.torch_settings import neutral
from batteries.errors import ConflictError, InputError, PolicyError
from batteries.geometry import attractor, simplex_cv
from batteries.geometry.estimates import Estimate
from batteries.images.image_batch import unjudged
from batteries.io import short_repr
from batteries.measurement.measure import finite_or_none, read
from batteries.model.patch_svae import PatchSVAE, untrained
from batteries.training import checkpoint
from batteries.training.gradient import gradient
from batteries.training.plan import Plan

SOFT_HAND_DRAWS = 200  # simplices of one patch's M, as published
EMA_DECAY = 0.99


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

    __repr__ = short_repr.fields

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
        """Reverse of :meth:`state`."""
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
        """Step was taken."""
        ...

    def read(self, point: TrainingPoint) -> None:
        """Reading was taken."""
        ...


@neutral()
@torch.enable_grad()
def train(
    plan: Plan,
    source: Source,
    probe: Probe | str,
    *,
    start: Cell | None = None,
    folder: Path | None = None,
    allow_probe_photos: bool = False,
    watchers: Sequence[Watcher] = (),
) -> Run:
    """Train a cell, or go on where a killed run of the same plan stood.

    Args:
        plan: What to do.
        source: Training images.
        probe: What the trajectory is read on, or the name of a probe.
        start: The cell of ``plan.start``.
        folder: Where the checkpoint lives; none is kept where left out.
        allow_probe_photos: Train on photographs that the probes show, too: any crop, scale, format, mirror image or quarter
            turn of them. The manifest names them.
        watchers: Told of every step and reading.

    Returns:
        The run at its end; ``run.stopped`` where the triage ended it at ``plan.triage_step``.

    Raises:
        ConflictError: the folder holds a checkpoint of another plan, other data or another probe; or the cell to start from
            is not the plan's, or of another spec (``START``).
        PolicyError: training images that a probe shows (``PROBE_PHOTOS``); or the loss is no longer finite (``DIVERGED``); the
            last checkpoint stays.
        StoreError: the checkpoint cannot be written.
    """
    probe = probe_of(probe)
    if not allow_probe_photos:
        refuse_shown(source)
    model = _first_model(plan, start)
    run = Run(
        plan,
        checkpoint.identity(plan, source.facts, probe.digest),
        model,
        torch.optim.Adam(model.parameters(), lr=plan.rate, fused=True),
    )
    saved = folder / "checkpoint.safetensors" if folder else None
    if saved and os.path.lexists(saved):
        run.restore(checkpoint.read(saved, model, run.optimiser, run.identity))
    batches = ahead(lambda step: source.batch(seed_of(plan.seed, step), plan.batch, plan.size), run.step, plan.steps)
    judged = nullcontext if not isinstance(source, OWN_SOURCES) else unjudged  # ours give the scale that cells take
    for images in batches if not run.stopped else ():
        with judged():
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
    """Band of the spec's exact attractor."""
    return attractor.band(attractor.sphere_cv(spec.D), spec.D) if spec.D >= attractor.SIMPLEX else None


def _step(run: Run, images: Tensor) -> float:
    with torch.autocast(images.device.type, enabled=False):  # which threads of ours would not know of
        loss, gradients, M = gradient(run.model, images)
        parallel.run([gradients], lambda found: _update(run, loss, found, M), alone=True)
    run.step += 1
    return loss


def _update(run: Run, loss: float, gradients: list[Tensor], M: Tensor) -> None:
    """One step of the optimiser, along the gradient of the loss times the soft hand."""
    plan, factor = run.plan, _soft_hand(run, M)
    for parameter, found in zip(run.model.parameters(), gradients, strict=True):
        parameter.grad = found * factor
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), plan.clip)
    if not math.isfinite(loss + norm.item()):
        remedy = "Lower the rate; the folder's checkpoint is from before."
        raise PolicyError("training diverged", code="DIVERGED", found=f"loss {loss}", where=f"step {run.step}", remedy=remedy)
    for group in run.optimiser.param_groups:
        group["lr"] = plan.rate_at(run.step)
    run.optimiser.step()


def _soft_hand(run: Run, M: Tensor) -> float:
    """Factor of the loss: 1 + boost * exp(-(distance / sigma)^2 / 2), relative distance to the attractor; M (1, V, D)."""
    plan = run.plan
    if plan.boost == 0 or plan.spec.D < attractor.SIMPLEX:
        return 1.0
    seed, image = seed_of(plan.seed, run.step, 2), torch.zeros(1, dtype=torch.int64)
    reading = simplex_cv.cv(M, image, draws=SOFT_HAND_DRAWS, seed=seed)
    if isinstance(reading, Estimate):
        before = reading.value if run.cv_average is None else run.cv_average
        run.cv_average = EMA_DECAY * before + (1 - EMA_DECAY) * reading.value
    if run.cv_average is None:
        return 1.0
    distance = run.cv_average / attractor.sphere_cv(plan.spec.D) - 1
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
        label = attractor.band(measured.value, plan.spec.D) if measured else None
        wanted = expected_band(plan.spec)
        run.triage = Triage(step=run.step, expected=wanted, found=label, passed=label == wanted)
    for watcher in watchers:
        watcher.read(point)
