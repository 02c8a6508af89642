"""One training loop: steps, triage of the band, a trajectory of MSE and CVs; resumable to the same numbers.

Every step's batch and CV draws are seeded by (run seed, step), so a killed and resumed run passes through the same states as
an uninterrupted one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import repeat
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from batteries.cell.cell import Cell
from batteries.cell.manifest import Band, InputScale, TrainingPoint, Triage
from batteries.cell.spec import CellSpec
from batteries.data.prefetch import ahead
from batteries.data.probes import Probe, probe_of
from batteries.data.sources import OWN_SOURCES, Source, refuse_shown, seed_of
from batteries.engine.torch_settings import neutral
from batteries.errors import ConflictError, InputError, PolicyError
from batteries.geometry import attractor
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from batteries.images.image_batch import unjudged
from batteries.measurement.measure import finite_or_none, read
from batteries.model.patch_svae import PatchSVAE, untrained
from batteries.training import checkpoint
from batteries.training.optimisers import optimisers_of
from batteries.training.plan import Plan
from batteries.training.run import Run
from batteries.training.step import take_step


class Watcher(Protocol):
    """Observer of a run, such as a progress bar or an event log.

    >>> import batteries
    >>> class Printer:
    ...     def stepped(self, step, loss):
    ...         print(f"step {step}: loss {loss:.2f}")
    ...
    ...     def read(self, point):
    ...         print(f"step {point.step}: MSE {point.mse:.2f}")
    >>> watcher: batteries.Watcher = Printer()  # for batteries.train(..., watchers=[watcher])
    >>> watcher.stepped(1, loss=0.9)
    step 1: loss 0.90
    """

    def stepped(self, step: int, loss: float) -> None:
        """Receive the loss of a step."""
        ...

    def read(self, point: TrainingPoint) -> None:
        """Receive a reading of the trajectory."""
        ...


@runtime_checkable
class ModelWatcher(Watcher, Protocol):
    """Observer that also receives the model, whose weights change in place at every step. It must not change them."""

    def started(self, model: PatchSVAE) -> None:
        """Receive the model before the first step."""
        ...


@neutral()
@torch.enable_grad()
def train(
    plan: Plan,
    source: Source,
    probe: Probe | str,
    *,
    start: Cell | None = None,
    teacher: Cell | None = None,
    folder: Path | None = None,
    until: int | None = None,
    allow_probe_photos: bool = False,
    watchers: Sequence[Watcher] = (),
) -> Run:
    """Train a cell, or resume a killed run of the same plan.

    Args:
        plan: Settings of the run.
        source: Training images.
        probe: Probe that the trajectory is measured on, or its name.
        start: Cell named by ``plan.start``.
        teacher: Cell named by ``plan.teacher``.
        folder: Folder of the checkpoint; by default none is saved.
        until: Step to stop at before the plan's last, on the plan's schedule; by default the run is finished.
        allow_probe_photos: Allow training images that overlap with photographs of the probes: any crop, scale, format, mirror
            image or rotation by 90 degrees. The manifest lists the photographs.
        watchers: Observers of every step and reading.

    Returns:
        Finished run; ``run.stopped`` if the triage ended it at ``plan.triage_step``.

    Raises:
        ConflictError: checkpoint of another plan, other data or another probe in the folder; or a cell to start from that is
            not the plan's, or has another spec (``START``), or a teacher that is not the plan's (``TEACHER``).
        InputError: images or probe of sides that are no multiples of the patch size (``IMAGE_SIZE``), or of other channels; a
            cell to start from, or a teacher, that takes rescaled images (``START_INPUT``).
        PolicyError: training images that overlap with a probe (``PROBE_PHOTOS``), or a loss or reading that is not finite
            (``DIVERGED``);
            the last checkpoint is kept.
        IntegrityError: checkpoint that differs from its own digest (``DIGEST_MISMATCH``).
        FormatError: file in the checkpoint's place that is none of this run (``CHECKPOINT``).
        StoreError: checkpoint that cannot be written.

    >>> import batteries
    >>> spec = batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4)  # small, for speed
    >>> plan = batteries.Plan(spec=spec, size=64, steps=2, batch=4)
    >>> run = batteries.train(plan, batteries.NoiseSource(), "noise16-64")
    >>> run.step, run.stopped
    (2, False)
    """
    probe = probe_of(probe)
    plan.spec.grid(*probe.images.shape[2:])  # refuses a probe that only the first reading would
    if not allow_probe_photos:
        refuse_shown(source)
    model = _first_model(plan, start)
    run = Run(
        plan,
        checkpoint.identity(plan, source.facts, probe.digest),
        model,
        optimisers_of(plan, model),
        teacher=_teacher(plan, teacher),
    )
    saved = folder / "checkpoint.safetensors" if folder else None
    if saved and os.path.lexists(saved):
        run.restore(checkpoint.read(saved, model, run.optimisers, run.identity), where=saved)
    last = min(plan.steps, until or plan.steps)
    batches = _batches(plan, source, run.step, last)
    for watcher in watchers:
        if isinstance(watcher, ModelWatcher):
            watcher.started(model)
    judged = nullcontext if not isinstance(source, OWN_SOURCES) else unjudged  # their scale is right
    for images in batches if not run.stopped else ():
        with judged():
            loss = take_step(run, images)
        for watcher in watchers:
            watcher.stepped(run.step, loss)
        _take_readings(run, probe, watchers)
        if saved and (run.step % plan.checkpoint_every == 0 or run.step == plan.steps or run.stopped):
            checkpoint.write(saved, model, run.optimisers, run.state())
        if run.stopped:
            break
    model.eval()
    return run


def _batches(plan: Plan, source: Source, first: int, last: int) -> Iterator[Tensor]:
    """Yield the images (batch, channels, size, size) of each step, or those of step 0 again and again if the plan says so."""

    def made(step: int) -> Tensor:
        return source.batch(seed_of(plan.seed, step), plan.batch, plan.size)

    if not plan.fixed_batch:
        yield from ahead(made, first, last)
        return
    for images in ahead(made, 0, 1):
        yield from repeat(images, last - first)


def _first_model(plan: Plan, start: Cell | None) -> PatchSVAE:
    wanted, found = (plan.start, plan.spec), (start and start.digest, start.spec if start else plan.spec)
    if wanted != found:
        raise ConflictError("starting cell does not match the plan", code="START", expected=wanted, found=found)
    if start is None:
        return untrained(plan.spec, plan.seed)
    _refuse_scale(start, "starting cell")
    return PatchSVAE.from_cell(start).train()


def _teacher(plan: Plan, teacher: Cell | None) -> PatchSVAE | None:
    if plan.teacher != (teacher and teacher.digest):
        found = teacher and teacher.digest
        raise ConflictError("teacher does not match the plan", code="TEACHER", expected=plan.teacher, found=found)
    if teacher is None:
        return None
    _refuse_scale(teacher, "teacher")
    if teacher.spec.channels != plan.spec.channels:
        expected, found = (f"{spec.channels} channels" for spec in (plan.spec, teacher.spec))
        raise ConflictError("teacher of other images", code="TEACHER", expected=expected, found=found, where=teacher.name)
    if teacher.spec.row_norm == "scale":
        expected = "a row norm of each row alone, as the teacher sees a few images at a time"
        raise InputError(
            "teacher that depends on the batch", code="TEACHER", expected=expected, found="scale", where=teacher.name
        )
    teacher.spec.grid(plan.size, plan.size)
    return PatchSVAE.from_cell(teacher).eval().requires_grad_(False)


def _refuse_scale(cell: Cell, role: str) -> None:
    channels = cell.spec.channels
    if cell.manifest.identity.input != InputScale(mean=(0.0,) * channels, std=(1.0,) * channels):
        raise InputError(
            f"unsupported input scale of the {role}",
            code="START_INPUT",
            expected="mean 0 and standard deviation 1, as training does not rescale images",
            found=cell.manifest.identity.input,
            where=cell.name,
        )


def expected_band(spec: CellSpec) -> Band | None:
    """Return the band of the spec's exact attractor, which is that of its width; None below 4.

    >>> import batteries
    >>> [batteries.expected_band(batteries.CellSpec.preset("low", D=D)) for D in (4, 8, 16, 24)]
    ['high', 'mid', 'low', 'open']
    """
    return attractor.band(attractor.sphere_cv(spec.D), spec.D) if spec.D >= attractor.SIMPLEX else None


def _take_readings(run: Run, probe: Probe, watchers: Sequence[Watcher]) -> None:
    plan = run.plan
    at_triage = run.step == plan.triage_step
    if run.step % plan.reading_every and run.step != plan.steps and not at_triage:
        return
    found = read(run.model, probe.images, probe.cluster)
    error = float(found.mse.mean())
    if not math.isfinite(error):
        remedy = "Lower the rate; the folder's checkpoint is from before."
        raise PolicyError("training diverged", code="DIVERGED", found=f"MSE {error}", where=f"step {run.step}", remedy=remedy)
    cv, axial = found.cv(), found.axial_cv()
    point = TrainingPoint(step=run.step, mse=error, **_cv_fields("cv", cv), **_cv_fields("axial_cv", axial))
    run.trajectory.append(point)
    run.cv_averages.append(run.cv_average)
    if at_triage:
        run.axial_cv_at_triage = axial if isinstance(axial, Estimate) else None
        label = attractor.band(axial.value, plan.spec.D) if isinstance(axial, Estimate) else None
        wanted = expected_band(plan.spec)
        run.triage = Triage(step=run.step, expected=wanted, found=label, passed=label == wanted)
    for watcher in watchers:
        watcher.read(point)


def _cv_fields(name: str, cv: Estimate | Degenerate) -> dict[str, float | None]:
    """Return the fields of a training point for a CV and its standard error; a degenerate one has neither."""
    value, error = (cv.value, finite_or_none(cv.standard_error)) if isinstance(cv, Estimate) else (None, None)
    return {name: value, f"{name}_standard_error": error}
