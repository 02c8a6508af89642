"""Figures from end to end: errors, rank correlation, and naming the group of an image from omega.

Letters: b images, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from batteries.diagnostics.figures import Definition, Figure
from batteries.diagnostics.image_sums import Gatherer, ImageSums, Whole
from batteries.diagnostics.samples import Sample
from batteries.readout import ReadOut

STAGE = "end to end"
FEWEST = 8  # training images of a group, for a read-out

MSE = Definition("mse", "MSE", STAGE, "mean over values of (reconstruction - image)^2")
RELATIVE = Definition(
    "relative-error", "relative error", STAGE, "sum of (reconstruction - image)^2 / sum of (image - its mean colour)^2"
)
SPEARMAN = Definition(
    "spearman", "Spearman", STAGE, "mean over images of the rank correlation of the values of image and reconstruction"
)
BY_GROUP = Definition("mse-group", "MSE", "error by noise type or photograph", MSE.formula)
READOUT = Definition(
    "readout",
    "read-out of omega",
    STAGE,
    "share of images whose noise type or photograph a logistic regression on mean and sd of omega names",
)


class ErrorFigures(Gatherer):
    """Gatherer of errors.

    Args:
        sample: Images.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._sums = ImageSums(len(sample.group))

    def end(self, whole: Whole) -> None:
        """Add a few images."""
        ranked = torch.tensor([rank_correlation(*pair) for pair in zip(whole.images, whole.recon, strict=True)])
        known = ranked.isfinite()
        residual = (whole.recon - whole.images.double()).square_()
        self._sums.add(
            whole.index,
            images=torch.ones(len(residual)),
            mse=residual.mean(dim=(1, 2, 3)),
            variance=variances(whole.images),
            ranked=torch.where(known, ranked, 0.0),
            known=known,
        )

    def figures(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield the errors; that of a group is clustered by image."""
        yield self._sums.mean(MSE, cluster, "mse", "images")
        yield self._sums.mean(RELATIVE, cluster, "mse", "variance")
        yield self._sums.mean(SPEARMAN, cluster, "ranked", "known")
        each = torch.arange(len(cluster))
        for group, name in enumerate(self._sample.groups):
            yield self._sums.mean(BY_GROUP, each, "mse", "images", name, only=self._sample.group == group)


class ReadoutFigures(Gatherer):
    """Gatherer of the read-out of omega, fitted to other images of the same groups.

    Args:
        sample: Images that are named.
        fitted: Read-out, given the statistics of omega; None without one.
        reason: Reason why there is none.
    """

    def __init__(self, sample: Sample, fitted: ReadOut | None, reason: str = "") -> None:
        self._sample = sample
        self._fitted = fitted
        self._reason = reason
        self._sums = ImageSums(len(sample.group))

    def end(self, whole: Whole) -> None:
        """Add a few images."""
        if self._fitted is not None:
            named = self._fitted(statistics(whole.omega)).cpu() == self._sample.group[whole.index]
            self._sums.add(whole.index, named=named, images=torch.ones(len(named)))

    def figures(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield the share of images that are named."""
        if self._fitted is None:
            yield Figure(READOUT, undefined=self._reason)
        else:
            yield self._sums.mean(READOUT, cluster, "named", "images")


def variances(images: Tensor) -> Tensor:
    """Return the mean squared difference (b,), float64, of images (b, channels, height, width) from their own mean colour."""
    wide = images.double()
    return (wide - wide.mean(dim=(2, 3), keepdim=True)).square_().mean(dim=(1, 2, 3))


def fitted_readout(train: Sample | None, omega: Callable[[Sample], Tensor]) -> tuple[ReadOut | None, str]:
    """Fit a read-out to training images, or tell why there is none.

    Args:
        train: Training images.
        omega: Function from a sample to statistics (B, 2 D).
    """
    if train is None or len(train.groups) < 2:
        return None, "no groups of images to name"
    if len(train.group) < FEWEST * len(train.groups):
        return None, f"fewer than {FEWEST} training images of a group within bounds"
    return ReadOut.of(omega(train), train.group), ""


def statistics(omega: Tensor) -> Tensor:
    """Compute mean and standard deviation over patches (b, 2 D) of omega (b, N, D)."""
    return torch.cat([omega.mean(dim=1), omega.std(dim=1, correction=0)], dim=1)


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Compute Spearman's rank correlation of values of one shape, with mean ranks of ties; NaN if either is constant."""
    first, second = (_ranks(values.flatten()) for values in (x, y))
    first.sub_(first.mean())
    second.sub_(second.mean())
    return float(first @ second / (first @ first * (second @ second)).sqrt())


def _ranks(values: Tensor) -> Tensor:
    """Return the rank (n,) of each of the values (n,), the mean rank of equal ones."""
    _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count - 1) / 2)[place]
