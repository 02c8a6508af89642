"""Grids of patches: find the coarsest, average tokens over its regions, or repeat them over a finer grid.

Legend: B images, N patches, G regions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from einops import reduce, repeat
from torch import Tensor
from torch.nn import functional as F

from batteries.errors import InputError
from composer.vocabulary import Grid


def coarsest(grids: Sequence[Grid]) -> Grid:
    """Return the grid with the fewest regions, which every other grid must subdivide.

    Raises:
        InputError: a grid that does not subdivide the coarsest (``GRIDS``).
    """
    target = min(grids, key=lambda grid: grid[0] * grid[1])
    for grid in grids:
        _refuse_unless_nested(grid, target)
    return target


def pool(tokens: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Average tokens (B, N, D) on ``grid`` over the regions of ``target``: (B, G, D).

    Raises:
        InputError: a grid that does not subdivide the target (``GRIDS``).
    """
    _refuse_unless_nested(grid, target)
    return reduce(
        tokens,
        "B (gh p gw q) D -> B (gh gw) D",
        "mean",
        gh=target[0],
        gw=target[1],
        p=grid[0] // target[0],
        q=grid[1] // target[1],
    )


def spread(tokens: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Repeat tokens (B, N, D) on ``grid`` over the patches of the finer ``target`` that each covers: (B, G, D).

    Raises:
        InputError: a target that does not subdivide the grid (``GRIDS``).
    """
    _refuse_unless_nested(target, grid)
    return repeat(
        tokens,
        "B (gh gw) D -> B (gh p gw q) D",
        gh=grid[0],
        gw=grid[1],
        p=target[0] // grid[0],
        q=target[1] // grid[1],
    )


def pad(tokens: Tensor, width: int) -> Tensor:
    """Append zeros along the last axis up to ``width``, so that tokens of unequal D share a frame.

    Raises:
        InputError: tokens wider than ``width`` (``WIDTH``).
    """
    missing = width - tokens.shape[-1]
    if missing < 0:
        expected, found = f"at most {width}", tokens.shape[-1]
        raise InputError("tokens wider than their frame", code="WIDTH", expected=expected, found=found)
    return F.pad(tokens, (0, missing)) if missing else tokens


def _refuse_unless_nested(grid: Grid, target: Grid) -> None:
    if grid[0] % target[0] or grid[1] % target[1]:
        raise InputError(
            "patch grids do not nest",
            code="GRIDS",
            expected=f"multiples of {target[0]} x {target[1]}",
            found=f"{grid[0]} x {grid[1]}",
            remedy="Choose an image size at which the patch grids divide one another, and align finer cells to coarser ones.",
        )


def region_error(recon: Tensor, images: Tensor, grid: Grid) -> Tensor:
    """Return the mean squared error (B, N) of every patch of a grid."""
    return reduce((recon - images).square(), "B c (gh p) (gw q) -> B (gh gw)", "mean", gh=grid[0], gw=grid[1])
