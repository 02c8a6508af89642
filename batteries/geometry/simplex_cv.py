"""The geometry of a cell: simplex volumes, their coefficient of variation (CV), effective rank.

Draw five of the V rows of a patch's matrix M; the volume of their 4-simplex varies from draw to draw, and CV is its
standard deviation over its mean. For points uniform on a sphere CV depends on the dimension alone: that value is the
*attractor* of a cell of width D.

The exact values are those of :mod:`batteries.geometry.attractor`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries.engine import dispatch
from batteries.engine.torch_settings import neutral
from batteries.geometry.attractor import SIMPLEX
from batteries.geometry.estimates import Estimate, clustered_mean

DRAWS = 1000  # per matrix

# A simplex counts as flat where its volume is below this share of the largest one with its longest edge from the first
# point: float32 rows in a hyperplane measure about 1e-7, uniform rows at D = 4 about 0.05.
FLAT = 1e-5


@dataclass(frozen=True)
class Degenerate:
    """In place of a CV where volumes vanish: 0/0 is not a number, and rounding noise is not a measurement.

    Attributes:
        reason: In words.
        flat: Matrices whose simplices are all flat.
        matrices: Matrices looked at.
    """

    reason: str
    flat: int
    matrices: int


def simplex_volumes(points: Tensor) -> Tensor:
    """Volumes of simplices: sqrt(det(E E')) / k! with E the k edge vectors from the first point.

    Args:
        points: (..., k+1, d), with k <= d.

    Returns:
        (...), float64.
    """
    return _volumes(_edge_grams(points))


def draw_simplices(M: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Five distinct rows of every matrix, drawn afresh for each matrix and draw.

    Args:
        M: (n, V, D).
        draws: Simplices per matrix.
        generator: Source of the draws.

    Returns:
        (n, draws, 5, D), float64.
    """
    n, rows, _ = M.shape
    chosen: list[Tensor] = []  # each (n, draws), in rising order
    for taken in range(SIMPLEX + 1):
        # the i-th of the rows not taken yet: step over each taken one
        row = torch.randint(rows - taken, (n, draws), generator=generator)
        for other in chosen:
            row += row >= other
        for place, other in enumerate(chosen):
            chosen[place], row = torch.minimum(other, row), torch.maximum(other, row)
        chosen.append(row)
    return M.double()[torch.arange(n)[:, None, None], torch.stack(chosen, dim=-1)]  # (n, draws, 5, D)


@neutral()
def cv(M: Tensor, image: Tensor, *, draws: int = DRAWS, seed: int = 0) -> Estimate | Degenerate:
    """CV of pentachoron volumes: the mean over matrices of the CV within each.

    Args:
        M: (n, V, D), finite.
        image: (n,) integer, the image each matrix came from: the clusters of the standard error.
        draws: Simplices per matrix.
        seed: Of the draws.

    Returns:
        The estimate; or :class:`Degenerate` where D < 4 or any matrix has only flat simplices.
    """
    dispatch.refuse_transform("a CV", M)
    n, _, width = M.shape
    if width < SIMPLEX:
        return Degenerate(f"D = {width} has no 4-volume", flat=n, matrices=n)
    grams = _edge_grams(draw_simplices(M.cpu(), draws, torch.Generator().manual_seed(seed)))
    volumes = _volumes(grams)  # (n, draws)
    longest = grams.diagonal(dim1=-2, dim2=-1).amax(dim=-1).sqrt()
    largest = longest**SIMPLEX / math.factorial(SIMPLEX)
    # median: a repeated row makes some simplices flat without making the matrix so
    flatness = (volumes / largest.clamp_min(torch.finfo(torch.float64).tiny)).median(dim=1).values
    flat = int((flatness < FLAT).sum())
    if flat:
        return Degenerate(f"the rows of {flat} of {n} matrices lie in a hyperplane", flat=flat, matrices=n)
    return clustered_mean(volumes.std(dim=1) / volumes.mean(dim=1), image)


def effective_rank(S: Tensor) -> Tensor:
    """exp(entropy of S / sum S): between 1 (one mode) and D (equal modes).

    Args:
        S: (..., D), non-negative.

    Returns:
        (...), float64.
    """
    share = S.double() / S.double().sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1).exp()


def radius_error(M: Tensor) -> float:
    """Largest distance of a row's length from 1, over all rows of (..., V, D)."""
    dispatch.refuse_transform("a radius error", M)
    return float((M.double().norm(dim=-1) - 1.0).abs().max())


def _edge_grams(points: Tensor) -> Tensor:
    """(..., k+1, d) to (..., k, k) float64: the products of the edges from the first point."""
    points = points.double()
    edges = points[..., 1:, :] - points[..., :1, :]
    return edges @ edges.mT


def _volumes(grams: Tensor) -> Tensor:
    return _determinant(grams).sqrt() / math.factorial(grams.shape[-1])


def _determinant(gram: Tensor) -> Tensor:
    """Product of the pivots of symmetric positive (..., k, k) matrices, elementwise across the batch; zero once a pivot is."""
    product = torch.ones_like(gram[..., 0, 0])
    while gram.shape[-1]:
        pivot = gram[..., 0, 0]
        product = product * pivot.clamp_min(0.0)
        column = gram[..., 1:, :1]
        gram = gram[..., 1:, 1:] - column * column.mT / torch.where(pivot > 0, pivot, 1.0)[..., None, None]
    return product
