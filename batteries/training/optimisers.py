"""Optimisers of a plan, on the parameters of a model."""

from __future__ import annotations

from torch import nn
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer

from batteries.training.muon import BatchedMuon
from batteries.training.plan import DECAY, EVALUATIONS, HISTORY, ITERATIONS, MOMENTUM, Plan


def optimisers_of(plan: Plan, model: nn.Module) -> tuple[Optimizer, ...]:
    """Return the optimisers that share the parameters of a model: one, or with Muon those of the matrices and of the rest."""
    parameters = list(model.parameters())
    match plan.optimiser:
        case "adam":
            return (Adam(parameters, lr=plan.rate, fused=True),)
        case "adamw":
            return (AdamW(parameters, lr=plan.rate, weight_decay=DECAY, fused=True),)
        case "sgd":
            nesterov = plan.momentum is None
            momentum = MOMENTUM if plan.momentum is None else plan.momentum
            return (SGD(parameters, lr=plan.rate, momentum=momentum, nesterov=nesterov, fused=True),)
        case "muon":
            matrices = [parameter for parameter in parameters if parameter.ndim == 2]
            rest = [parameter for parameter in parameters if parameter.ndim != 2]
            return BatchedMuon(matrices, lr=plan.rate), Adam(rest, lr=plan.rate, fused=True)
        case "lbfgs":
            most = EVALUATIONS - 1  # torch's search along a line takes one gradient more than it is given
            limits = {"max_iter": ITERATIONS, "max_eval": most, "history_size": HISTORY}
            return (LBFGS(parameters, lr=plan.rate, line_search_fn="strong_wolfe", **limits),)
