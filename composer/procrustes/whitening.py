"""Whitening of tokens: scaling of every axis to unit variance before the rotation of a map, and back after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries import short_repr
from batteries.errors import InputError
from composer.procrustes.polar import TINY

WORST_CONDITION = 1e12  # of a covariance; beyond it the smallest axes are rounding errors


@dataclass(frozen=True, eq=False)
class Whitening:
    """Matrices before and after the rotation of a whitened map.

    Attributes:
        before: Matrix (..., D, D) from centred source tokens to white ones.
        after: Matrix (..., D, D) from white target tokens to centred ones.
        condition: Condition numbers (..., 2) of the covariances of source and target.
    """

    before: Tensor
    after: Tensor
    condition: Tensor

    __repr__ = short_repr.fields


def whitened(x: Tensor, y: Tensor, width: int) -> tuple[Tensor, Tensor, Whitening]:
    """Whiten centred x and y, and return the matrices extended to ``width``, with padded axes unchanged."""
    (white, _, first), (whiter, colour, second) = _square_roots(x, "source"), _square_roots(y, "target")
    before, after = (_extended(part, width) for part in (white, colour))
    return x @ white, y @ whiter, Whitening(before, after, torch.stack([first, second], dim=-1))


def _square_roots(x: Tensor, end: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return C^(-1/2) and C^(1/2) (..., D, D) of C = x'x, and its condition number (...)."""
    covariance = x.mT @ x
    values, axes = torch.linalg.eigh(covariance)
    condition = values[..., -1] / values[..., 0].clamp_min(TINY)
    if bool((condition > WORST_CONDITION).any()):
        raise InputError(
            "cannot whiten tokens that do not vary along every axis",
            code="SINGULAR",
            expected=f"a condition number of at most {WORST_CONDITION:.0e}",
            found=f"{float(condition.max()):.1e}",
            where=end,
            remedy="Use more images, or whiten=False.",
        )
    root = values[..., None, :].sqrt()
    return (axes / root) @ axes.mT, (axes * root) @ axes.mT, condition


def _extended(matrix: Tensor, width: int) -> Tensor:
    """Extend a square matrix to ``width`` with ones on the diagonal."""
    own = matrix.shape[-1]
    behind = (torch.arange(width, device=matrix.device) >= own).to(matrix)
    return F.pad(matrix, (0, width - own, 0, width - own)) + behind.diag()
