"""Audits of odd hosts, batches and options: one typed error each, and never a wrong number in silence."""

import pytest
import torch
from torch import nn

from batteries.errors import InputError
from composer import audit
from tests.support.credit import CLASSES, batches, mlp, samples


class Paired(nn.Module):
    """A host with a second output."""

    def __init__(self):
        super().__init__()
        self.inner = mlp()

    def forward(self, x):
        return self.inner(x), x


class InPlace(nn.Module):
    """A host whose blocks change the stream that they are given."""

    def __init__(self, inplace):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.ReLU(inplace), nn.Linear(32, 32)) for _ in range(2))
        self.enter, self.leave = nn.Linear(8, 32), nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.leave(self.blocks[1](self.blocks[0](self.enter(x))))


class Recurrent(nn.Module):
    """A host that calls one block three times."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(8, 8)] * 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x[:, :CLASSES]


class Pooled(nn.Module):
    """A host of sequences."""

    def __init__(self):
        super().__init__()
        self.inner = mlp()

    def forward(self, x):
        return self.inner(x).mean(dim=1)


def poisoned():
    made = mlp()
    made.leave.weight.data[0, 0] = torch.nan
    return made


def sequences(*lengths):
    return [(torch.randn(12, length, 8), torch.arange(12) % CLASSES) for length in lengths]


def other_first():
    return audit.audit(mlp(), audit.batched(*samples(seed=7), size=100))


x, classes = samples()
BAD = {
    "nothing": (lambda: audit.audit(mlp(), None), "BATCHES"),
    "one target for all": (lambda: audit.audit(mlp(), [(x, torch.tensor(1))] * 3), "BATCHES"),
    "one target for all, to be split": (lambda: audit.batched(x, torch.tensor(1)), "BATCHES"),
    "sequences of several lengths": (lambda: audit.audit(Pooled(), sequences(2, 3, 4)), "BATCHES"),
    "classes, then values": (lambda: audit.audit(mlp(), [*batches(), (x, x[:, :CLASSES])]), "BATCHES"),
    "inputs of another width": (lambda: audit.audit(mlp(inputs=9), batches()), "BATCHES"),
    "a host of another dtype": (lambda: audit.audit(mlp().double(), batches()), "BATCHES"),
    "a host with two outputs": (lambda: audit.audit(Paired(), batches()), "TARGETS"),
    "one layer for blocks": (lambda: audit.audit(h := mlp(), batches(), blocks=h.enter), "NO_BLOCKS"),
    "a number for blocks": (lambda: audit.audit(mlp(), batches(), blocks=3), "NO_BLOCKS"),
    "no such form": (lambda: audit.audit(mlp(), batches(), form="residual"), "FORM"),
    "a block in three places": (lambda: audit.audit(Recurrent(), batches()), "STREAM"),
    "a stream changed in place": (lambda: audit.audit(InPlace(True), batches()), "STREAM"),
    "a first audit of other data": (lambda: audit.audit(mlp(), batches(), first=other_first()), "FIRST"),
    "a baseline of no module": (lambda: audit.Baseline.of(3, batches()), "HOST"),
    "a baseline with two outputs": (lambda: audit.Baseline.of(Paired(), batches()), "TARGETS"),
    "a baseline of nan": (lambda: audit.Baseline.of(poisoned(), batches()), "NOT_FINITE"),
    "a baseline of another width": (lambda: audit.Baseline.of(mlp(inputs=9), batches()), "BATCHES"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_typed_error(case):
    call, code = BAD[case]
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.code == code


def test_blocks_that_leave_their_input_alone_are_audited():
    assert audit.audit(InPlace(False), batches()).of("b").fired is False


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_classes_may_be_of_any_whole_numbers(dtype):
    short = audit.batched(x, classes.to(dtype), size=100)
    long = audit.audit(mlp(), audit.batched(x, classes, size=100))
    assert audit.audit(mlp(), short).diagnostics == long.diagnostics


def test_batches_may_be_made_in_inference_mode():
    with torch.inference_mode():
        made = audit.batched(x.clone(), classes.clone(), size=100)
    assert audit.audit(mlp(), made) == audit.audit(mlp(), audit.batched(x, classes, size=100))


def test_an_error_of_the_host_leaves_no_hooks():
    made = mlp(inputs=9).train()
    with pytest.raises(InputError, match="BATCHES"):
        audit.audit(made, batches())
    assert made.training
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in made.blocks)
