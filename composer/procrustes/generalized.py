"""One frame for many cells: generalised Procrustes, all cells at a time, with rows that some of them lack.

Every cell is turned towards the frame, and the frame is the mean of the cells that have a row; again until nothing moves, see
:mod:`composer.procrustes.fixed_point`.
Cells are first brought to one spread, so that none has more to say because its tokens are long. Narrower cells are padded with
zeros. Legend: C cells, n rows, D width of the frame.

Sources: Gower, Psychometrika 40 (1975); for missing rows, Commandeur, Matching Configurations (1991), chapter 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
    """A consensus of cells.

    Attributes:
        tokens: (n, D) of mean square 1, centred; zeros where no cell has a row.
        rows: (n,) which rows some cell has.
        residual: Share of the cells' variance that is not in the frame, in the mean over cells.

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

    @property
    def width(self) -> int:
        """D."""
        return self.tokens.shape[-1]


@neutral()
def generalised(tokens: Sequence[Tensor], rows: Tensor | None = None) -> Frame:
    """Consensus of several cells.

    Args:
        tokens: Per cell (n, its own D), row i of each paired with row i of the others.
        rows: (C, n) boolean, which rows each cell has; left out, all.

    Raises:
        InputError: rows that do not pair, constant tokens, or a cell that has hardly a row in common with the one that has
            most, which is where the iteration starts.

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
        raise InputError("tokens that do not pair", code="PAIRS", expected="(n, D) of each cell, of one n", found=shapes)
    if rows is not None:
        return _with_gaps(tokens, rows.bool())
    checked(tokens[0], tokens[0], None)
    frames, residual = frames_of(tokens, torch.ones(1, len(tokens), dtype=torch.bool))
    return Frame(frames[0], torch.ones(len(frames[0]), dtype=torch.bool), float(residual))


def maps_into(frame: Frame, tokens: Sequence[Tensor], rows: Tensor | None = None) -> tuple[Alignment, ...]:
    """One map into a frame per cell, each as of the width of the frame."""
    kept = [None] * len(tokens) if rows is None else list(rows)
    return tuple(map_into(frame, own, there) for own, there in zip(tokens, kept, strict=True))


@neutral()
def map_into(frame: Frame, tokens: Tensor, rows: Tensor | None = None, *, unequal: Unequal = "pad") -> Alignment:
    """Map of a cell into a frame, whether or not it had a part in it; the frame stays as it is.

    Args:
        frame: The consensus.
        tokens: (n, its own D).
        rows: (n,) boolean, which rows the cell has.
        unequal: What to do with a cell of another width.

    Raises:
        InputError: a cell that is wider than the frame, and not projected (``WIDER``); or as
            :func:`~composer.procrustes.fit` says.

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
            "a cell wider than the frame",
            code="WIDER",
            expected=f"at most {frame.width}",
            found=tokens.shape[-1],
            remedy="Choose unequal='project', or make the consensus again with this cell in it.",
        )
    kept = frame.rows if rows is None else frame.rows & rows.bool()
    return fit(tokens, frame.tokens, rows=kept, unequal=unequal)


def change(before: Frame, after: Frame) -> float:
    """How much a consensus changed: the share of the later one's variance that no similarity makes of the earlier.

    On the rows that both have. Zero where only the coordinates differ, as they do between any two iterations.

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
    """Consensus of cells that lack some rows: each is turned on those that it and the frame have."""
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
    """Every cell turned and shifted to where it is nearest to the frame on the rows of both, and of its size there."""
    checked(stacked, frame, both)
    centre, translation, shared = products(stacked, frame, both)
    rotation, _, _ = turn(shared.cross, "allowed")
    stretch = (shared.total / shared.spread).sqrt()
    return (stacked - centre[:, None]) @ (stretch[:, None, None] * rotation) + translation[:, None]


def _mean(mapped: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Frame that mapped cells (C, n, D) make, and its rows."""
    count = kept.sum(dim=0)
    there = count > 0
    mean = torch.where(kept[..., None], mapped, 0.0).sum(dim=0) / count.clamp_min(1)[:, None]
    moved, _ = centred(mean, there)
    return moved / _size(moved, there), there


def _left(mapped: Tensor, frame: Tensor, kept: Tensor) -> Tensor:
    """(C,) mean square distance to the frame, which has mean square 1, as the cells have by now."""
    distance = torch.where(kept, (mapped - frame).square().sum(dim=-1), 0.0)
    return distance.sum(dim=-1) / kept.sum(dim=-1)


def _size(moved: Tensor, kept: Tensor) -> Tensor:
    """(...) root mean square of the rows (..., n, D) that are there."""
    return (moved.square().sum(dim=(-2, -1)) / kept.sum(dim=-1)).sqrt()
