"""Frozen buffers among torch's tools: averaged, copied over with the same numbers, and refused with others."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.optim import swa_utils

from batteries.errors import FrozenError, IntegrityError
from composer import Composition, compose, wire
from tests.compatibility import refused, works
from tests.support.hosts import host, images, same, train

AVERAGES = {
    "plain": {},
    "buffers": {"use_buffers": True},
    "foreach average": {"multi_avg_fn": swa_utils.get_swa_multi_avg_fn(), "use_buffers": True},
    "foreach mean": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)},
    "foreach mean of buffers": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.999), "use_buffers": True},
    "mean": {"avg_fn": swa_utils.get_ema_avg_fn(0.9)},
    "mean of buffers": {"avg_fn": swa_utils.get_ema_avg_fn(0.999), "use_buffers": True},
    "own": {"avg_fn": lambda mean, value, count: 0.37 * mean + 0.63 * value, "use_buffers": True},
}


@works("Hosts and their state", "AveragedModel: SWA and EMA, plain, with use_buffers, by foreach functions")
@works("Hosts and their state", "an average swapped in for validation and out again, as Lightning's WeightAveraging does")
@pytest.mark.parametrize("kind", AVERAGES)
def test_an_averaged_model(cells, kind):
    made = host(cells)
    mean = swa_utils.AveragedModel(made, **AVERAGES[kind])
    train(made, after=lambda: mean.update_parameters(made))
    mean.module.container.verify()
    assert not same(made, mean.module)
    before = mean(images())
    for one, two in zip(
        (*mean.module.parameters(), *mean.module.buffers()), (*made.parameters(), *made.buffers()), strict=True
    ):
        kept = one.data.clone()
        one.data.copy_(two.data)
        two.data.copy_(kept)
    assert torch.equal(made(images()), before)
    made.container.verify()
    mean.module.container.verify()
    mean.load_state_dict(mean.state_dict())


def test_an_averaged_composition(cells):
    nodes = {"out": {"kind": "route", "of": ["a", "b"], "by": "router"}}
    named = {"schema_version": "1.0", "output": "out", "cells": {"a": "high/a", "b": "high/b"}, "nodes": nodes}
    model = wire(dict(zip("ab", cells, strict=False)), Composition.model_validate(named)).train()
    mean = swa_utils.AveragedModel(model, avg_fn=swa_utils.get_ema_avg_fn(0.9), use_buffers=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(10):
        optimiser.zero_grad()
        F.mse_loss(model(images()).output.recon, images()).backward()
        optimiser.step()
        mean.update_parameters(model)
    for found in (model, mean.module):
        found.verify()
    assert not torch.equal(next(mean.module.parameters()), next(model.parameters()))


LET = {
    "copy_": lambda b: b.copy_(b.clone()),
    "lerp_": lambda b: b.lerp_(b.clone(), 0.3),
    "a view": lambda b: b.detach().view(-1).copy_(b.clone().view(-1)),
    "foreach copy": lambda b: torch._foreach_copy_([b], [b.clone()]),
    "foreach lerp": lambda b: torch._foreach_lerp_([b], [b.clone()], 0.3),
    "a mean's rounding": lambda b: b.copy_(0.9 * b + 0.1 * b),
    "a difference": lambda b: b.add_(b.clone() - b, alpha=0.1),
    "itself": lambda b: b.copy_(b),
    "an item": lambda b: b.__setitem__(..., b.clone()),
    "a part": lambda b: b[:1].__setitem__(0, b[0].clone()),
    "lerp out": lambda b: torch.lerp(b, b.clone(), 0.1, out=b),
    "in inference": lambda b: torch.inference_mode()(torch.Tensor.copy_)(b, b.clone()),
}


@works("Hosts and their state", "copy_, lerp_ and their foreach forms of the same numbers into a frozen buffer")
@pytest.mark.parametrize("way", LET)
def test_the_same_numbers_pass_and_none_is_written(cells, way):
    container = compose(cells)
    for buffer in container.buffers():
        LET[way](buffer)
    container.verify()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_copy_between_the_passes_stops_no_gradient(cells, dtype):
    for container in (compose(cells, dtype=dtype), copy.deepcopy(compose(cells, dtype=dtype))):
        x = images().requires_grad_()
        out = container(x)
        for buffer in container.buffers():
            buffer.copy_(buffer.clone())
        out.recon.sum().backward()
        assert x.grad.norm() > 0


OTHER = {
    "copy_": lambda b, o: b.copy_(o),
    "one number": lambda b, o: b.copy_(b.clone().index_put_(tuple(torch.zeros(b.ndim, 1, dtype=int)), torch.tensor(9.0))),
    "a little": lambda b, o: b.copy_(b * 1.00001 + 1e-6),
    "lerp_": lambda b, o: b.lerp_(o, 0.1),
    "add_": lambda b, o: b.add_(o, alpha=0.1),
    "+=": lambda b, o: b.__iadd__(o),
    "foreach copy": lambda b, o: torch._foreach_copy_([torch.zeros(1), b], [torch.ones(1), o]),
    "foreach lerp": lambda b, o: torch._foreach_lerp_([b], [o], 0.1),
    "foreach add": lambda b, o: torch._foreach_add_([b], [o]),
    "not a number": lambda b, o: b.copy_(o * torch.nan),
    "an item": lambda b, o: b.__setitem__(..., o),
    "a number for all": lambda b, o: b.__setitem__(..., 7.0),
    "by a mask": lambda b, o: b.__setitem__(b < 1e9, 7.0),
    "lerp out": lambda b, o: torch.lerp(b, o, 0.1, out=b),
    "mul_": lambda b, o: b.mul_(0.9).add_(o, alpha=0.1),
    "swap": lambda b, o: torch.utils.swap_tensors(b, o),
    "swapped": lambda b, o: torch.utils.swap_tensors(o, b),
    "a class": lambda b, o: setattr(b, "__class__", torch.Tensor),
    "set_": lambda b, o: b.set_(o),
}


@refused("Hosts and their state", "other numbers copied, averaged or added into a frozen buffer", "FROZEN")
@refused("Hosts and their state", "torch.utils.swap_tensors of a frozen buffer", "FROZEN")
@refused(
    "Hosts and their state",
    "buffers averaged by mul_ and then add_ in place",
    "FROZEN",
    note="average parameters, or the state dict, or by lerp_; by .data it is not seen until verify()",
)
@pytest.mark.parametrize("way", OTHER)
def test_other_numbers_are_refused(cells, way):
    container = compose(cells)
    x = container(images()).error
    for buffer in container.buffers():
        with pytest.raises(FrozenError, match="FROZEN"):
            OTHER[way](buffer, torch.full(buffer.shape, 7.0))
    container.verify()
    assert torch.equal(container(images()).error, x)


def test_numbers_changed_by_data_are_found(cells):
    container = compose(cells)
    average = copy.deepcopy(container)
    for mine, theirs in zip(average.buffers(), container.buffers(), strict=True):
        mine.data.mul_(0.9).add_(theirs.data, alpha=0.3)
    container.verify()
    with pytest.raises(IntegrityError, match="CONTAINER_CHANGED"):
        average.verify()
