"""Measures of signals: known answers, nulls, and what they leave alone."""

import pytest
import torch

from batteries.errors import InputError
from composer import credit
from composer.credit.rule import true_signals
from tests.support.credit import CLASSES, mlp, samples


class Claimed(credit.CreditRule):
    """A rule with the true gradients, changed by a function."""

    name = "claimed"

    def __init__(self, change):
        self.change = change

    def signals(self, local):
        return [self.change(g) for g in credit.Backpropagation().signals(local)]


def test_cosines_of_signals_with_known_angles():
    host, (x, classes) = mlp(), samples(60)
    for change, wanted in ((lambda g: 3 * g, 1.0), (lambda g: -g, -1.0), (torch.zeros_like, 0.0)):
        assert set(credit.deep_cosine(Claimed(change), host, x, classes)) == {wanted}
    mixed = credit.deep_cosine(Claimed(lambda g: torch.cat([g[:30], -g[30:]])), host, x, classes)
    assert mixed == pytest.approx([0.0] * 3, abs=1e-6)


@pytest.mark.parametrize("name", ["dfa", "fa", "credit-bridge", "state-bridge"])
def test_untrained_feedback_lies_within_its_fresh_null(name):
    host, (x, classes) = mlp(width=64), samples(300)
    rule = credit.rule_of(name, host, x, CLASSES, seed=5)
    if name == "state-bridge":
        rule = rule.redrawn(torch.Generator().manual_seed(9))  # its first matrices are the identity, not random
    null = credit.fresh_null(rule, host, x, classes)
    assert null.draws == 20
    if not name.endswith("bridge"):  # a bridge's last signal is the true gradient, in every draw
        assert abs(null.mean) < 0.1
    assert abs(null.z) < 3.5


def test_trained_feedback_lies_above_its_fresh_null():
    host, (x, classes) = mlp(width=128), samples()
    rule = credit.rule_of("dfa+0.01", host, x, CLASSES, seed=0)
    credit.train(host, rule, (x, classes), credit.CreditPlan(epochs=10, batch=50), seed=0)
    null = credit.fresh_null(rule, host, x, classes)
    assert null.separated
    assert null.own > 0.1


@pytest.mark.parametrize("name", ["bp", "ep", "frozen"])
def test_rules_without_random_feedback_have_no_null(name):
    host, (x, classes) = mlp(), samples(60)
    assert credit.fresh_null(credit.rule_of(name, host, x, CLASSES, 0), host, x, classes) is None


def test_nudges_help_or_harm_as_their_signals_do():
    host, (x, classes) = mlp(), samples(60)
    assert credit.nudging(Claimed(lambda g: 7 * g), host, x, classes) == pytest.approx([1.0] * 3, abs=1e-3)
    assert max(credit.nudging(Claimed(lambda g: -g), host, x, classes)) < -0.9
    assert credit.nudging(Claimed(torch.zeros_like), host, x, classes) == pytest.approx([0.0] * 3, abs=1e-6)


def test_a_step_along_backpropagation_lowers_the_loss_by_all():
    host, (x, classes) = mlp(), samples(60)
    before = [p.detach().clone() for p in host.parameters()]
    assert credit.loss_decrease(Claimed(lambda g: g), host, x, classes) == pytest.approx(1, abs=1e-2)
    assert credit.loss_decrease(Claimed(lambda g: -g), host, x, classes) < -0.9
    assert 0 < credit.loss_decrease(credit.FeedbackAlignment(host, 0), host, x, classes) < 1
    assert all(torch.equal(p, old) for p, old in zip(host.parameters(), before, strict=True))


def test_true_signals_are_of_each_samples_own_loss():
    host, (x, classes) = mlp(), samples(12)
    whole = true_signals(host, x, classes)
    alone = [true_signals(host, x[k : k + 1], classes[k : k + 1]) for k in range(12)]
    for place, gradients in enumerate(whole):
        assert torch.allclose(gradients, torch.cat([one[place] for one in alone]), atol=1e-6)


def test_a_nudge_leaves_samples_alone_that_have_no_gradient():
    """In float32 the loss of a sample that is named with certainty has a gradient of exactly zero."""
    host, (x, classes) = mlp(terminal_norm=False), samples(60)
    host.enter.weight.data.mul_(1e4)
    x = torch.cat([x, 1e-3 * x])  # long states beside short ones, which the gradient still reaches
    classes = torch.cat([host(x[:60]).argmax(dim=1), classes])
    assert not true_signals(host, x, classes)[1][:60].any(dim=1).all()
    assert credit.nudging(credit.Backpropagation(), host, x, classes) == pytest.approx([1.0] * 3)


def test_frozen_blocks_take_no_step():
    host, (x, classes) = mlp(), samples(60)
    assert credit.loss_decrease(credit.FrozenBlocks(), host, x, classes) == 0
    assert all(weight.requires_grad for weight in host.parameters())
    host.blocks[0].requires_grad_(False)
    assert credit.loss_decrease(credit.Backpropagation(), host, x, classes) == 1
    assert [p.requires_grad for p in host.blocks.parameters()] == [False] * 6 + [True] * 12


def test_gradients_of_the_user_are_kept():
    host, (x, classes) = mlp(), samples(60)
    host(x).sum().backward()
    before = [weight.grad.clone() for weight in host.parameters()]
    credit.loss_decrease(credit.FeedbackAlignment(host, 0), host, x, classes)
    assert all(torch.equal(weight.grad, old) for weight, old in zip(host.parameters(), before, strict=True))


def test_a_null_without_deviation():
    assert [credit.FreshNull(own, 0.1, 0.0, 20).separated for own in (0.0, 0.1, 0.2)] == [False, False, True]


def test_modes_are_restored():
    host = mlp().train()
    credit.deep_cosine(credit.Backpropagation(), host, *samples(12))
    assert host.training


def test_bad_input():
    host, (x, classes) = mlp(), samples(12)
    with pytest.raises(InputError, match="DRAWS"):
        credit.fresh_null(credit.DirectFeedback(host, x, CLASSES, 0), host, x, classes, draws=1)
    with pytest.raises(InputError, match="NOT_FINITE"):
        credit.deep_cosine(Claimed(lambda g: g * torch.nan), host, x, classes)
    frozen = mlp()
    frozen.leave.weight.data.zero_()
    with pytest.raises(InputError, match="NUDGE"):
        credit.nudging(credit.Backpropagation(), frozen, x, classes)
