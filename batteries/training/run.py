"""State of a training run between two steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from batteries import short_repr
from batteries.cell.manifest import Count, TrainingPoint, Triage
from batteries.geometry.estimates import Estimate
from batteries.io.canonical_json import fields_of
from batteries.model.patch_svae import PatchSVAE
from batteries.training import checkpoint
from batteries.training.plan import Plan


@dataclass
class Run:
    """State of a run between two steps.

    Attributes:
        plan: Settings of the run.
        identity: Digest of plan, data and probe.
        model: Model being trained.
        teacher: Model whose reconstructions are part of the target, in evaluation mode; None without one.
        optimisers: Optimisers that share its parameters.
        step: Steps taken.
        cv_average: Average CV of the soft hand, of one patch of each step's images; None if it reads none.
        trajectory: Readings on the probe.
        cv_averages: Average CV of the soft hand at each reading of the trajectory.
        triage: Band at the triage step, once it was checked.
        axial_cv_at_triage: Axial CV at the triage step.

    >>> import batteries
    >>> spec = batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4)
    >>> run = batteries.train(batteries.Plan(spec=spec, size=64, steps=2, batch=4), batteries.NoiseSource(), "noise16-64")
    >>> [point.step for point in run.trajectory], run.model.spec.D
    ([2], 4)
    """

    plan: Plan
    identity: str
    model: PatchSVAE
    optimisers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    cv_average: float | None = None
    trajectory: list[TrainingPoint] = field(default_factory=list)
    cv_averages: list[float | None] = field(default_factory=list)
    triage: Triage | None = None
    axial_cv_at_triage: Estimate | None = None
    teacher: PatchSVAE | None = None

    __repr__ = short_repr.fields

    def state(self) -> dict[str, Any]:
        """Return the state saved in a checkpoint besides the tensors."""
        at = self.axial_cv_at_triage
        return {
            "identity": self.identity,
            "step": self.step,
            "cv_average": self.cv_average,
            "trajectory": [point.model_dump(mode="json") for point in self.trajectory],
            "cv_averages": self.cv_averages,
            "triage": self.triage.model_dump(mode="json") if self.triage else None,
            "axial_cv_at_triage": [at.value, at.standard_error, at.matrices, at.by_image] if at else None,
        }

    def restore(self, state: dict[str, Any], *, where: object) -> None:
        """Restore what :meth:`state` returned.

        Args:
            state: Saved state.
            where: Name of the checkpoint in messages.

        Raises:
            FormatError: no state of a run of this plan (``CHECKPOINT``).
        """
        try:
            saved = RunState.model_validate(state)
        except ValidationError as error:
            raise checkpoint.no_state(where, fields_of(error)) from error
        if saved.step > self.plan.steps or len(saved.cv_averages) != len(saved.trajectory):
            found = f"step {saved.step}, {len(saved.trajectory)} readings, {len(saved.cv_averages)} averages"
            raise checkpoint.no_state(where, found)
        self.step, self.cv_average, self.triage = saved.step, saved.cv_average, saved.triage
        self.trajectory, self.cv_averages = list(saved.trajectory), list(saved.cv_averages)
        self.axial_cv_at_triage = Estimate(*saved.axial_cv_at_triage) if saved.axial_cv_at_triage else None

    def target(self, images: Tensor) -> Tensor:
        """Return what reconstructions of images (B, channels, height, width) are compared with in training."""
        if self.teacher is None:
            return images
        with torch.no_grad():
            taught = self.teacher.reconstruction(images)[0]
        return images.lerp(taught, self.plan.distil)

    @property
    def stopped(self) -> bool:
        """True if the triage ended the run."""
        return self.triage is not None and not self.triage.passed


class RunState(BaseModel):
    """State of a run as a checkpoint has it, in JSON: readings that are not finite, and arrays for tuples."""

    model_config = ConfigDict(extra="forbid")

    identity: str
    step: Count
    cv_average: float | None
    trajectory: tuple[TrainingPoint, ...]
    cv_averages: tuple[float | None, ...]
    triage: Triage | None
    axial_cv_at_triage: tuple[float, float, Count, tuple[float, ...]] | None
