"""Relays: the tokens of one cell, mapped into another's coordinates, and decoded there with the other's own U and V.

U and V of the *target* on the same image are needed to decode anything: a relay shows what one cell's tokens say in the place
of another's, not a transfer of images. Legend: B images, N patches of the target, V rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from batteries import spectral
from composer import procrustes, tokens
from composer.container import Container
from composer.outputs import CellOutput
from composer.procrustes import Alignment
from composer.routing import region_error
from composer.tokens import Grid

Kind = Literal["omega", "rows"]


@dataclass(frozen=True)
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


def fit(kind: Kind, source: CellOutput, target: CellOutput) -> Alignment:
    """The map of least squares from a source's tokens to a target's, paired by region, from both cells' outputs.

    Rows pair by their number, which two cells give to unlike things unless they grew from one start; the residual says so.

    Raises:
        InputError: tokens that do not vary.
    """
    ours, theirs = paired(kind, source, target.grid), _tokens(kind, target)
    return procrustes.fit(ours.flatten(0, -2), theirs.flatten(0, -2))


def relay(
    kind: Kind, fitted: Alignment, source: CellOutput, target: CellOutput, container: Container, decoder: str, images: Tensor
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
    if kind == "omega":
        recon = container.decode(decoder, target.M, target.grid, mapped)
    else:
        unit = spectral.unit_rows(mapped) if container.spec(decoder).row_norm == "sphere" else mapped
        recon = container.decode(decoder, unit, target.grid)
    return Relayed(mapped, recon, region_error(recon, images, target.grid), target.grid)


def paired(kind: Kind, cell: CellOutput, grid: Grid) -> Tensor:
    """A cell's tokens on a coarser grid: (B, N, D), or (B, N, V, D) for rows."""
    if kind == "omega":
        return tokens.pool(cell.omega, cell.grid, grid)
    if cell.grid == grid:
        return cell.M
    flat = cell.M.flatten(2)
    return tokens.pool(flat, cell.grid, grid).unflatten(2, cell.M.shape[2:])


def _tokens(kind: Kind, cell: CellOutput) -> Tensor:
    return cell.omega if kind == "omega" else cell.M
