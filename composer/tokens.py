"""Tokens of different cells, paired by image region.

A cell's tokens lie on its grid of patches. Cells pair on the coarsest grid among them; a finer cell's tokens are averaged
over each region. Legend: B images, G regions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from einops import reduce
from torch import Tensor
from torch.nn import functional as F

from batteries.errors import InputError

Grid = tuple[int, int]


def coarsest(grids: Sequence[Grid]) -> Grid:
    """The grid with the fewest regions, which every other must subdivide.

    Raises:
        InputError: a grid that does not subdivide it.
    """
    target = min(grids, key=lambda grid: grid[0] * grid[1])
    for rows, columns in grids:
        if rows % target[0] or columns % target[1]:
            raise InputError(
                "grids of patches that do not nest",
                code="GRIDS",
                expected=f"multiples of {target[0]} x {target[1]}",
                found=f"{rows} x {columns}",
                remedy="Choose an image size whose patch grids divide one another.",
            )
    return target


def pool(tokens: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Average tokens (B, N, D) on ``grid`` over the regions of ``target``: (B, G, D)."""
    return reduce(
        tokens,
        "B (gh p gw q) D -> B (gh gw) D",
        "mean",
        gh=target[0],
        gw=target[1],
        p=grid[0] // target[0],
        q=grid[1] // target[1],
    )


def pad(tokens: Tensor, width: int) -> Tensor:
    """Zeros behind the last coordinate, up to ``width``: how tokens of unequal D share a frame.

    Raises:
        InputError: tokens that are wider (``WIDTH``).
    """
    missing = width - tokens.shape[-1]
    if missing < 0:
        expected, found = f"at most {width}", tokens.shape[-1]
        raise InputError("tokens wider than their frame", code="WIDTH", expected=expected, found=found)
    return F.pad(tokens, (0, missing)) if missing else tokens
