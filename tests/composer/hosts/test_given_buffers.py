"""Buffers given to a container by torch.func.functional_call, plainly and under transforms."""

import copy

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from batteries import PatchSVAE
from batteries.errors import FrozenError, InputError
from composer import compose
from tests.compatibility import refused, works
from tests.support.hosts import images


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
