"""Fixed-point iteration for consensus frames, for several sets of the same cells at once.

Alternately rotating cells towards a frame and moving the frame to their mean converges slowly along axes on which cells agree
little. The iteration is therefore accelerated: each step is extrapolated along the previous one, and the momentum is reset
where the residual grew.
Legend: K frames, C cells, n rows, D width of a frame, d of a cell.

Sources: Nesterov, Soviet Math. Dokl. 27 (1983), for the steps; O'Donoghue and Candes, Found. Comput. Math. 15 (2015), for
resets.
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

ROUNDS = 500  # at most; unrelated cells take up to 300
SETTLED = 1e-7  # of a frame's norm; the iteration stops at a smaller step


def settled(step: Callable[[Tensor], tuple[Tensor, Tensor]], start: Tensor) -> tuple[Tensor, Tensor]:
    """Iterate a step to its fixed points, K independent ones at once.

    Args:
        step: Function from frames (K, n, D) of any norm to frames of norm 1 and their residuals (K,).
        start: Frames (K, n, D) of norm 1.

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
    """Fit the consensus of each of K sets of cells.

    Args:
        tokens: Tokens (n, its own D) of each cell, row i paired with row i of the others.
        members: Mask (K, C), boolean, of the cells of each set, at least one.

    Returns:
        Frames (K, n, D) of mean square 1, as wide as the widest cell, in the coordinates of each set's first cell; and the
        share (K,) of the cells' variance that is not in the frame.

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
    """Cells without missing rows, each in the S_c axes on which it varies, ordered from narrow to wide.

    Attributes:
        order: Indices of the cells, from narrow to wide.
        axes: Axes (its own D, S_c) of each cell, in that order.
        rows: Centred tokens (n, S) side by side, of norm 1 in each cell, where S is the sum of all S_c.
        core: Smaller matrix (m, S) with the same products between columns, where m is at most S.
        width: Width D of a frame: that of the widest cell.
    """

    order: tuple[int, ...]
    axes: tuple[Tensor, ...]
    rows: Tensor
    core: Tensor
    width: int

    @classmethod
    def of(cls, tokens: Sequence[Tensor]) -> SideBySide:
        """Centre, scale and reduce the tokens (n, D) of each cell."""
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
        """Return a cell's tokens (m, D) in its own coordinates, over the rows of the core."""
        place = self.order.index(cell)
        begin = sum(axes.shape[1] for axes in self.axes[:place])
        axes = self.axes[place]
        own = self.core[:, begin : begin + axes.shape[1]] @ axes.mT
        return F.pad(own, (0, self.width - own.shape[1]))

    def turned(self, frames: Tensor, members: Tensor) -> Tensor:
        """Return the rotations (S, K, D) of every cell towards the frames (K, m, D), zero for non-members (K, C)."""
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
