"""Checks of the viability test: each makes a figure with threshold, interval and reason from readings.

Checks rely on tensors and measurements, never on claims of a spec, but for those of :mod:`registry.checks.claims`. A check
raises no error and stops no other check.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from batteries.cell.manifest import Manifest
from batteries.geometry import attractor as exact
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from registry.catalog.figures import CheckFigure, DoseFigure, FrozenFigure, Ratio
from registry.checks import claims
from registry.checks.claims import Reference
from registry.checks.figures import HOLDS_WORDS, at_least, at_most, estimate, flag, interval, off, t99, within
from registry.checks.protocol import FACTS, Threshold, ViabilityProtocol


@dataclass(frozen=True)
class Measurement:
    """A cell on its own probe, without a host.

    Attributes:
        finite: Whether all weights and outputs are finite.
        radius_error: Largest distance of a row's length from 1.
        cv: Published CV over the probe.
        axial_cv: Axial CV over the probe, which the checks rest on.
        rank: Effective rank.
        mse: Reconstruction error, clustered by image.
        mean_baseline: Error of predicting the probe's mean.
    """

    finite: bool
    radius_error: float
    cv: Estimate | Degenerate
    axial_cv: Estimate | Degenerate
    rank: Estimate
    mse: Estimate
    mean_baseline: float


def finite(found: bool) -> CheckFigure:
    """Check that weights and outputs are finite."""
    return CheckFigure(
        name="finite",
        passed=found,
        decides=True,
        value=None,
        lower=None,
        upper=None,
        threshold="weights and outputs are finite",
        source=FACTS,
        reason="all finite" if found else "NaN or infinity: nothing else was measured",
    )


def standing(
    m: Measurement,
    manifest: Manifest,
    untrained: Sequence[float],
    protocol: ViabilityProtocol,
    *,
    reference: Reference | None = None,
) -> list[CheckFigure]:
    """Check what needs no host: geometry, tiers 1 and 2, and error.

    Args:
        m: Measurement of the cell on its own probe.
        manifest: Manifest of the cell.
        untrained: Errors of untrained cells of the same spec on the same probe.
        protocol: Protocol with the thresholds.
        reference: Error and CV that the cell must have; by default those in its manifest.
    """
    reference = reference or Reference.claimed(manifest)
    return [
        at_most("radius", m.radius_error, protocol.radius, "largest distance of a row's length from 1"),
        rank(m, manifest.spec.D, protocol),
        band(m, manifest),
        attractor(m, manifest.spec.D),
        claims.triage(manifest),
        claims.stable(manifest),
        claims.history(m.cv, m.axial_cv, m.mse.value, manifest),
        baseline(m),
        claims.error(m.mse.value, reference, protocol),
        claims.cv(m.cv, m.axial_cv, reference),
        error_null(m.mse, untrained, protocol),
    ]


def hosted(trials: Sequence[FrozenFigure], protocol: ViabilityProtocol) -> list[CheckFigure]:
    """Check the frozen trials; the worst trial counts for all of them."""
    unchanged = all(trial.unchanged for trial in trials)
    words = f"the digest is the same after {len(trials)} hosts" if unchanged else "the weights changed under a host"
    known = [trial.gradient for trial in trials if trial.gradient is not None]
    gradient = min(known) if len(known) == len(trials) else math.nan
    return [
        flag("frozen digest", unchanged, "weights' digest before and after the host's steps", words),
        _all_hold("frozen CV", [trial.axial_cv for trial in trials]),
        _all_hold("frozen rank", [trial.rank for trial in trials]),
        at_least("frozen gradient", gradient, protocol.gradient, "smallest gradient norm at what a host feeds the cell"),
    ]


def dosed(trials: Sequence[DoseFigure], protocol: ViabilityProtocol) -> list[CheckFigure]:
    """Check the trials under the host's gradient at the reference dose.

    The content kept is a mean over seeds, with a 99% interval by Student's t. Shares lost are skewed; where their logarithm
    has a standard deviation of 0.3, as in the cells that ship, the interval covers in 98% (docs/results/coverage-alignment.md).
    """
    at = [trial for trial in trials if trial.rate == protocol.reference_rate]
    share = _over_seeds([trial.kept for trial in at])
    retention = _over_seeds([trial.retention for trial in at])
    words = "share of what it explains beyond predicting the mean that it still explains"
    return [
        _all_hold("dosed CV", [trial.axial_cv for trial in at]),
        _all_hold("dosed rank", [trial.rank for trial in at]),
        at_least("content kept", share.value, protocol.kept, words, error=share.standard_error, quantile=t99(len(at))),
        estimate("retention", None, retention, "reported", FACTS, "error after the dose over before", decides=False),
    ]


def rank(m: Measurement, D: int, protocol: ViabilityProtocol) -> CheckFigure:
    """Check the effective rank against a share of D; a rank-one cell has 1."""
    need = Threshold(value=protocol.rank.value * D, source=protocol.rank.source)
    return at_least(
        "rank", m.rank.value, need, f"effective rank of {D}", error=m.rank.standard_error, quantile=t99(m.rank.images)
    )


def band(m: Measurement, manifest: Manifest) -> CheckFigure:
    """Check the measured band, that of the axial CV, against the band in the manifest; report the published CV beside it."""
    claimed, cv = manifest.identity.band, m.axial_cv
    label = exact.band_of(None if isinstance(cv, Degenerate) else cv.value, manifest.spec.D)
    published = "degenerate" if isinstance(m.cv, Degenerate) else f"{m.cv.value:.4f}"
    reason = cv.reason if isinstance(cv, Degenerate) else f"axial CV is in band {label or 'none'}; published CV {published}"
    return estimate("band", label == claimed, cv, f"axial CV in band {claimed}", FACTS, reason)


def attractor(m: Measurement, D: int) -> CheckFigure:
    """Report whether the axial CV is on the attractor; not decisive, since a specialist may leave it."""
    cv = m.axial_cv
    if isinstance(cv, Degenerate) or exact.SIMPLEX > D:
        return estimate("on attractor", None, cv, "axial CV / exact CV", FACTS, "no CV", decides=False)
    low, high = exact.ON_ATTRACTOR
    ratio, error = cv.value / exact.sphere_cv(D), cv.standard_error / exact.sphere_cv(D)
    on = exact.on_attractor(cv.value, D)
    words = f"axial CV / exact CV in [{low}, {high}]; reported"
    found = Estimate(ratio, error, cv.matrices, cv.by_image)
    return estimate("on attractor", on, found, words, FACTS, "on it" if on else "off it", decides=False)


def baseline(m: Measurement) -> CheckFigure:
    """Check the error against that of predicting the mean."""
    share = Estimate(m.mse.value / m.mean_baseline, m.mse.standard_error / m.mean_baseline, m.mse.matrices, m.mse.by_image)
    need = Threshold(value=1.0, source="predicting the mean is what a cell without content does")
    words = "MSE over that of predicting the mean"
    return at_most("error, mean", share.value, need, words, error=share.standard_error, quantile=t99(m.mse.images))


def error_null(mse: Estimate, untrained: Sequence[float], protocol: ViabilityProtocol) -> CheckFigure:
    """Check the error against that of untrained cells."""
    mean = sum(untrained) / len(untrained)
    error = mse.standard_error / mean
    words, quantile = "MSE over the untrained mean", t99(mse.images)
    return at_most("error, untrained", mse.value / mean, protocol.null_share, words, error=error, quantile=quantile)


def lift(
    task: str, decides: bool, trials: Sequence[FrozenFigure], null: Sequence[FrozenFigure], protocol: ViabilityProtocol
) -> CheckFigure:
    """Check the gain over hosts of untrained cells; its error combines test images, seeds and untrained cells."""
    ours, theirs = ([t.score for t in part if t.task == task] for part in (trials, null))
    mean, untrained = (sum(part) / len(part) for part in (ours, theirs))
    test = sum(t.score_error for t in trials if t.task == task) / len(ours)
    error = math.hypot(test, *(_spread(part) / math.sqrt(len(part)) for part in (ours, theirs)))
    words = f"score {mean:.3f} less the untrained mean {untrained:.3f}"
    return at_least(f"lift, {task}", mean - untrained, protocol.lift, words, error=error, decides=decides)


def _spread(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0


def _over_seeds(values: Sequence[float]) -> Estimate:
    """Return mean and standard error over seeds; the error of a single seed is 0."""
    mean = sum(values) / len(values)
    return Estimate(mean, _spread(values) / math.sqrt(len(values)), len(values), tuple(values))


def _all_hold(name: str, ratios: Sequence[Ratio | None]) -> CheckFigure:
    """Check that every trial held; the figure is the ratio farthest from 1."""
    known = [ratio for ratio in ratios if ratio is not None]
    if len(known) < len(ratios):
        return interval(name, False, None, None, None, HOLDS_WORDS, FACTS, "the CV is degenerate")
    value, lower, upper = max(known, key=off)
    words = f"the farthest of {len(known)}"
    return interval(name, all(within(r) for r in known), value, lower, upper, HOLDS_WORDS, FACTS, words)
