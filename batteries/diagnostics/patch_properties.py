"""Properties of patches, and their correlation with the singular values of a cell.

Letters: B images, N patches of an image, D modes, C channels, p and q rows and columns of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from batteries import short_repr
from batteries.diagnostics.figures import Definition, Figure, estimated
from batteries.engine.torch_settings import neutral
from batteries.geometry.estimates import clustered_mean

CONSTANT = 1e-6  # relative range that float32 rounding explains
CORRELATION = Definition(
    "mode-correlation", "rank correlation of S with a property", "encoder", "mean over images of Spearman's rho over patches"
)


@dataclass(frozen=True)
class ModeCorrelation:
    """Correlation over patches of a singular value with a property of the patch.

    Attributes:
        mode: Index of the singular value, from 0.
        statistic: Name of the property, of :func:`patch_statistics`.
        figure: Mean over images, undefined if either is constant in every image.
        images: Number of images in the mean: those where neither is constant.

    >>> import batteries
    >>> from batteries import diagnostics
    >>> model = batteries.untrained(batteries.CellSpec.preset("high"), seed=0)
    >>> images, types = batteries.noise.random_batch(4, (16, 16), seed=0)
    >>> row = diagnostics.modes(model, images, types, cluster=types).correlations[0]
    >>> row.mode, row.statistic, row.images
    (0, 'luminance', 4)
    """

    mode: int
    statistic: str
    figure: Figure
    images: int

    __repr__ = short_repr.fields


@neutral()
def patch_statistics(images: Tensor, patch_size: int) -> dict[str, Tensor]:
    """Compute properties (B, N) of the patches of images (B, C, height, width), in float64.

    *luminance*: mean over pixels and channels. *distance from grey*: its absolute value. *contrast*: standard deviation about
    the mean of each channel. *gradient energy*: mean square of the differences of neighbouring pixels within the patch, both
    directions together. *orientation 0* and *orientation 45*: (Jxx - Jyy) / (Jxx + Jyy) and 2 Jxy / (Jxx + Jyy) of the
    structure tensor J of these differences, from -1 to 1, positive for a gradient along x and along the falling diagonal;
    *coherence*: the length of both. They are 0 of a patch without a gradient (Bigun and Granlund, ICCV 1987).

    >>> import torch
    >>> from batteries.diagnostics.patch_properties import patch_statistics
    >>> ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    >>> found = patch_statistics(ramp, 4)
    >>> {name: round(float(value), 3) for name, value in found.items() if name in ("luminance", "orientation 0")}
    {'luminance': 1.5, 'orientation 0': 1.0}
    """
    side = patch_size
    patches = rearrange(images.detach().double().cpu(), "B C (gh p) (gw q) -> B (gh gw) C p q", p=side, q=side)
    luminance = patches.mean(dim=(2, 3, 4))
    contrast = (patches - patches.mean(dim=(3, 4), keepdim=True)).square().mean(dim=(2, 3, 4)).sqrt()
    dx = patches[..., :-1, 1:] - patches[..., :-1, :-1]  # (B, N, C, p-1, q-1), both at the same pixels
    dy = patches[..., 1:, :-1] - patches[..., :-1, :-1]
    xx, yy, xy = ((one * other).sum(dim=(2, 3, 4)) for one, other in ((dx, dx), (dy, dy), (dx, dy)))
    energy = xx + yy
    safe = energy.where(energy > 0, 1.0)
    along, across = (xx - yy) / safe, 2 * xy / safe
    return {
        "luminance": luminance,
        "distance from grey": luminance.abs(),
        "contrast": contrast,
        "gradient energy": energy / max(dx[0, 0].numel(), 1),
        "orientation 0": along,
        "orientation 45": across,
        "coherence": torch.hypot(along, across),
    }


@neutral()
def correlations(S: Tensor, statistics: Mapping[str, Tensor], cluster: Tensor) -> tuple[ModeCorrelation, ...]:
    """Correlate singular values with properties of patches: Spearman's rho in each image, and its mean over images.

    Ties share their mean rank. Images in which the singular value or the property is constant, but for the rounding of float32,
    have no rho and are left out.

    Args:
        S: Singular values (B, N, D).
        statistics: Properties (B, N) by name.
        cluster: Cluster (B,) of each image.

    >>> import torch
    >>> from batteries.diagnostics.patch_properties import correlations
    >>> S = torch.rand(5, 64, 2, generator=torch.Generator().manual_seed(0))
    >>> [round(row.figure.value, 12) for row in correlations(S, {"first": S[..., 0]}, torch.arange(5))][0]
    1.0
    """
    S, cluster = S.detach().double().cpu(), cluster.cpu()
    ranks = {name: (_ranks(values), _varies(values)) for name, values in statistics.items()}
    found = []
    for mode in range(S.shape[-1]):
        own, varies = _ranks(S[..., mode]), _varies(S[..., mode])
        for name, (other, varies_too) in ranks.items():
            used, place = varies & varies_too, f"mode {mode + 1}, {name}"
            figure = Figure(CORRELATION, place, undefined="constant in every image")
            if used.any():
                rho = (own[used] * other[used]).sum(dim=1) / (own[used].norm(dim=1) * other[used].norm(dim=1))
                figure = estimated(CORRELATION, clustered_mean(rho, cluster[used]), place)
            found.append(ModeCorrelation(mode, name, figure, int(used.sum())))
    return tuple(found)


def _ranks(values: Tensor) -> Tensor:
    """Rank values (B, N) within each image, about the mean rank; ties share theirs."""
    ordered = values.double().sort(dim=1).values
    below, upto = (torch.searchsorted(ordered, values.double().contiguous(), right=right) for right in (False, True))
    return (below + upto).double() / 2 - values.shape[1] / 2


def _varies(values: Tensor) -> Tensor:
    """Return the images (B,) whose values (B, N) differ by more than rounding."""
    return values.amax(dim=1) - values.amin(dim=1) > CONSTANT * values.abs().amax(dim=1).clamp_min(1e-2)
