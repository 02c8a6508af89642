"""Correction of a CV within a matrix for its finite number of rows.

All simplices of a matrix are drawn among the same V rows, so their volumes vary less than those of independent points. For
uniform rows the mean volume given one row is the same for every row, by symmetry, hence the bias begins at V^-2, and the
jackknife that removes such a term has the weights V^2 and -(V-1)^2 over 2V-1 (Schucany, Gray and Owen, "On bias reduction in
estimation", Journal of the American Statistical Association 66, 1971); the usual one, V and -(V-1), would turn the bias round.
What remains, by V and D: ``docs/results/coverage.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST_ROWS = 12  # with 8, at D = 4, the correction overshoots by nearly as much as it removes


def suits(V: int) -> bool:
    """Return True if V rows are enough for the correction."""
    return V >= FEWEST_ROWS


def corrected_cv(volumes: Tensor, rows: Tensor, V: int) -> Tensor:
    """Compute the CV of the volumes of each matrix, jackknifed over its rows: from the draws without one row, for each row.

    Args:
        volumes: Volumes (n, draws).
        rows: Rows (n, draws, 5) of each simplex.
        V: Rows of a matrix.

    Returns:
        CVs (n,).
    """
    centre = volumes.mean(dim=1, keepdim=True)
    powers = [torch.ones_like(volumes), volumes - centre, (volumes - centre).square()]
    sums = [power.sum(dim=1, keepdim=True) for power in powers]  # (n, 1)
    without = [total - _by_row(power, rows, V) for total, power in zip(sums, powers, strict=True)]  # (n, V)
    whole, left_out = _cv(sums, centre)[:, 0], _cv(without, centre).mean(dim=1)
    return (V**2 * whole - (V - 1) ** 2 * left_out) / (2 * V - 1)


def _by_row(values: Tensor, rows: Tensor, V: int) -> Tensor:
    """Sum values (n, draws) over the draws that contain each row: (n, V)."""
    sums = torch.zeros(len(values), V, dtype=values.dtype)
    return sums.scatter_add_(1, rows.flatten(1), values[..., None].expand(rows.shape).flatten(1))


def _cv(sums: list[Tensor], centre: Tensor) -> Tensor:
    """Compute a CV from the count, sum and sum of squares of values about a centre."""
    count, total, squares = sums
    variance = (squares - total.square() / count) / (count - 1)
    return variance.clamp_min(0.0).sqrt() / (centre + total / count)
