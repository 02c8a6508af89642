"""One step of a run: gradient, soft hand, clipping, and update of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from batteries.engine import parallel
from batteries.engine.threads import threads
from batteries.errors import PolicyError
from batteries.training import soft_hand
from batteries.training.gradient import gradient
from batteries.training.run import Run

READOUT = ("readout.", "narrow.")  # parameters between M and the decoder, which ``fixed_readout`` keeps


def take_step(run: Run, images: Tensor) -> float:
    """Update the weights of a run, its average CV and its number of steps.

    Args:
        run: Run before the step.
        images: Images (B, channels, height, width) of the step.

    Returns:
        Mean squared error before the update, of the images or of the target that a teacher is part of.

    Raises:
        PolicyError: loss or gradient that is not finite (``DIVERGED``).
    """
    with torch.autocast(images.device.type, enabled=False):  # worker threads do not inherit it
        loss = _search(run, images) if run.plan.optimiser == "lbfgs" else _follow(run, images)
    run.step += 1
    return loss


def _follow(run: Run, images: Tensor) -> float:
    """Take a step of optimisers that need one gradient."""
    loss, gradients, M = gradient(run.model, images, soft_hand.penalty(run.plan, run.step), run.target)

    def update(gradients: Sequence[Tensor]) -> None:
        _read_cv(run, M)
        _set_gradients(run, loss, gradients)
        for optimiser in run.optimisers:
            _set_rate(run, optimiser)
            optimiser.step()

    parallel.run([gradients], update, alone=True)
    return loss


def _search(run: Run, images: Tensor) -> float:
    """Take a step of an optimiser that asks for several gradients, all of one objective.

    Images, simplices of the penalty and the factor of the soft hand stay the same during the step; the average CV is updated
    once, before the first move. The optimiser's own arithmetic has one thread, so that no bit depends on their number.
    """
    count, term = torch.get_num_threads(), soft_hand.penalty(run.plan, run.step)
    losses: list[float] = []

    def objective() -> float:
        with _threads(count):
            loss, gradients, M = gradient(run.model, images, term, run.target)
        if not losses:
            _read_cv(run, M)
        losses.append(loss)
        _set_gradients(run, loss, gradients)
        added = 0.0 if term is None else term(M).item()
        return soft_hand.factor(run.plan, run.step, run.cv_average) * loss + added

    with _threads(1):
        for optimiser in run.optimisers:
            _set_rate(run, optimiser)
            optimiser.step(objective)
    return losses[0]


def _threads(count: int) -> AbstractContextManager[object]:
    """Set the number of threads for a ``with``; a setting that would change nothing takes longer than a small gradient."""
    return nullcontext() if torch.get_num_threads() == count else threads(count)


def _read_cv(run: Run, M: Tensor) -> None:
    run.cv_average = soft_hand.averaged(run.plan, run.step, M, run.cv_average)


def _set_gradients(run: Run, loss: float, gradients: Sequence[Tensor]) -> None:
    """Give the parameters the gradient times the factor of the soft hand, clipped."""
    factor = soft_hand.factor(run.plan, run.step, run.cv_average)
    for (name, parameter), found in zip(run.model.named_parameters(), gradients, strict=True):
        parameter.grad = None if run.plan.fixed_readout and name.startswith(READOUT) else found * factor
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.plan.clip_at(loss) or math.inf)
    if not math.isfinite(loss + norm.item()):
        remedy = "Lower the rate; the folder's checkpoint is from before."
        raise PolicyError("training diverged", code="DIVERGED", found=f"loss {loss}", where=f"step {run.step}", remedy=remedy)


def _set_rate(run: Run, optimiser: torch.optim.Optimizer) -> None:
    for group in optimiser.param_groups:
        group["lr"] = run.plan.rate_at(run.step)
