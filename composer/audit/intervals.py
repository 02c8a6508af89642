"""Intervals over batches: Student's t on logarithms for ratios and norms, and a jackknife for cosines between batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from torch import Tensor

from batteries.geometry.estimates import student

CONFIDENCE = 0.95
Bounds = tuple[float, float]


def about(value: float, by_batch: Sequence[float]) -> Bounds:
    """Return bounds about a positive value from those of batches, on a logarithmic scale; the value itself where one is zero.

    >>> low, high = about(2.0, [1.0, 2.0, 4.0])
    >>> round(low, 2), round(high, 1)
    (0.36, 11.2)
    """
    if value <= 0 or min(by_batch) <= 0:
        return min(value, *by_batch), max(value, *by_batch)
    reach = math.exp(_reach([math.log(one) for one in by_batch]))
    return value / reach, value * reach


def around(by_batch: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over batches with its bounds."""
    middle, reach = fmean(by_batch), _reach(by_batch)
    return middle, middle - reach, middle + reach


def cosine_between(directions: Tensor) -> tuple[float, float, float]:
    """Return the mean inner product of the directions (n, F) of different batches, with jackknife bounds.

    For means of unit vectors it estimates the squared length of their expectation without bias: it does not depend on the
    number of samples in a batch.

    >>> import torch
    >>> cosine_between(torch.tensor([[1.0, 0.0]]).repeat(3, 1))
    (1.0, 1.0, 1.0)
    """
    n = len(directions)
    products = directions @ directions.T
    products.fill_diagonal_(0.0)
    total, rows = float(products.sum()), products.sum(dim=1)
    value = total / (n * (n - 1))
    left_out = [(total - 2 * float(row)) / ((n - 1) * (n - 2)) for row in rows]
    middle = fmean(left_out)
    error = math.sqrt((n - 1) / n * math.fsum((one - middle) ** 2 for one in left_out))
    reach = student(CONFIDENCE, n - 1) * error
    return value, value - reach, value + reach


def _reach(values: Sequence[float]) -> float:
    return student(CONFIDENCE, len(values) - 1) * stdev(values) / math.sqrt(len(values))
