"""Rules with fixed random feedback: feedback alignment, and direct feedback alignment with or without a penalty.

Feedback alignment: Lillicrap et al., "Random synaptic feedback weights support error backpropagation for deep learning", Nature
Communications 7, 2016. Direct: Nokland, "Direct feedback alignment provides learning in deep neural networks", NeurIPS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import grad as convolution

from batteries.errors import InputError
from composer.credit.rule import CreditRule, LocalPass, feedback_like
from composer.hosts.objective import sample_losses
from composer.hosts.residual_mlp import Staged

Feedback = Mapping[nn.Module, Tensor]


class FeedbackAlignment(CreditRule):
    """Feedback alignment: backpropagation in which every weight matrix sends its signal back through a fixed random one.

    Ours: matrices and convolutions of the blocks and of the read-out have feedback of the standard deviation of their initial
    weights; normalisations, attention and activations keep their exact derivatives.

    Args:
        host: Host, whose weights give shapes and scales.
        seed: Seed of the feedback.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> rule = credit.FeedbackAlignment(host, seed=0)
    >>> cosines = credit.deep_cosine(rule, host, torch.randn(30, 8), torch.arange(30) % 3)
    >>> len(cosines), max(cosines) < 0.99
    (2, True)
    """

    name = "fa"
    ours = "feedback for the weights of blocks and read-out, of their initial deviation; exact derivatives elsewhere"

    def __init__(self, host: Staged, seed: int) -> None:
        layers = [m for m in host.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        generator = torch.Generator().manual_seed(seed)
        self.feedback: Feedback = {layer: _fresh(layer.weight, generator) for layer in layers}

    def signals(self, local: LocalPass) -> list[Tensor]:
        """Return the gradients with random feedback at the states of a pass."""
        with _rerouted(self.feedback):
            last = local.states[-1].clone().requires_grad_()
            losses = sample_losses(local.host.finish(last), local.targets)
            found = list(torch.autograd.grad(losses.sum(), last))
            for block, h in zip(reversed(local.host.blocks), reversed(local.states[:-1]), strict=True):
                state = h.clone().requires_grad_()
                found.append(found[-1] + torch.autograd.grad(block(state), state, found[-1])[0])
        return found[::-1]

    def gradients(self, host: Staged, x: Tensor, targets: Tensor) -> float:
        """Set the gradients in one pass."""
        host.zero_grad()
        h = host.begin(x)  # outside: its layers hand nothing on, and torch warns of hooks without use
        with _rerouted(self.feedback):
            for block in host.blocks:
                h = h + block(h)
            loss = sample_losses(host.finish(h), targets).mean()
            loss.backward()
        return float(loss.detach())

    def redrawn(self, generator: torch.Generator) -> FeedbackAlignment:
        """Return this rule with other random matrices."""
        other = object.__new__(FeedbackAlignment)
        other.feedback = {layer: _fresh(matrix, generator) for layer, matrix in self.feedback.items()}
        return other


class DirectFeedback(CreditRule):
    """Direct feedback alignment: the output error reaches every block through a fixed random matrix of its own.

    With ``penalty`` the local loss of a block has a term ``penalty * norm(f)^2`` of its output f, averaged over
    samples; it does not count as signal. Ours: matrices (K, F) of variance 1 / K, for all numbers of a map or of tokens.

    Args:
        host: Host with the shapes.
        sample: Inputs of a few samples.
        outputs: Number K of outputs.
        seed: Seed of the matrices.
        penalty: Factor of the squared norm of block outputs.

    Raises:
        InputError: no outputs, or a penalty that is negative or not finite (``RULE``).

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> rule = credit.DirectFeedback(host, torch.zeros(2, 8), outputs=3, seed=0, penalty=1e-2)
    >>> rule.gradients(host, torch.randn(30, 8), torch.arange(30) % 3) > 0
    True
    """

    name = "dfa"
    ours = "feedback of variance 1 / K over all numbers of a sample's stream"

    def __init__(self, host: Staged, sample: Tensor, outputs: int, seed: int, penalty: float = 0.0) -> None:
        if outputs < 1 or not 0 <= penalty < math.inf:
            found = f"{outputs} outputs, penalty {penalty}"
            raise InputError("invalid rule", code="RULE", expected="an output or more, a penalty of 0 or more", found=found)
        self.penalty = penalty
        shapes = [(outputs, _features(host, sample))] * (len(host.blocks) + 1)
        generator = torch.Generator().manual_seed(seed)
        self.feedback = feedback_like(shapes, [1 / math.sqrt(outputs)] * len(shapes), generator)

    def signals(self, local: LocalPass) -> list[Tensor]:
        """Return the output error times each block's matrix."""
        error = local.error.flatten(1)
        return [(error @ matrix).view_as(h) for matrix, h in zip(self.feedback, local.states, strict=True)]

    def local_signals(self, local: LocalPass) -> list[Tensor]:
        """Add the gradient of the penalty, 2 * penalty * f, to the signals of the blocks."""
        first, *others = self.signals(local)
        blocks = zip(others, local.branches[1:], strict=True)
        return [first, *(signal + 2 * self.penalty * f.detach() for signal, f in blocks)]

    def redrawn(self, generator: torch.Generator) -> DirectFeedback:
        """Return this rule with other random matrices."""
        other = object.__new__(type(self))
        other.penalty = self.penalty
        shapes = [(len(matrix), matrix.shape[1]) for matrix in self.feedback]
        other.feedback = feedback_like(shapes, [float(matrix.std()) for matrix in self.feedback], generator)
        return other


@torch.no_grad()
def _features(host: Staged, sample: Tensor) -> int:
    return host.begin(sample[:2])[0].numel()


def _fresh(weight: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu")
    return drawn * float(weight.detach().std())


class _rerouted:  # noqa: N801 - a context manager
    """Replaces, inside of a ``with``, the gradient that layers hand to their inputs."""

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        self._handles = [layer.register_full_backward_hook(_hook(matrix)) for layer, matrix in self._feedback.items()]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _hook(matrix: Tensor) -> Callable[[nn.Module, Any, Any], tuple[Tensor | None, ...]]:
    def reroute(layer: nn.Module, to_input: Any, at_output: Any) -> tuple[Tensor | None, ...]:
        if to_input[0] is None:
            return to_input
        if isinstance(layer, nn.Conv2d):
            sent = convolution.conv2d_input(
                to_input[0].shape, matrix, at_output[0], layer.stride, layer.padding, layer.dilation, layer.groups
            )
        else:
            sent = at_output[0] @ matrix
        return (sent,)

    return reroute
