"""Soft hand of a run: CV of the first patch's rows at every step, its average, and its effect on the loss.

The published soft hand multiplies the loss. The other forms are those of the published ablations: a penalty with a gradient
through the CV, a CV that is measured without an effect, and none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from batteries.data.sources import seed_of
from batteries.geometry import attractor, simplex_cv
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from batteries.training.plan import Plan

DRAWS = 200  # simplices of one patch's M at each step, as published; of the penalty too, where their number is ours
EMA_DECAY = 0.99


def averaged(plan: Plan, step: int, M: Tensor, average: float | None) -> float | None:
    """Return the average CV after a step.

    Args:
        plan: Plan of the run.
        step: Step that the simplices are drawn for.
        M: Matrix (1, V, D) of the first patch.
        average: Average before the step; None before the first reading.

    Returns:
        Average with the reading of M; as it was if the plan takes none, or if the rows are degenerate.
    """
    if not plan.reads_cv:
        return average
    image = torch.zeros(1, dtype=torch.int64)
    reading = simplex_cv.cv(M, image, draws=DRAWS, seed=_seed(plan, step), corrected=False)  # as published
    if not isinstance(reading, Estimate):
        return average
    before = reading.value if average is None else average
    return EMA_DECAY * before + (1 - EMA_DECAY) * reading.value


def factor(plan: Plan, step: int, average: float | None) -> float:
    """Return the factor of the mse: 1 + boost * exp(-(distance / sigma)^2 / 2) for ``loss``, by the average CV; else 1."""
    boost = plan.boost_at(step)
    if plan.hand != "loss" or boost == 0 or average is None:
        return 1.0
    distance = average / attractor.sphere_cv(plan.spec.D) - 1
    return 1 + boost * math.exp(-((distance / plan.sigma) ** 2) / 2)


def penalty(plan: Plan, step: int) -> Callable[[Tensor], Tensor] | None:
    """Return the function of M (1, V, D) that is added to the loss of a step, if the plan has one."""
    return partial(_penalty, plan, step) if plan.hand == "penalty" else None


def _penalty(plan: Plan, step: int, M: Tensor) -> Tensor:
    """Compute boost * (CV / exact - 1)^2, on the simplices that :func:`averaged` reads; 0 for degenerate rows."""
    found = simplex_cv.differentiable_cv(M[0], draws=DRAWS, seed=_seed(plan, step))
    if isinstance(found, Degenerate):
        return M.new_zeros(())
    return plan.boost_at(step) * (found / attractor.sphere_cv(plan.spec.D) - 1).square()


def _seed(plan: Plan, step: int) -> int:
    return seed_of(plan.seed, step, 2)
