"""Figures of checks: a value with its bounds against a threshold, with source and reason."""

from __future__ import annotations

import math

from batteries.geometry import estimates
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from registry.catalog.figures import CheckFigure, Ratio
from registry.checks.protocol import DESIGN, Threshold

Z99 = 2.5758293035489004  # two-sided 99%
TINY = 1e-300  # keeps the logarithm of a ratio of zero finite
HOLDS_WORDS = f"ratio and both 95% bounds in [{estimates.HOLDS[0]}, {estimates.HOLDS[1]}]"


def t99(clusters: int) -> float:
    """Return Student's two-sided 99% quantile of a mean over clusters."""
    return estimates.student(0.99, max(1, clusters - 1))


def off(ratio: Ratio) -> float:
    """Return the larger distance of a ratio's bounds from 1, on a logarithmic scale."""
    return max(abs(math.log(max(bound, TINY))) for bound in ratio[1:])


def within(ratio: Ratio | None) -> bool:
    """Tell whether a ratio's bounds lie within :data:`batteries.geometry.estimates.HOLDS`."""
    low, high = estimates.HOLDS
    return ratio is not None and low <= ratio[1] and ratio[2] <= high


def at_most(name: str, value: float, limit: Threshold, what: str, *, error: float = 0.0, quantile: float = Z99) -> CheckFigure:
    """Check that the upper bound is at most the limit; with few clusters, pass Student's quantile."""
    lower, upper = value - quantile * error, value + quantile * error
    return interval(name, upper <= limit.value, value, lower, upper, f"at most {limit.value:g}", limit.source, what)


def at_least(
    name: str, value: float, limit: Threshold, what: str, *, error: float = 0.0, quantile: float = Z99, decides: bool = True
) -> CheckFigure:
    """Check that the lower bound is at least the limit; with few seeds or clusters, pass Student's quantile."""
    lower, upper = value - quantile * error, value + quantile * error
    words = f"at least {limit.value:g}"
    return interval(name, lower >= limit.value, value, lower, upper, words, limit.source, what, decides=decides)


def flag(name: str, passed: bool | None, threshold: str, reason: str, *, decides: bool = True) -> CheckFigure:
    """Make a figure without a value."""
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


def estimate(
    name: str,
    passed: bool | None,
    found: Estimate | Degenerate,
    threshold: str,
    source: str,
    reason: str,
    *,
    decides: bool = True,
    confidence: float = 0.95,
) -> CheckFigure:
    """Make a figure of an estimate with its interval, of 95% by default; without a value if it is degenerate."""
    if isinstance(found, Degenerate):
        return interval(name, passed, None, None, None, threshold, source, reason, decides=decides)
    lower, upper = found.interval(confidence)
    return interval(name, passed, found.value, lower, upper, threshold, source, reason, decides=decides)


def interval(
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
    """Make a figure of a value and its bounds."""
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
    """Replace NaN and infinity, which JSON lacks, by None."""
    return value if value is not None and math.isfinite(value) else None
