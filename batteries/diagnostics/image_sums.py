"""Sums over the patches of each image, of which figures are functions, and the part of a sample that they are taken of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from batteries import short_repr
from batteries.diagnostics.figures import Definition, Figure, jackknifed
from batteries.diagnostics.pipeline import Stages

PATCHES_IN_FLOAT64 = 4096  # at a time


@dataclass(frozen=True, eq=False)
class Part:
    """A few images that a cell has run on.

    Attributes:
        index: Index (b,) of each image in its sample.
        given: Images as the cell takes them (b, channels, height, width).
        images: Images on the probe's own scale.
        recon: Reconstructions on the probe's own scale.
        stages: Intermediate results.
    """

    index: Tensor
    given: Tensor
    images: Tensor
    recon: Tensor
    stages: Stages

    __repr__ = short_repr.fields


class Gatherer(Protocol):
    """Collector of what a family of figures needs, one part of a sample after another."""

    def take(self, part: Part) -> None:
        """Add a part."""
        ...

    def figures(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield the figures of all parts, whose images have these clusters (B,)."""
        ...


class ImageSums:
    """Named sums of each image, one part of a sample after another."""

    def __init__(self) -> None:
        self._parts: defaultdict[str, list[Tensor]] = defaultdict(list)

    def add(self, **sums: Tensor) -> None:
        """Add sums (b,) or (b, k) of further images."""
        for name, value in sums.items():
            self._parts[name].append(value.double().cpu().reshape(len(value), -1))

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
        parts = [torch.cat(self._parts[name]) for name in names]
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
    """Sum the powers from 0 of the values of each image (b, N, ...) in float64, to (b, powers + 1)."""
    total = x.new_zeros(len(x), powers + 1, dtype=torch.float64)
    for some in x.split(PATCHES_IN_FLOAT64, dim=1):
        values = some.double().flatten(1)
        power = torch.ones_like(values)
        for k in range(powers + 1):
            total[:, k] += power.sum(dim=1)
            power = power * values
    return total
