"""Consensus frames: how the iteration settles, and many of them at once over the same cells.

Turning cells towards a frame and the frame towards their mean goes slowly along axes on which cells agree little. So the next
frame is looked for ahead, in the direction of the last step, and from rest again where the residual grew.
Legend: K frames, C cells, n rows, D width of a frame, d of a cell.

Sources: Nesterov, Soviet Math. Dokl. 27 (1983), for the steps; O'Donoghue and Candes, Found. Comput. Math. 15 (2015), for
starting again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from composer.procrustes.centering import SPREAD_FLOOR, centred
from composer.procrustes.polar import polar

ROUNDS = 500  # of the iteration, at most: unrelated cells take up to 300
SETTLED = 1e-7  # of a frame's length: a round that moves it less is the last


def settled(step: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor) -> tuple[Tensor, Tensor]:
    """Fixed points of a step, each of K on its own way.

    Args:
        step: From frames (K, n, D) of any length to frames of length 1 and their residuals (K,).
        start: Frames of length 1.

    Returns:
        Frames and residuals.
    """
    at, before, age = start, start, torch.ones(len(start), dtype=start.dtype)
    last = torch.full_like(age, torch.inf)
    for _ in range(ROUNDS):
        after, residual = step(at)
        if bool((_length(after - at) < SETTLED).all()):
            break
        age = torch.where(residual > last, 1.0, age)
        older = (1 + (1 + 4 * age.square()).sqrt()) / 2
        ahead = after + ((age - 1) / older)[:, None, None] * (after - before)
        at = ahead / _length(ahead)[:, None, None]
        before, last, age = after, residual, older
    return after, residual


def frames_of(tokens: Sequence[Tensor], members: Tensor) -> tuple[Tensor, Tensor]:
    """Consensus of each of several sets of cells.

    Args:
        tokens: Per cell (n, its own D), row i of each paired with row i of the others.
        members: (K, C) boolean, which cells are in each set: at least one.

    Returns:
        Frames (K, n, D) of mean square 1, D that of the widest cell, in the coordinates of each set's first; and the share
        (K,) of their cells' variance that is not in them.

    Raises:
        InputError: tokens that are constant or not finite.
    """
    cells = SideBySide.of(tokens)
    firsts = members.int().argmax(dim=1).tolist()
    start = torch.stack([cells.at_rest(first) for first in firsts])
    counts = members.sum(dim=1)

    def step(at: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.einsum("ms,skd->kmd", cells.core, cells.turned(at, members))
        length = _length(total)
        return total / length[:, None, None], (2 - 2 * length / counts).clamp_min(0)

    at, residual = settled(step, start)
    total = torch.einsum("ns,skd->knd", cells.rows, cells.turned(at, members))
    return total * (len(cells.rows) ** 0.5 / _length(total))[:, None, None], residual


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Cells whose rows are all there, each along the S_c axes on which it varies, the narrow ones before the wide.

    Attributes:
        order: Of the cells.
        axes: Per cell, in that order, (its own D, S_c).
        rows: (n, S) centred tokens, of length 1 in each cell, S the sum of all S_c.
        core: (m, S) with the same products between columns, m no more than S.
        width: D of a frame: of the widest cell.
    """

    order: tuple[int, ...]
    axes: tuple[Tensor, ...]
    rows: Tensor
    core: Tensor
    width: int

    @classmethod
    def of(cls, tokens: Sequence[Tensor]) -> SideBySide:
        """Of tokens (n, D) per cell."""
        parts = []
        for own in tokens:
            moved, _ = centred(own, None)
            moved = moved / torch.linalg.vector_norm(moved)
            variance, axes = torch.linalg.eigh(moved.mT @ moved)
            varying = axes[:, variance > SPREAD_FLOOR * variance.sum()]
            parts.append((moved @ varying, varying))
        order = tuple(sorted(range(len(parts)), key=lambda cell: parts[cell][1].shape[1]))
        rows = torch.cat([parts[cell][0] for cell in order], dim=1)
        core = torch.linalg.qr(rows, mode="r").R if rows.shape[0] > rows.shape[1] else rows
        axes = tuple(parts[cell][1] for cell in order)
        return cls(order, axes, rows, core, max(own.shape[1] for own in tokens))

    def at_rest(self, cell: int) -> Tensor:
        """Cell's own tokens (m, D) in its own coordinates, among rows of the core."""
        place = self.order.index(cell)
        begin = sum(axes.shape[1] for axes in self.axes[:place])
        axes = self.axes[place]
        own = self.core[:, begin : begin + axes.shape[1]] @ axes.mT
        return F.pad(own, (0, self.width - own.shape[1]))

    def turned(self, frames: Tensor, members: Tensor) -> Tensor:
        """(S, K, D) what turns every cell towards each of the frames (K, m, D), zero where it is not a member (K, C)."""
        products = torch.einsum("ms,kmd->skd", self.core, frames)
        kept = members[:, list(self.order)].mT
        parts, begin, done = [], 0, 0
        for width, group in groupby(axes.shape[1] for axes in self.axes):
            count = len(list(group))
            cross = products[begin : begin + count * width].unflatten(0, (count, width)).permute(0, 2, 3, 1)
            rotation = polar(cross.flatten(0, 1)).view(cross.shape) * kept[done : done + count, :, None, None]
            parts.append(rotation.permute(0, 3, 1, 2).flatten(0, 1))
            begin, done = begin + count * width, done + count
        return torch.cat(parts)


def _length(frames: Tensor) -> Tensor:
    return torch.linalg.vector_norm(frames, dim=(1, 2))
