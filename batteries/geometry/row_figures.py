"""Figures of a cell's rows and singular values that need no draws: effective rank, and the distance from the sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from batteries.engine import dispatch


def effective_rank(S: Tensor) -> Tensor:
    """Compute exp(entropy of S / sum S), between 1 (one mode) and D (equal modes).

    Args:
        S: Singular values (..., D).

    Returns:
        Effective ranks (...), float64.

    >>> import torch
    >>> from batteries import geometry
    >>> geometry.effective_rank(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])).round(decimals=4)
    tensor([4., 1.], dtype=torch.float64)
    """
    share = S.double() / S.double().sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1).exp()


def radius_error(M: Tensor) -> float:
    """Return the largest deviation of a row's length from 1, over all rows of M (..., V, D).

    >>> import torch
    >>> from batteries import geometry
    >>> geometry.radius_error(torch.tensor([[1.0, 0.0], [0.0, 1.5]]))
    0.5
    """
    dispatch.refuse_transform("a radius error", M)
    return float((M.double().norm(dim=-1) - 1.0).abs().max())
