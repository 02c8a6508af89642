"""Baselines of a reconstruction error: predicting the mean, and the best linear code of the same width.

The codes are fitted on training images and measured on the probe, like the cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from batteries import short_repr
from batteries.cell.manifest import Baselines
from batteries.cell.spec import CellSpec
from batteries.engine.torch_settings import neutral


@dataclass(frozen=True, eq=False)
class LinearCode:
    """Principal components of training patches.

    Attributes:
        mean: Mean patch (P,).
        components: Principal components (P, P), in columns by decreasing variance.
        fitted_on: Number and origin of the patches, in words.
    """

    mean: Tensor
    components: Tensor
    fitted_on: str

    __repr__ = short_repr.fields

    def error(self, patches: Tensor, k: int) -> float:
        """Compute the mean squared error of ``patches`` (n, P) coded by the first k components."""
        centred = patches.double() - self.mean
        kept = self.components[:, :k]
        return float((centred - (centred @ kept) @ kept.T).square().mean())


@neutral()
def fit(images: Tensor, spec: CellSpec) -> LinearCode:
    """Fit the principal components of the patches of training images (B, channels, height, width)."""
    patches = to_patches(images, spec).double()
    mean = patches.mean(dim=0)
    _, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    return LinearCode(mean, vectors.flip(1), f"{len(patches)} patches of {len(images)} training images")


def baselines(code: LinearCode, images: Tensor, spec: CellSpec) -> Baselines:
    """Measure the errors of the mean and of the linear codes on images (B, channels, height, width)."""
    patches = to_patches(images, spec)
    k = min(spec.hidden, spec.V * (spec.D - 1), spec.patch_dim)
    return Baselines(
        mean=code.error(patches, 0),
        pca_k=k,
        pca=code.error(patches, k),
        pca_width=code.error(patches, min(spec.D, spec.patch_dim)),
        bottleneck=k < spec.patch_dim,
        fitted_on=code.fitted_on,
    )


def to_patches(images: Tensor, spec: CellSpec) -> Tensor:
    """Split images (B, channels, height, width) into patches (B * N, P)."""
    p = spec.patch_size
    return rearrange(images, "B C (gh p) (gw q) -> (B gh gw) (C p q)", p=p, q=p)
