"""White tokens: every axis of unit variance before the rotation of a map, and that taken back after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.errors import InputError
from batteries.io import short_repr
from composer.procrustes.polar import TINY

WORST_CONDITION = 1e12  # of a covariance that is whitened: beyond it the smallest axes are rounding


@dataclass(frozen=True, eq=False)
class Whitening:
    """What stands before and after the rotation of a whitened map.

    Attributes:
        before: (..., D, D) from centred source tokens to white ones.
        after: (..., D, D) from white target tokens to centred ones.
        condition: (..., 2) condition numbers of the covariances of source and target: how much was stretched.
    """

    before: Tensor
    after: Tensor
    condition: Tensor

    __repr__ = short_repr.fields


def whitened(x: Tensor, y: Tensor, width: int) -> tuple[Tensor, Tensor, Whitening]:
    """Centred x and y with unit covariance each, and how, as matrices of ``width``: padded axes stay as they are."""
    (white, _, first), (whiter, colour, second) = _square_roots(x, "source"), _square_roots(y, "target")
    before, after = (_extended(part, width) for part in (white, colour))
    return x @ white, y @ whiter, Whitening(before, after, torch.stack([first, second], dim=-1))


def _square_roots(x: Tensor, end: str) -> tuple[Tensor, Tensor, Tensor]:
    """C^(-1/2), C^(1/2) (..., D, D) and the condition number (...) of C = x'x over its largest eigenvalue."""
    covariance = x.mT @ x
    values, axes = torch.linalg.eigh(covariance)
    condition = values[..., -1] / values[..., 0].clamp_min(TINY)
    if bool((condition > WORST_CONDITION).any()):
        raise InputError(
            "tokens that do not vary along every axis cannot be whitened",
            code="SINGULAR",
            expected=f"a condition number of at most {WORST_CONDITION:.0e}",
            found=f"{float(condition.max()):.1e}",
            where=end,
            remedy="Use more images, or whiten=False.",
        )
    root = values[..., None, :].sqrt()
    return (axes / root) @ axes.mT, (axes * root) @ axes.mT, condition


def _extended(matrix: Tensor, width: int) -> Tensor:
    """Square matrix with ones on the diagonal behind it, up to ``width``."""
    own = matrix.shape[-1]
    behind = (torch.arange(width, device=matrix.device) >= own).to(matrix)
    return F.pad(matrix, (0, width - own, 0, width - own)) + behind.diag()
