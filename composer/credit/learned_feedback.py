"""Rules with learned feedback: a bridge that predicts the last state, and one that predicts the credit.

The source names both and defines neither. The definitions here are ours: the state bridge trains each block by the loss of a
predicted last state, in the manner of local losses with a shared read-out; the credit bridge learns the matrices of direct
feedback by bootstrapping, in the manner of synthetic gradients (Jaderberg et al., "Decoupled neural interfaces using synthetic
gradients", ICML 2017).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.engine.torch_settings import PINNED
from batteries.errors import InputError
from composer.credit.rule import CreditRule, LocalPass, feedback_like, through
from composer.hosts.objective import sample_losses
from composer.hosts.residual_mlp import Staged

RATE = 1e-3  # of the feedback, under Adam
FLOOR = 1e-12  # least mean square by which an error of prediction is divided


class _Learned(CreditRule):
    """Rule with matrices that learn; they are no parameters of the host."""

    learns = True
    feedback: list[Tensor]
    _optimiser: torch.optim.Optimizer

    def _take(self, feedback: list[Tensor]) -> None:
        self.feedback = [matrix.requires_grad_() for matrix in feedback]
        self._optimiser = torch.optim.Adam(self.feedback, lr=RATE)

    def _descend(self, predicted: list[Tensor], wanted: list[Tensor]) -> None:
        """Lower the error of prediction, as a share of the mean square of the target, by one step."""
        parts = [F.mse_loss(p, w) / w.square().mean().clamp_min(FLOOR) for p, w in zip(predicted, wanted, strict=True)]
        self._optimiser.zero_grad()
        torch.stack(parts).sum().backward()
        self._optimiser.step()

    def redrawn(self, generator: torch.Generator) -> CreditRule:
        """Return this rule with random matrices of the deviation of the learned ones."""
        other = object.__new__(type(self))
        shapes = [(len(matrix), matrix.shape[1]) for matrix in self.feedback]
        other._take(feedback_like(shapes, [float(matrix.detach().std()) for matrix in self.feedback], generator))
        return other


class StateBridge(_Learned):
    """State bridge: block l learns by the loss of the read-out at the last state predicted from h_l.

    A matrix A_l, the identity at the start, is trained to predict h_L from h_l. The signal is the gradient at h_l of the loss
    of the read-out, held constant, at h_l A_l. Ours: the definition; on tokens or maps one matrix serves all places.

    Args:
        host: Host with the shapes.
        sample: Inputs of a few samples.

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> rule = credit.StateBridge(host, torch.zeros(2, 8))
    >>> len(credit.deep_cosine(rule, host, torch.randn(30, 8), torch.arange(30) % 3))
    2
    """

    name = "state-bridge"
    ours = "signal through the read-out of the last state predicted from h_l by a learned matrix"

    def __init__(self, host: Staged, sample: Tensor) -> None:
        with torch.no_grad():
            h = host.begin(sample[:2])
        width = _channels_last(h).shape[-1]
        self._take([torch.eye(width, **PINNED) for _ in host.blocks])

    def signals(self, local: LocalPass) -> list[Tensor]:
        """Return the gradients of the losses at the predicted last states."""
        found: list[Tensor] = []
        with torch.enable_grad():
            for h, matrix in zip(local.states[:-1], self.feedback, strict=True):
                state = h.clone().requires_grad_()
                output = local.host.finish(_predicted(state, matrix.detach()))
                found += torch.autograd.grad(sample_losses(output, local.targets).sum(), state)
        return [*found, local.top]

    def learn(self, local: LocalPass) -> None:
        """Train the matrices to predict the last state."""
        with torch.enable_grad():
            predicted = [_predicted(h, matrix) for h, matrix in zip(local.states[:-1], self.feedback, strict=True)]
            self._descend(predicted, [local.states[-1]] * len(predicted))


class CreditBridge(_Learned):
    """Credit bridge: direct feedback whose matrices learn to predict the credit of the block above.

    The signal at h_l is the output error times a matrix C_l, (K, F); at h_L it is the true gradient of the read-out. C_l is
    trained towards the signal at h_{l+1} pulled back through block l + 1 alone, so that the true gradient reaches it block by
    block over many steps. Ours: the definition.

    Args:
        host: Host with the shapes.
        sample: Inputs of a few samples.
        outputs: Number K of outputs.
        seed: Seed of the first matrices, of variance 1 / K.

    Raises:
        InputError: no outputs (``RULE``).

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> rule = credit.CreditBridge(host, torch.zeros(2, 8), outputs=3, seed=0)
    >>> len(credit.deep_cosine(rule, host, torch.randn(30, 8), torch.arange(30) % 3))
    2
    """

    name = "credit-bridge"
    ours = "feedback matrices learned towards the signal of the next block, pulled back through that block alone"

    def __init__(self, host: Staged, sample: Tensor, outputs: int, seed: int) -> None:
        if outputs < 1:
            raise InputError("invalid rule", code="RULE", expected="an output or more", found=f"{outputs} outputs")
        with torch.no_grad():
            features = host.begin(sample[:2])[0].numel()
        shapes = [(outputs, features)] * len(host.blocks)
        self._take(feedback_like(shapes, [1 / math.sqrt(outputs)] * len(shapes), torch.Generator().manual_seed(seed)))

    def signals(self, local: LocalPass) -> list[Tensor]:
        """Return the predicted credit."""
        with torch.no_grad():
            return [*self._credit(local), local.top]

    def learn(self, local: LocalPass) -> None:
        """Train the matrices towards the credit that the next block sends back."""
        above = [signal.detach() for signal in self.signals(local)[1:]]
        parts = zip(local.host.blocks, local.states[:-1], above, strict=True)
        wanted = [signal + through(block, h, signal) for block, h, signal in parts]
        with torch.enable_grad():
            self._descend(self._credit(local), wanted)

    def _credit(self, local: LocalPass) -> list[Tensor]:
        error = local.error.flatten(1)
        return [(error @ matrix).view_as(h) for matrix, h in zip(self.feedback, local.states[:-1], strict=True)]


def _channels_last(h: Tensor) -> Tensor:
    return h.movedim(1, -1) if h.ndim == 4 else h  # of maps (B, D, height, width)


def _predicted(h: Tensor, matrix: Tensor) -> Tensor:
    found = _channels_last(h) @ matrix
    return found.movedim(-1, 1) if h.ndim == 4 else found
