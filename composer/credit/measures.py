"""Measures of a rule's signals against the true gradient: deep cosine and its null, nudging, decrease of the loss.

All take a host as it is, in evaluation mode, on one batch. Definitions that the source leaves open are ours: the deep cosine
of a layer is the mean over samples of the cosine between signal and true gradient at h_l, l = 1 ... L, and that of a rule the
mean over layers; a nudge moves one state of the stream against the signal; a decrease is that of one step of all blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries import short_repr
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer.credit.rule import Backpropagation, CreditRule, LocalPass, refuse_unfit, true_signals
from composer.hosts.evaluation import evaluated
from composer.hosts.objective import sample_losses
from composer.hosts.residual_mlp import Staged

DRAWS = 20  # of fresh feedback
NUDGE = 1e-2  # length of a nudge, as a share of the state's norm
STEP = 1e-3  # length of a step of the blocks' weights, as a share of their norm
DIGITS = 6  # of a cosine: the rounding of float32 over a stream


@dataclass(frozen=True)
class FreshNull:
    """Deep cosine of a rule beside that of fresh random feedback of the same scale.

    Attributes:
        own: Deep cosine with the feedback that the host was trained with.
        mean: Mean over fresh draws.
        deviation: Standard deviation over fresh draws.
        draws: Number of fresh draws.

    >>> from composer import credit
    >>> null = credit.FreshNull(own=0.16, mean=0.0, deviation=0.02, draws=20)
    >>> round(null.z, 1), null.separated
    (7.8, True)
    """

    own: float
    mean: float
    deviation: float
    draws: int

    __repr__ = short_repr.fields

    @property
    def z(self) -> float:
        """Distance from the null in its standard errors: of one draw and of the mean over the draws."""
        error = self.deviation * math.sqrt(1 + 1 / self.draws)
        above = self.own - self.mean
        return above / error if error else math.copysign(math.inf, above) if above else 0.0

    @property
    def separated(self) -> bool:
        """True if the rule's own feedback lies more than three standard errors above fresh feedback."""
        return self.z > 3


@neutral()
def deep_cosine(rule: CreditRule, host: Staged, x: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Compute the mean cosine between a rule's signals and the true gradients, at h_1 ... h_L.

    Args:
        rule: Credit rule.
        host: Host.
        x: Inputs of a batch.
        targets: Targets.

    Returns:
        A cosine for each block, rounded to six decimals.

    Raises:
        InputError: host without a stream in view (``STAGED``) or blocks (``NO_BLOCKS``); inputs that it does not take
            (``BATCHES``), targets that do not fit its output (``TARGETS``); signals not finite (``NOT_FINITE``).

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> credit.deep_cosine(credit.Backpropagation(), host, torch.randn(30, 8), torch.arange(30) % 3)
    (1.0, 1.0)
    """
    refuse_unfit(host, x, targets)
    with evaluated(host), torch.enable_grad():
        local = LocalPass.of(host, x, targets)
        return _cosines(rule.signals(local), true_signals(host, x, targets))


@neutral()
def fresh_null(
    rule: CreditRule, host: Staged, x: Tensor, targets: Tensor, *, draws: int = DRAWS, seed: int = 0
) -> FreshNull | None:
    """Compare a rule's deep cosine with that of fresh random feedback; None for a rule without feedback.

    Args:
        rule: Credit rule.
        host: Host, trained with the rule.
        x: Inputs of a batch.
        targets: Targets.
        draws: Number of fresh draws, two or more.
        seed: Seed of the draws.

    Raises:
        InputError: fewer than two draws (``DRAWS``), or as in :func:`deep_cosine`.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> rule = credit.DirectFeedback(host, torch.zeros(2, 8), outputs=3, seed=0)
    >>> credit.fresh_null(rule, host, torch.randn(30, 8), torch.arange(30) % 3).separated
    False
    """
    if draws < 2:
        raise InputError("too few draws", code="DRAWS", expected="2 or more", found=draws)
    refuse_unfit(host, x, targets)
    generator = torch.Generator().manual_seed(seed)
    with evaluated(host), torch.enable_grad():
        local, true = LocalPass.of(host, x, targets), true_signals(host, x, targets)
        found = []
        for _ in range(draws):
            other = rule.redrawn(generator)
            if other is None:
                return None
            found.append(fmean(_cosines(other.signals(local), true)))
        return FreshNull(fmean(_cosines(rule.signals(local), true)), fmean(found), stdev(found), draws)


@neutral()
def nudging(rule: CreditRule, host: Staged, x: Tensor, targets: Tensor, *, size: float = NUDGE) -> tuple[float, ...]:
    """Nudge each state of the stream against a rule's signal: the share of the true gradient's decrease of the loss.

    Args:
        rule: Credit rule.
        host: Host.
        x: Inputs of a batch.
        targets: Targets.
        size: Length of the nudge as a share of the state's norm.

    Returns:
        For each of h_1 ... h_L, the mean decrease of the loss by the rule's nudge over that by one of the same length along the
        true gradient: 1 as good, 0 no better than none, below 0 harmful.

    Raises:
        InputError: a state that no nudge along the gradient improves (``NUDGE``), or as in :func:`deep_cosine`.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> [round(share, 2) for share in credit.nudging(credit.Backpropagation(), host, torch.randn(30, 8), torch.arange(30) % 3)]
    [1.0, 1.0]
    """
    refuse_unfit(host, x, targets)
    with evaluated(host), torch.enable_grad():
        local = LocalPass.of(host, x, targets)
        signals, true = rule.signals(local), true_signals(host, x, targets)
        return tuple(
            _share(
                _nudged_loss(local, place, true[place], 0.0),
                _nudged_loss(local, place, signals[place], size),
                _nudged_loss(local, place, true[place], size),
                f"h_{place}",
            )
            for place in range(1, len(local.states))
        )


@neutral()
def loss_decrease(rule: CreditRule, host: Staged, x: Tensor, targets: Tensor, *, size: float = STEP) -> float:
    """Step the blocks' weights along a rule's gradient: the share of backpropagation's decrease of the loss.

    Args:
        rule: Credit rule.
        host: Host, which is not changed.
        x: Inputs of a batch.
        targets: Targets.
        size: Length of the step as a share of the norm of the blocks' weights.

    Raises:
        InputError: a loss that the true gradient does not lower (``NUDGE``), or as in :func:`deep_cosine`.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> credit.loss_decrease(credit.Backpropagation(), host, torch.randn(30, 8), torch.arange(30) % 3)
    1.0
    """
    refuse_unfit(host, x, targets)
    with evaluated(host), torch.no_grad():
        before = _loss(host, x, targets)
        return _share(
            before, _stepped(rule, host, x, targets, size), _stepped(Backpropagation(), host, x, targets, size), "blocks"
        )


def _cosines(signals: Sequence[Tensor], true: Sequence[Tensor]) -> tuple[float, ...]:
    found = [
        float(F.cosine_similarity(signal.flatten(1).double(), gradient.flatten(1).double(), dim=1, eps=1e-300).mean())
        for signal, gradient in zip(signals[1:], true[1:], strict=True)
    ]
    if not all(map(math.isfinite, found)):
        raise InputError("signals not finite", code="NOT_FINITE", found=found)
    return tuple(round(cosine, DIGITS) for cosine in found)


@torch.no_grad()
def _nudged_loss(local: LocalPass, place: int, signal: Tensor, size: float) -> float:
    """Compute the mean loss after a nudge of h_place against a signal."""
    h = local.states[place]
    unit = F.normalize(signal.flatten(1).double(), dim=1, eps=1e-300).view_as(signal)  # 0 where the signal is
    norms = h.flatten(1).norm(dim=1).view(-1, *[1] * (h.ndim - 1))
    h = h - (size * norms * unit).to(h.dtype)
    for block in local.host.blocks[place:]:
        h = h + block(h)
    return float(sample_losses(local.host.finish(h), local.targets).double().mean())


@torch.no_grad()
def _stepped(rule: CreditRule, host: Staged, x: Tensor, targets: Tensor, size: float) -> float:
    """Compute the mean loss after a step of the blocks along a rule's gradient."""
    with _own_gradients(host), torch.enable_grad():
        rule.gradients(host, x, targets)
        steps = [(weight, weight.grad) for weight in host.blocks.parameters() if weight.grad is not None]
    if not steps:  # frozen
        return _loss(host, x, targets)
    weights, slopes = zip(*steps, strict=True)
    length = size * _norm(weights) / max(_norm(slopes), 1e-300)
    before = [weight.clone() for weight in weights]
    try:
        for weight, slope in zip(weights, slopes, strict=True):
            weight.sub_(length * slope)
        return _loss(host, x, targets)
    finally:
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)


@contextmanager
def _own_gradients(host: Staged) -> Iterator[None]:
    """Restore the gradients that a user has of a host."""
    held = [(weight, weight.grad) for weight in host.parameters()]
    for weight, _ in held:
        weight.grad = None
    try:
        yield
    finally:
        for weight, slope in held:
            weight.grad = slope


@torch.no_grad()
def _loss(host: Staged, x: Tensor, targets: Tensor) -> float:
    return float(sample_losses(host(x), targets).double().mean())


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def _share(before: float, after: float, best: float, where: str) -> float:
    if not before > best:
        raise InputError("loss not lowered by its gradient", code="NUDGE", expected=f"below {before}", found=best, where=where)
    return (before - after) / (before - best)
