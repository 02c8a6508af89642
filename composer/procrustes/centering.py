"""Checks, means and cross products of paired rows of tokens, over the rows that are present."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from batteries.errors import InputError
from composer.procrustes import moments

SPREAD_FLOOR = 1e-12  # relative to the tokens' mean square; tokens with less variance are constant


class Products(NamedTuple):
    """Statistics that determine the best map between centred tokens x (..., n, D_s) and y (..., n, D_t).

    Attributes:
        cross: Cross product x'y (..., D_s, D_t).
        spread: Squared norm (...) of x.
        total: Squared norm (...) of y.
    """

    cross: Tensor
    spread: Tensor
    total: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Products:
        """Compute the products of centred tokens."""
        spread, total = (torch.linalg.vector_norm(end, dim=(-2, -1)).square() for end in (x, y))
        return cls(x.mT @ y, spread, total)


def checked(source: Tensor, target: Tensor, rows: Tensor | None) -> Tensor:
    """Check that source and target pair, and count the rows (...) that are present.

    Raises:
        InputError: rows that do not pair (``PAIRS``), fewer than two (``FEW_ROWS``), none after the mask (``NO_ROWS``).
    """
    if min(source.ndim, target.ndim) < 2 or source.shape[-2] != target.shape[-2]:
        raise InputError(
            "tokens do not pair",
            code="PAIRS",
            expected="(..., n, D_s) and (..., n, D_t) of the same n",
            found=f"{tuple(source.shape)} and {tuple(target.shape)}",
        )
    there = torch.tensor(source.shape[-2], device=source.device) if rows is None else rows.bool().sum(dim=-1)
    left = int(there.min())
    if left < 2:
        masked = rows is not None and left == 0
        raise InputError(
            "no rows left after the mask" if masked else "fewer than two rows",
            code="NO_ROWS" if masked else "FEW_ROWS",
            expected="at least 2 rows present at both ends",
            found=left,
            remedy="Use more images, or omit a cell that lacks most rows.",
        )
    return there.expand(torch.broadcast_shapes(source.shape[:-2], target.shape[:-2], there.shape))


def centred(tokens: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """Centre tokens (..., n, D), with zeros in missing rows, and return them with their mean (..., D).

    Raises:
        InputError: tokens that are not finite (``NOT_FINITE``) or constant (``CONSTANT``).
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
        remedy = "Mask those rows, or find the cause of the values."
        found = f"{int((~there.isfinite()).any(dim=-1).sum())} rows with NaN or infinity"
        raise InputError("tokens not finite", code="NOT_FINITE", found=found, remedy=remedy)
    if bool(_constant(spread, count, mean).any()):
        raise InputError(
            "constant tokens",
            code="CONSTANT",
            expected="tokens that differ between regions",
            remedy="Use a probe with varied images; a cell with constant tokens cannot be aligned.",
        )
    return moved, mean


def products(source: Tensor, target: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Products]:
    """Compute the means (..., D) of both ends, and the products of the centred tokens.

    Raises:
        InputError: as in :func:`centred`.
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
