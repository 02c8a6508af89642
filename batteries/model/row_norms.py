"""Normalisations of the rows of M that depend on one row alone; ``scale`` is of a whole batch, and its users compute it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from batteries.model.layers import normed
from batteries.model.spectral import unit_rows

DIVISOR_FLOOR = 1e-8  # as in the public code of the last two


def standardised(M: Tensor) -> Tensor:
    """Subtract from every row (..., D) its mean, and divide it by its unbiased standard deviation."""
    return (M - M.mean(dim=-1, keepdim=True)) / M.std(dim=-1, keepdim=True).clamp_min(DIVISOR_FLOOR)


def scaled_to_largest(M: Tensor) -> Tensor:
    """Divide every row (..., D) by its largest absolute value."""
    return M / M.abs().amax(dim=-1, keepdim=True).clamp_min(DIVISOR_FLOOR)


def unchanged(M: Tensor) -> Tensor:
    """Return the rows as they are."""
    return M


ROW_NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "sphere": unit_rows,
    "none": unchanged,
    "layernorm": normed,
    "layernorm_unbiased": standardised,
    "row_max": scaled_to_largest,
}
