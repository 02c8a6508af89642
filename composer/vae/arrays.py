"""Embedding arrays, which adjudicate: every patch attends over the arrays of all sectors, and the weights say which one speaks.

A sector has K arrays of V unit rows, which start on mean configurations of its matrices. A map per sector, at the start that of
its mean configuration into the consensus of all sectors of its V and D, brings its rows into a common frame. The query of a
patch is the mean of the sectors' rows there; the score of an array is the mean cosine of its rows with those of the query,
times a sharpness, less a reference. The weights are the softmax over the arrays of all sectors; that of a sector is the sum
over its arrays.

Matrices of trained cells differ little from their mean configuration, so a cosine alone says little:
at the start the sharpness is one over the deviation of these cosines on the sectors' own domains, and the reference of an array
its mean score on that of its sector. Only the directions of the points count, so they are long: a step turns them little.
Legend: C sectors of a spec, B images, N patches of an image, K arrays, V rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from batteries.cell.spec import CellSpec
from batteries.engine.torch_settings import PINNED
from batteries.model import spectral
from composer.vocabulary import Grid

LENGTH = 8.0  # of a point, of which only the direction counts


class Arrays(nn.Module):
    """Embedding arrays of the sectors of one spec, in the common frame, and the maps into it.

    Args:
        spec: Spec of the sectors.
        count: Sectors C.
        arrays: Arrays K of each sector.
        generator: Source of the rows, which are uniform on the sphere until they are set.
    """

    def __init__(self, spec: CellSpec, count: int, arrays: int, generator: Generator) -> None:
        super().__init__()
        rows = torch.randn(count, arrays, spec.V, spec.D, generator=generator, **PINNED)
        self.points = nn.Parameter(LENGTH * spectral.unit_rows(rows))
        self.maps = nn.Parameter(torch.eye(spec.D, **PINNED).repeat(count, 1, 1))
        self.reference = nn.Parameter(torch.zeros(count, arrays, **PINNED))

    def __repr__(self) -> str:
        C, K, V, D = self.points.shape
        return f"Arrays({C} x {K} of {V} x {D})"

    @property
    def rows(self) -> Tensor:
        """Unit rows of the arrays (C, K, V, D)."""
        return spectral.unit_rows(self.points)

    def framed(self, M: Tensor) -> Tensor:
        """Map matrices (C, B, N, V, D) into the common frame, and sum them over the sectors: (B, N, V, D)."""
        C, B, N, V, D = M.shape
        flat = M.permute(1, 2, 3, 0, 4).reshape(-1, C * D)
        return (flat @ self.maps.reshape(C * D, D)).view(B, N, V, D)

    def cosines(self, query: Tensor) -> Tensor:
        """Compute mean cosines (B, N, C, K) of the rows of queries (B, N, V, D), of unit length, with those of the arrays."""
        C, K, V, D = self.points.shape
        return (query.flatten(2) @ self.rows.reshape(C * K, V * D).T / V).unflatten(2, (C, K))

    @torch.no_grad()
    def place(self, place: int, rows: Tensor, to_frame: Tensor) -> None:
        """Set the arrays of a sector to unit rows (K, V, D) in its own coordinates, and its map (D, D) into the frame."""
        self.maps[place] = to_frame
        self.points[place] = LENGTH * (rows @ to_frame)


def spread(values: Tensor, grid: Grid, fine: Grid) -> Tensor:
    """Repeat values (B, N, ...) of patches of a grid on a finer one that it divides."""
    if grid == fine:
        return values
    whole = values.unflatten(1, grid)
    for axis, (count, wanted) in enumerate(zip(grid, fine, strict=True), start=1):
        whole = whole.repeat_interleave(wanted // count, dim=axis)
    return whole.flatten(1, 2)


def weighed(images: Sequence[Tensor], weights: Tensor, fine: Grid) -> Tensor:
    """Add up the sectors' images, each region by its weight.

    Args:
        images: Images (C, B, channels, height, width) of the sectors of each spec.
        weights: Weights (B, N, S) of all sectors on a grid.
        fine: Grid of the weights.

    Returns:
        Images (B, channels, height, width).
    """
    height, width = images[0].shape[-2:]
    shares = weights.permute(2, 0, 1).unflatten(2, fine)  # (S, B, rows, columns)
    total, first = torch.zeros_like(images[0][0]), 0
    for own in images:
        C, B, channels = own.shape[:3]
        cut = own.reshape(C, B, channels, fine[0], height // fine[0], fine[1], width // fine[1])
        part = shares[first : first + C, :, None, :, None, :, None]
        total = total + (cut * part).sum(dim=0).view(B, channels, height, width)
        first += C
    return total
