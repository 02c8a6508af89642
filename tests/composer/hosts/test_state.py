"""Hosts of frozen cells among torch's tools: their state saved, averaged and loaded; their buffers copied and broadcast."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import distributed, nn
from torch.autograd import forward_ad
from torch.distributed import checkpoint
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.optim import swa_utils

from batteries import CellSpec, PatchSVAE
from batteries.errors import BatteriesError, FormatError, FrozenError, InputError, IntegrityError
from composer import Classifier, Composition, Denoiser, compose, wire
from composer.container.extra_state import decoded, encoded
from composer.hosts import FrozenCell, NamingHost, StreamForm
from tests.compatibility import refused, works
from tests.support.cells import from_model, python

SPEC = CellSpec(V=12, D=4, patch_size=4, hidden=8)
FORM = StreamForm(width=8, blocks=1)
DOCUMENTS = ("_extra_state", "container._extra_state")


@pytest.fixture(scope="module")
def cells():
    return [from_model(SPEC, seed, name) for seed, name in enumerate("abc")]


def images(n=8, seed=0):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def host(cells, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(compose(cells), images(), 2, form=FORM)


def train(made, steps=10, after=lambda: None):
    before = made.stem.weight.detach().clone()
    optimiser = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(made(images()), torch.arange(8) % 2).backward()
        optimiser.step()
        after()
    assert not torch.equal(made.stem.weight, before)
    made.container.verify()


def same(one, two):
    two.container.verify()
    return torch.equal(one(images()), two(images()))


# A state dict: saved, copied, loaded.


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


# Buffers: copied, averaged, broadcast.

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


@works("Hosts and their state", "torch.func.functional_call with a host's own buffers")
@refused("Hosts and their state", "torch.func.functional_call with other numbers in frozen buffers", "FROZEN")
def test_a_call_with_buffers_given(cells):
    container = compose(cells)
    usual = container(images()).recon
    own = dict(container.named_buffers())
    for buffers in (own, {name: buffer.clone() for name, buffer in own.items()}):
        assert torch.equal(torch.func.functional_call(container, buffers, (images(),)).recon, usual)
    name, buffer = next(iter(own.items()))
    for other in ({name: buffer * 0.5}, dict.fromkeys(own, torch.zeros(1))):
        with pytest.raises(FrozenError, match="FROZEN"):
            torch.func.functional_call(container, other, (images(),))
    assert torch.equal(container(images()).recon, usual)


def stacked(*containers):
    return torch.func.stack_module_state(list(containers))[1]


def given_to(container, road):
    """What comes of buffers that are given to a container on a road of torch's."""
    x = images()

    def run(buffers, x=x):
        return torch.func.functional_call(container, buffers, (x,)).recon

    def ahead(buffers):
        with forward_ad.dual_level():
            return run({name: forward_ad.make_dual(b, b) for name, b in buffers.items()})

    return {
        "vmap": lambda buffers: torch.func.vmap(run, (None, 0))(buffers, x[None])[0],
        "vmap of stacked": lambda buffers: torch.func.vmap(run)({n: b[None] for n, b in buffers.items()})[0],
        "grad of images": lambda buffers: torch.func.grad(lambda x: run(buffers, x).sum())(x),
        "vmap of grad": lambda buffers: torch.func.vmap(torch.func.grad(lambda x, buffers: run(buffers, x).sum()), (None, 0))(
            x, {n: b[None] for n, b in buffers.items()}
        )[0],
        "make_fx around": lambda buffers: make_fx(lambda x: run(buffers, x))(x)(x),
        "compile": lambda buffers: torch.compile(run, backend="eager")(buffers),
        "grad of weights": lambda buffers: torch.func.grad(lambda buffers: run(buffers).sum())(buffers),
        "jvp of weights": lambda buffers: torch.func.jvp(run, (buffers,), (buffers,)),
        "dual weights": ahead,
        "autograd of weights": lambda buffers: run({name: b.clone().requires_grad_() for name, b in buffers.items()}),
        "make_fx of weights": lambda buffers: make_fx(run)(buffers, x),
    }[road]


TRANSFORMS = ("vmap", "vmap of stacked", "grad of images", "vmap of grad", "make_fx around", "compile")
DIFFERENTIATED = ("grad of weights", "jvp of weights", "dual weights", "autograd of weights", "make_fx of weights")


@works("torch", "vmap over hosts of the same cells: functional_call with stack_module_state")
@refused("torch", "other numbers for frozen buffers under torch.func, make_fx or torch.compile", "FROZEN")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's own, in its transforms
@pytest.mark.parametrize("road", TRANSFORMS)
def test_buffers_given_under_a_transform(cells, road):
    container = compose(cells)
    own = {name: buffer.clone() for name, buffer in container.named_buffers()}
    wanted = given_to(container, road)(dict(container.named_buffers()))
    torch._dynamo.reset()
    assert torch.allclose(given_to(container, road)(own), wanted, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
    with pytest.raises(FrozenError, match="FROZEN"):
        given_to(container, road)({name: buffer * 0.5 for name, buffer in own.items()})


@refused(
    "torch", "derivatives on frozen buffers: functional_call under grad, jvp, duals; buffers as inputs of make_fx", "FROZEN"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("road", DIFFERENTIATED)
def test_frozen_buffers_have_no_derivative(cells, road):
    container = compose(cells)
    for buffers in (dict(container.named_buffers()), {name: buffer.clone() for name, buffer in container.named_buffers()}):
        with pytest.raises(FrozenError, match="FROZEN"):
            given_to(container, road)(buffers)


def test_stacked_containers_of_different_cells_are_refused(cells):
    one, other, x = compose({"a": cells[0]}), compose({"a": cells[1]}), images()

    def run(buffers):
        return torch.func.functional_call(one, buffers, (x,)).recon

    assert torch.allclose(torch.func.vmap(run)(stacked(one, one))[1], one(x).recon, rtol=1e-4, atol=1e-5)
    with pytest.raises(FrozenError, match="FROZEN"):
        torch.func.vmap(run)(stacked(one, other))


@refused("torch", "functional_call of a container on the meta device", "FROZEN", note="call the container itself")
@refused("torch", "images for a model whose weights are on the meta device", "DEVICE", note="nothing moves from there")
def test_a_container_on_meta_is_not_filled(cells):
    container = compose(cells)
    empty = copy.deepcopy(container).to("meta")
    assert torch.func.functional_call(empty, dict(empty.named_buffers()), (images().to("meta"),)).recon.is_meta
    with pytest.raises(FrozenError, match="FROZEN"):
        torch.func.functional_call(empty, dict(container.named_buffers()), (images(),))
    for model in (empty, PatchSVAE.from_cell(cells[0]).to("meta")):
        with pytest.raises(InputError, match="make the model again") as caught:
            model(images())
        assert caught.value.code == "DEVICE"


RANKS = """
import sys
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F
from batteries.errors import FrozenError
from tests.support.cells import from_model
from tests.composer.hosts.test_state import SPEC, host, images

def learn(cells, rank):
    model = nn.parallel.DistributedDataParallel(host(cells, rank))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(3):
        optimiser.zero_grad()
        F.cross_entropy(model(images(seed=rank)), torch.arange(8) % 2).backward()
        optimiser.step()
    model.module.container.verify()
    mine = nn.utils.parameters_to_vector(model.parameters()).detach()
    both = [torch.empty(mine.shape) for _ in range(2)]
    distributed.all_gather(both, mine)
    assert torch.equal(*both)

def work(rank, path):
    distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    learn([from_model(SPEC, seed, str(seed)) for seed in (0, 1)], rank)
    other, refused = host([from_model(SPEC, seed + rank, str(seed)) for seed in (0, 1)]), False
    try:
        nn.parallel.DistributedDataParallel(other)
    except FrozenError:
        refused = True
    other.container.verify()
    assert refused == (rank == 1), (rank, refused)
    distributed.barrier()
    distributed.destroy_process_group()

torch.set_num_threads(1)
multiprocessing.start_processes(work, (sys.argv[1],), nprocs=2, start_method="fork")
"""


@pytest.mark.slow
@works("Hosts and their state", "DistributedDataParallel in two processes, which broadcasts buffers")
@refused("Hosts and their state", "DistributedDataParallel over processes that hold different cells", "FROZEN")
def test_two_processes(tmp_path):
    done = python(RANKS, tmp_path / "store", OMP_NUM_THREADS="1", timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@works("Hosts and their state", "DistributedDataParallel and collectives in one process")
@works("Hosts and their state", "DataParallel", note="on a machine without GPUs")
def test_one_process(cells, group):
    made = host(cells)
    train(made)
    parallel = nn.parallel.DistributedDataParallel(made)
    F.cross_entropy(parallel(images()), torch.arange(8) % 2).backward()
    assert torch.equal(nn.DataParallel(made)(images()), made(images()))
    for buffer in made.container.buffers():
        distributed.broadcast(buffer, 0)
        distributed.all_reduce(buffer)
        gathered = [torch.empty(buffer.shape)]
        distributed.all_gather(gathered, buffer)
        assert torch.equal(gathered[0], buffer)
    made.container.verify()


@refused("Hosts and their state", "other cells broadcast into a container", "FROZEN")
def test_a_collective_that_changes_a_number_is_refused(cells, group):
    container, others = compose(cells[:1]), compose(cells[1:2])
    for buffer, other in zip(container.buffers(), others.buffers(), strict=True):
        if not torch.equal(buffer, other):
            with pytest.raises(FrozenError, match="FROZEN"):
                distributed.all_gather([buffer], other)
    container.verify()


# Containers and compositions in hosts.


@works("Hosts and their state", "Classifier, Denoiser and FrozenCell around a composition")
def test_hosts_take_the_cells_of_a_composition(cells):
    named = dict(zip("abc", cells, strict=True))
    nodes = {"out": {"kind": "route", "of": ["a", "b", "c"], "by": "router"}}
    composition = Composition.model_validate(
        {"schema_version": "1.0", "output": "out", "cells": {name: f"high/{name}" for name in named}, "nodes": nodes}
    )
    model, container = wire(named, composition), compose(named)
    for kind, more in ((Classifier, (2,)), (Denoiser, ())):
        one, two = (_seeded(lambda k=kind, m=m, more=more: k(m, images(), *more, form=FORM)) for m in (model, container))
        assert torch.equal(one(images()), two(images()))
        two.load_state_dict(one.state_dict())
    assert torch.equal(FrozenCell(model, "b")(images()).recon, FrozenCell(container, "b")(images()).recon)
    train_of = NamingHost(FrozenCell(model), images(), 2, FORM)
    assert set(train_of.state_dict()) == {name for name in train_of.state_dict() if name.split(".")[0] != "container"}
    for attempt in (
        lambda: Classifier(nn.Linear(2, 2), images(), 2),
        lambda: FrozenCell(None),
        lambda: Denoiser(cells, images()),
    ):
        with pytest.raises(BatteriesError) as caught:
            attempt()
        assert caught.value.code == "MODEL"


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def test_one_surface(cells):
    named = dict(zip("abc", cells, strict=True))
    model, container = wire(named, Composition.parallel({name: f"high/{name}" for name in named}), images()), compose(named)
    container.consensus = model.consensus
    for name in ("names", "lock", "scale", "digest", "device", "consensus"):
        assert getattr(model, name) == getattr(container, name), name
    assert model.spec("a") == container.spec("a")
    assert str(model.explain((8, 8))) == str(container.explain((8, 8)))
    assert model.cells("a", "c").names == container.cells("a", "c").names == ("a", "c")
    assert torch.equal(model.tokens(images())["b"].omega, container.tokens(images())["b"].omega)
    for found in (model, container):
        found.verify()
        found.consensus = None
        assert found.container.names == ("a", "b", "c")
    for taps in (("omega", "recon"), ("M", "S", "omega", "recon"), ("omega",)):
        one, two = model(images(), taps), container(images(), taps)
        for out in (one, two):
            assert out["a"] is out.cells["a"]
            assert list(out.output) == list(out.nodes["all"]) == ["a", "b", "c"]
        for name in {"omega", "patch_error", "recon", "error"} if "recon" in taps else {"omega"}:
            ours, theirs = getattr(one, name), getattr(two, name)
            assert all(map(torch.equal, ours, theirs)), name
        for tap in taps:
            assert torch.equal(getattr(one.output["b"], tap), getattr(two.output["b"], tap))
    for found in (model, container):
        with pytest.raises(BatteriesError, match="NO_TAP"):
            found(images(), ("nothing",))
        with pytest.raises(BatteriesError, match="NO_TAP"):
            _ = found(images(), ("omega",)).error
