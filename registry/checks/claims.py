"""Checks of what a manifest claims: error and CV, which are measured again, and the history of training, which is not.

Of the history only the last reading can be compared with the cell. Tier 1 of viability is the band at step 1000, tier 2 the CV
from there on. Without the readings that they need, a cell trained by this package is walked back, and one adopted from
elsewhere is not shown to be stable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from batteries.cell.manifest import CLAIMED, MAX_TRAJECTORY, CvFigure, Manifest, TrainingPoint
from batteries.geometry import attractor, estimates
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from batteries.measurement.differences import cv_tolerance, last_reading_differences, reading_at
from batteries.training.plan import Plan
from registry.catalog.figures import CheckFigure
from registry.checks.figures import HOLDS_WORDS, estimate, flag, interval, off
from registry.checks.protocol import FACTS, ViabilityProtocol

TRIAGE_STEP: int = Plan.model_fields["triage_step"].default
READING_EVERY: int = Plan.model_fields["reading_every"].default
NO_HISTORY = "no history"


@dataclass(frozen=True)
class Reference:
    """Error and CV that a cell's are compared with.

    Attributes:
        mse: Reconstruction error on the own probe.
        cv: CV on the own probe; None if degenerate.
        axial: Whether that is the axial CV; the published one in manifests from before it.
    """

    mse: float
    cv: float | None
    axial: bool = True

    @classmethod
    def claimed(cls, manifest: Manifest) -> Reference:
        """Return the claims of a manifest."""
        own, cv = manifest.own, manifest.own.deciding_cv
        return cls(own.mse.value, cv.value if isinstance(cv, CvFigure) else None, axial=own.axial_cv is not None)

    @classmethod
    def measured(cls, mse: Estimate, axial_cv: Estimate | Degenerate) -> Reference:
        """Return the figures of a measurement: controls are compared with the cell itself, not with the claims about it."""
        return cls(mse.value, axial_cv.value if isinstance(axial_cv, Estimate) else None)


@dataclass(frozen=True)
class History:
    """Readings of a manifest that tiers 1 and 2 are tested with.

    Attributes:
        steps: Steps of the run; None if unknown, as of an adopted cell.
        step: Step of tier 1.
        start: Reading at that step, if there is one.
        later: Readings after it.
        gap: Most steps between two readings.
        kept: Most steps between two readings that packaging keeps of a run of this length.
    """

    steps: int | None
    step: int
    start: TrainingPoint | None
    later: tuple[TrainingPoint, ...]
    gap: int
    kept: int

    @classmethod
    def of(cls, manifest: Manifest) -> History:
        """Return the history in a manifest."""
        training, step = manifest.training, triage_step(manifest)
        points = training.trajectory
        start = reading_at(manifest, step)
        later = tuple(point for point in points if start and point.step > step)
        last = training.steps or (points[-1].step if points else 0)
        gap = max((b - a for a, b in pairwise([0, *(point.step for point in points), last])), default=0)
        readings = -(-last // READING_EVERY)
        return cls(training.steps, step, start, later, gap, READING_EVERY * max(1, -(-readings // (MAX_TRAJECTORY - 2))))

    @property
    def lacks(self) -> tuple[int, ...]:
        """Tiers whose readings are missing, although the run was long enough or its length is unknown."""
        tier_1 = self.start is None and (self.steps is None or self.steps >= self.step)
        tier_2 = not self.later and (self.steps is None or self.steps > self.step)
        return (*((1,) if tier_1 else ()), *((2,) if tier_2 else ()))

    @property
    def thinned(self) -> str:
        """Words about missing readings; empty if there are as many as packaging keeps."""
        if self.lacks or self.gap <= self.kept:
            return ""
        return f"thinned: up to {self.gap} steps between readings, where packaging keeps {self.kept}"

    def words(self) -> list[str]:
        """Say in sentences which tiers rest on claims, and which are not tested."""
        rests = [tier for tier, found in ((1, self.start), (2, self.later)) if found]
        found = []
        if rests:
            tiers = "Tiers 1 and 2 rest" if len(rests) == 2 else "Tier 1 rests"
            found.append(f"{tiers} on the maker's trajectory{f' ({self.thinned})' if self.thinned else ''}.")
        if self.lacks:
            tiers = "tiers 1 and 2" if len(self.lacks) == 2 else f"tier {self.lacks[0]}"
            found.append(f"No history: {tiers} not tested, so the cell is not shown to be stable.")
        elif not rests:
            found.append(f"The run was shorter than the triage step, {self.step}: tiers 1 and 2 not tested.")
        return found


def error(mse: float, reference: Reference, protocol: ViabilityProtocol) -> CheckFigure:
    """Check the error against the manifest's, which another cell's weights would not reproduce."""
    share, most = mse / reference.mse if reference.mse > 0 else math.inf, protocol.claimed.value
    words, what = f"between {1 / most:.3g} and {most:g}", "MSE over what the manifest claims"
    return interval("error, claimed", 1 / most <= share <= most, share, share, share, words, protocol.claimed.source, what)


def cv(published: Estimate | Degenerate, axial: Estimate | Degenerate, reference: Reference) -> CheckFigure:
    """Check that the manifest's CV is in the 99% interval of the measured one, or within 1% of it."""
    found = axial if reference.axial else published
    claim, words = reference.cv, "the manifest claims a degenerate CV"
    near = claim is None and isinstance(found, Degenerate)
    if claim is not None:
        words = f"the manifest claims {claim:.4g}"
        near = isinstance(found, Estimate) and abs(claim - found.value) <= cv_tolerance(found.value, found.standard_error)
    threshold = "within 1% of the manifest's CV, or its 99% interval holds that"
    return estimate("CV, claimed", near, found, threshold, FACTS, words, confidence=0.99)


def triage(manifest: Manifest) -> CheckFigure:
    """Check tier 1: the band at the triage step, from the manifest."""
    past, name = History.of(manifest), "triage"
    if past.start is None:
        return _untested(name, past, 1, "tier 1: band at the triage step")
    label = manifest.identity.band
    value, _ = past.start.deciding_cv
    found = None if value is None else attractor.band(value, manifest.spec.D)
    words = f"band {found or 'none'} at step {past.step}, by the {past.start.cv_name}"
    return flag(name, found == label, f"tier 1: band {label} at the triage step ({CLAIMED})", words)


def stable(manifest: Manifest) -> CheckFigure:
    """Check tier 2: the CVs after triage over that at triage, from the manifest's trajectory; the worst ratio counts."""
    past, name = History.of(manifest), "stable"
    start, later = past.start, past.later
    if start is None or not later:
        return _untested(name, past, 2, "tier 2: CV holds after triage")
    if any((point.deciding_cv[0] or 0) <= 0 for point in (start, *later)):
        return flag(name, False, f"tier 2: CV holds after triage ({CLAIMED})", "a CV along training was degenerate")
    held = [(point.step, estimates.holds(_reading(start), _reading(point))) for point in later]
    step, worst = max(held, key=lambda row: off((row[1].ratio, row[1].lower, row[1].upper)))
    threshold = f"{HOLDS_WORDS} ({CLAIMED})"
    words = f"{start.cv_name} at step {step}, the farthest, over that at step {start.step}"
    return interval(name, worst.holds, worst.ratio, worst.lower, worst.upper, threshold, FACTS, words)


def history(published: Estimate | Degenerate, axial: Estimate | Degenerate, mse: float, manifest: Manifest) -> CheckFigure:
    """Check that the readings for tiers 1 and 2 are there, and that the last one is of the finished cell.

    Args:
        published: Published CV of the finished cell.
        axial: Axial CV of the finished cell.
        mse: Error of the finished cell.
        manifest: Manifest with the trajectory.
    """
    past, training = History.of(manifest), manifest.training
    threshold = "readings for tiers 1 and 2; the last one agrees with the measurement"
    if training.steps is None and not training.trajectory:
        return flag("history", None, threshold, f"{NO_HISTORY}: tiers 1 and 2 not tested", decides=False)
    wrong = last_reading_differences(manifest, published, axial, mse)
    missing = not training.trajectory or (training.steps is not None and bool(past.lacks))
    words = "the last reading agrees with the measurement" + (f"; {past.thinned}" if past.thinned else "")
    if wrong or missing:
        words = str(wrong[0]) if wrong else f"{NO_HISTORY}: a run of {training.steps} steps has readings"
    return flag("history", not wrong and not missing, threshold, words)


def _untested(name: str, past: History, tier: int, threshold: str) -> CheckFigure:
    """Report a tier without readings; it counts against a cell whose run was long enough to have them."""
    if tier not in past.lacks:
        short = "shorter" if past.start is None else "no longer"
        return flag(name, None, threshold, f"not recorded: the run was {short}", decides=False)
    return flag(name, None, threshold, f"{NO_HISTORY}: tier {tier} not tested", decides=past.steps is not None)


def triage_step(manifest: Manifest) -> int:
    """Return the step of tier 1: 1000 and never a later one; the manifest's own if the run or its readings end earlier."""
    training = manifest.training
    short = training.steps is not None and training.steps < TRIAGE_STEP
    if training.triage is None or (not short and reading_at(manifest, TRIAGE_STEP) is not None):
        return TRIAGE_STEP
    return min(training.triage.step, TRIAGE_STEP)


def _reading(point: TrainingPoint) -> Estimate:
    """Convert a point of a trajectory to an estimate; a missing standard error becomes infinite, so that it cannot hold."""
    value, error = point.deciding_cv
    assert value is not None
    return Estimate(value, math.inf if error is None else error, 1, (value,))
