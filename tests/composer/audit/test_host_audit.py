"""Audit of a host: planted cases with known answers, what it leaves alone, and bad input."""

from functools import partial

import pytest
import torch
from torch import nn

from batteries.errors import InputError
from composer import audit, hosts
from composer.audit.thresholds import Thresholds
from tests.support.credit import CLASSES, batches, mlp, samples

CONSTANT = torch.tensor([1.0] + [0.0] * (CLASSES - 1))


class Scaled(nn.Module):
    """A branch that multiplies the stream."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, h):
        return self.factor * h


class Cut(nn.Module):
    """A read-out that passes a share of the gradient on."""

    def __init__(self, inner, share):
        super().__init__()
        self.inner, self.share = inner, share

    def forward(self, h):
        return self.inner(self.share * h + (1 - self.share) * h.detach())


class Drift(nn.Module):
    """A read-out whose gradient points the same way for every sample."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, h):
        return self.inner(h.detach()) + h.sum(dim=1, keepdim=True) * CONSTANT


def host(**planted):
    made = mlp()
    for name, value in planted.items():
        setattr(made, name, value(made))
    return made


def test_a_healthy_host_is_trustworthy():
    report = audit.audit(mlp(), batches())
    assert (report.verdict, report.fired, report.of("d").fired) == ("trustworthy", (), None)
    assert report.samples == 600
    assert report.of("a").lower < report.of("a").value < report.of("a").upper
    assert report.of("c").lower < report.of("c").value < report.of("c").upper < 0.3


@pytest.mark.parametrize(("factor", "fires"), [(60.0, True), (40.0, False)])
def test_a_block_that_multiplies_by_sixty_is_named(factor, fires):
    planted = mlp()
    planted.blocks[1] = Scaled(factor - 1)
    report = audit.audit(planted, batches())
    assert report.of("a").fired is fires
    assert report.of("a").where == "blocks.1"
    assert report.of("a").value == pytest.approx(factor, rel=1e-4)
    assert "blocks.1 multiplies" in report.of("a").reason


@pytest.mark.parametrize(("share", "fires"), [(0.0, True), (1e-9, True), (1e-5, False)])
def test_a_gradient_that_vanishes_fires_b(share, fires):
    report = audit.audit(host(leave=lambda made: Cut(made.leave, share)), batches())
    assert report.of("b").fired is fires
    assert report.trustworthy is not fires
    assert report.verdict == ("walked back by b" if fires else "trustworthy")


def test_a_gradient_that_faded_since_the_first_step_fires_b():
    first = audit.audit(mlp(), batches())
    report = audit.audit(host(leave=lambda made: Cut(made.leave, 1e-4)), batches(), first=first)
    assert (report.of("b").fired, report.relative) == (True, pytest.approx(1e-4, rel=1e-3))
    assert report.of("b").threshold.source == "ours"
    assert audit.audit(mlp(), batches(), first=first).relative == 1.0


def test_a_solved_task_is_not_taken_for_a_vanishing_gradient():
    """Where the error at the output is tiny, the gradient is, too: it is judged per unit of that error."""
    x = torch.eye(CLASSES).repeat(20, 1)
    solved = mlp(inputs=CLASSES, blocks=1)
    with torch.no_grad():
        solved.enter.weight.zero_()
        solved.enter.bias.zero_()
        solved.enter.weight[:CLASSES] = 10 * torch.eye(CLASSES)
        solved.leave.weight.zero_()
        solved.leave.weight[:, :CLASSES] = 20 * torch.eye(CLASSES)
        for weight in solved.blocks.parameters():
            weight.mul_(1e-3)
    held = audit.batched(x, torch.arange(CLASSES).repeat(20), size=CLASSES * 5)
    report = audit.audit(solved, held, form="branch")
    assert report.accuracy == 1.0
    assert report.of("b").fired is False


def test_a_constant_direction_fires_c_and_does_not_decide():
    drifting = host(leave=lambda made: Drift(made.leave), norm=lambda made: nn.Identity())
    report = audit.audit(drifting, batches())
    assert report.of("c").fired
    assert report.of("c").value == pytest.approx((1 - 2 / CLASSES) ** 2, rel=1e-3)  # one class pulls the other way
    assert (report.verdict, report.trustworthy) == ("trustworthy", True)
    strict = Thresholds().moved("growth", 0.5)
    assert audit.audit(drifting, batches(), thresholds=strict).verdict == "walked back by a, c"


def test_stability_does_not_depend_on_the_size_of_batches():
    sizes = [audit.audit(mlp(), audit.batched(*samples(), size=size)).of("c") for size in (20, 100)]
    assert sizes[0].value == pytest.approx(sizes[1].value, abs=0.01)


def test_accuracy_below_the_baseline_fires_d():
    held = batches()
    baseline = audit.Baseline(scores=(0.9,) * len(held), data=audit.Baseline.of(mlp(), held).data)
    report = audit.audit(mlp(), held, baseline=baseline)
    assert (report.of("d").fired, report.verdict) == (True, "walked back by d")
    assert "below the baseline" in report.of("d").reason
    own = audit.audit(mlp(), held, baseline=audit.Baseline.of(mlp(), held)).of("d")
    assert (own.fired, own.value) == (False, 0.0)
    assert own.reason.endswith("weak")


def test_random_initial_networks_never_fire():
    forms = ({}, {"terminal_norm": False}, {"terminal_norm": False, "block_norm": False}, {"blocks": 12})
    for seed in range(5):
        for form in forms:
            assert audit.audit(mlp(seed=seed, **form), batches()).fired == ()


def test_modes_and_weights_stay():
    made = hosts.ConvNet(3, hosts.ImageForm(width=8, blocks=2)).train()
    made.blocks[0].eval()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    images, classes = torch.randn(60, 3, 16, 16), torch.arange(60) % 3
    audit.audit(made, audit.batched(images, classes, size=20))
    assert made.training
    assert not made.blocks[0].training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert all(p.grad is None for p in made.parameters())


def test_a_transformer_of_torch_is_a_stream():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            kind = partial(nn.TransformerEncoderLayer, 16, 2, 32, batch_first=True, norm_first=True)
            self.layers = nn.ModuleList(kind() for _ in range(3))
            self.leave = nn.Linear(16, 3)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.leave(x[:, 0])

    x = torch.randn(60, 5, 16, generator=torch.Generator().manual_seed(0))
    report = audit.audit(Net(), audit.batched(x, torch.arange(60) % 3, size=20), blocks="layers")
    assert [state.name for state in report.states] == ["input", "layers.0", "layers.1", "layers.2"]
    assert 0.9 < report.of("a").value < 3


def test_values_are_restored_and_scored():
    x = torch.randn(60, 8)
    report = audit.audit(mlp(outputs=8), audit.batched(x, x.clone(), size=20))
    assert report.accuracy < 1
    assert report.of("b").fired is False


def test_a_report_survives_json():
    report = audit.audit(mlp(), batches())
    assert audit.AuditReport.model_validate_json(report.to_bytes()) == report
    table = report.table()
    assert table.startswith("ResidualMLP: trustworthy")
    assert len(table.splitlines()) == 6


class Widening(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, CLASSES)])

    def forward(self, x):
        return self.blocks[1](self.blocks[0](x))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(8, 8)])

    def forward(self, x):
        return self.blocks[0](self.blocks[0](x))[:, :CLASSES]


class Between(nn.Module):
    """A host that does something else to the stream between its blocks."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x):
        return self.blocks[1](3 * self.blocks[0](x))[:, :CLASSES]


def poisoned():
    made = mlp()
    with torch.no_grad():
        made.blocks[1][1].weight[0, 0] = torch.nan
    return made


def unknown_form():
    one = mlp(blocks=1)
    return audit.audit(one, batches(), blocks=[*one.blocks])


def other_baseline():
    x, y = samples()
    return audit.Baseline.of(mlp(), audit.batched(x, y.roll(1), size=100))


BAD = {
    "no module": (lambda: audit.audit("host", batches()), "HOST"),
    "no blocks": (lambda: audit.audit(nn.Linear(8, CLASSES), batches()), "NO_BLOCKS"),
    "no such path": (lambda: audit.audit(mlp(), batches(), blocks="mlp.blocks"), "NO_BLOCKS"),
    "blocks of another host": (lambda: audit.audit(mlp(), batches(), blocks=[*mlp().blocks]), "NO_BLOCKS"),
    "two lists of blocks": (lambda: audit.audit(nn.ModuleList([mlp(), mlp()]), batches()), "NO_BLOCKS"),
    "changing width": (lambda: audit.audit(Widening(), batches()), "WIDTH"),
    "a block called twice": (lambda: audit.audit(Twice(), batches()), "STREAM"),
    "no residual stream": (lambda: audit.audit(Between(), batches()), "STREAM"),
    "one block of a form that is not known": (unknown_form, "STREAM"),
    "no block": (lambda: audit.audit(mlp(), batches(), blocks=[]), "NO_BLOCKS"),
    "the wrong form": (lambda: audit.audit(mlp(), batches(), form="stream"), "STREAM"),
    "nan": (lambda: audit.audit(poisoned(), batches()), "NOT_FINITE"),
    "another task's baseline": (lambda: audit.audit(mlp(), batches(), baseline=other_baseline()), "BASELINE"),
    "two batches": (lambda: audit.audit(mlp(), batches()[:2]), "BATCHES"),
    "no batches": (lambda: audit.audit(mlp(), []), "BATCHES"),
    "tensors for batches": (lambda: audit.audit(mlp(), samples()[0]), "BATCHES"),
    "classes beyond the output": (lambda: audit.audit(mlp(outputs=2), batches()), "TARGETS"),
    "values of another shape": (lambda: audit.audit(mlp(), [(x, x) for x, _ in batches()]), "TARGETS"),
    "unequal numbers": (lambda: audit.batched(torch.zeros(3, 2), torch.zeros(2)), "BATCHES"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_typed_error(case):
    call, code = BAD[case]
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.code == code


def test_an_error_leaves_the_modes_as_they_were():
    made = poisoned().train()
    with pytest.raises(InputError, match=r"not finite in blocks\.1"):
        audit.audit(made, batches())
    assert made.training
    assert not any(block._forward_hooks for block in made.blocks)


def test_a_single_block_of_a_known_host_is_a_branch():
    assert audit.audit(nn.Sequential(mlp(blocks=1)), batches(), blocks="0.blocks").trustworthy
    assert audit.audit(mlp(blocks=1), batches()).trustworthy


def test_thresholds_move():
    report = audit.audit(mlp(), batches(), thresholds=Thresholds().moved("growth", 0.5))
    assert report.verdict == "walked back by a"
