"""The checks of the viability test: each takes readings and gives a figure with its threshold, interval and reason.

Checks read tensors and measurements, never what a spec claims. None raises; none stops the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from batteries import geometry
from batteries.geometry import Degenerate, Estimate
from batteries.manifest import Domain, Manifest, TrainingPoint
from registry.attestation import CheckFigure
from registry.protocol import DESIGN, FACTS, Threshold, ViabilityProtocol
from registry.trials import FrozenTrial, UnfrozenTrial

Z99 = 2.5758293035489004  # two-sided 99%


@dataclass(frozen=True)
class Measurement:
    """A cell on its own probe, without a host.

    Attributes:
        finite: Whether weights and outputs are.
        radius_error: Largest distance of a row's length from 1.
        cv: Over the probe.
        rank: Effective rank.
        mse: Reconstruction error, clustered by image.
        mean_baseline: Error of predicting the probe's mean.
    """

    finite: bool
    radius_error: float
    cv: Estimate | Degenerate
    rank: Estimate
    mse: Estimate
    mean_baseline: float


@dataclass(frozen=True)
class Null:
    """What untrained cells of the same spec reach.

    Attributes:
        mse: Of each on the same probe.
        accuracy: Of a host around each.
        cv: Mean over them: already on the attractor, which is why CV alone proves nothing.
    """

    mse: tuple[float, ...]
    accuracy: tuple[float, ...]
    cv: float


def finite(found: bool) -> CheckFigure:
    """Weights and outputs are finite."""
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


def standing(m: Measurement, manifest: Manifest, null: Null, protocol: ViabilityProtocol) -> list[CheckFigure]:
    """The checks that need no host: geometry, tiers 1 and 2, and error."""
    return [
        _at_most("radius", m.radius_error, protocol.radius, "largest distance of a row's length from 1"),
        rank(m, manifest.spec.D, protocol),
        band(m, manifest),
        attractor(m, manifest.spec.D),
        triage(manifest),
        stable(manifest),
        baseline(m),
        error_null(m.mse, null, protocol),
    ]


def hosted(trial: FrozenTrial, task_images: int, domain: Domain, null: Null, protocol: ViabilityProtocol) -> list[CheckFigure]:
    """The checks of the frozen trial."""
    unchanged = "the digest is the same" if trial.unchanged else "the weights changed under a host"
    return [
        _flag("frozen digest", trial.unchanged, "weights' digest before and after the host's steps", unchanged),
        _holds("frozen CV", trial.before[0], trial.after[0]),
        _holds("frozen rank", trial.before[1], trial.after[1]),
        _at_least(
            "frozen gradient", trial.stem_gradient, protocol.gradient, "smallest gradient norm at the stem before the cell"
        ),
        accuracy_lift(trial.accuracy, task_images, domain, null, protocol),
    ]


def dosed(trial: UnfrozenTrial, protocol: ViabilityProtocol) -> list[CheckFigure]:
    """The checks of the unfrozen trial, at the protocol's one dose."""
    retention = trial.after.mse / trial.before.mse
    return [
        _holds("unfrozen CV", trial.before.cv, trial.after.cv),
        _holds("unfrozen rank", trial.before.rank, trial.after.rank),
        _at_most("retention", retention, protocol.retention, "reconstruction error after the dose over before"),
    ]


def rank(m: Measurement, D: int, protocol: ViabilityProtocol) -> CheckFigure:
    """Effective rank against a share of D; a rank-one cell has 1."""
    need = Threshold(value=protocol.rank.value * D, source=protocol.rank.source)
    return _at_least("rank", m.rank.value, need, f"effective rank of {D}", error=m.rank.standard_error)


def band(m: Measurement, manifest: Manifest) -> CheckFigure:
    """The measured band against the cell's name."""
    claimed, D = manifest.identity.band, manifest.spec.D
    label = None if isinstance(m.cv, Degenerate) else geometry.band(m.cv.value, D)
    reason = m.cv.reason if isinstance(m.cv, Degenerate) else f"CV is in {label or 'no band'}"
    return _estimate("band", label == claimed, m.cv, f"CV in band {claimed}", FACTS, reason)


def attractor(m: Measurement, D: int) -> CheckFigure:
    """The on-attractor flag; reported, since a specialist may leave its attractor."""
    if isinstance(m.cv, Degenerate) or geometry.SIMPLEX > D:
        return _estimate("on attractor", None, m.cv, "CV / exact CV", FACTS, "no CV", decides=False)
    low, high = geometry.ON_ATTRACTOR
    ratio, error = m.cv.value / geometry.sphere_cv(D), m.cv.standard_error / geometry.sphere_cv(D)
    on = geometry.on_attractor(m.cv.value, D)
    words = f"CV / exact CV in [{low}, {high}]; reported"
    found = Estimate(ratio, error, m.cv.matrices, m.cv.by_image)
    return _estimate("on attractor", on, found, words, FACTS, "on it" if on else "off it", decides=False)


def triage(manifest: Manifest) -> CheckFigure:
    """Tier 1: the band at the triage step, from the manifest."""
    point = _at_triage(manifest)
    if point is None:
        return _flag("triage", None, "tier 1: band at the triage step", "not recorded: the run was shorter", decides=False)
    found = None if point.cv is None else geometry.band(point.cv, manifest.spec.D)
    words = f"band {found or 'none'} at step {point.step}"
    return _flag("triage", found == manifest.identity.band, f"tier 1: band {manifest.identity.band} at the triage step", words)


def stable(manifest: Manifest) -> CheckFigure:
    """Tier 2: every CV after triage over the CV at triage, from the manifest's trajectory; the worst of them stands."""
    start = _at_triage(manifest)
    later = [point for point in manifest.training.trajectory if start and point.step > start.step]
    if start is None or not later:
        return _flag("stable", None, "tier 2: CV holds after triage", "not recorded: the run was no longer", decides=False)
    if start.cv is None or any(point.cv is None for point in later):
        return _flag("stable", False, "tier 2: CV holds after triage", "a CV along training was degenerate")
    held = [(point.step, geometry.holds(_reading(start), _reading(point))) for point in later]
    step, worst = max(held, key=lambda row: max(abs(math.log(row[1].lower)), abs(math.log(row[1].upper))))
    words = f"CV at step {step}, the farthest, over CV at step {start.step}"
    return _interval("stable", worst.holds, worst.ratio, worst.lower, worst.upper, _HOLDS_WORDS, FACTS, words)


def baseline(m: Measurement) -> CheckFigure:
    """The error against predicting the mean."""
    share = Estimate(m.mse.value / m.mean_baseline, m.mse.standard_error / m.mean_baseline, m.mse.matrices, m.mse.by_image)
    need = Threshold(value=1.0, source="predicting the mean is what a cell without content does")
    return _at_most("error, mean", share.value, need, "MSE over that of predicting the mean", error=share.standard_error)


def error_null(mse: Estimate, null: Null, protocol: ViabilityProtocol) -> CheckFigure:
    """The error against that of untrained cells."""
    mean = sum(null.mse) / len(null.mse)
    error = mse.standard_error / mean
    return _at_most("error, untrained", mse.value / mean, protocol.null_share, "MSE over the untrained mean", error=error)


def accuracy_lift(accuracy: float, images: int, domain: Domain, null: Null, protocol: ViabilityProtocol) -> CheckFigure:
    """What a host gains over hosts of untrained cells: binomial error of the test, spread over the untrained."""
    count = len(null.accuracy)
    mean = sum(null.accuracy) / count
    variance = accuracy * (1 - accuracy) / images + sum((a - mean) ** 2 for a in null.accuracy) / (count - 1) / count
    words = f"accuracy {accuracy:.3f} less the untrained mean {mean:.3f}"
    decides = domain in protocol.lift_decides
    return _at_least("accuracy lift", accuracy - mean, protocol.lift, words, error=math.sqrt(variance), decides=decides)


def _at_triage(manifest: Manifest) -> TrainingPoint | None:
    triage = manifest.training.triage
    return next((p for p in manifest.training.trajectory if triage and p.step == triage.step), None)


def _reading(point: TrainingPoint) -> Estimate:
    """A point of a trajectory as an estimate; one without a standard error cannot hold."""
    assert point.cv is not None
    error = math.inf if point.cv_standard_error is None else point.cv_standard_error
    return Estimate(point.cv, error, 1, (point.cv,))


_HOLDS_WORDS = f"ratio and both 95% bounds in [{geometry.HOLDS[0]}, {geometry.HOLDS[1]}]"


def _holds(name: str, before: Estimate | Degenerate, after: Estimate | Degenerate) -> CheckFigure:
    if isinstance(before, Degenerate) or isinstance(after, Degenerate):
        return _estimate(name, False, Degenerate("", 0, 0), _HOLDS_WORDS, FACTS, "the CV is degenerate")
    held = geometry.holds(before, after)
    words = f"{before.value:.4f} before, {after.value:.4f} after"
    return _interval(name, held.holds, held.ratio, held.lower, held.upper, _HOLDS_WORDS, FACTS, words)


def _at_most(name: str, value: float, limit: Threshold, what: str, *, error: float = 0.0) -> CheckFigure:
    """Passes where the upper 99% bound is at most the limit."""
    lower, upper = value - Z99 * error, value + Z99 * error
    return _interval(name, upper <= limit.value, value, lower, upper, f"at most {limit.value:g}", limit.source, what)


def _at_least(name: str, value: float, limit: Threshold, what: str, *, error: float = 0.0, decides: bool = True) -> CheckFigure:
    """Passes where the lower 99% bound is at least the limit."""
    lower, upper = value - Z99 * error, value + Z99 * error
    words = f"at least {limit.value:g}"
    return _interval(name, lower >= limit.value, value, lower, upper, words, limit.source, what, decides=decides)


def _flag(name: str, passed: bool | None, threshold: str, reason: str, *, decides: bool = True) -> CheckFigure:
    return CheckFigure(
        name=name,
        passed=passed,
        decides=decides,
        value=None,
        lower=None,
        upper=None,
        threshold=threshold,
        source=DESIGN,
        reason=reason,
    )


def _estimate(
    name: str,
    passed: bool | None,
    found: Estimate | Degenerate,
    threshold: str,
    source: str,
    reason: str,
    *,
    decides: bool = True,
) -> CheckFigure:
    if isinstance(found, Degenerate):
        return _interval(name, passed, None, None, None, threshold, source, reason, decides=decides)
    lower, upper = (found.value + sign * geometry.Z95 * found.standard_error for sign in (-1, 1))
    return _interval(name, passed, found.value, lower, upper, threshold, source, reason, decides=decides)


def _interval(
    name: str,
    passed: bool | None,
    value: float | None,
    lower: float | None,
    upper: float | None,
    threshold: str,
    source: str,
    reason: str,
    *,
    decides: bool = True,
) -> CheckFigure:
    return CheckFigure(
        name=name,
        passed=passed,
        decides=decides,
        value=_number(value),
        lower=_number(lower),
        upper=_number(upper),
        threshold=threshold,
        source=source,
        reason=reason,
    )


def _number(value: float | None) -> float | None:
    """JSON has no NaN or infinity: a bound that is not finite is null."""
    return value if value is not None and math.isfinite(value) else None
