"""Credit rules by name."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer.credit.equilibrium import EquilibriumPropagation
from composer.credit.learned_feedback import CreditBridge, StateBridge
from composer.credit.random_feedback import DirectFeedback, FeedbackAlignment
from composer.credit.rule import Backpropagation, CreditRule, FrozenBlocks, refuse_unstaged
from composer.hosts.residual_mlp import Staged

PENALISED = "dfa+"
Maker = Callable[[Staged, Tensor, int, int], CreditRule]

RULES: dict[str, Maker] = {
    "bp": lambda host, sample, outputs, seed: Backpropagation(),
    "frozen": lambda host, sample, outputs, seed: FrozenBlocks(),
    "fa": lambda host, sample, outputs, seed: FeedbackAlignment(host, seed),
    "dfa": lambda host, sample, outputs, seed: DirectFeedback(host, sample, outputs, seed),
    "ep": lambda host, sample, outputs, seed: EquilibriumPropagation(),
    "state-bridge": lambda host, sample, outputs, seed: StateBridge(host, sample),
    "credit-bridge": lambda host, sample, outputs, seed: CreditBridge(host, sample, outputs, seed),
}


@neutral()
def rule_of(name: str, host: Staged, sample: Tensor, outputs: int, seed: int) -> CreditRule:
    """Make a credit rule for a host.

    Args:
        name: ``bp``, ``frozen``, ``fa``, ``dfa``, ``ep``, ``state-bridge``, ``credit-bridge``; or ``dfa+0.01`` for direct
            feedback with that penalty.
        host: Host.
        sample: Inputs of two samples or more.
        outputs: Number of outputs.
        seed: Seed of random feedback.

    Raises:
        InputError: unknown rule, or no outputs (``RULE``); a host without a stream in view (``STAGED``) or blocks
            (``NO_BLOCKS``).

    >>> import torch
    >>> from composer import credit, hosts
    >>> host = hosts.ResidualMLP(inputs=8, outputs=3, form=hosts.StreamForm(width=32, blocks=2))
    >>> credit.rule_of("dfa+0.01", host, torch.zeros(2, 8), outputs=3, seed=0).penalty
    0.01
    """
    refuse_unstaged(host)
    if name in RULES:
        return RULES[name](host, sample, outputs, seed)
    if name.startswith(PENALISED):
        penalty = _number(name.removeprefix(PENALISED))
        if penalty is not None and 0 < penalty < math.inf:
            return DirectFeedback(host, sample, outputs, seed, penalty)
    raise InputError("unknown credit rule", code="RULE", expected=f"{' | '.join(RULES)} | {PENALISED}PENALTY", found=name)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
