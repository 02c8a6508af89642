"""Codebook of a cell: its rows as axes, of which a row and its negative are one, and rows quantised to the nearest axis.

As published: rows are averaged over patches and images; two mean rows that are each other's most opposite, with a cosine below
-0.9, are one axis, and each other row is one of its own. The *deviation* is the mean angle of two axes, at most a right angle,
less its expectation for uniform axes, and a codebook of less than 0.05 is published as clean. Uniform axes have a deviation
too, by chance (:func:`uniform_angle`), and so have the rows of untrained cells: read it beside both.

Legend: V rows, D width, K axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries import short_repr
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError

OPPOSITE = -0.9  # largest cosine of two rows that are one axis, as published
NOWHERE = 1e-9  # length of a mean row below which it has no direction


class Code(NamedTuple):
    """Quantised rows.

    Attributes:
        axis: Index of each row's axis (...).
        sign: 1 or -1 for each row (...), on which end of the axis it lies.
    """

    axis: Tensor
    sign: Tensor


class AngleMoments(NamedTuple):
    """Mean and standard deviation of the angle of two axes, in radians."""

    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Codebook:
    """Axes of a cell's rows.

    Attributes:
        axes: Unit vectors (K, D), float64; the first coordinate that is not zero is positive.
        pairs: Pairs of rows that are one axis, which come first; the other axes are of single rows.

    >>> import torch
    >>> from batteries import geometry
    >>> rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> book = geometry.Codebook.of_rows(rows)
    >>> book.axes.tolist(), book.pairs
    ([[1.0, 0.0], [0.0, 1.0]], ((0, 1),))
    >>> book.encode(rows).axis.tolist(), book.encode(rows).sign.tolist()
    ([0, 0, 1], [1, -1, -1])
    """

    axes: Tensor
    pairs: tuple[tuple[int, int], ...]

    __repr__ = short_repr.fields

    @classmethod
    @neutral()
    def of_rows(cls, rows: Tensor) -> Codebook:
        """Extract the axes of mean rows (V, D), of any length.

        Raises:
            InputError: not a matrix with two rows and columns or more (``ROWS``), or a row without a direction (``NO_AXIS``).
        """
        if rows.ndim != 2 or min(rows.shape) < 2:
            raise InputError("not a matrix of rows", code="ROWS", expected="(V, D), 2 or more each", found=tuple(rows.shape))
        lengths = rows.detach().double().norm(dim=1)
        if lost := (~(lengths > NOWHERE)).nonzero().flatten().tolist():
            raise InputError("rows without a direction", code="NO_AXIS", expected="a length above 0", found=f"rows {lost}")
        unit = F.normalize(rows.detach().double(), dim=1)
        pairs = _opposite(unit)
        paired = {row for pair in pairs for row in pair}
        single = [row for row in range(len(unit)) if row not in paired]
        merged = [unit[i] - unit[j] for i, j in pairs]
        return cls(_one_end(torch.stack([*merged, *unit[single]])), pairs)

    @property
    def angle(self) -> float:
        """Mean angle of two axes in radians, between 0 and a right angle; NaN for a single axis."""
        cosines = (self.axes @ self.axes.T).abs().clamp_max(1.0)
        upper = torch.triu_indices(len(self.axes), len(self.axes), offset=1)
        return float(cosines[upper[0], upper[1]].acos().mean())

    @property
    def deviation(self) -> float:
        """Mean angle less that of uniform axes, in radians."""
        return self.angle - uniform_angle(self.axes.shape[1]).mean

    @property
    def chance(self) -> float:
        """Standard deviation of the deviation of as many independent uniform axes: two angles of these are uncorrelated."""
        pairs = len(self.axes) * (len(self.axes) - 1) / 2
        return uniform_angle(self.axes.shape[1]).deviation / math.sqrt(pairs) if pairs else math.inf

    @property
    def bits(self) -> float:
        """Bits of a quantised row: log2 of both ends of all axes."""
        return math.log2(2 * len(self.axes))

    def encode(self, rows: Tensor) -> Code:
        """Find the nearest axis, and its end, of rows (..., D) of any length.

        Raises:
            InputError: rows of another width (``ROWS``).
        """
        if rows.shape[-1] != self.axes.shape[1]:
            raise InputError("rows of another width", code="ROWS", expected=self.axes.shape[1], found=rows.shape[-1])
        cosines = rows.double() @ self.axes.T  # (..., K)
        axis = cosines.abs().argmax(dim=-1)
        sign = torch.where(cosines.gather(-1, axis[..., None])[..., 0] < 0, -1, 1)
        return Code(axis, sign)

    def decode(self, code: Code) -> Tensor:
        """Return the unit rows (..., D), float64, of a code."""
        return self.axes[code.axis] * code.sign[..., None]

    def quantise(self, rows: Tensor) -> Tensor:
        """Replace rows (..., D) by the nearest ends of axes, in the rows' dtype.

        Raises:
            InputError: rows of another width (``ROWS``).
        """
        return self.decode(self.encode(rows)).to(rows.dtype)


def uniform_angle(D: int) -> AngleMoments:
    """Return mean and standard deviation of the angle of two independent uniform axes in D dimensions, exact.

    The angle t in [0, pi / 2] has a density proportional to sin(t)^(D-2); its moments follow by partial integration.

    Raises:
        InputError: D below 2 (``WIDTH``).

    >>> from batteries import geometry
    >>> [round(geometry.uniform_angle(D).mean, 4) for D in (2, 3, 4, 8, 16)]
    [0.7854, 1.0, 1.1037, 1.2664, 1.3638]
    """
    if D < 2:
        raise InputError("no angles", code="WIDTH", expected="D of 2 or more", found=D)
    n = D - 2
    moments = (math.pi / 2, math.pi**2 / 8, math.pi**3 / 24) if n % 2 == 0 else (1.0, 1.0, math.pi - 2)
    for k in range(2 + n % 2, n + 1, 2):
        none = (k - 1) / k * moments[0]
        first = 1 / k**2 + (k - 1) / k * moments[1]
        moments = (none, first, (math.pi - 2 * none) / k**2 + (k - 1) / k * moments[2])
    mean = moments[1] / moments[0]
    return AngleMoments(mean, math.sqrt(moments[2] / moments[0] - mean**2))


def _opposite(unit: Tensor) -> tuple[tuple[int, int], ...]:
    """Return the pairs of unit rows that are each other's most opposite, and opposite enough."""
    cosines = unit @ unit.T
    partner = cosines.argmin(dim=1).tolist()
    return tuple((i, j) for i, j in enumerate(partner) if i < j and partner[j] == i and cosines[i, j] < OPPOSITE)


def _one_end(axes: Tensor) -> Tensor:
    """Return unit vectors along axes (K, D), at the end whose first coordinate that is not zero is positive."""
    first = (axes.abs() > NOWHERE).double().argmax(dim=1, keepdim=True)
    unit: Tensor = F.normalize(axes, dim=1) * torch.where(axes.gather(1, first) < 0, -1.0, 1.0)
    return unit + 0.0  # no negative zero
