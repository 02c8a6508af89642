"""Rows of tokens: whether two ends pair, their means and products, over the rows that are there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from batteries.errors import InputError
from composer.procrustes import moments

SPREAD_FLOOR = 1e-12  # of the tokens' mean square: below it they are constant


class Products(NamedTuple):
    """What the best map between centred tokens x (..., n, D_s) and y (..., n, D_t) depends on.

    Attributes:
        cross: (..., D_s, D_t) x'y.
        spread: (...) squared length of x.
        total: (...) that of y.
    """

    cross: Tensor
    spread: Tensor
    total: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Products:
        """Of centred tokens."""
        spread, total = (torch.linalg.vector_norm(end, dim=(-2, -1)).square() for end in (x, y))
        return cls(x.mT @ y, spread, total)


def checked(source: Tensor, target: Tensor, rows: Tensor | None) -> Tensor:
    """How many rows (...) are there, once source and target are found to pair.

    Raises:
        InputError: rows that do not pair (``PAIRS``), fewer than two (``FEW_ROWS``), none after the mask (``NO_ROWS``).
    """
    if min(source.ndim, target.ndim) < 2 or source.shape[-2] != target.shape[-2]:
        raise InputError(
            "tokens that do not pair",
            code="PAIRS",
            expected="(..., n, D_s) and (..., n, D_t) of one n",
            found=f"{tuple(source.shape)} and {tuple(target.shape)}",
        )
    there = torch.tensor(source.shape[-2], device=source.device) if rows is None else rows.bool().sum(dim=-1)
    left = int(there.min())
    if left < 2:
        masked = rows is not None and left == 0
        raise InputError(
            "no rows left after the mask" if masked else "fewer than two rows",
            code="NO_ROWS" if masked else "FEW_ROWS",
            expected="at least 2 that both ends have",
            found=left,
            remedy="Give more images, or leave out a cell that has hardly any of them.",
        )
    return there.expand(torch.broadcast_shapes(source.shape[:-2], target.shape[:-2], there.shape))


def centred(tokens: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens (..., n, D) less their mean, zero in rows that are not there, and the mean (..., D).

    Raises:
        InputError: not finite (``NOT_FINITE``), or constant (``CONSTANT``).
    """
    if rows is None:
        there, count = tokens.double(), torch.tensor(tokens.shape[-2], device=tokens.device)
        mean = there.mean(dim=-2)
        moved = there - mean[..., None, :]
    else:
        kept = rows.bool()[..., None]
        there, count = torch.where(kept, tokens.double(), 0.0), rows.bool().sum(dim=-1)
        mean = there.sum(dim=-2) / count[..., None]
        moved = torch.where(kept, there - mean[..., None, :], 0.0)
    spread = torch.linalg.vector_norm(moved, dim=(-2, -1)).square()
    if not bool(spread.isfinite().all()):
        remedy = "Mask those rows, or find out what made them."
        found = f"{int((~there.isfinite()).any(dim=-1).sum())} rows with NaN or infinity"
        raise InputError("tokens that are not finite", code="NOT_FINITE", found=found, remedy=remedy)
    if bool(_constant(spread, count, mean).any()):
        raise InputError(
            "tokens that do not vary",
            code="CONSTANT",
            expected="tokens that differ between regions",
            remedy="Use a probe of varied images; a constant cell cannot be aligned.",
        )
    return moved, mean


def products(source: Tensor, target: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Products]:
    """Means of both ends (..., D), and the products of the tokens about them.

    Raises:
        InputError: as :func:`centred` does.
    """
    found = moments.moments(source, target, rows)
    if found:
        means, cross, squares = found
        count = source.shape[-2] if rows is None else rows.bool().sum(dim=-1)
        if bool((squares.isfinite() & ~_constant(squares, count, means)).all()):
            return means[0], means[1], Products(cross, squares[0], squares[1])
    (x, centre), (y, translation) = centred(source, rows), centred(target, rows)
    return centre, translation, Products.of(x, y)


def _constant(spread: Tensor, count: Tensor | int, mean: Tensor) -> Tensor:
    return spread <= SPREAD_FLOOR * (spread + count * mean.square().sum(dim=-1))
