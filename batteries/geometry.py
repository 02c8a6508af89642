"""The geometry of a cell: simplex volumes, their coefficient of variation (CV), exact attractors, effective rank, flags.

Draw five of the V rows of a patch's matrix M; the volume of their 4-simplex varies from draw to draw, and CV is its
standard deviation over its mean. For points uniform on a sphere CV depends on the dimension alone: that value is the
*attractor* of a cell of width D.

The exact values are those of :mod:`batteries.attractor`. The clustered standard error is the usual sandwich for a mean
(Liang and Zeger, Biometrika 73, 1986).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries.attractor import ON_ATTRACTOR as ON_ATTRACTOR
from batteries.attractor import SIMPLEX as SIMPLEX
from batteries.attractor import band as band
from batteries.attractor import bulk_cv as bulk_cv
from batteries.attractor import on_attractor as on_attractor
from batteries.attractor import sphere_cv as sphere_cv
from batteries.settings import neutral

DRAWS = 1000  # per matrix
HOLDS = (0.85, 1.15)  # of after / before, with both 95% bounds
Z95 = 1.959963984540054

# A simplex counts as flat where its volume is below this share of the largest one with its longest edge from the first
# point: float32 rows in a hyperplane measure about 1e-7, uniform rows at D = 4 about 0.05.
FLAT = 1e-5


@dataclass(frozen=True)
class Estimate:
    """A mean over matrices, with its standard error clustered by image.

    Attributes:
        value: The mean over all matrices.
        standard_error: Of that mean, clustered by image.
        matrices: How many matrices it is the mean of.
        by_image: The mean of each image, in order; two estimates on the same images pair by it.
    """

    value: float
    standard_error: float
    matrices: int
    by_image: tuple[float, ...]

    @property
    def images(self) -> int:
        """How many images the matrices came from."""
        return len(self.by_image)


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


@dataclass(frozen=True)
class Held:
    """Whether a quantity held: its ratio after / before with a 95% interval.

    Attributes:
        ratio: After over before.
        lower: Lower 95% bound.
        upper: Upper 95% bound.
        holds: Whether ratio and both bounds lie in [0.85, 1.15].
    """

    ratio: float
    lower: float
    upper: float
    holds: bool


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


@neutral()
def clustered_mean(values: Tensor, image: Tensor) -> Estimate:
    """The mean of (n,) values, with its standard error clustered by image.

    The standard error is infinite where there is one image only: nothing then says how images differ.
    """
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


def effective_rank(S: Tensor) -> Tensor:
    """exp(entropy of S / sum S): between 1 (one mode) and D (equal modes).

    Args:
        S: (..., D), non-negative.

    Returns:
        (...), float64.
    """
    share = S.double() / S.double().sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1).exp()


@neutral()
def holds(before: Estimate, after: Estimate) -> Held:
    """Whether ``after / before`` and both its 95% bounds lie in [0.85, 1.15].

    The interval is the delta method's on the log ratio; estimates on the same number of images are taken as paired
    image by image, which removes what the images have in common.
    """
    ratio = after.value / before.value
    if before.images == after.images and before.images > 1:
        first, second = (torch.tensor(e.by_image, dtype=torch.float64) / e.value for e in (before, after))
        pairs = second - first
        error = float(pairs.std() / math.sqrt(len(pairs)))
    else:
        error = math.hypot(before.standard_error / before.value, after.standard_error / after.value)
    lower, upper = ratio * math.exp(-Z95 * error), ratio * math.exp(Z95 * error)
    return Held(ratio, lower, upper, HOLDS[0] <= lower and upper <= HOLDS[1])


def student(confidence: float, df: int) -> float:
    """The two-sided quantile of Student's t: |t| stays below it with this probability.

    By halving the angle atan(t / sqrt(df)), of which the probability is a finite sum (Abramowitz and Stegun 26.7.3, 26.7.4).

    Args:
        confidence: Between 0 and 1.
        df: Degrees of freedom, 1 or more.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, df) < confidence else (low, middle)
    return math.sqrt(df) * math.tan(low)


def _inside(angle: float, df: int) -> float:
    """The probability that |t| stays below sqrt(df) tan(angle)."""
    odd = df % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, df + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (k - 1) / k
    within = math.sin(angle) * total
    return (angle + within) * 2 / math.pi if odd else within


def radius_error(M: Tensor) -> float:
    """Largest distance of a row's length from 1, over all rows of (..., V, D)."""
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
