"""Difference of two figures: its interval, and the p-value of the hypothesis that it is within a margin.

Figures that were read on the same images are paired by the pseudo-values of clusters; others are compared as by Welch
(Biometrika 34, 1947). Both have Student's quantile, and Hall's correction for skewness of :mod:`batteries.geometry.estimates`,
whose third cumulant is that of the difference.

The hypothesis of a definition with a margin is that the ratio lies within it (a minimum-effect test): p is 1 within it, and
otherwise that of the difference from the nearer edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from batteries.diagnostics.figures import Figure
from batteries.geometry.estimates import skewed, skewness, student, student_p, unskewed

ROUNDING = 1e-12  # relative difference of two figures that counts as none


@dataclass(frozen=True)
class Contrast:
    """Difference of two figures.

    Attributes:
        difference: Second less first.
        low: Lower 95% bound; None without a spread.
        high: Upper 95% bound; None without a spread.
        p: P-value; None if no hypothesis can be tested, or of exact figures.
        exceeds: Whether the difference of exact figures exceeds their tolerance.

    >>> from batteries import diagnostics
    >>> diagnostics.Contrast(0.5, low=0.25, high=0.75, p=0.001).exceeds
    False
    """

    difference: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    exceeds: bool = False


def contrast(first: Figure, second: Figure, *, paired: bool) -> Contrast | None:
    """Compare two figures of one definition; None if either is undefined.

    Args:
        first: Figure of the first cell.
        second: Figure of the second cell.
        paired: Whether both were read on the same images, in the same clusters.
    """
    if first.value is None or second.value is None:
        return None
    difference = second.value - first.value
    if first.tolerance is not None and second.tolerance is not None:
        return Contrast(difference, exceeds=abs(difference) > max(first.tolerance, second.tolerance))
    paired = paired and len(first.by_cluster) == len(second.by_cluster)
    spread = _spread(first, second, 1.0, paired)
    if not math.isfinite(spread.error):
        return Contrast(difference)
    t = student(0.95, spread.df)
    low, high = (difference - spread.error * unskewed(bound, spread.g) for bound in (t, -t))
    return Contrast(difference, low, high, _p_value(first, second, paired))


@dataclass(frozen=True)
class _Spread:
    """Law of a difference: standard error, degrees of freedom, third cumulant over the cube of the error."""

    error: float
    df: float
    g: float


def _p_value(first: Figure, second: Figure, paired: bool) -> float:
    assert first.value is not None
    assert second.value is not None
    low, high = first.definition.margin
    edges = sorted((low * first.value, high * first.value))
    nearest = min(max(second.value, edges[0]), edges[1])
    beyond = second.value - nearest
    if abs(beyond) <= ROUNDING * max(abs(first.value), abs(second.value)):
        return 1.0
    spread = _spread(first, second, nearest / first.value if first.value else 1.0, paired)
    if spread.error == 0:
        return 0.0
    return student_p(skewed(beyond / spread.error, spread.g), spread.df)


def _spread(first: Figure, second: Figure, factor: float, paired: bool) -> _Spread:
    """Return the law of second - factor * first."""
    a, b = [factor * value for value in first.by_cluster], second.by_cluster
    if min(len(a), len(b)) < 2:
        return _Spread(math.inf, 1, 0.0)
    if paired:
        pairs = [y - x for x, y in zip(a, b, strict=True)]
        return _Spread(stdev(pairs) / math.sqrt(len(pairs)), len(pairs) - 1, skewness(pairs) / math.sqrt(len(pairs)))
    variances = [stdev(values) ** 2 / len(values) for values in (a, b)]
    total = sum(variances)
    if total == 0:
        return _Spread(0.0, len(a) + len(b) - 2, 0.0)
    parts = zip(variances, (a, b), strict=True)
    df = total**2 / sum(variance**2 / (len(values) - 1) for variance, values in parts)
    return _Spread(math.sqrt(total), max(1, int(df)), (_third(b) - _third(a)) / total**1.5)


def _third(values: Sequence[float]) -> float:
    """Return the third cumulant of the mean of values."""
    centre = fmean(values)
    return fmean((value - centre) ** 3 for value in values) / len(values) ** 2
