"""A figure of a diagnostic: its definition, its value, and a standard error clustered by image or an exact tolerance.

Most figures are smooth functions of sums over images: a ratio of means, a standard deviation over a mean, a kurtosis. Their
error is the jackknife's over clusters of images (Efron and Stein, Annals of Statistics 9, 1981), whose pseudo-values also pair
two figures that were measured on the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries import short_repr
from batteries.geometry.estimates import Estimate


@dataclass(frozen=True)
class Definition:
    """Definition of a figure.

    Attributes:
        key: Short name without blanks, such as ``effective-rank``.
        title: Name in tables.
        stage: Part of a cell that it describes.
        formula: Formula, in one line.
        margin: Range of the ratio of two values that count as the same; from 1 to 1 if any difference counts.

    >>> from batteries import diagnostics
    >>> diagnostics.Definition("mse", "MSE", "end to end", "mean over values of (reconstruction - image)^2").margin
    (1.0, 1.0)
    """

    key: str
    title: str
    stage: str
    formula: str
    margin: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Figure:
    """Value of a figure.

    Attributes:
        definition: Definition of the figure.
        place: Mode, layer, block or group that it is of; empty if there is one place only.
        value: Value; None if it is undefined.
        standard_error: Standard error, clustered by image; None of an exact figure, infinite for a single cluster.
        tolerance: Largest value that rounding explains, of an exact figure; None of an estimate.
        undefined: Reason why it has no value; empty if it has one.
        by_cluster: Pseudo-value of each cluster of images, in order: their mean is about the value.

    >>> from batteries import diagnostics
    >>> mse = diagnostics.Definition("mse", "MSE", "end to end", "mean over values of (reconstruction - image)^2")
    >>> diagnostics.Figure(mse, "pink", 0.5, standard_error=0.1).name
    'MSE, pink'
    """

    definition: Definition
    place: str = ""
    value: float | None = None
    standard_error: float | None = None
    tolerance: float | None = None
    undefined: str = ""
    by_cluster: tuple[float, ...] = ()

    __repr__ = short_repr.fields

    @property
    def name(self) -> str:
        """Title and place."""
        return f"{self.definition.title}, {self.place}" if self.place else self.definition.title


def jackknifed(
    definition: Definition, sums: Tensor, cluster: Tensor, function: Callable[[Tensor], Tensor], place: str = ""
) -> Figure:
    """Compute a figure that is a function of sums over images, and its jackknife error.

    Args:
        definition: Definition of the figure.
        sums: Summands of each image (B, k).
        cluster: Cluster of each image (B,).
        function: Function of the sums (..., k) over any images, to (...).
        place: Place of the figure.

    Returns:
        Figure; undefined if its value is not finite.

    >>> import torch
    >>> from batteries import diagnostics
    >>> mean = diagnostics.Definition("mean", "mean", "test", "sum of x / number of x")
    >>> sums = torch.tensor([[2.0, 3.0], [2.0, 7.0]])  # number and sum of each image
    >>> figure = diagnostics.jackknifed(mean, sums, torch.arange(2), lambda total: total[..., 1] / total[..., 0])
    >>> figure.value, figure.standard_error, figure.by_cluster
    (2.5, 1.0, (1.5, 3.5))
    """
    sums = sums.double().cpu()
    _, index = torch.unique(cluster.cpu(), return_inverse=True)
    n = int(index.max()) + 1
    by_cluster = sums.new_zeros(n, sums.shape[1]).index_add_(0, index, sums)  # (n, k)
    total = by_cluster.sum(dim=0)
    value = float(function(total))
    if not math.isfinite(value):
        return Figure(definition, place, undefined="not finite on these images")
    if n == 1:
        return Figure(definition, place, value, math.inf, by_cluster=(value,))
    pseudo = n * value - (n - 1) * function(total - by_cluster)  # (n,)
    if not pseudo.isfinite().all():  # a figure of one cluster alone
        return Figure(definition, place, value, math.inf, by_cluster=(value,))
    error = float(pseudo.std() / math.sqrt(n))
    return Figure(definition, place, value, error, by_cluster=tuple(pseudo.tolist()))


def estimated(definition: Definition, estimate: Estimate, place: str = "") -> Figure:
    """Convert an estimate to a figure.

    >>> import torch
    >>> from batteries import diagnostics, geometry
    >>> mean = diagnostics.Definition("mean", "mean", "test", "sum of x / number of x")
    >>> diagnostics.estimated(mean, geometry.clustered_mean(torch.tensor([1.0, 2.0]), torch.arange(2))).standard_error
    0.5
    """
    return Figure(definition, place, estimate.value, estimate.standard_error, by_cluster=estimate.by_image)
