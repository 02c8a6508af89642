"""Training of a host by a credit rule: AdamW, a cosine schedule, and the learning of the rule's own feedback."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries.engine.torch_settings import neutral, own_draws
from batteries.errors import InputError, PolicyError
from composer.credit.rule import CreditRule, LocalPass, refuse_unfit, refuse_unstaged, unrecorded
from composer.hosts.residual_mlp import Staged


@dataclass(frozen=True)
class CreditPlan:
    """Plan of a training, by default that of the published reference setting.

    Attributes:
        epochs: Passes over the training data.
        batch: Samples a step.
        rate: Learning rate at the start of the cosine schedule, which ends at zero.
        decay: Weight decay of AdamW.

    Raises:
        InputError: numbers that cannot be (``CREDIT_PLAN``).

    >>> from composer import credit
    >>> credit.CreditPlan(epochs=30)
    CreditPlan(epochs=30, batch=128, rate=0.001, decay=0.01)
    """

    epochs: int = 100
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.01

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not 0 < self.rate < math.inf or not 0 <= self.decay < math.inf:
            expected = "at least one epoch and one sample a step, a rate above 0, a decay of 0 or more"
            raise InputError("invalid plan", code="CREDIT_PLAN", expected=expected, found=self)


@neutral()
def train(
    host: Staged,
    rule: CreditRule,
    data: tuple[Tensor, Tensor],
    plan: CreditPlan,
    seed: int,
    *,
    look: Callable[[int], None] = lambda epoch: None,
) -> list[float]:
    """Train a host by a rule, in place; it is left in evaluation mode.

    Args:
        host: Host.
        rule: Credit rule, made for this host.
        data: Training inputs and targets.
        plan: Plan of the training.
        seed: Seed of the order of the samples.
        look: Function that receives the number of each finished epoch; 0 before the first step.

    Returns:
        Mean loss of each epoch.

    Raises:
        InputError: host without a stream in view (``STAGED``) or blocks (``NO_BLOCKS``); no sample (``TASK_IMAGES``); inputs
            that the host does not take (``BATCHES``), targets that do not fit its output (``TARGETS``).
        PolicyError: loss or gradient not finite (``DIVERGED``); the host keeps the weights before that step.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> data = torch.randn(60, 8), torch.arange(60) % 3
    >>> losses = credit.train(host, credit.Backpropagation(), data, credit.CreditPlan(epochs=5, batch=20), seed=0)
    >>> len(losses), losses[-1] < losses[0]
    (5, True)
    """
    refuse_unstaged(host)
    inputs, targets = data
    if not len(inputs) or len(inputs) != len(targets):
        found = f"{len(inputs)} and {len(targets)}"
        raise InputError("inputs and targets do not match", code="TASK_IMAGES", expected="one target a sample", found=found)
    refuse_unfit(host, inputs, targets)
    optimiser = torch.optim.AdamW(host.parameters(), lr=plan.rate, weight_decay=plan.decay)
    parts = math.ceil(len(inputs) / plan.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.epochs * parts)
    generator = torch.Generator().manual_seed(seed)
    mean_losses: list[float] = []
    look(0)
    for epoch in range(1, plan.epochs + 1):
        host.train()
        losses = []
        for chosen in torch.randperm(len(inputs), generator=generator).split(plan.batch):
            losses.append(_step(host, rule, optimiser, inputs[chosen], targets[chosen], f"epoch {epoch}"))
            schedule.step()
        mean_losses.append(math.fsum(losses) / len(losses))
        look(epoch)
    host.eval()
    return mean_losses


def _step(host: Staged, rule: CreditRule, optimiser: torch.optim.Optimizer, x: Tensor, targets: Tensor, where: str) -> float:
    if rule.learns:
        with unrecorded(host):
            rule.learn(LocalPass.of(host, x, targets))
    loss = rule.gradients(host, x, targets)
    slopes = [p.grad for p in host.parameters() if p.grad is not None]
    if not math.isfinite(loss) or not torch.nn.utils.get_total_norm(slopes).isfinite():
        raise PolicyError("training diverged", code="DIVERGED", expected="finite loss and gradient", found=loss, where=where)
    optimiser.step()
    return loss


def seeded(make: Callable[[], Staged], seed: int) -> Staged:
    """Make a host whose initial weights depend on a seed alone.

    Args:
        make: Function that makes the host.
        seed: Seed of the weights.

    >>> import torch
    >>> from composer import credit, hosts
    >>> form = hosts.StreamForm(width=32, blocks=2)
    >>> one, other = (credit.seeded(lambda: hosts.ResidualMLP(8, 3, form), seed=0) for _ in range(2))
    >>> torch.equal(one.leave.weight, other.leave.weight)
    True
    """
    with own_draws(seed):
        return make()
