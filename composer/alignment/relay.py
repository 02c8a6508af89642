"""Relays: the tokens of one cell, mapped into another's coordinates, and decoded there with the other's own U and V.

U and V of the *target* on the same image are needed to decode anything: a relay shows what one cell's tokens say in the place
of another's, not a transfer of images. Legend: B images, N patches of the target, V rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from batteries.engine import pytrees
from batteries.io import short_repr
from batteries.model import spectral
from composer import grids
from composer.container.container import Container
from composer.container.outputs import CellOutput
from composer.grids import region_error
from composer.procrustes import similarity
from composer.procrustes.similarity import Alignment
from composer.vocabulary import Grid

RelayKind = Literal["omega", "rows"]


@dataclass(frozen=True, eq=False)
class Relayed:
    """What a relay makes of a batch.

    Attributes:
        tokens: (B, N, D) the source's omega, or (B, N, V, D) its rows of M, mapped into the target's coordinates.
        recon: (B, channels, height, width) as the target decodes them.
        patch_error: (B, N) mean squared error of every patch.
        grid: Rows and columns of the target's patches.
    """

    tokens: Tensor
    recon: Tensor
    patch_error: Tensor
    grid: Grid

    __repr__ = short_repr.fields

    def to(self, dtype: torch.dtype) -> Relayed:
        """The same in another dtype."""
        return Relayed(self.tokens.to(dtype), self.recon.to(dtype), self.patch_error.to(dtype), self.grid)


pytrees.register_fields(Relayed, ("tokens", "recon", "patch_error"), ("grid",))


def fit(kind: RelayKind, source: CellOutput, target: CellOutput) -> Alignment:
    """Map of least squares from a source's tokens to a target's, paired by region, from both cells' outputs.

    Rows pair by their number, which two cells give to unlike things unless they grew from one start; the residual says so.

    Raises:
        InputError: tokens that do not vary.
    """
    ours, theirs = paired(kind, source, target.grid), tokens_of(kind, target)
    return similarity.fit(ours.flatten(0, -2), theirs.flatten(0, -2))


def relay(
    kind: RelayKind,
    fitted: Alignment,
    source: CellOutput,
    target: CellOutput,
    container: Container,
    decoder: str,
    images: Tensor,
) -> Relayed:
    """Map a source's tokens, and decode them in a target.

    Args:
        kind: Which tokens.
        fitted: The map.
        source: Output of the cell whose tokens they are.
        target: Output of the cell that decodes, with its M.
        container: Has that cell.
        decoder: Its name.
        images: (B, channels, height, width) that both outputs are of.
    """
    mapped = fitted(paired(kind, source, target.grid))
    recon = decoded(kind, mapped, target.M, target.grid, container, decoder)
    return Relayed(mapped, recon, region_error(recon, images, target.grid), target.grid)


def decoded(kind: RelayKind, mapped: Tensor, M: Tensor, grid: Grid, container: Container, decoder: str) -> Tensor:
    """Images (B, channels, height, width) that a cell makes with other tokens in the place of its own.

    Omega is put between U and V of the cell's own M (B, N, V, D). Rows of M, brought back to the sphere where the cell's are on
    it, take the place of M, and have an omega of the cell's making.
    """
    if kind == "omega":
        return container.decode(decoder, M, grid, mapped)
    on_sphere = container.spec(decoder).row_norm == "sphere"
    return container.decode(decoder, spectral.unit_rows(mapped.contiguous()) if on_sphere else mapped, grid)


def paired(kind: RelayKind, cell: CellOutput, grid: Grid) -> Tensor:
    """Cell's tokens on another grid, averaged over its regions or standing in all of them: (B, N, D), rows (B, N, V, D).

    Raises:
        InputError: grids of which neither subdivides the other (``GRIDS``).
    """
    own = tokens_of(kind, cell)
    if cell.grid == grid:
        return own
    move = grids.spread if grid[0] > cell.grid[0] or grid[1] > cell.grid[1] else grids.pool
    return move(own.flatten(2), cell.grid, grid).unflatten(2, own.shape[2:])


def tokens_of(kind: RelayKind, cell: CellOutput) -> Tensor:
    """Cell's own tokens: omega (B, N, D), or rows (B, N, V, D)."""
    return cell.omega if kind == "omega" else cell.M
