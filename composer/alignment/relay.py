"""Relays: tokens of one cell, mapped into another cell's coordinates and decoded there with the other cell's own U and V.

Decoding needs U and V of the *target* on the same image: a relay shows how well one cell's tokens replace another's; it does
not transfer images. Legend: B images, N patches of the target, V rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from batteries import short_repr
from batteries.engine import pytrees
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
    """Output of a relay for a batch.

    Attributes:
        tokens: Omega (B, N, D) or rows of M (B, N, V, D) of the source, mapped into the target's coordinates.
        recon: Reconstruction (B, channels, height, width) that the target decodes from the tokens.
        patch_error: Mean squared error (B, N) of every patch.
        grid: Rows and columns of the target's patches.
    """

    tokens: Tensor
    recon: Tensor
    patch_error: Tensor
    grid: Grid

    __repr__ = short_repr.fields

    def to(self, dtype: torch.dtype) -> Relayed:
        """Convert the tensors to another dtype."""
        return Relayed(self.tokens.to(dtype), self.recon.to(dtype), self.patch_error.to(dtype), self.grid)


pytrees.register_fields(Relayed, ("tokens", "recon", "patch_error"), ("grid",))


def fit(kind: RelayKind, source: CellOutput, target: CellOutput) -> Alignment:
    """Fit a least-squares map from a source's tokens to a target's, paired by region.

    Rows are paired by index, which means different things in two cells unless they were trained from the same initial
    weights; the residual shows that.

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
        kind: Kind of tokens, omega or rows of M.
        fitted: Map from the source's tokens to the target's.
        source: Output of the source cell.
        target: Output of the decoding cell, including M.
        container: Container with the decoding cell.
        decoder: Name of the decoding cell.
        images: Images (B, channels, height, width) of both outputs.
    """
    mapped = fitted(paired(kind, source, target.grid))
    recon = decoded(kind, mapped, target.M, target.grid, container, decoder)
    return Relayed(mapped, recon, region_error(recon, images, target.grid), target.grid)


def decoded(kind: RelayKind, mapped: Tensor, M: Tensor, grid: Grid, container: Container, decoder: str) -> Tensor:
    """Decode images (B, channels, height, width) in a cell from mapped tokens in place of its own.

    Omega is put between U and V of the cell's own M (B, N, V, D). Rows replace M, normalised to the unit sphere where the
    cell's own rows are, and the cell computes omega from them.
    """
    if kind == "omega":
        return container.decode(decoder, M, grid, mapped)
    on_sphere = container.spec(decoder).row_norm == "sphere"
    return container.decode(decoder, spectral.unit_rows(mapped.contiguous()) if on_sphere else mapped, grid)


def paired(kind: RelayKind, cell: CellOutput, grid: Grid) -> Tensor:
    """Return a cell's tokens on another grid, averaged or repeated: omega (B, N, D), or rows (B, N, V, D).

    Raises:
        InputError: grids of which neither subdivides the other (``GRIDS``).
    """
    own = tokens_of(kind, cell)
    if cell.grid == grid:
        return own
    move = grids.spread if grid[0] > cell.grid[0] or grid[1] > cell.grid[1] else grids.pool
    return move(own.flatten(2), cell.grid, grid).unflatten(2, own.shape[2:])


def tokens_of(kind: RelayKind, cell: CellOutput) -> Tensor:
    """Return a cell's tokens: omega (B, N, D), or rows (B, N, V, D)."""
    return cell.omega if kind == "omega" else cell.M
