"""Guard of an adaptation: axial CV, effective rank and content of a cell while it learns, against those before."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from batteries.cell.manifest import TrainingPoint
from batteries.data.probes import Probe
from batteries.geometry import estimates
from batteries.geometry.estimates import Estimate, Held
from batteries.geometry.simplex_cv import Degenerate
from batteries.measurement.content import kept, mean_error
from batteries.measurement.measure import Reading, finite_or_none, read
from batteries.model.patch_svae import PatchSVAE
from composer.adaptation.domains import OwnDomain


@dataclass(frozen=True)
class AdaptMoment:
    """Figures of a cell at one look of the guard.

    Attributes:
        step: Step of the host.
        rate: First learning rate of the cell's weights, halved by each return.
        content: Share kept of the variance that the cell explained beyond predicting the mean, on held-out images.
        axial_cv: Axial CV over that before, on the own probe; None if degenerate.
        rank: Effective rank over that before.
        weight_change: Change of the weights, norm(dW) / norm(W).
        faults: Figures outside their bounds, in words; empty if the cell holds.

    >>> import composer
    >>> from batteries.geometry import Held
    >>> one = Held(1.0, 0.99, 1.01, True)
    >>> composer.adaptation.AdaptMoment(25, 1e-3, 0.97, one, one, 0.01, ()).holds
    True
    """

    step: int
    rate: float
    content: float
    axial_cv: Held | None
    rank: Held
    weight_change: float
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """True if every figure is within its bounds."""
        return not self.faults


class Guard:
    """Measurement of a model against the state before.

    Args:
        model: Model before the adaptation.
        own: Own probe of the cell, for CV and rank.
        domain: Own domain, for content.
        content: Least share of content.
    """

    def __init__(self, model: PatchSVAE, own: Probe, domain: OwnDomain, content: float) -> None:
        self._own, self._domain, self._least = own, domain, content
        self._before, error = self._read(model)
        self.mean = mean_error(domain.images)
        self.error = float(error.mean())

    @property
    def explained(self) -> float:
        """Variance that the cell explained before, beyond predicting the mean."""
        return self.mean - self.error

    @property
    def axial_cv(self) -> float | None:
        """Axial CV before; None if degenerate."""
        found = self._before.axial_cv()
        return found.value if isinstance(found, Estimate) else None

    def look(self, model: PatchSVAE, step: int, rate: float, weight_change: float) -> tuple[AdaptMoment, TrainingPoint]:
        """Measure the model; return the moment, and the reading of its own probe for the manifest."""
        reading, error = self._read(model)
        now, before = reading.axial_cv(), self._before.axial_cv()
        axial = None if isinstance(now, Degenerate) or isinstance(before, Degenerate) else estimates.holds(before, now)
        rank = estimates.holds(self._before.effective_rank(), reading.effective_rank())
        content = kept(self.error, float(error.mean()), self.mean)
        faults = [*_fault("axial CV", axial), *_fault("effective rank", rank)]
        if not content >= self._least:  # a content that is not a number counts as lost
            faults.append(f"content {content:.3f} kept, at least {self._least:g} wanted")
        moment = AdaptMoment(step, rate, content, axial, rank, weight_change, tuple(faults))
        return moment, _point(reading, now, step)

    def _read(self, model: PatchSVAE) -> tuple[Reading, Tensor]:
        """Read the own probe, and return it with the errors of the held-out images of the domain."""
        reading = read(model, self._own.images, self._own.cluster)
        if self._domain.images is self._own.images:
            return reading, reading.mse
        return reading, read(model, self._domain.images, self._domain.cluster).mse


def _fault(name: str, held: Held | None) -> list[str]:
    if held is None:
        return [f"{name} degenerate"]
    if held.holds:
        return []
    low, high = estimates.HOLDS
    return [f"{name} {held.ratio:.3f} ({held.lower:.3f} to {held.upper:.3f}) of that before, {low:g} to {high:g} wanted"]


def _point(reading: Reading, axial: Estimate | Degenerate, step: int) -> TrainingPoint:
    cv = reading.cv()
    values = [(x.value, finite_or_none(x.standard_error)) if isinstance(x, Estimate) else (None, None) for x in (cv, axial)]
    return TrainingPoint(
        step=step,
        mse=float(reading.mse.mean()),
        cv=values[0][0],
        cv_standard_error=values[0][1],
        axial_cv=values[1][0],
        axial_cv_standard_error=values[1][1],
    )
