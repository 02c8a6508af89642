"""Features of an image or its regions from a container's outputs: omega, the cells' errors, or their residual images.

| reads | features of an image | features of a region |
|---|---|---|
| ``omega`` | mean and standard deviation over patches | mean over the region's patches |
| ``signature`` | log of mean and standard deviation of the patches' errors | log of the mean error |
| ``recon`` | log energy of the residual, by channel on a 4 x 4 grid | mean residual, by channel on a 4 x 4 grid |

Each cell has its own features, in the order of the groups and of the cells in each. Omega stays in a cell's own coordinates:
for an MLP over all of its numbers, a rotation into a common frame adds nothing, and no probe is needed.

Legend: C cells of a group, B images, N patches, G regions of the coarsest grid, D width, F features.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from batteries.errors import InputError
from composer import grids
from composer.container.outputs import ContainerOutput, GroupOutput
from composer.vocabulary import Grid

Reads = Literal["omega", "signature", "recon"]
TAPPED: dict[Reads, tuple[str, ...]] = {"omega": ("omega",), "signature": ("recon",), "recon": ("recon",)}
SIDE = 4  # of the grid of residual features
FLOOR = 1e-8  # least error whose logarithm is taken


def checked(reads: Reads) -> Reads:
    """Return ``reads`` if it is a known kind of features.

    Raises:
        InputError: unknown features (``READS``).
    """
    if reads not in get_args(Reads):
        raise InputError("unknown features", code="READS", expected=" | ".join(get_args(Reads)), found=repr(reads))
    return reads


def of_image(reads: Reads, out: ContainerOutput, images: Tensor) -> Tensor:
    """Compute the features of every image, (B, F).

    Args:
        reads: Kind of features.
        out: Outputs with the taps of that kind (:data:`TAPPED`).
        images: Images (B, channels, height, width) of the outputs.
    """
    parts = [_of_image(reads, group, images) for group in out.groups]  # (C, B, f)
    return torch.cat([rearrange(part, "C B f -> B (C f)") for part in parts], dim=1)


def of_region(reads: Reads, out: ContainerOutput, images: Tensor, grid: Grid) -> Tensor:
    """Compute the features of every region of a grid, (B, G, F); see :func:`of_image`."""
    parts = [_of_region(reads, group, images, grid) for group in out.groups]  # ((C B), G, f)
    return torch.cat([rearrange(part, "(C B) G f -> B G (C f)", B=len(images)) for part in parts], dim=2)


def _of_image(reads: Reads, group: GroupOutput, images: Tensor) -> Tensor:
    match reads:
        case "omega":
            omega = group.tensor("omega")
            return torch.cat([omega.mean(dim=2), omega.std(dim=2, correction=0)], dim=2)
        case "signature":
            error = group.tensor("patch_error")
            return _log(torch.stack([error.mean(dim=2), error.std(dim=2, correction=0)], dim=2))
        case "recon":
            missing = (images - group.tensor("recon")).square()  # (C, B, channels, height, width)
            energy = F.adaptive_avg_pool2d(missing.flatten(0, 1), SIDE)
            return _log(energy.flatten(1).unflatten(0, missing.shape[:2]))


def _of_region(reads: Reads, group: GroupOutput, images: Tensor, grid: Grid) -> Tensor:
    match reads:
        case "omega":
            return grids.pool(group.tensor("omega").flatten(0, 1), group.grid, grid)
        case "signature":
            error = group.tensor("patch_error").flatten(0, 1)[..., None]
            return _log(grids.pool(error, group.grid, grid))
        case "recon":
            missing = (images - group.tensor("recon")).flatten(0, 1)
            regions = rearrange(missing, "n c (gh p) (gw q) -> (n gh gw) c p q", gh=grid[0], gw=grid[1])
            return F.adaptive_avg_pool2d(regions, SIDE).flatten(1).unflatten(0, (len(missing), -1))


def _log(errors: Tensor) -> Tensor:
    return errors.clamp_min(FLOOR).log()
