"""Sums over the patches of each image, of which figures are functions, and the parts of a sample that they are taken of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries import short_repr
from batteries.diagnostics.figures import Definition, Figure, jackknifed
from batteries.diagnostics.pipeline import Steps

VALUES_IN_FLOAT64 = 2**20  # at a time


@dataclass(frozen=True, eq=False)
class Part:
    """Some patches of a few images that a cell has run on.

    Attributes:
        index: Index (b,) of each image in its sample.
        place: Index (n,) of each patch in its image.
        steps: Intermediate results of these patches.
    """

    index: Tensor
    place: Tensor
    steps: Steps

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class Whole:
    """A few images that a cell has run on, once all of their patches have been taken.

    Attributes:
        index: Index (b,) of each image in its sample.
        images: Images on the probe's own scale (b, channels, height, width).
        recon: Reconstructions on the probe's own scale.
        given: Reconstructions on the cell's scale.
        omega: Omega tokens (b, N, D).
        lengths: Input of cross-attention (b, N, D).
        layers: Factors (b, N, D) of each layer of cross-attention.
    """

    index: Tensor
    images: Tensor
    recon: Tensor
    given: Tensor
    omega: Tensor
    lengths: Tensor
    layers: tuple[Tensor, ...]

    __repr__ = short_repr.fields


class Gatherer:
    """Collector of what a family of figures needs, one part of a sample after another."""

    def take(self, part: Part) -> None:
        """Add some patches of a few images."""

    def end(self, whole: Whole) -> None:
        """Add what takes all patches of a few images."""

    def figures(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield the figures of all images, which have these clusters (B,)."""
        raise NotImplementedError


class ImageSums:
    """Named sums of each image, added up in place: small results kept between large ones would split the heap.

    Args:
        images: Number of images B.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._sums: dict[str, Tensor] = {}  # each (B, k)

    def add(self, index: Tensor, **sums: Tensor) -> None:
        """Add sums (b,) or (b, k) to those of images of an index (b,)."""
        for name, value in sums.items():
            found = value.double().cpu().reshape(len(value), -1)
            if name not in self._sums:
                self._sums[name] = found.new_zeros(self._images, found.shape[1])
            self._sums[name].index_add_(0, index, found)

    def figure(
        self,
        definition: Definition,
        cluster: Tensor,
        function: Callable[..., Tensor],
        *names: str,
        place: str = "",
        only: Tensor | None = None,
    ) -> Figure:
        """Compute a figure, a function (...) of some of the sums (..., k) over images, with its jackknife error.

        Args:
            definition: Definition of the figure.
            cluster: Cluster (B,) of each image.
            function: Function of the sums.
            names: Names of the sums.
            place: Place of the figure.
            only: Whether each image (B,) counts; by default all do.
        """
        parts = [self._sums[name] for name in names]
        widths = [part.shape[1] for part in parts]
        sums = torch.cat(parts, dim=1)
        if only is not None:
            sums, cluster = sums[only], cluster[only]
        return jackknifed(definition, sums, cluster, lambda total: function(*total.split(widths, dim=-1)), place)

    def mean(
        self, definition: Definition, cluster: Tensor, total: str, count: str, place: str = "", only: Tensor | None = None
    ) -> Figure:
        """Compute the ratio of two sums, as :meth:`figure`."""
        return self.figure(definition, cluster, lambda x, n: x[..., 0] / n[..., 0], total, count, place=place, only=only)


def power_sums(x: Tensor, powers: int) -> Tensor:
    """Sum the powers from 0 of the values of each image (b, n, ...) in float64, to (b, powers + 1)."""
    total = x.new_zeros(len(x), powers + 1, dtype=torch.float64)
    for some in x.split(max(1, VALUES_IN_FLOAT64 * x.shape[1] // x.numel()), dim=1):
        values = some.double().flatten(1)
        power = torch.ones_like(values)
        for k in range(powers + 1):
            total[:, k] += power.sum(dim=1)
            power = power * values
    return total
