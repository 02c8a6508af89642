"""Equilibrium propagation on a residual stream (Scellier and Bengio, Frontiers in Computational Neuroscience 11, 2017).

The source names the rule and no energy. Ours, for states h_0 ... h_L of a sample with loss C:

    E = 1/2 |h_0 - begin(x)|^2 + 1/2 sum_l |h_l - h_{l-1} - f_l(h_{l-1})|^2 + beta * C(finish(h_L))

The free equilibrium (beta = 0) is the forward pass, with E = 0. With tensions e_l, the differences in E, the nudged one has
e_L = -beta dC/dh_L and e_l = e_{l+1} (1 + df_{l+1}/dh_l): a fixed point in the tensions, found by sweeps of one pass forward
with the tensions added and one backward. The rule's gradient is (1/beta) dE/dweights there; its signals are -e_l / beta. It
differs from backpropagation's by O(beta), and becomes it in the limit.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor

from batteries.errors import InputError
from composer.credit.rule import CreditRule, LocalPass, unrecorded
from composer.hosts.objective import sample_losses
from composer.hosts.residual_mlp import Staged


class EquilibriumPropagation(CreditRule):
    """Equilibrium propagation with a nudge of finite size.

    Args:
        beta: Size of the nudge; it is small if beta times the gradient is small against the stream.
        sweeps: Passes, two or more, in which the nudged equilibrium is found to O(beta^sweeps).

    Raises:
        InputError: a beta of zero or not finite, or fewer than two sweeps (``RULE``).

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> rule, (x, y) = credit.EquilibriumPropagation(), (torch.randn(30, 8), torch.arange(30) % 3)
    >>> [cosine > 0.99 for cosine in credit.deep_cosine(rule, host, x, y)]
    [True, True]
    """

    name = "ep"
    ours = "energy of squared differences along the stream; equilibrium by sweeps of its tensions"

    def __init__(self, beta: float = 0.01, sweeps: int = 2) -> None:
        if not (math.isfinite(beta) and beta) or sweeps < 2:
            found = f"beta {beta}, {sweeps} sweeps"
            raise InputError("invalid rule", code="RULE", expected="a nudge other than 0, two sweeps or more", found=found)
        self.beta = beta
        self.sweeps = sweeps

    def signals(self, local: LocalPass) -> list[Tensor]:
        """Return the tensions at the nudged equilibrium, over minus beta."""
        _, tensions = self._settled(local.host, local.branches[0].detach(), local.targets)
        return [tension / -self.beta for tension in tensions]

    def gradients(self, host: Staged, x: Tensor, targets: Tensor) -> float:
        """Set the derivatives of the energy at the nudged equilibrium, over beta, and return the loss of the free one."""
        host.zero_grad()
        begun = host.begin(x)
        free, tensions = self._settled(host, begun.detach(), targets)
        with unrecorded(host):
            _, output = _stream(host, begun, tensions)
        sample_losses(output, targets).mean().backward()  # at the states these are the signals, to O(beta^sweeps)
        return free

    def _settled(self, host: Staged, begun: Tensor, targets: Tensor) -> tuple[float, list[Tensor]]:
        """Sweep until the tensions belong to the states that they make; return the mean free loss, and the tensions."""
        tensions: list[Tensor] | None = None
        free = 0.0
        for sweep in range(self.sweeps):
            with torch.enable_grad(), unrecorded(host) if sweep else nullcontext():
                states, output = _stream(host, begun.clone().requires_grad_(), tensions)
                losses = sample_losses(output, targets)
                signals = torch.autograd.grad(losses.sum(), states)
            free = free if sweep else float(losses.detach().mean())
            tensions = [-self.beta * signal for signal in signals]
        assert tensions is not None
        return free, tensions


def _stream(host: Staged, begun: Tensor, tensions: list[Tensor] | None) -> tuple[list[Tensor], Tensor]:
    """Run a host from its begun stream with tensions added to every state; return states and output."""
    pulls: list[Tensor | float] = list(tensions) if tensions is not None else [0.0] * (len(host.blocks) + 1)
    states = [begun + pulls[0]]
    for block, pull in zip(host.blocks, pulls[1:], strict=True):
        states.append(states[-1] + block(states[-1]) + pull)
    return states, host.finish(states[-1])
