"""Interface of a credit rule: how the blocks of a host get their learning signal.

A rule gives every place l = 0 ... L of the stream a *signal*: its claim of the gradient of the loss at h_l. Block l is then
trained by the local loss <signal_l, f_l(h_{l-1})> with h_{l-1} held constant, so that no gradient passes from block to block;
the read-out is trained by the true loss of its own output, as in direct feedback alignment (Nokland, NeurIPS 2016). With the
true gradients for signals this is backpropagation.

Legend: B samples, K outputs, L blocks; h_l (B, ...) the stream after block l, of F numbers a sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from batteries import short_repr
from batteries.errors import InputError
from composer.hosts.evaluation import evaluated, output_of
from composer.hosts.objective import sample_losses
from composer.hosts.residual_mlp import Staged


@dataclass(frozen=True, eq=False)
class LocalPass:
    """Forward pass of a host whose blocks are cut from each other.

    Attributes:
        host: The host.
        targets: Targets (B,) or of the output's shape.
        states: Stream h_0 ... h_L, without graphs.
        branches: Outputs of begin and of every block, each with the graph of that part alone.
        loss: Mean loss, with the graph of the read-out alone.
        error: Gradient of each sample's loss at its output (B, K).
        top: Gradient of each sample's loss at h_L.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> local = credit.LocalPass.of(host, torch.zeros(5, 8), torch.arange(5) % 3)
    >>> len(local.states), local.error.shape
    (3, torch.Size([5, 3]))
    """

    host: Staged
    targets: Tensor
    states: tuple[Tensor, ...]
    branches: tuple[Tensor, ...]
    loss: Tensor
    error: Tensor
    top: Tensor

    __repr__ = short_repr.fields

    @classmethod
    def of(cls, host: Staged, x: Tensor, targets: Tensor) -> LocalPass:
        """Run a host on a batch."""
        branches = [host.begin(x)]
        states = [branches[0].detach()]
        for block in host.blocks:
            branches.append(block(states[-1]))
            states.append(states[-1] + branches[-1].detach())
        last = states[-1].requires_grad_()
        output = host.finish(last)
        losses = sample_losses(output, targets)
        error, top = torch.autograd.grad(losses.sum(), [output, last], retain_graph=True)
        return cls(host, targets, tuple(h.detach() for h in states), tuple(branches), losses.mean(), error, top)


class CreditRule:
    """A credit rule. Subclasses give the signals; those with feedback that learns or is random override the rest.

    Attributes:
        name: Name of the rule.
        ours: Definitions that the source leaves open, in words; empty if none.
        learns: True if the rule has feedback of its own to train.

    >>> import torch
    >>> from composer import credit, hosts
    >>> class Reversed(credit.CreditRule):
    ...     name = "reversed"
    ...     def signals(self, local):
    ...         return [-signal for signal in credit.Backpropagation().signals(local)]
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> credit.deep_cosine(Reversed(), host, torch.randn(30, 8), torch.arange(30) % 3)
    (-1.0, -1.0)
    """

    name: ClassVar[str]
    ours: ClassVar[str] = ""
    learns: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    def signals(self, local: LocalPass) -> list[Tensor]:
        """Return the signals at h_0 ... h_L, each (B, ...), in units of the gradient of one sample's loss."""
        raise NotImplementedError

    def gradients(self, host: Staged, x: Tensor, targets: Tensor) -> float:
        """Set ``.grad`` of the host's parameters from a batch, and return its mean loss."""
        host.zero_grad()
        local = LocalPass.of(host, x, targets)
        with unrecorded(host):
            signals = [signal / len(x) for signal in self.local_signals(local)]
        torch.autograd.backward([local.loss, *local.branches], [torch.ones_like(local.loss), *signals])
        return float(local.loss.detach())

    def local_signals(self, local: LocalPass) -> list[Tensor]:
        """Return the gradients of the local losses at every branch: the signals, unless a rule adds a term."""
        return self.signals(local)

    def learn(self, local: LocalPass) -> None:
        """Train the rule's own feedback on a batch, if it learns."""

    def redrawn(self, generator: torch.Generator) -> CreditRule | None:
        """Return this rule with fresh random feedback of the same scale; None if it has no feedback to draw."""
        return None


def true_signals(host: Staged, x: Tensor, targets: Tensor) -> list[Tensor]:
    """Return the gradients of each sample's loss at h_0 ... h_L, each (B, ...).

    Args:
        host: Host in a mode in which samples are independent: evaluation mode if it has BatchNorm.
        x: Inputs of a batch.
        targets: Targets.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> [tuple(g.shape) for g in credit.true_signals(host, torch.zeros(5, 8), torch.arange(5) % 3)]
    [(5, 32), (5, 32), (5, 32)]
    """
    streams, output = _forward(host, x)
    return list(torch.autograd.grad(sample_losses(output, targets).sum(), streams))


class Backpropagation(CreditRule):
    """Backpropagation: the true gradients.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> x, y = torch.randn(30, 8), torch.arange(30) % 3
    >>> credit.deep_cosine(credit.Backpropagation(), host, x, y)
    (1.0, 1.0)
    """

    name = "bp"

    def signals(self, local: LocalPass) -> list[Tensor]:
        """Return the true gradients at the states of a pass."""
        found = [local.top]
        for block, h in zip(reversed(local.host.blocks), reversed(local.states[:-1]), strict=True):
            found.append(found[-1] + through(block, h, found[-1]))
        return found[::-1]

    def gradients(self, host: Staged, x: Tensor, targets: Tensor) -> float:
        """Set the true gradients in one pass."""
        host.zero_grad()
        loss = sample_losses(host(x), targets).mean()
        loss.backward()
        return float(loss.detach())


class FrozenBlocks(Backpropagation):
    """Baseline: blocks as they were made; begin and read-out learn by backpropagation through them.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> _ = credit.FrozenBlocks().gradients(host, torch.randn(30, 8), torch.arange(30) % 3)
    >>> any(p.grad is not None for p in host.blocks.parameters()), host.leave.weight.grad is not None
    (False, True)
    """

    name = "frozen"
    ours = "what lies before the first block learns, too"

    def gradients(self, host: Staged, x: Tensor, targets: Tensor) -> float:
        """Set the true gradients of all parameters outside of the blocks."""
        learning = [weight for weight in host.blocks.parameters() if weight.requires_grad]
        try:
            for weight in learning:
                weight.requires_grad_(False)
            return super().gradients(host, x, targets)
        finally:
            for weight in learning:
                weight.requires_grad_(True)


def through(block: nn.Module, h: Tensor, signal: Tensor) -> Tensor:
    """Pull a signal at a block's output back to its input, at a state h."""
    state = h.detach().requires_grad_()
    with torch.enable_grad():
        (pulled,) = torch.autograd.grad(block(state), state, signal.detach())
    return pulled


def _forward(host: Staged, x: Tensor) -> tuple[list[Tensor], Tensor]:
    with torch.enable_grad():
        h = host.begin(x)
        streams = [h if h.requires_grad else h.requires_grad_()]
        for block in host.blocks:
            streams.append(streams[-1] + block(streams[-1]))
        return streams, host.finish(streams[-1])


@contextmanager
def unrecorded(host: nn.Module) -> Iterator[None]:
    """Leave the running statistics of BatchNorm alone: those of a step are of its first pass, however many a rule makes."""
    norms = [m for m in host.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def refuse_unfit(host: Staged, x: Tensor, targets: Tensor) -> None:
    """Check that a host shows its stream, takes inputs, and makes of them what fits the targets.

    Raises:
        InputError: no stream in view (``STAGED``) or no blocks (``NO_BLOCKS``); inputs that the host does not take
            (``BATCHES``); targets that do not fit its output (``TARGETS``).
    """
    refuse_unstaged(host)
    with evaluated(host), torch.no_grad():
        sample_losses(output_of(host, x[:2]), targets[:2])


def refuse_unstaged(host: object) -> None:
    """Check that a host shows its stream and has blocks.

    Raises:
        InputError: no stream in view (``STAGED``), or no blocks (``NO_BLOCKS``).
    """
    if not isinstance(host, Staged):
        remedy = "Derive the host from composer.hosts.Staged."
        raise InputError("host without a stream in view", code="STAGED", found=type(host).__name__, remedy=remedy)
    if not len(host.blocks):
        raise InputError("host without blocks", code="NO_BLOCKS", expected="at least one", found=type(host).__name__)


def feedback_like(shapes: Sequence[tuple[int, int]], deviations: Sequence[float], generator: torch.Generator) -> list[Tensor]:
    """Draw Gaussian matrices of these shapes and standard deviations."""
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu") for shape in shapes]
    return [deviation * matrix for deviation, matrix in zip(deviations, drawn, strict=True)]
