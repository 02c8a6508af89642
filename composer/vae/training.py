"""Training of a battery VAE, resumable to the same bits.

Images, codes and simplices of a step are seeded by the plan's seed and the step, so a killed and resumed run passes through the
same states as an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Generator, Tensor

from batteries import short_repr
from batteries.cell.manifest import Count
from batteries.data.prefetch import ahead
from batteries.data.probes import Probe, probe_of
from batteries.data.sources import OWN_SOURCES, Source, refuse_shown, seed_of
from batteries.engine.torch_settings import neutral
from batteries.errors import PolicyError
from batteries.images.image_batch import unjudged
from batteries.io.canonical_json import fields_of
from batteries.training import checkpoint
from composer.vae import readings
from composer.vae.battery_vae import BatteryVAE
from composer.vae.objective import terms
from composer.vae.plan import VaePlan
from composer.vae.reading_document import TrainedRun, VaeReading

DRAW = 23  # purpose of seeds
BETAS = (0.9, 0.99)  # of Adam


@dataclass(frozen=True)
class StepTerms:
    """Terms of a step: loss, mean squared error, nats per value, and discipline; and the norm of the gradient.

    >>> from composer import vae
    >>> vae.StepTerms(loss=0.9, mse=0.8, divergence=9.0, discipline=0.01, gradient=0.2).mse
    0.8
    """

    loss: float
    mse: float
    divergence: float
    discipline: float
    gradient: float


class VaeWatcher(Protocol):
    """Observer of a training, such as a progress bar or an event log.

    >>> from composer import vae
    >>> class Printer:
    ...     def stepped(self, step, found):
    ...         print(f"step {step}: MSE {found.mse:.2f}")
    ...
    ...     def read(self, reading):
    ...         print(f"step {reading.step}: ELBO {reading.elbo:.2f}")
    >>> watcher: vae.VaeWatcher = Printer()  # for vae.train(..., watchers=[watcher])
    >>> watcher.stepped(1, vae.StepTerms(loss=0.9, mse=0.8, divergence=9.0, discipline=0.01, gradient=0.2))
    step 1: MSE 0.80
    """

    def stepped(self, step: int, found: StepTerms) -> None:
        """Receive the terms of a step."""
        ...

    def read(self, reading: VaeReading) -> None:
        """Receive a reading."""
        ...


@dataclass
class VaeRun:
    """State of a training between two steps.

    Attributes:
        vae: Model being trained.
        plan: Settings.
        identity: Digest of plan, data, probe and the model before the first step.
        step: Steps taken.
        readings: Readings on the probe.

    >>> import batteries, composer, registry
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> plan = composer.vae.VaePlan(steps=1, size=16, batch=1)
    >>> composer.vae.train(vae, plan, batteries.NoiseSource(), "noise16-64").step
    1
    """

    vae: BatteryVAE
    plan: VaePlan
    identity: str
    step: int = 0
    readings: list[VaeReading] = field(default_factory=list)

    __repr__ = short_repr.fields

    def state(self) -> dict[str, Any]:
        """Return the state saved in a checkpoint besides the tensors."""
        rows = [one.model_dump(mode="json") for one in self.readings]
        return {"identity": self.identity, "step": self.step, "readings": rows}

    def restore(self, state: dict[str, Any], *, where: object) -> None:
        """Restore what :meth:`state` returned.

        Args:
            state: Saved state.
            where: Name of the checkpoint in messages.

        Raises:
            FormatError: no state of a run of this plan (``CHECKPOINT``).
        """
        try:
            saved = VaeRunState.model_validate_json(json.dumps(state))  # in JSON, where arrays stand for tuples
        except ValidationError as error:
            raise checkpoint.no_state(where, fields_of(error)) from error
        if saved.step > self.plan.steps:
            raise checkpoint.no_state(where, f"step {saved.step} of {self.plan.steps}")
        self.step, self.readings = saved.step, list(saved.readings)


class VaeRunState(BaseModel):
    """State of a training as a checkpoint has it."""

    model_config = ConfigDict(extra="forbid")

    identity: str
    step: Count
    readings: tuple[VaeReading, ...]


@neutral()
@torch.enable_grad()
def train(
    vae: BatteryVAE,
    plan: VaePlan,
    source: Source,
    probe: Probe | str,
    *,
    folder: Path | None = None,
    until: int | None = None,
    allow_probe_photos: bool = False,
    watchers: Sequence[VaeWatcher] = (),
) -> VaeRun:
    """Train a battery VAE in place, or resume a killed training of the same plan.

    Args:
        vae: Model, which is changed. To resume, make it again as before the first step.
        plan: Settings.
        source: Training images.
        probe: Held-out images that the readings are made on, or the name of a probe.
        folder: Folder of the checkpoint; by default none is saved.
        until: Step to stop at before the plan's last, on the plan's schedule; by default the run is finished.
        allow_probe_photos: Allow training images that overlap with photographs of the probes.
        watchers: Observers of every step and reading.

    Raises:
        ConflictError: checkpoint of another plan, data, probe, or of a model of another start, such as of other parents
            (``RUN_CHANGED``).
        InputError: images of sides that are not multiples of every patch size (``IMAGE_SIZE``), or of other channels.
        PolicyError: training images that overlap with a probe (``PROBE_PHOTOS``), or a loss or gradient that is not finite
            (``DIVERGED``); the last checkpoint is kept.
        IntegrityError: checkpoint that differs from its own digest (``DIGEST_MISMATCH``).
        FormatError: file in the checkpoint's place that is none of this training (``CHECKPOINT``).
        StoreError: checkpoint that cannot be written.

    >>> import batteries, registry
    >>> from composer import BatteryVAE, vae
    >>> model = BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> run = vae.train(model, vae.VaePlan(steps=2, size=16, batch=1), batteries.NoiseSource(), "noise16-64")
    >>> run.step, len(run.readings)
    (2, 1)
    """
    probe = probe_of(probe)
    for part in vae.parts:
        for size in ((plan.size, plan.size), tuple(probe.images.shape[2:])):
            part.spec.grid(*size)
    if not allow_probe_photos:
        refuse_shown(source)
    optimiser = torch.optim.Adam(vae.parameters(), lr=plan.rate, betas=BETAS)
    run = VaeRun(vae, plan, _identity(vae, plan, source, probe))
    saved = folder / "checkpoint.safetensors" if folder else None
    if saved and os.path.lexists(saved):
        run.restore(checkpoint.read(saved, vae, [optimiser], run.identity), where=saved)
    judged = nullcontext if not isinstance(source, OWN_SOURCES) else unjudged  # their scale is right
    last = min(plan.steps, until or plan.steps)
    for images in ahead(lambda step: source.batch(seed_of(plan.seed, step), plan.batch, plan.size), run.step, last):
        with judged():
            found = _take_step(run, optimiser, images)
        for watcher in watchers:
            watcher.stepped(run.step, found)
        if run.step % plan.reading_every == 0 or run.step == plan.steps:
            run.readings.append(readings.read(vae, probe, plan.kl, run.step, gradient_norms(vae)))
            for watcher in watchers:
                watcher.read(run.readings[-1])
        if saved and (run.step % plan.checkpoint_every == 0 or run.step == last):
            checkpoint.write(saved, vae, [optimiser], run.state())
    record = TrainedRun(plan=plan, steps=run.step, data=source.facts, probe=probe.name, readings=tuple(run.readings))
    vae.history = (*vae.history, record)
    return run


def gradient_norms(vae: BatteryVAE) -> dict[str, float]:
    """Return the norm of the gradient of each sector's parameters, by name; empty before the first step."""
    found: dict[str, float] = {}
    for part in vae.parts:
        squares = [p.grad.flatten(1).square().sum(dim=1) for p in part.parameters() if p.grad is not None]
        if squares:
            found |= dict(zip(part.names, torch.stack(squares).sum(dim=0).sqrt().tolist(), strict=True))
    return found


def _take_step(run: VaeRun, optimiser: torch.optim.Optimizer, images: Tensor) -> StepTerms:
    plan, vae = run.plan, run.vae
    draws = Generator().manual_seed(seed_of(plan.seed, run.step, DRAW))
    optimiser.zero_grad()
    found = terms(vae, images, plan, run.step, draws)
    found.loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), plan.clip or math.inf)
    numbers = StepTerms(*(float(term.detach()) for term in (*found, norm)))
    if not math.isfinite(numbers.loss + numbers.gradient):
        remedy = "Lower the rate; the folder's checkpoint is from before."
        what = f"loss {numbers.loss}, gradient norm {numbers.gradient}"
        raise PolicyError("training diverged", code="DIVERGED", found=what, where=f"step {run.step}", remedy=remedy)
    for group in optimiser.param_groups:
        group["lr"] = plan.rate_at(run.step)
    optimiser.step()
    run.step += 1
    return numbers


def _identity(vae: BatteryVAE, plan: VaePlan, source: Source, probe: Probe) -> str:
    start = sha256()
    for name, parameter in vae.named_parameters():
        start.update(name.encode())
        start.update(parameter.detach().cpu().contiguous().numpy().data)
    return checkpoint.identity(plan, source.facts, probe.digest + start.hexdigest())
