"""Simplex volumes of a cell's rows, and their coefficient of variation (CV), published and axial.

Draw five of the V rows of a patch's matrix M; the volume of their 4-simplex varies from draw to draw, and CV is its
standard deviation over its mean. For points uniform on a sphere CV depends on the dimension alone: that value is the
*attractor* of a cell of width D, computed exactly in :mod:`batteries.geometry.attractor`.

The published CV depends on the signs of the rows, although a cell's function does not: it stays the same if a row of
``enc_out`` and the columns of ``dec_in`` that read it change sign. The *axial* CV gives the five rows of every draw random
signs. Uniform rows have the same attractor, since their law is symmetric. Band, flags and verdicts rest on the axial CV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries.engine import dispatch
from batteries.engine.torch_settings import neutral
from batteries.geometry import jackknife
from batteries.geometry.attractor import SIMPLEX
from batteries.geometry.estimates import Estimate, clustered_mean

DRAWS = 1000  # simplices per matrix

# A simplex counts as flat if its volume is below this fraction of the largest volume with the same longest edge from the
# first point: float32 rows in a hyperplane reach about 1e-7, uniform rows at D = 4 about 0.05.
FLAT = 1e-5
SQUARE_FLOOR = 1e-6  # of a Gram determinant in a loss, where a root has no slope at 0; uniform rows reach about 1


@dataclass(frozen=True)
class Degenerate:
    """Result instead of a CV where volumes vanish: 0/0 is not a number, and rounding noise is not a measurement.

    Attributes:
        reason: Explanation in words.
        flat: Number of matrices with flat simplices.
        matrices: Number of matrices examined.

    >>> import torch
    >>> from batteries import geometry
    >>> geometry.cv(torch.ones(2, 8, 4), image=torch.arange(2))
    Degenerate(reason='the rows of 2 of 2 matrices lie in a hyperplane', flat=2, matrices=2)
    """

    reason: str
    flat: int
    matrices: int


def simplex_volumes(points: Tensor) -> Tensor:
    """Compute volumes of simplices: sqrt(det(E E')) / k! with E the k edge vectors from the first point.

    Args:
        points: Vertices (..., k+1, d), with k <= d.

    Returns:
        Volumes (...), float64.
    """
    return _volumes(_edge_grams(points))


def draw_rows(V: int, matrices: int, draws: int, generator: torch.Generator) -> Tensor:
    """Draw five distinct rows of every matrix, independently for each matrix and draw.

    Args:
        V: Rows of a matrix.
        matrices: Number of matrices n.
        draws: Simplices per matrix.
        generator: Source of randomness.

    Returns:
        Indices of rows (n, draws, 5), in ascending order.
    """
    chosen: list[Tensor] = []  # each (n, draws), in ascending order
    for taken in range(SIMPLEX + 1):
        # the i-th of the remaining rows: step over each taken one
        row = torch.randint(V - taken, (matrices, draws), generator=generator)
        for other in chosen:
            row += row >= other
        for place, other in enumerate(chosen):
            chosen[place], row = torch.minimum(other, row), torch.maximum(other, row)
        chosen.append(row)
    return torch.stack(chosen, dim=-1)


@neutral()
def cv(M: Tensor, image: Tensor, *, draws: int = DRAWS, seed: int = 0, corrected: bool = True) -> Estimate | Degenerate:
    """Estimate the published CV of pentachoron volumes: the mean over matrices of the CV within each.

    Args:
        M: Matrices (n, V, D), finite.
        image: Index (n,) of the image of each matrix, which clusters the standard error.
        draws: Simplices per matrix.
        seed: Seed of the draws.
        corrected: Correction of the bias from drawing all simplices among the same V rows
            (:mod:`batteries.geometry.jackknife`), for V of 12 or more; older figures lack it.

    Returns:
        Estimate, or :class:`Degenerate` if D < 4 or most simplices of any matrix are flat.

    >>> import torch
    >>> from batteries import geometry
    >>> M = torch.nn.functional.normalize(torch.randn(32, 64, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    >>> estimate = geometry.cv(M, image=torch.arange(32) // 4)
    >>> round(estimate.value, 2), round(geometry.sphere_cv(16), 2), estimate.images
    (0.2, 0.2, 8)
    """
    dispatch.refuse_transform("a CV", M)
    return _mean_cv(M.cpu(), image, draws, torch.Generator().manual_seed(seed), corrected, axial=False)


@neutral()
def axial_cv(M: Tensor, image: Tensor, *, draws: int = DRAWS, seed: int = 0) -> Estimate | Degenerate:
    """Estimate the axial CV: that of the same simplices, each with the signs of its five rows drawn at random.

    Unlike :func:`cv` it does not depend, to the bit, on the signs of the rows of M, and nor does a cell's function.

    Args:
        M: Matrices (n, V, D), finite.
        image: Index (n,) of the image of each matrix, which clusters the standard error.
        draws: Simplices per matrix.
        seed: Seed of the draws and signs.

    Returns:
        Estimate, corrected for the finite number of rows as in :func:`cv`, or :class:`Degenerate`.

    >>> import torch
    >>> from batteries import geometry
    >>> M = torch.nn.functional.normalize(torch.randn(32, 64, 16, generator=torch.Generator().manual_seed(0)).abs(), dim=-1)
    >>> signs = torch.tensor([1, -1]).repeat(32)[:, None]  # (V, 1)
    >>> first, second = geometry.axial_cv(M, torch.arange(32)), geometry.axial_cv(M * signs, torch.arange(32))
    >>> first == second, geometry.cv(M, torch.arange(32)) == geometry.cv(M * signs, torch.arange(32))
    (True, False)
    """
    dispatch.refuse_transform("a CV", M)
    return _mean_cv(_one_sign(M.cpu()), image, draws, torch.Generator().manual_seed(seed), corrected=True, axial=True)


def differentiable_cv(M: Tensor, *, draws: int, seed: int, axial: bool = False) -> Tensor | Degenerate:
    """Compute the CV of one matrix or of several at once, as :func:`cv` without its correction, with a gradient on the rows.

    The volumes are sqrt(det(E E')) / k!, the Cayley-Menger determinant of k+1 points written with the k edges E from the first.
    A simplex without volume has no gradient of its own.

    Args:
        M: Matrix (V, D), or matrices (n, V, D), finite.
        draws: Simplices drawn of each matrix.
        seed: Seed of the draws, and of signs.
        axial: Whether the rows of every simplex have random signs, as in :func:`axial_cv`; by default the CV is the published.

    Returns:
        CV, or CVs (n,), a float64 tensor that is differentiable in M, or :class:`Degenerate` as :func:`cv`.

    >>> M = torch.nn.functional.normalize(torch.randn(32, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    >>> found = differentiable_cv(M.requires_grad_(), draws=200, seed=0)
    >>> reading = cv(M.detach()[None], torch.zeros(1, dtype=torch.int64), draws=200, seed=0, corrected=False)
    >>> abs(found.item() - reading.value) < 1e-12, torch.autograd.grad(found, M)[0].shape
    (True, torch.Size([32, 8]))
    """
    matrices = M.reshape(-1, *M.shape[-2:]).cpu().double()  # (n, V, D)
    n, V, width = matrices.shape
    if width < SIMPLEX:
        return Degenerate(f"D = {width} has no 4-volume", flat=n, matrices=n)
    generator = torch.Generator().manual_seed(seed)
    rows = draw_rows(V, n, draws, generator)
    points = matrices[torch.arange(n)[:, None, None], rows]  # (n, draws, 5, D)
    if axial:
        points = points * _signs(rows, generator)
    grams = _edge_grams(points)  # (n, draws, k, k)
    flat = _count_flat(_volumes(grams.detach()), grams.detach())
    if flat:
        return Degenerate(f"the rows of {flat} of {n} matrices lie in a hyperplane", flat=flat, matrices=n)
    squares = _determinant(grams).clamp_min(torch.finfo(torch.float64).tiny)  # a root has no slope at 0
    volumes = squares.sqrt() / math.factorial(SIMPLEX)
    return (volumes.std(dim=1) / volumes.mean(dim=1)).reshape(M.shape[:-2])


def pooled_cv(M: Tensor, *, draws: int, generator: torch.Generator) -> Tensor:
    """Compute the axial CV over all simplices of several matrices together, in their own dtype: a term of a loss.

    Unlike :func:`differentiable_cv` it needs no float64, and gives flat simplices a floor in place of a refusal: one collapsed
    cell must not silence the term of the others.

    Args:
        M: Matrices (..., n, V, D) with D of at least 4.
        draws: Simplices drawn of each matrix.
        generator: Source of draws and signs.

    Returns:
        CVs (...), differentiable in M.

    >>> M = torch.nn.functional.normalize(torch.randn(3, 8, 32, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    >>> found = pooled_cv(M, draws=100, generator=torch.Generator().manual_seed(0))
    >>> found.dtype, bool(((found / 0.3624 - 1).abs() < 0.15).all())
    (torch.float32, True)
    """
    V, D = M.shape[-2:]
    matrices = M.reshape(-1, V, D)
    rows = draw_rows(V, len(matrices), draws, generator)
    places = rows + V * torch.arange(len(matrices))[:, None, None]
    signs = _signs(rows, generator).to(M.dtype)
    points = matrices.reshape(-1, D)[places.to(M.device)] * signs.to(M.device)  # (..., draws, 5, D)
    edges = points[..., 1:, :] - points[..., :1, :]
    volumes = _determinant(edges @ edges.mT).clamp_min(SQUARE_FLOOR).sqrt().view(*M.shape[:-3], -1)
    return volumes.std(dim=-1) / volumes.mean(dim=-1)


def _mean_cv(
    M: Tensor, image: Tensor, draws: int, generator: torch.Generator, corrected: bool, axial: bool
) -> Estimate | Degenerate:
    n, V, width = M.shape
    if width < SIMPLEX:
        return Degenerate(f"D = {width} has no 4-volume", flat=n, matrices=n)
    rows = draw_rows(V, n, draws, generator)
    points = M.double()[torch.arange(n)[:, None, None], rows]  # (n, draws, 5, D)
    if axial:
        points *= _signs(rows, generator)
    grams = _edge_grams(points)
    volumes = _volumes(grams)  # (n, draws)
    flat = _count_flat(volumes, grams)
    if flat:
        return Degenerate(f"the rows of {flat} of {n} matrices lie in a hyperplane", flat=flat, matrices=n)
    if corrected and jackknife.suits(V):
        return clustered_mean(jackknife.corrected_cv(volumes, rows, V), image)
    return clustered_mean(volumes.std(dim=1) / volumes.mean(dim=1), image)


def _signs(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a sign of -1 or 1 for every drawn row (n, draws, 5), as (n, draws, 5, 1)."""
    return 2 * torch.randint(2, (*rows.shape, 1), generator=generator) - 1


def _count_flat(volumes: Tensor, grams: Tensor) -> int:
    """Count the matrices most of whose simplices, volumes (n, draws) of edge Grams (n, draws, k, k), are flat."""
    longest = grams.diagonal(dim1=-2, dim2=-1).amax(dim=-1).sqrt()
    largest = longest**SIMPLEX / math.factorial(SIMPLEX)
    # median: a repeated row makes some simplices flat, but not the matrix
    flatness = (volumes / largest.clamp_min(torch.finfo(torch.float64).tiny)).median(dim=1).values
    return int((flatness < FLAT).sum())


def _one_sign(M: Tensor) -> Tensor:
    """Give every row of M (..., V, D) the sign that makes its first entry other than zero positive; negation is exact."""
    first = (M != 0).to(torch.uint8).argmax(dim=-1, keepdim=True)  # the first of equal maxima
    return torch.where(M.gather(-1, first) < 0, -M, M)


def _edge_grams(points: Tensor) -> Tensor:
    """Compute the Gram matrices (..., k, k), float64, of the edges from the first of the points (..., k+1, d)."""
    points = points.double()
    edges = points[..., 1:, :] - points[..., :1, :]
    return edges @ edges.mT


def _volumes(grams: Tensor) -> Tensor:
    return _determinant(grams).sqrt() / math.factorial(grams.shape[-1])


def _determinant(gram: Tensor) -> Tensor:
    """Multiply the pivots of positive semidefinite matrices (..., k, k), elementwise across the batch; zero if a pivot is."""
    product = torch.ones_like(gram[..., 0, 0])
    while gram.shape[-1]:
        pivot = gram[..., 0, 0]
        product = product * pivot.clamp_min(0.0)
        column = gram[..., 1:, :1]
        gram = gram[..., 1:, 1:] - column * column.mT / torch.where(pivot > 0, pivot, 1.0)[..., None, None]
    return product
