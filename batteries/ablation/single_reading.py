"""Law of a single reading of the CV, as published figures and the CV-EMA consist of: 200 simplices of one matrix, uncorrected.

It depends on the attractor: a reading of Gaussian rows varies almost three times as much as one of uniform rows, and is lower
than the exact CV by up to a fifteenth, since its simplices share V rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Generator, Tensor

from batteries.cell.spec import CellSpec
from batteries.engine.torch_settings import neutral
from batteries.geometry import simplex_cv
from batteries.geometry.attractor import SIMPLEX
from batteries.geometry.estimates import Estimate
from batteries.training.soft_hand import DRAWS

MATRICES = 512  # that the law is measured on; its standard deviation is then known within some 6%
FEWEST_ROWS = SIMPLEX + 1


@dataclass(frozen=True)
class Reading:
    """Law of a reading.

    Attributes:
        share: Mean of a reading over the CV that is corrected for the number of rows.
        deviation: Standard deviation of a reading.
    """

    share: float
    deviation: float

    def z(self, reading: float, cv: float, error: float) -> float:
        """Return the difference between a CV and a reading in standard errors of both.

        Args:
            reading: Single reading.
            cv: CV, corrected for the number of rows.
            error: Standard error of the CV.
        """
        return (cv * self.share - reading) / math.hypot(error * self.share, self.deviation)


def reading_of(spec: CellSpec) -> Reading | None:
    """Return the law of a reading on the attractor that a spec's row norm implies; None if it has no CV or none is known."""
    return _measured(spec.row_norm, spec.V, spec.D)


@cache
@neutral()
def _measured(row_norm: str, V: int, D: int) -> Reading | None:
    """Measure the law on random matrices of a shape, as rows are before training."""
    rows = torch.randn(MATRICES, V, D, generator=Generator().manual_seed(0), dtype=torch.float64)
    made = _normalised(rows, row_norm)
    if made is None or V < FEWEST_ROWS:
        return None
    drawn, exact = (
        simplex_cv.cv(made, torch.arange(MATRICES), draws=DRAWS, corrected=corrected) for corrected in (False, True)
    )
    if not isinstance(drawn, Estimate) or not isinstance(exact, Estimate):
        return None
    return Reading(drawn.value / exact.value, drawn.standard_error * math.sqrt(MATRICES))


def _normalised(rows: Tensor, row_norm: str) -> Tensor | None:
    match row_norm:
        case "sphere":
            return torch.nn.functional.normalize(rows, dim=-1)
        case "layernorm":
            return torch.nn.functional.layer_norm(rows, rows.shape[-1:])
        case "none" | "scale":
            return rows
    return None
