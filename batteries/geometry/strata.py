"""Means over strata that are given, ratios of independent means, and shares of one sum in another, each with its error.

The spread between given strata, such as the types of noise of a probe, is no error of the mean over them. Degrees of freedom
of a stratified mean are those of Welch (Biometrika 34, 1947) and Satterthwaite (Biometrics Bulletin 2, 1946).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries import short_repr
from batteries.geometry.estimates import Estimate, student


@dataclass(frozen=True)
class Stratified(Estimate):
    """Mean over strata that are given, each with some images.

    Attributes:
        degrees: Degrees of freedom of the standard error.
    """

    degrees: float

    __repr__ = short_repr.fields

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard error."""
        return self.degrees


def stratified_mean(values: Tensor, stratum: Tensor) -> Stratified:
    """Estimate the mean of values (n,) over strata (n,) of equally many images, two or more.

    >>> found = stratified_mean(torch.tensor([1.0, 2.0, 11.0, 12.0]), torch.tensor([0, 0, 1, 1]))
    >>> found.value, round(found.standard_error, 3), found.freedom
    (6.5, 0.354, 2.0)
    """
    parts = [values[stratum == one].double() for one in stratum.unique()]
    shares = torch.stack([part.var() / len(part) for part in parts])
    squares = (shares.square() / torch.tensor([len(part) - 1 for part in parts])).sum()
    degrees = float(shares.sum().square() / squares) if squares > 0 else math.inf
    error = shares.sum().sqrt() / len(parts)
    return Stratified(float(values.double().mean()), float(error), len(values), tuple(values.tolist()), degrees)


def ratio(error: Estimate, reference: Estimate, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the ratio of two independent, positive means, with its bounds by the delta method on the logarithm.

    >>> from batteries import geometry
    >>> one = geometry.clustered_mean(torch.tensor([1.0, 2.0, 3.0]), torch.arange(3))
    >>> [round(value, 3) for value in ratio(one, one)]
    [1.0, 0.173, 5.792]
    """
    relative = math.hypot(*(one.standard_error / one.value for one in (error, reference)))
    reach = _grown(student(confidence, max(1, min(error.freedom, reference.freedom))) * relative)
    value = error.value / reference.value
    return value, value / reach, value * reach


def bounds(mean: Estimate, confidence: float = 0.95) -> tuple[float, float]:
    """Return the bounds of a positive mean by the delta method on the logarithm.

    >>> found = stratified_mean(torch.tensor([1.0, 2.0, 11.0, 12.0]), torch.tensor([0, 0, 1, 1]))
    >>> [round(value, 2) for value in bounds(found)]
    [5.14, 8.21]
    """
    reach = _grown(student(confidence, max(1, mean.freedom)) * mean.standard_error / mean.value)
    return mean.value / reach, mean.value * reach


def share(part: Tensor, whole: Tensor, mean: Callable[[Tensor], Estimate]) -> Estimate:
    """Estimate the sum of ``part`` (n,) over the sum of ``whole`` (n,), by the linearised ratio.

    Args:
        part: Summands of the numerator.
        whole: Summands of the denominator, positive in sum.
        mean: Estimator of a mean (n,), such as :func:`stratified_mean` over some strata.

    >>> from functools import partial
    >>> over = partial(stratified_mean, stratum=torch.tensor([0, 0, 1, 1]))
    >>> found = share(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 4.0, 6.0, 8.0]), over)
    >>> found.value, found.standard_error
    (0.5, 0.0)
    """
    part, whole = part.double(), whole.double()
    value, size = float(part.sum() / whole.sum()), float(whole.mean())
    found = mean((part - value * whole) / size)
    by_image = tuple(value + residual for residual in found.by_image)
    if isinstance(found, Stratified):
        return Stratified(value, found.standard_error, found.matrices, by_image, found.degrees)
    return Estimate(value, found.standard_error, found.matrices, by_image)


def _grown(exponent: float) -> float:
    """Return exp(exponent), infinite beyond the range of floats."""
    return math.exp(exponent) if exponent < 700 else math.inf
