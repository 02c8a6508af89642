"""Figures of the spectral bottleneck: spectrum, ranks, orthogonality, sphere radius, energy, variance.

Letters: b images, n of their patches, V rows of M, D width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from batteries.cell.spec import CellSpec
from batteries.diagnostics.figures import Definition, Figure
from batteries.diagnostics.image_sums import Gatherer, ImageSums, Part
from batteries.geometry import row_figures

STAGE = "spectral bottleneck"
EPS = torch.finfo(torch.float64).eps
ROUNDINGS = 16  # of the size of eps, for each column
ZERO = 1e-5  # singular value that only the ridge of the decomposition explains
FULL_RANK = 1e-5  # smallest S_D / S_0 for which the squared ratio leaves digits in float64
ROUND_RADIUS = 1e-6  # deviation of a float32 row from unit length

SPECTRUM = Definition("spectrum", "S", STAGE, "mean over patches of the singular value S_i of M")
RATIO = Definition("spectrum-ratio", "S0 / SD", STAGE, "mean of the largest singular value / mean of the smallest")
EFFECTIVE_RANK = Definition(
    "effective-rank", "effective rank", STAGE, "mean over patches of exp(-sum p log p), p = S_i / sum S"
)
PATCH_RANK = Definition(
    "patch-rank",
    "effective rank of patches x D",
    STAGE,
    "exp(-sum p log p), p = s_i / sum s, s the singular values of the matrix (patches x D) of all S, not centred",
)
PARTICIPATION = Definition("participation", "participation ratio", STAGE, "mean over patches of (sum S^2)^2 / sum S^4")
ENERGY = Definition("energy-share", "energy share", STAGE, "sum over patches of S_i^2 / sum over patches and modes of S^2")
S_SPREAD = Definition(
    "spectrum-spread", "spread of S over patches", STAGE, "mean over modes of (sd over patches of S_i / mean over patches)"
)
U_ERROR = Definition(
    "u-orthogonality", "max |U'U - I|", STAGE, "largest entry of |U'U - I|, U = M W / lengths of the columns of M W, float64"
)
V_ERROR = Definition("v-orthogonality", "max |V'V - I|", STAGE, "largest entry of |W'W - I|, W the right singular vectors")
FACTORISATION = Definition(
    "factorisation", "factorisation error", STAGE, "largest entry of |U diag(S) W' - M| / largest entry of |M|, float64"
)
RADIUS = Definition("sphere-radius", "sphere radius", STAGE, "mean over rows of M of their length")
RADIUS_SD = Definition("sphere-radius-sd", "sphere radius, sd", STAGE, "standard deviation over rows of M of their length")
VARIANCE = Definition(
    "variance-retained",
    "variance retained",
    STAGE,
    "sum over the entries the decoder receives of their variance over patches / the same of the values of a patch",
)


class SpectralFigures(Gatherer):
    """Gatherer of the figures of the bottleneck.

    Args:
        spec: Spec of the cell.
        images: Number of images.
    """

    def __init__(self, spec: CellSpec, images: int) -> None:
        self._spec = spec
        self._sums = ImageSums(images)
        self._largest = {U_ERROR: 0.0, V_ERROR: 0.0, FACTORISATION: 0.0}
        self._flattest = 1.0  # smallest S_D / S_0 of a patch
        self._largest_S = float("inf")  # smallest S_0 of a patch
        self._decomposed = True

    def take(self, part: Part) -> None:
        """Add some patches of a few images."""
        steps = part.steps
        S = steps.S.double()  # (b, n, D)
        squares = S.square()
        lengths = steps.M.norm(dim=-1, dtype=torch.float64).flatten(1) - 1  # (b, n V)
        patches, received = steps.patches.double(), steps.received.double().flatten(2)
        self._sums.add(
            part.index,
            n=torch.full((len(S),), S.shape[1]),
            S=S.sum(dim=1),
            S2=squares.sum(dim=1),
            gram=(S.mT @ S).flatten(1),
            rank=row_figures.effective_rank(S).sum(dim=1),
            participation=(squares.sum(dim=-1).square() / squares.square().sum(dim=-1)).sum(dim=1),
            rows=torch.full((len(S),), lengths.shape[1]),
            longer=lengths.sum(dim=1),
            longer2=lengths.square().sum(dim=1),
            patch=patches.sum(dim=1),
            patch2=patches.square().sum(dim=(1, 2)),
            received=received.sum(dim=1),
            received2=received.square().sum(dim=(1, 2)),
        )
        self._flattest = min(self._flattest, float((S[..., -1] / S[..., 0]).min()))
        self._largest_S = min(self._largest_S, float(S[..., 0].min()))
        self._decomposed = steps.gated.spectrum is not None
        if self._decomposed:
            self._factorise(steps.M.double(), steps.gated.axes)

    def _factorise(self, M: Tensor, axes: Tensor) -> None:
        scaled = M @ axes  # U diag(S), (b, n, V, D)
        S = scaled.norm(dim=-2, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        found = {
            U_ERROR: _distance((scaled / S).mT @ (scaled / S)),
            V_ERROR: _distance(axes.mT @ axes),
            FACTORISATION: float((scaled @ axes.mT - M).abs().max() / M.abs().max()),
        }
        self._largest = {one: max(value, found[one]) for one, value in self._largest.items()}

    def figures(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield the figures of the bottleneck."""
        sums = self._sums
        for mode in range(self._spec.D):
            yield sums.figure(SPECTRUM, cluster, lambda S, n, i=mode: S[..., i] / n[..., 0], "S", "n", place=f"mode {mode}")
        yield from self._shares(cluster)
        yield from self._exact()
        radius = sums.figure(RADIUS, cluster, lambda x, n: 1 + x[..., 0] / n[..., 0], "longer", "rows")
        deviation = sums.figure(RADIUS_SD, cluster, _deviation, "longer", "longer2", "rows")
        exact = self._spec.row_norm == "sphere"
        for figure in (radius, deviation):
            yield Figure(figure.definition, value=figure.value, tolerance=ROUND_RADIUS) if exact else figure
        yield sums.figure(VARIANCE, cluster, _retained, "received", "received2", "patch", "patch2", "n")

    def _shares(self, cluster: Tensor) -> Iterator[Figure]:
        """Yield the figures that a matrix of zeros does not have."""
        sums = self._sums
        if self._largest_S < ZERO:
            for definition in (RATIO, EFFECTIVE_RANK, PATCH_RANK, PARTICIPATION, ENERGY, S_SPREAD):
                yield Figure(definition, undefined="M of a patch is zero")
            return
        if self._flattest < FULL_RANK:
            yield Figure(RATIO, undefined="a singular value is zero")
        else:
            yield sums.figure(RATIO, cluster, lambda S: S[..., 0] / S[..., -1], "S")
        yield sums.mean(EFFECTIVE_RANK, cluster, "rank", "n")
        yield sums.figure(PATCH_RANK, cluster, _rank_of_gram, "gram")
        yield sums.mean(PARTICIPATION, cluster, "participation", "n")
        for mode in range(self._spec.D):
            yield sums.figure(ENERGY, cluster, lambda S2, i=mode: S2[..., i] / S2.sum(dim=-1), "S2", place=f"mode {mode}")
        yield sums.figure(S_SPREAD, cluster, _spread, "S", "S2", "n")

    def _exact(self) -> Iterator[Figure]:
        """Yield the figures whose value is 0 but for rounding."""
        rounding = ROUNDINGS * self._spec.D * EPS
        tolerances = {
            U_ERROR: rounding / self._flattest**2 if self._flattest else 0.0,
            V_ERROR: rounding,
            FACTORISATION: rounding,
        }
        for definition, value in self._largest.items():
            if not self._decomposed:
                yield Figure(definition, undefined=f"the readout {self._spec.readout} has no decomposition")
            elif definition is U_ERROR and (self._flattest < FULL_RANK or self._largest_S < ZERO):
                yield Figure(definition, undefined="a singular value is zero, and its column of U any vector")
            else:
                yield Figure(definition, value=value, tolerance=tolerances[definition])


def _distance(gram: Tensor) -> float:
    """Return the largest entry of the difference of matrices (..., D, D) from the identity."""
    return float((gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)).abs().max())


def _rank_of_gram(gram: Tensor) -> Tensor:
    """Compute the effective rank (...) of a matrix from its Gram matrix (..., D * D)."""
    D = round(gram.shape[-1] ** 0.5)
    values = torch.linalg.eigvalsh(gram.unflatten(-1, (D, D)))
    return row_figures.effective_rank(values.clamp_min(0.0).sqrt())


def _spread(S: Tensor, S2: Tensor, n: Tensor) -> Tensor:
    mean = S / n
    return ((S2 / n - mean.square()).clamp_min(0.0).sqrt() / mean).mean(dim=-1)


def _deviation(x: Tensor, x2: Tensor, n: Tensor) -> Tensor:
    return (x2 / n - (x / n).square()).clamp_min(0.0).sqrt()[..., 0]


def _retained(received: Tensor, received2: Tensor, patch: Tensor, patch2: Tensor, n: Tensor) -> Tensor:
    def variance(total: Tensor, squares: Tensor) -> Tensor:
        return squares[..., 0] / n[..., 0] - (total / n).square().sum(dim=-1)

    return variance(received, received2) / variance(patch, patch2)
