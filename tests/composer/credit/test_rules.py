"""Credit rules against backpropagation and autograd: cases with known answers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from batteries.errors import InputError, PolicyError
from composer import credit, hosts
from composer.credit.rule import LocalPass, true_signals
from tests.support.credit import CLASSES, mlp, samples

FORM = hosts.ImageForm(width=8, blocks=2, patch=8, heads=2)
HOSTS = {
    "mlp": lambda: (mlp(), samples(60)[0]),
    "mlp without LayerNorm": lambda: (mlp(block_norm=False, terminal_norm=False), samples(60)[0]),
    "transformer": lambda: (credit.seeded(lambda: hosts.VisionTransformer(CLASSES, FORM), 0), torch.randn(12, 3, 16, 16)),
    "convolutions": lambda: (credit.seeded(lambda: hosts.ConvNet(CLASSES, FORM), 0), torch.randn(12, 3, 16, 16)),
}
RULES = ("bp", "frozen", "fa", "dfa", "dfa+0.01", "ep", "state-bridge", "credit-bridge")


def given(name):
    host, x = HOSTS[name]()
    return host, x, torch.arange(len(x)) % CLASSES


def autograd(host, x, classes):
    host.zero_grad()
    F.cross_entropy(host(x), classes).backward()
    return {name: p.grad.clone() for name, p in host.named_parameters()}


def by_rule(rule, host, x, classes):
    rule.gradients(host, x, classes)
    return {name: p.grad.clone() for name, p in host.named_parameters() if p.grad is not None}


def furthest(one, other):
    return max(float((one[name] - other[name]).norm() / other[name].norm().clamp_min(1e-3)) for name in other)


@pytest.mark.parametrize("name", HOSTS)
def test_backpropagation_is_autograds(name):
    host, x, classes = given(name)
    assert furthest(by_rule(credit.Backpropagation(), host, x, classes), autograd(host, x, classes)) == 0
    assert set(credit.deep_cosine(credit.Backpropagation(), host, x, classes)) == {1.0}


@pytest.mark.parametrize("name", HOSTS)
def test_local_losses_with_true_gradients_are_backpropagation(name):
    """The interface itself: blocks cut from each other, each with the true gradient at its output."""

    class Exact(credit.Backpropagation):
        gradients = credit.CreditRule.gradients

    host, x, classes = given(name)
    assert furthest(by_rule(Exact(), host, x, classes), autograd(host, x, classes)) < 1e-4


@pytest.mark.parametrize("name", HOSTS)
def test_feedback_of_transposed_forward_weights_is_backpropagation(name):
    host, x, classes = given(name)
    rule = credit.FeedbackAlignment(host, seed=0)
    assert furthest(by_rule(rule, host, x, classes), autograd(host, x, classes)) > 0.1
    rule.feedback = {layer: layer.weight.detach() for layer in rule.feedback}
    assert furthest(by_rule(rule, host, x, classes), autograd(host, x, classes)) < 1e-5
    assert min(credit.deep_cosine(rule, host, x, classes)) == pytest.approx(1, abs=1e-6)


def test_feedback_reaches_the_blocks_one_after_another():
    """By hand, for one block: the read-out's error through its own feedback, then through those of the block."""
    host, x, classes = mlp(blocks=1, block_norm=False, terminal_norm=False), *samples(30)
    rule = credit.FeedbackAlignment(host, seed=1)
    local = LocalPass.of(host, x, classes)
    first, last = rule.signals(local)
    back = rule.feedback
    top = local.error @ back[host.leave]
    assert torch.allclose(last, top, atol=1e-6)
    inner = host.blocks[0][1](local.states[0]).detach().requires_grad_()
    slope = torch.autograd.grad(F.gelu(inner).sum(), inner)[0]
    assert torch.allclose(first, top + (top @ back[host.blocks[0][3]] * slope) @ back[host.blocks[0][1]], atol=1e-5)


def test_direct_feedback_is_the_error_through_each_blocks_matrix():
    host, x, classes = given("mlp")
    rule = credit.DirectFeedback(host, x, CLASSES, seed=0)
    local = LocalPass.of(host, x, classes)
    error = host(x).softmax(dim=1) - F.one_hot(classes, CLASSES)
    for signal, matrix in zip(rule.signals(local), rule.feedback, strict=True):
        assert torch.allclose(signal, error @ matrix, atol=1e-5)


@pytest.mark.parametrize("name", HOSTS)
def test_the_penaltys_gradient_is_autograds(name):
    host, x, classes = given(name)
    plain, penalised = (credit.DirectFeedback(host, x, CLASSES, 0, penalty) for penalty in (0.0, 0.03))
    without, found = (by_rule(rule, host, x, classes) for rule in (plain, penalised))
    host.zero_grad()
    local = LocalPass.of(host, x, classes)
    (0.03 * sum(f.square().sum() for f in local.branches[1:]) / len(x)).backward()
    wanted = {n: p.grad for n, p in host.named_parameters() if n.startswith("blocks")}
    for name_, gradient in wanted.items():
        added = torch.zeros_like(found[name_]) if gradient is None else gradient
        assert torch.allclose(found[name_] - without[name_], added, atol=2e-5 * (1 + float(added.abs().max())))


@pytest.mark.parametrize(("name", "largest"), [("mlp", 0.1), ("mlp without LayerNorm", 0.1), ("transformer", 1e-3)])
def test_a_small_nudge_is_backpropagation(name, largest):
    """The class token of a transformer starts small, so that a nudge of the same size is a large one there."""
    host, x, classes = given(name)
    host, x = host.double(), x.double()
    wanted = autograd(host, x, classes)
    nudges = [credit.EquilibriumPropagation(largest / shrunk, sweeps=6) for shrunk in (1, 10, 100)]
    errors = [furthest(by_rule(rule, host, x, classes), wanted) for rule in nudges]
    assert errors[2] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.3)  # the error is of first order in the nudge
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.1)


def test_the_nudged_state_is_an_equilibrium_of_the_energy():
    host, x, classes = mlp(width=8).double(), samples(10)[0].double(), samples(10)[1]
    beta = 0.05
    rule = credit.EquilibriumPropagation(beta, sweeps=40)
    begun = host.begin(x).detach()
    tensions = [-beta * signal for signal in rule.signals(LocalPass.of(host, x, classes))]
    with torch.no_grad():
        states = [begun + tensions[0]]
        for block, pull in zip(host.blocks, tensions[1:], strict=True):
            states.append(states[-1] + block(states[-1]) + pull)
    states = [h.requires_grad_() for h in states]
    energy = (states[0] - begun).square().sum() / 2
    for block, low, high in zip(host.blocks, states, states[1:], strict=False):
        energy = energy + (high - low - block(low)).square().sum() / 2
    energy = energy + beta * F.cross_entropy(host.finish(states[-1]), classes, reduction="sum")
    assert max(float(g.abs().max()) for g in torch.autograd.grad(energy, states)) < 1e-10


def test_a_state_bridge_that_predicts_exactly_has_the_true_gradient():
    """With branches that are linear in the stream, the last state is a matrix times any state."""
    host, x, classes = mlp(block_norm=False, terminal_norm=False, width=8), *samples(60)
    host.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8, bias=False)) for _ in range(3))
    rule = credit.StateBridge(host, x)
    maps = [torch.eye(8) + block[0].weight.detach().T for block in host.blocks]
    exact = [maps[0] @ maps[1] @ maps[2], maps[1] @ maps[2], maps[2]]
    rule.feedback = [matrix.requires_grad_() for matrix in exact]
    for signal, true in zip(rule.signals(LocalPass.of(host, x, classes)), true_signals(host, x, classes), strict=True):
        assert torch.allclose(signal, true, atol=1e-5)


@pytest.mark.parametrize("kind", ["state-bridge", "credit-bridge"])
def test_a_bridge_learns_the_credit_of_a_fixed_host(kind):
    host, x, classes = mlp(), *samples(120)
    rule = credit.rule_of(kind, host, x, CLASSES, seed=0).redrawn(torch.Generator().manual_seed(0))
    before = credit.deep_cosine(rule, host, x, classes)
    local = LocalPass.of(host, x, classes)
    for _ in range(200):
        rule.learn(local)
    after = credit.deep_cosine(rule, host, x, classes)
    assert min(after[:-1]) > min(before[:-1])
    assert sum(after) > sum(before)
    assert after[-1] == 1.0  # the read-out's own gradient


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", RULES)
def test_every_rule_trains_every_host(kind, host):
    made, x, classes = given(host)
    rule = credit.rule_of(kind, made, x, CLASSES, seed=0)
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    losses = credit.train(made, rule, (x, classes), credit.CreditPlan(epochs=3, batch=6), seed=0)
    assert len(losses) == 3
    assert all(p.isfinite().all() for p in made.parameters())
    changed = {name.split(".")[0] for name, p in made.named_parameters() if not torch.equal(p, before[name])}
    assert ("blocks" in changed) is (kind != "frozen")
    assert {"enter", "leave"} <= changed


def test_training_is_repeatable_and_seeded():
    runs = []
    for seed in (0, 0, 1):
        host = mlp()
        plan = credit.CreditPlan(epochs=2, batch=50)
        runs.append(credit.train(host, credit.rule_of("dfa", host, samples()[0], CLASSES, 3), samples(), plan, seed))
    assert runs[0] == runs[1] != runs[2]


def poisoned():
    x, classes = samples(60)
    x[3] = torch.nan
    return x, classes


def few():
    return credit.CreditPlan(epochs=1, batch=20)


BAD = {
    "a nan step": (lambda: credit.train(mlp(), credit.Backpropagation(), poisoned(), few(), 0), PolicyError, "DIVERGED"),
    "no stream": (lambda: credit.train(nn.Linear(8, 6), credit.Backpropagation(), samples(), few(), 0), InputError, "STAGED"),
    "no blocks": (lambda: credit.deep_cosine(credit.Backpropagation(), mlp(blocks=0), *samples(60)), InputError, "NO_BLOCKS"),
    "unequal numbers": (
        lambda: credit.train(mlp(), credit.Backpropagation(), (samples(60)[0], samples(50)[1]), few(), 0),
        InputError,
        "TASK_IMAGES",
    ),
    "no epoch": (lambda: credit.CreditPlan(epochs=0), InputError, "CREDIT_PLAN"),
    "a rate that is no number": (lambda: credit.CreditPlan(rate=float("nan")), InputError, "CREDIT_PLAN"),
    "an unknown rule": (lambda: credit.rule_of("hebb", mlp(), samples()[0], CLASSES, 0), InputError, "RULE"),
    "a penalty of no size": (lambda: credit.rule_of("dfa+-1", mlp(), samples()[0], CLASSES, 0), InputError, "RULE"),
    "a nudge of zero": (lambda: credit.EquilibriumPropagation(beta=0.0), InputError, "RULE"),
    "one sweep": (lambda: credit.EquilibriumPropagation(sweeps=1), InputError, "RULE"),
    "a penalty of nan": (lambda: credit.DirectFeedback(mlp(), samples()[0], CLASSES, 0, float("nan")), InputError, "RULE"),
    "no outputs": (lambda: credit.rule_of("dfa", mlp(), samples()[0], 0, 0), InputError, "RULE"),
    "no outputs of a bridge": (lambda: credit.rule_of("credit-bridge", mlp(), samples()[0], 0, 0), InputError, "RULE"),
    "a form that does not divide": (lambda: hosts.ImageForm(side=16, patch=5), InputError, "IMAGE_FORM"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_typed_error(case):
    call, kind, code = BAD[case]
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code


def test_a_step_that_is_not_finite_changes_no_weight():
    host = mlp()
    before = [p.detach().clone() for p in host.parameters()]
    with pytest.raises(PolicyError, match="DIVERGED"):
        credit.train(host, credit.Backpropagation(), poisoned(), credit.CreditPlan(epochs=1, batch=60), 0)
    assert all(torch.equal(p, old) for p, old in zip(host.parameters(), before, strict=True))


@pytest.mark.parametrize("name", RULES)
def test_running_statistics_see_every_batch_once(name):
    """However many passes a rule makes over a batch, its statistics are those of backpropagation."""
    seen = {}
    for rule in ("bp", name):
        host, x, classes = given("convolutions")
        data, plan = (x.clone().fill_(0.5) + torch.arange(12).view(12, 1, 1, 1), classes), credit.CreditPlan(epochs=1, batch=12)
        credit.train(host, credit.rule_of(rule, host, x[:2], CLASSES, 0), data, plan, 0)
        seen[rule] = {key: value for key, value in host.state_dict().items() if "running" in key or "tracked" in key}
    assert {int(value) for key, value in seen[name].items() if "tracked" in key} == {1}
    assert all(torch.allclose(value, seen["bp"][key], rtol=1e-5, atol=1e-7) for key, value in seen[name].items())


@pytest.mark.parametrize("call", [credit.deep_cosine, credit.fresh_null, credit.nudging, credit.loss_decrease])
@pytest.mark.parametrize(("width", "classes", "code"), [(5, CLASSES, "BATCHES"), (None, CLASSES + 1, "TARGETS")])
def test_inputs_and_targets_that_do_not_fit_are_refused(call, width, classes, code):
    host, x, _ = given("mlp")
    x = x if width is None else x[:, :width]
    targets = torch.full((len(x),), classes - 1)
    with pytest.raises(InputError) as caught:
        call(credit.DirectFeedback(host, samples(60)[0][:2], CLASSES, 0), host, x, targets)
    assert caught.value.code == code
    with pytest.raises(InputError) as caught:
        credit.train(host, credit.Backpropagation(), (x, targets), credit.CreditPlan(epochs=1), 0)
    assert caught.value.code == code
