"""Hosts of frozen cells among torch's tools: their state saved, copied, averaged and loaded."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.distributed import checkpoint
from torch.nn import functional as F

from batteries.errors import BatteriesError, FormatError, IntegrityError
from composer import Composition, compose, wire
from composer.container.extra_state import decoded, encoded
from tests.compatibility import refused, works
from tests.support.hosts import DOCUMENTS, host, images, same, train


def through_safetensors(made, empty, path):
    save_file(made.state_dict(), path / "x")
    empty.load_state_dict(load_file(path / "x"))


def through_a_safetensors_model(made, empty, path):
    save_model(made, path / "x")
    load_model(empty, path / "x")


def through_torch(made, empty, path):
    torch.save(made.state_dict(), path / "x")
    empty.load_state_dict(torch.load(path / "x", weights_only=True), assign=True)


def through_clones(made, empty, path):
    empty.load_state_dict({name: value.cpu().clone() for name, value in made.state_dict().items()})


def through_half(made, empty, path):
    state = {name: value.bfloat16() for name, value in made.state_dict().items() if name in DOCUMENTS}
    empty.load_state_dict({**made.state_dict(), **state})


def through_a_checkpoint(made, empty, path):
    checkpoint.save(made.state_dict(), checkpoint_id=path / "x", no_dist=True)
    state = empty.state_dict()
    checkpoint.load(state, checkpoint_id=path / "x", no_dist=True)
    empty.load_state_dict(state)


ROADS = [through_safetensors, through_a_safetensors_model, through_torch, through_clones, through_half, through_a_checkpoint]


@works("Hosts and their state", "safetensors: save_file and load_file of a host's state")
@works("Hosts and their state", "safetensors: save_model and load_model of a host")
@works("Hosts and their state", "torch.save and torch.load(weights_only=True), load_state_dict(assign=True)")
@works("Hosts and their state", "a state dict copied tensor by tensor, or cast to bfloat16")
@works("Hosts and their state", "torch.distributed.checkpoint of a host's state")
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("road", ROADS)
def test_a_state_comes_back(cells, tmp_path, road):
    made, empty = host(cells), host(cells, 1)
    assert all(isinstance(value, torch.Tensor) for value in made.state_dict().values())
    assert not same(made, empty)
    road(made, empty, tmp_path)
    assert same(made, empty)
    with pytest.raises(IntegrityError, match="OTHER_HOST"):
        road(made, host(cells[:2]), tmp_path) if road is not through_a_checkpoint else through_clones(made, host(cells[:2]), "")


@pytest.mark.slow
@works("Hosts and their state", "accelerate: save_state and load_state, in safetensors and not")
@works("Hosts and their state", "accelerate: save_model, whole and in shards", note="read by load_checkpoint_in_model")
def test_accelerate(cells, tmp_path):
    import accelerate

    accelerator, made = accelerate.Accelerator(cpu=True), host(cells)
    made, optimiser = accelerator.prepare(made, torch.optim.Adam(made.parameters(), lr=1e-2))
    for safe in (True, False):
        accelerator.save_state(tmp_path / f"{safe}", safe_serialization=safe)
        wanted = made(images()).detach()
        accelerator.backward(F.cross_entropy(made(images()), torch.arange(8) % 2))
        optimiser.step()
        assert not torch.equal(made(images()), wanted)
        accelerator.load_state(tmp_path / f"{safe}")
        assert torch.equal(made(images()), wanted)
    for limit in ("10GB", "1KB"):
        empty = host(cells, 1)
        accelerator.save_model(made, tmp_path / limit, max_shard_size=limit)
        accelerate.load_checkpoint_in_model(empty, tmp_path / limit)
        assert same(made, empty)


@works("Hosts and their state", "accelerate: cpu_offload and disk_offload of a host, buffers too")
def test_accelerate_offloads(cells, tmp_path):
    import accelerate

    wanted = host(cells)(images())
    for buffers in (False, True):
        near = accelerate.cpu_offload(host(cells), execution_device="cpu", offload_buffers=buffers)
        far = accelerate.disk_offload(host(cells), tmp_path, execution_device="cpu", offload_buffers=buffers)
        for made in (near, far):
            assert torch.equal(made(images()), wanted)
            made.container.verify()


def in_place(mean, value, d):
    mean.mul_(d).add_(value, alpha=1 - d)


def of_floats(mean, value, d):
    mean.mul_(d).add_(value, alpha=1 - d) if value.is_floating_point() else mean.copy_(value)


def by_copy(mean, value, d):
    mean.copy_(d * mean + (1 - d) * value)


def by_lerp(mean, value, d):
    mean.lerp_(value, 1 - d)


def of_list(mean, value, d):
    torch._foreach_mul_([mean], d)
    torch._foreach_add_([mean], [value], alpha=1 - d)


@works("Hosts and their state", "a moving average of a state dict, tensor by tensor, in place or by copies")
@pytest.mark.parametrize("decay", [0.9, 0.9999])
@pytest.mark.parametrize("step", [in_place, of_floats, by_copy, by_lerp, of_list])
def test_an_average_of_states_is_a_state(cells, step, decay):
    made = host(cells)
    mean = {name: value.clone() for name, value in made.state_dict().items()}

    def average():
        for name, value in made.state_dict().items():
            step(mean[name], value, decay)

    train(made, after=average)
    for name in DOCUMENTS:
        value = made.state_dict()[name]
        for _ in range(1000):
            step(mean[name], value, decay)
    averaged = host(cells, 1)
    averaged.load_state_dict(mean)
    assert decoded(averaged.get_extra_state(), where="") == decoded(made.get_extra_state(), where="")
    assert not same(made, averaged)


@refused("Hosts and their state", "the average of states of hosts around different cells", "STATE", note="or `OTHER_HOST`")
def test_an_average_over_different_cells_is_refused(cells):
    one, other = host(cells).state_dict(), host([cells[0], cells[2], cells[1]]).state_dict()
    mean = {name: (value + other[name]) / 2 for name, value in one.items()}
    with pytest.raises(BatteriesError) as caught:
        host(cells).load_state_dict(mean)
    assert caught.value.code in {"STATE", "OTHER_HOST"}
    for code in ("STATE", "LOCK_MISMATCH"):
        state = other if code == "LOCK_MISMATCH" else mean
        with pytest.raises(BatteriesError) as caught:
            compose(cells[:1]).set_extra_state(state["container._extra_state"])
        assert caught.value.exit_code == 4


BROKEN = {
    "truncated": lambda t: t[:-9],
    "nothing": lambda t: t[:0],
    "noise": torch.randn_like,
    "not a number": lambda t: t * torch.nan,
    "infinite": lambda t: t / 0,
    "too large": lambda t: t * 3,
    "negative": lambda t: -t,
    "complex": lambda t: t.to(torch.complex64),
    "truth": lambda t: t.bool(),
    "another order": lambda t: t.flip(0),
    "without values": lambda t: t.to("meta"),
    "a list": lambda t: encoded([1, 2]),
    "a number": lambda t: torch.tensor(0.0),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_damaged_state_is_refused(cells, way):
    for made in (host(cells), compose(cells), wire({"a": cells[0]}, Composition(**ONE))):
        with pytest.raises(FormatError) as caught:
            made.set_extra_state(BROKEN[way](made.get_extra_state()))
        assert (caught.value.code, caught.value.exit_code) == ("STATE", 4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_a_state_in_another_dtype_that_holds_it_is_read(cells, dtype):
    host(cells).set_extra_state(host(cells).get_extra_state().to(dtype))


ONE = {"schema_version": "1.0", "output": "a", "cells": {"a": "high/a"}}


def test_the_old_form_is_read(cells):
    made = host(cells)
    state = {name: decoded(value, where="") if name in DOCUMENTS else value for name, value in made.state_dict().items()}
    assert state["container._extra_state"] == {"lock": made.container.lock}
    empty = host(cells, 1)
    empty.load_state_dict(state)
    assert same(made, empty)
    with pytest.raises(IntegrityError, match="OTHER_HOST"):
        host(cells[:1]).load_state_dict(state)
    with pytest.raises(IntegrityError, match="LOCK_MISMATCH"):
        compose(cells[:1]).set_extra_state(state["container._extra_state"])


@works("Hosts and their state", "several containers in one host, and one under two names")
def test_several_containers(cells, tmp_path):
    def made(seed, chosen=cells):
        one = host(chosen, seed)
        return nn.ModuleDict({"one": one, "again": one, "two": host(cells[:2], seed), "bare": compose(cells[2:])})

    save_model(made(0), tmp_path / "x")
    found = made(1)
    load_model(found, tmp_path / "x")
    assert same(found["one"], host(cells))
    assert same(found["two"], host(cells[:2]))
    with pytest.raises(BatteriesError, match="OTHER_HOST"):
        load_model(made(1, cells[::-1]), tmp_path / "x")
    state = {name: value for name, value in made(0).state_dict().items() if "_extra_state" not in name}
    with pytest.raises(RuntimeError, match="Missing key"):
        made(1).load_state_dict(state)
    made(1).load_state_dict(state, strict=False)


@pytest.mark.slow
@works("Hosts and their state", "copy.deepcopy and pickle of a host")
def test_copies_of_a_host(cells):
    made = host(cells)
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert same(made, copied)
        train(copied)
    assert not same(made, copied)


@works("Hosts and their state", "parameters_to_vector and vector_to_parameters", note="a cell has no parameters")
def test_vectors_of_parameters(cells):
    made, empty = host(cells), host(cells, 1)
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(made.parameters()), empty.parameters())
    assert same(made, empty)
