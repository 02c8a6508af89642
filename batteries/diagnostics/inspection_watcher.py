"""Inspections of a cell along its training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from batteries.cell.manifest import TrainingPoint
from batteries.data.probes import Probe
from batteries.diagnostics.inspection import Inspection, inspect
from batteries.errors import InputError
from batteries.model.patch_svae import PatchSVAE


class InspectionWatcher:
    """Watcher that inspects the model at every reading of its trajectory, or at some of them.

    Args:
        images: Probe, its name, or images, as :func:`inspect` takes them.
        sizes: Sides in pixels; by default that of the probe.
        every: Readings from one inspection to the next; the first reading is inspected.

    Attributes:
        inspections: Inspection of each step that was inspected.

    Raises:
        InputError: ``every`` below 1 (``EVERY``).

    >>> import batteries
    >>> from batteries import diagnostics
    >>> spec = batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4)
    >>> plan = batteries.Plan(spec=spec, size=64, steps=2, batch=4, reading_every=1)
    >>> watcher = diagnostics.InspectionWatcher(batteries.probe("noise16-64").images[:4])
    >>> run = batteries.train(plan, batteries.NoiseSource(), "noise16-64", watchers=[watcher])
    >>> sorted(watcher.inspections)
    [1, 2]
    """

    def __init__(self, images: Probe | str | Tensor, *, sizes: Sequence[int] = (), every: int = 1) -> None:
        if every < 1:
            raise InputError("readings between inspections", code="EVERY", expected="at least 1", found=every)
        self._images, self._sizes, self._every = images, tuple(sizes), every
        self._model: PatchSVAE | None = None
        self._readings = 0
        self.inspections: dict[int, Inspection] = {}

    def __repr__(self) -> str:
        return f"InspectionWatcher({len(self.inspections)} inspections)"

    def started(self, model: PatchSVAE) -> None:
        """Receive the model that is trained, before its first step."""
        self._model = model

    def stepped(self, step: int, loss: float) -> None:
        """Do nothing: steps are not inspected, readings are."""

    def read(self, point: TrainingPoint) -> None:
        """Inspect the model as it is at a reading."""
        if self._model is not None and self._readings % self._every == 0:
            self.inspections[point.step] = inspect(self._model, self._images, sizes=self._sizes, name=f"step {point.step}")
        self._readings += 1
