"""Tokens of cells: five descriptions of a patch, paired between cells by image region.

``omega``    singular values after cross-attention, the input of a cell's decoder
``S``        singular values of M
``moment``   second moment M'M / V of the rows: singular values and right frame together, for any number of rows
``frames``   the right frame V' alone, as V diag(w) V' with fixed distinct w: no singular values, and no signs
``rows``     the rows of M themselves, paired by index

omega and S are sorted lists of lengths: coordinate i of two cells corresponds by rank only, and a rotation of them is a linear
map of magnitudes, not of directions in either cell's row space. Directions are in moment, frames and rows. Rows differ from
each other on every image, so that a large part of the relation between two cells' rows does not depend on the image: the
shuffled null contains that part.

Symmetric matrices are stored as their upper triangle with sqrt(2) off the diagonal, so that distances between tokens are
distances between matrices.

A cell's tokens lie on its grid of patches. Cells are paired on the coarsest grid among them: a finer cell's tokens are averaged
over each region. For moments the average is exact (the moment of all rows of the region); frames are those of that moment.
Legend: B images, N patches, G regions, V rows, D width.

Source of the form of frames, the isospectral model of a flag manifold: Ye, Wong and Lim, Math. Program. 194 (2022).
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from batteries.cell.spec import CellSpec
from batteries.engine import dispatch
from batteries.kernels import eigensolver
from composer.container.outputs import CellOutput
from composer.grids import pool
from composer.vocabulary import Grid, TokenKind

TAPPED: dict[TokenKind, str] = {"omega": "omega", "S": "S", "moment": "M", "frames": "M", "rows": "M"}  # tap behind each kind


def of(cell: CellOutput, kind: TokenKind, grid: Grid) -> Tensor:
    """Return a cell's tokens on a grid that its own subdivides: (B, G, width), or (B, G V, D) for rows.

    Raises:
        InputError: a grid that the cell's does not subdivide (``GRIDS``).
        PolicyError: a tap that was not requested.
    """
    match kind:
        case "omega" | "S":
            return pool(cell.group.tensor(kind)[cell.index], cell.grid, grid)
        case "moment":
            return flat(_moments(cell, grid))
        case "frames":
            return flat(frames(_moments(cell, grid)))
        case "rows":
            pooled = pool(rearrange(cell.M, "B N V D -> B N (V D)"), cell.grid, grid)
            return rearrange(pooled, "B G (V D) -> B (G V) D", D=cell.M.shape[-1])


def width_of(spec: CellSpec, kind: TokenKind) -> int:
    """Return the width of a cell's tokens."""
    return spec.D * (spec.D + 1) // 2 if kind in ("moment", "frames") else spec.D


def frames(moments: Tensor) -> Tensor:
    """Replace the eigenvalues of second moments (..., D, D) by even steps from -1 to 1: frames (..., D, D).

    All frames have norm 1. Axes of equal eigenvalues are arbitrary within their plane.
    """
    dispatch.refuse_derivative("frames", moments)
    D = moments.shape[-1]
    axes = eigensolver.eigh(moments.double())[1]
    weights = torch.linspace(-1.0, 1.0, D, dtype=torch.float64, device=moments.device)  # eigenvalues ascend
    found = (axes * (weights / weights.norm())) @ axes.mT
    return found.to(moments.dtype)


def flat(symmetric: Tensor) -> Tensor:
    """Flatten symmetric matrices (..., D, D) to (..., D (D + 1) / 2), preserving their distances."""
    rows, columns = torch.triu_indices(*symmetric.shape[-2:], device=symmetric.device)
    stretch = 1 + (2**0.5 - 1) * (rows != columns).to(symmetric)
    return symmetric[..., rows, columns] * stretch


def _moments(cell: CellOutput, grid: Grid) -> Tensor:
    """Return M'M / V over the rows of each region, (B, G, D, D)."""
    M = cell.M
    own = rearrange(M.mT @ M / M.shape[-2], "B N D E -> B N (D E)")
    return rearrange(pool(own, cell.grid, grid), "B G (D E) -> B G D E", D=M.shape[-1])
