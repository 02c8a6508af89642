"""Generalised Procrustes analysis: one consensus frame for several cells, which may lack rows.

Every cell is rotated towards the frame, and each row of the frame is the mean over the cells that have it; both steps repeat
until convergence, see :mod:`composer.procrustes.fixed_point`.
Cells are first scaled to equal spread, so that long tokens get no larger weight. Narrower cells are padded with zeros.
Legend: C cells, n rows, D width of the frame.

Sources: Gower, Psychometrika 40 (1975); for missing rows, Commandeur, Matching Configurations (1991), chapter 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries import short_repr
from batteries.engine import dispatch
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer import grids as widths
from composer.procrustes.centering import centred, checked, products
from composer.procrustes.fixed_point import frames_of, settled
from composer.procrustes.polar import turn
from composer.procrustes.similarity import Alignment, Unequal, fit


@dataclass(frozen=True, eq=False)
class Frame:
    """Consensus frame of several cells.

    Attributes:
        tokens: Centred tokens (n, D) of mean square 1; zeros in rows that no cell has.
        rows: Mask (n,) of the rows that at least one cell has.
        residual: Share of the cells' variance that is not in the frame, averaged over cells.

    >>> import torch
    >>> from composer import procrustes
    >>> tokens = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> frame = procrustes.generalised([tokens, 2 * tokens.flip(1)])
    >>> frame.tokens.shape, bool(frame.rows.all())
    (torch.Size([100, 4]), True)
    """

    tokens: Tensor
    rows: Tensor
    residual: float

    __repr__ = short_repr.fields

    @property
    def width(self) -> int:
        """Width D of the frame."""
        return self.tokens.shape[-1]


@neutral()
def generalised(tokens: Sequence[Tensor], rows: Tensor | None = None) -> Frame:
    """Fit the consensus frame of several cells.

    Args:
        tokens: Tokens (n, its own D) of each cell, row i paired with row i of the others.
        rows: Mask (C, n), boolean, of the rows that each cell has; defaults to all.

    Raises:
        InputError: rows that do not pair, constant tokens, or a cell with fewer than two rows in common with the cell that has
            most rows, from which the iteration starts.

    >>> import torch
    >>> from composer import procrustes
    >>> tokens = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> frame = procrustes.generalised([tokens, 2 * tokens.flip(1), tokens + 1])
    >>> frame.width, round(frame.residual, 6)
    (4, 0.0)
    """
    dispatch.refuse_derivative("a consensus", *tokens)
    shapes = [tuple(own.shape) for own in tokens]
    if not shapes or any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
        raise InputError("tokens do not pair", code="PAIRS", expected="(n, D) of each cell, with the same n", found=shapes)
    if rows is not None:
        return _with_gaps(tokens, rows.bool())
    checked(tokens[0], tokens[0], None)
    frames, residual = frames_of(tokens, torch.ones(1, len(tokens), dtype=torch.bool))
    return Frame(frames[0], torch.ones(len(frames[0]), dtype=torch.bool), float(residual))


def maps_into(frame: Frame, tokens: Sequence[Tensor], rows: Tensor | None = None) -> tuple[Alignment, ...]:
    """Fit one map into a frame per cell, padding narrower cells to its width."""
    kept = [None] * len(tokens) if rows is None else list(rows)
    return tuple(map_into(frame, own, there) for own, there in zip(tokens, kept, strict=True))


@neutral()
def map_into(frame: Frame, tokens: Tensor, rows: Tensor | None = None, *, unequal: Unequal = "pad") -> Alignment:
    """Fit the map of a cell into a frame, which stays unchanged; the cell need not have contributed to it.

    Args:
        frame: Consensus frame.
        tokens: Tokens (n, its own D) of the cell.
        rows: Mask (n,), boolean, of the rows that the cell has; defaults to all.
        unequal: Treatment of a cell of another width, ``pad`` or ``project``.

    Raises:
        InputError: a cell wider than the frame that is not projected (``WIDER``), or the errors of
            :func:`~composer.procrustes.fit`.

    >>> import torch
    >>> from composer import procrustes
    >>> tokens = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> frame = procrustes.generalised([tokens, 2 * tokens.flip(1)])
    >>> late = procrustes.map_into(frame, tokens - 5)
    >>> torch.allclose(late(tokens - 5).double(), frame.tokens, atol=1e-5)
    True
    """
    dispatch.refuse_derivative("a fitted map", tokens)
    if tokens.shape[-1] > frame.width and unequal == "pad":
        raise InputError(
            "cell wider than the frame",
            code="WIDER",
            expected=f"at most {frame.width}",
            found=tokens.shape[-1],
            remedy="Use unequal='project', or refit the consensus including this cell.",
        )
    kept = frame.rows if rows is None else frame.rows & rows.bool()
    return fit(tokens, frame.tokens, rows=kept, unequal=unequal)


def change(before: Frame, after: Frame) -> float:
    """Measure the change between two frames: the share of the later one's variance that no similarity map predicts.

    Only rows of both frames count. Frames that differ only in their coordinates have a change of zero.

    >>> import torch
    >>> from composer import procrustes
    >>> tokens = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> before, after = procrustes.generalised([tokens, tokens]), procrustes.generalised([3 * tokens.flip(1)] * 2)
    >>> round(abs(procrustes.change(before, after)), 6)
    0.0
    """
    kept = before.rows & after.rows
    return float(fit(before.tokens, after.tokens, rows=kept, unequal="pad").residual)


def _with_gaps(tokens: Sequence[Tensor], kept: Tensor) -> Frame:
    """Fit the consensus of cells that lack rows: each is rotated on the rows that it shares with the frame."""
    width = max(own.shape[1] for own in tokens)
    stacked = torch.stack([widths.pad(own.double(), width) for own in tokens])
    checked(stacked, stacked, kept)
    most = int(kept.sum(dim=1).argmax())
    frame, there = _mean(stacked[most, None], kept[most, None])
    frame, there = _mean(_met(stacked, frame, kept & there), kept)
    size = there.sum().double().sqrt()

    def step(at: Tensor) -> tuple[Tensor, Tensor]:
        mapped = _met(stacked, size * at[0], kept & there)
        after, _ = _mean(mapped, kept)
        return (after / size)[None], _left(mapped, after, kept).mean()[None]

    found, residual = settled(step, (frame / size)[None])
    return Frame(size * found[0], there, float(residual))


def _met(stacked: Tensor, frame: Tensor, both: Tensor) -> Tensor:
    """Map every cell onto the frame by rotation, shift and scaling to the frame's size, fitted on the rows of both."""
    checked(stacked, frame, both)
    centre, translation, shared = products(stacked, frame, both)
    rotation, _, _ = turn(shared.cross, "allowed")
    stretch = (shared.total / shared.spread).sqrt()
    return (stacked - centre[:, None]) @ (stretch[:, None, None] * rotation) + translation[:, None]


def _mean(mapped: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Average mapped cells (C, n, D) to a frame, and return it with its rows."""
    count = kept.sum(dim=0)
    there = count > 0
    mean = torch.where(kept[..., None], mapped, 0.0).sum(dim=0) / count.clamp_min(1)[:, None]
    moved, _ = centred(mean, there)
    return moved / _size(moved, there), there


def _left(mapped: Tensor, frame: Tensor, kept: Tensor) -> Tensor:
    """Return each cell's mean square distance (C,) to the frame; both have mean square 1."""
    distance = torch.where(kept, (mapped - frame).square().sum(dim=-1), 0.0)
    return distance.sum(dim=-1) / kept.sum(dim=-1)


def _size(moved: Tensor, kept: Tensor) -> Tensor:
    """Return the root mean square (...) of the present rows of (..., n, D)."""
    return (moved.square().sum(dim=(-2, -1)) / kept.sum(dim=-1)).sqrt()
