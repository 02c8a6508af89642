"""Estimates with their error: a mean clustered by image, its interval, an unchanged ratio, and Student's quantile.

The clustered standard error is the usual sandwich for a mean (Liang and Zeger, Biometrika 73, 1986). Intervals have Student's
quantile with one degree of freedom less than there are images, corrected for the skewness of the images by an invertible
transformation of t (Hall, Journal of the Royal Statistical Society B 54, 1992): errors of images are skewed, and without it the
upper bound of their mean is too low. Measured coverage: ``docs/results/coverage.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import torch
from torch import Tensor

from batteries import short_repr
from batteries.engine import dispatch
from batteries.engine.torch_settings import neutral

HOLDS = (0.85, 1.15)  # range of after / before and of both its 95% bounds
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """Mean over matrices, with its standard error clustered by image.

    Attributes:
        value: Mean over all matrices.
        standard_error: Standard error of the mean, clustered by image.
        matrices: Number of matrices.
        by_image: Mean of each image, in order, which pairs two estimates on the same images.

    >>> import torch
    >>> from batteries import geometry
    >>> geometry.clustered_mean(torch.tensor([1.0, 2.0, 3.0, 4.0]), image=torch.tensor([0, 0, 1, 1]))
    Estimate(value=2.5, standard_error=1, matrices=4, by_image=(1.5, 3.5))
    """

    value: float
    standard_error: float
    matrices: int
    by_image: tuple[float, ...]

    __repr__ = short_repr.fields

    @property
    def images(self) -> int:
        """Number of images that the matrices came from."""
        return len(self.by_image)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error; infinite for a single image, whose error was estimated from others."""
        return self.images - 1 if self.images > 1 else math.inf

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the bounds of an interval that covers the expected mean with this probability.

        >>> from batteries import geometry
        >>> lower, upper = geometry.Estimate(0.20, 0.004, matrices=64, by_image=(0.19, 0.21, 0.20, 0.20)).interval()
        >>> round(lower, 4), round(upper, 4)
        (0.1873, 0.2127)
        """
        t, g = student(confidence, self.freedom), skewness(self.by_image) / math.sqrt(self.images)
        lower, upper = (self.value - self.standard_error * unskewed(bound, g) for bound in (t, -t))
        return lower, upper


@dataclass(frozen=True)
class Held:
    """Ratio after / before of a quantity, with a 95% interval and a verdict.

    Attributes:
        ratio: After over before.
        lower: Lower 95% bound.
        upper: Upper 95% bound.
        holds: True if ratio and both bounds lie in [0.85, 1.15].

    >>> from batteries import geometry
    >>> estimate = geometry.Estimate(0.20, 0.004, matrices=64, by_image=(0.19, 0.21, 0.20, 0.20))
    >>> held = geometry.holds(estimate, estimate)
    >>> held.ratio, held.lower, held.upper
    (1.0, 1.0, 1.0)
    """

    ratio: float
    lower: float
    upper: float
    holds: bool


@neutral()
def clustered_mean(values: Tensor, image: Tensor) -> Estimate:
    """Estimate the mean of values (n,), with its standard error clustered by image (n,).

    The standard error is infinite for a single image, which tells nothing about the spread between images.

    >>> import torch
    >>> from batteries import geometry
    >>> estimate = geometry.clustered_mean(torch.tensor([1.0, 2.0, 3.0, 4.0]), image=torch.tensor([0, 0, 1, 1]))
    >>> estimate.value, estimate.by_image
    (2.5, (1.5, 3.5))
    """
    dispatch.refuse_transform("a clustered mean", values)
    values = values.double().cpu()
    _, cluster = torch.unique(image.cpu(), return_inverse=True)
    clusters = int(cluster.max()) + 1
    counts = torch.zeros(clusters, dtype=torch.float64).index_add_(0, cluster, torch.ones_like(values))
    sums = torch.zeros(clusters, dtype=torch.float64).index_add_(0, cluster, values)
    mean = values.mean()
    deviations = sums - counts * mean
    error = math.inf
    if clusters > 1:
        error = float((deviations.square().sum() * clusters / (clusters - 1)).sqrt() / len(values))
    return Estimate(float(mean), error, len(values), tuple((sums / counts).tolist()))


@neutral()
def holds(before: Estimate, after: Estimate) -> Held:
    """Test if ``after / before`` and both its 95% bounds lie in [0.85, 1.15].

    The interval is the delta method's on the log ratio, with Student's quantile; estimates on the same number of images are
    taken as paired image by image, which removes the variation that they share.

    >>> from batteries import geometry
    >>> before = geometry.Estimate(0.20, 0.004, matrices=64, by_image=(0.19, 0.21, 0.20, 0.20))
    >>> after = geometry.Estimate(0.21, 0.004, matrices=64, by_image=(0.20, 0.22, 0.21, 0.21))
    >>> geometry.holds(before, after).holds
    True
    """
    ratio = after.value / before.value
    if before.images == after.images and before.images > 1:
        first, second = (torch.tensor(e.by_image, dtype=torch.float64) / e.value for e in (before, after))
        pairs = second - first
        error = float(pairs.std() / math.sqrt(len(pairs)))
    else:
        error = math.hypot(before.standard_error / before.value, after.standard_error / after.value)
    reach = math.exp(student(0.95, min(before.freedom, after.freedom)) * error)
    lower, upper = ratio / reach, ratio * reach
    return Held(ratio, lower, upper, HOLDS[0] <= lower and upper <= HOLDS[1])


def student(confidence: float, df: float) -> float:
    """Return the two-sided quantile of Student's t: |t| stays below it with this probability.

    Bisects the angle atan(t / sqrt(df)), of which the probability is a finite sum (Abramowitz and Stegun 26.7.3, 26.7.4).

    Args:
        confidence: Probability, between 0 and 1.
        df: Degrees of freedom, a whole number from 1, or infinity for the normal quantile.
    """
    if df == math.inf:
        return NormalDist().inv_cdf((1 + confidence) / 2)
    df, low, high = int(df), 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, df) < confidence else (low, middle)
    return math.sqrt(df) * math.tan(low)


def student_p(t: float, df: float) -> float:
    """Return the two-sided p-value of Student's t: the probability of a larger |t|.

    Args:
        t: Statistic; infinite gives 0.
        df: Degrees of freedom, a whole number from 1, or infinity for the normal law.

    >>> round(student_p(2.776445, 4), 6), round(student_p(-1.959964, math.inf), 6)
    (0.05, 0.05)
    """
    if df == math.inf:
        return 2 * NormalDist().cdf(-abs(t))
    return max(0.0, 1 - _inside(math.atan(abs(t) / math.sqrt(int(df))), int(df)))


def skewed(t: float, g: float) -> float:
    """Correct t for the skewness of the mean's estimate (Hall 1992): t + g t^2 / 3 + g^2 t^3 / 27 + g / 6.

    Args:
        t: Statistic of a mean, with the sign of the mean.
        g: Third cumulant of the mean over the cube of its standard error: skewness / sqrt(n) for n equal terms.

    >>> skewed(2.0, 0.0), skewed(2.0, 0.6) > 2
    (2.0, True)
    """
    return t + g * t**2 / 3 + g**2 * t**3 / 27 + g / 6


def _inside(angle: float, df: int) -> float:
    """Return the probability that |t| stays below sqrt(df) tan(angle)."""
    odd = df % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, df + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    within = math.sin(angle) * total
    return (angle + within) * 2 / math.pi if odd else within


def skewness(values: Sequence[float]) -> float:
    """Return the skewness of values; 0 if they are equal or not finite."""
    mean = fmean(values)
    largest = max(abs(value - mean) for value in values)
    if not 0 < largest < math.inf:
        return 0.0
    variance, third = (fmean(((value - mean) / largest) ** power for value in values) for power in (2, 3))
    return third / variance**1.5


def unskewed(t: float, g: float) -> float:
    """Invert :func:`skewed`."""
    if abs(g) < 1e-6:  # where the cube root would cancel
        return t
    return 3 / g * (math.cbrt(1 + g * (t - g / 6)) - 1)
