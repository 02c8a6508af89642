"""The frozen container: equal to its cells one by one, frozen whatever is tried, transparent to gradients."""

import copy
import ctypes
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from batteries import CellSpec, PatchSVAE
from batteries.errors import ConflictError, FrozenError, InputError, IntegrityError, NotFoundError, PolicyError
from composer import compose
from composer.container.outputs import TAPS
from tests.support.cells import from_model

LOW = CellSpec(V=16, D=8, patch_size=8, hidden=16)
HIGH = CellSpec(V=12, D=4, patch_size=4, hidden=8, cross_layers=2)


@pytest.fixture(scope="module")
def cells():
    return [from_model(LOW, 0, "a", band="mid"), from_model(HIGH, 1, "b"), from_model(LOW, 2, "c", band="mid")]


@pytest.fixture
def container(cells):
    return compose(cells)


def images(n=3, size=(16, 32), seed=0):
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=10)
@given(n=st.integers(1, 5), rows=st.integers(1, 4), columns=st.integers(1, 4), seed=st.integers(0, 100))
def test_it_answers_as_the_single_cells_do(cells, n, rows, columns, seed):
    x = images(n, (8 * rows, 8 * columns), seed)
    out = compose(cells)(x, TAPS)
    for cell in cells:
        alone, found = PatchSVAE.from_cell(cell)(x), out[cell.name]
        for wanted, have in ((alone.recon, found.recon), (alone.M, found.M), (alone.S, found.S), (alone.omega, found.omega)):
            assert (wanted - have).abs().max() <= 1e-5 * wanted.abs().max()
        assert torch.allclose(found.patch_error.mean(dim=1), (alone.recon - x).square().mean(dim=(1, 2, 3)), rtol=1e-5)


def test_shapes_and_order(cells, container):
    out = container(images())
    assert list(out) == list(container.names) == [cell.name for cell in cells]
    assert out.recon.shape == (3, 3, 3, 16, 32)
    assert out.error.shape == (3, 3)
    assert [tuple(t.shape) for t in out.omega] == [(3, 8, 8), (3, 32, 4), (3, 8, 8)]
    assert [tuple(t.shape) for t in out.patch_error] == [(3, 8), (3, 32), (3, 8)]
    assert container.spec("high/b") == HIGH


def test_encoding_alone_gives_the_same_tokens(container):
    x = images()
    found, out = container.tokens(x), container(x)
    assert all(torch.allclose(found[name].omega, out[name].omega, rtol=1e-6) for name in container.names)


class Host(nn.Module):
    def __init__(self, container):
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.container = container
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.container(self.stem(x))["mid/a"].omega.mean(dim=1))


@pytest.mark.slow
def test_a_host_trains_around_it_for_1000_steps(container):
    before = container.digest
    host = Host(container)
    assert {name for name, _ in host.named_parameters()} == {"stem.weight", "stem.bias", "head.weight", "head.bias"}
    optimiser = torch.optim.AdamW(host.parameters(), lr=1e-2)
    stem = host.stem.weight.detach().clone()
    for step in range(1000):
        loss = host(images(2, (8, 8), seed=step)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert host.stem.weight.grad.norm() > 0
        optimiser.step()
    assert not torch.equal(stem, host.stem.weight)
    assert container.digest == before
    container.verify()


def test_gradients_with_respect_to_images_are_the_single_cells(cells, container):
    x, y = images().requires_grad_(), images().requires_grad_()
    container(x)["high/b"].recon.square().sum().backward()
    PatchSVAE.from_cell(cells[1])(y).recon.square().sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-4, atol=1e-6)


NOTHING_HAPPENS = {
    "half": lambda c: c.half(),
    "double": lambda c: c.double(),
    "bfloat16": lambda c: c.to(torch.bfloat16),
    "train": lambda c: c.train(),
    "requires_grad_": lambda c: c.requires_grad_(True),
    "zero_grad": lambda c: c.zero_grad(),
    "to_empty": lambda c: c.to_empty(device="cpu"),
    "apply": lambda c: c.apply(lambda m: [nn.init.zeros_(p) for p in m.parameters()]),
}


@pytest.mark.parametrize("attempt", NOTHING_HAPPENS)
def test_module_wide_calls_change_nothing(container, attempt):
    x = images()
    before = container(x).recon
    NOTHING_HAPPENS[attempt](container)
    container.verify()
    assert list(container.parameters()) == []
    assert not any(buffer.requires_grad for buffer in container.buffers())
    assert torch.equal(container(x).recon, before)


WRITES = {
    "zero_": lambda b: b.zero_(),
    "add_": lambda b: b.add_(1),
    "item assignment": lambda b: b.__setitem__(0, 1.0),
    "+=": lambda b: b.__iadd__(1),
    "out=": lambda b: torch.add(b, 1, out=b),
    "init": lambda b: nn.init.normal_(b),
    "foreach": lambda b: torch._foreach_mul_([b], 0.0),
    "copy_": lambda b: b.copy_(torch.full_like(b, 7.0)),
    "requires_grad_": lambda b: b.requires_grad_(True),
    "requires_grad =": lambda b: setattr(b, "requires_grad", True),
    "data =": lambda b: setattr(b, "data", torch.zeros_like(b)),
    "an item's view": lambda b: b[0].add_(1),
    "a flat view": lambda b: b.view(-1).zero_(),
    "a detached view": lambda b: b.detach().zero_(),
    "a transposed view": lambda b: b.transpose(0, -1).fill_(0),
    "rows": lambda b: [row.zero_() for row in b],
    "unbind": lambda b: b.unbind()[0].zero_(),
    "split": lambda b: b.split(1)[0].mul_(2),
    "chunk": lambda b: b.chunk(2)[0].mul_(2),
    "broadcast": lambda b: torch.broadcast_tensors(torch.zeros(1), b)[1].zero_(),
    "a view by keyword": lambda b: torch.transpose(input=b, dim0=0, dim1=-1).zero_(),
    "squeeze by keyword": lambda b: torch.squeeze(input=b).zero_(),
    "einsum": lambda b: torch.einsum("c...->...c", b).zero_(),
    "by keyword": lambda b: torch.fill_(input=b, value=0),
    "by keyword, second": lambda b: torch.fill_(value=0, input=b),
    "relu": lambda b: F.relu(b, inplace=True),
    "a module in place": lambda b: nn.ReLU(inplace=True)(b),
    "dropout": lambda b: F.dropout(b, inplace=True),
    "max_norm": lambda b: F.embedding(torch.tensor([0]), b.view(1, -1), max_norm=1e-3),
    "batch norm": lambda b: F.batch_norm(torch.randn(4, b.numel()), b.view(-1), torch.ones(b.numel()), training=True),
    "instance norm": lambda b: F.instance_norm(torch.randn(4, b.numel(), 2), torch.ones(b.numel()), b.view(-1)),
    "inference": lambda b: torch.inference_mode()(F.batch_norm)(
        torch.randn(4, b.numel()), b.view(-1), b.view(-1), training=True
    ),
    "an operator": lambda b: torch.ops.aten.mul_.Tensor(b, 2),
    "an operator's out": lambda b: torch.ops.aten.add.out(b, b + 1, out=b),
    "out= of two": lambda b: torch.max(b, dim=0, out=(b[0], torch.zeros(b[0].shape, dtype=torch.long))),
    "vmap": lambda b: torch.vmap(lambda row: row.mul_(2))(b),
    "vmap's result": lambda b: torch.vmap(lambda row: row)(b).zero_(),
    "func.grad": lambda b: torch.func.grad(lambda w: w.detach().zero_().sum())(b),
    "apply_": lambda b: b.apply_(lambda number: 0.0),
    "dlpack": lambda b: torch.from_dlpack(b).zero_(),
    "numpy's dlpack": lambda b: np.from_dlpack(b),
    "a pickled copy": lambda b: pickle.loads(pickle.dumps(b)).zero_(),
    "a parameter of it": lambda b: nn.Parameter(b, requires_grad=False).zero_(),
}


@pytest.mark.parametrize("attempt", WRITES)
def test_writes_in_place_raise(container, attempt):
    for buffer in container.buffers():
        with pytest.raises(FrozenError, match="FROZEN"):
            WRITES[attempt](buffer)
    container.verify()


def test_tensors_of_a_stack_and_arrays_cannot_be_written(container):
    for tensor in container.groups[0].stack.tensors().values():
        with pytest.raises(FrozenError, match="FROZEN"):
            tensor.zero_()
        for array in (tensor.numpy(), np.asarray(tensor), tensor[0].detach().numpy(force=True)):
            with pytest.raises(ValueError, match="read-only"):
                array.fill(0)
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.setflags(write=True)
        np.asarray(tensor, dtype=np.float64).fill(0)  # a copy
    container.verify()


def test_what_is_computed_of_them_is_ordinary(container):
    weights = next(container.buffers())
    plain = weights.as_subclass(torch.Tensor)
    x = torch.ones(weights.shape, requires_grad=True)
    (x * weights).sum().backward()
    computed = {
        "a product": (weights * 2, plain * 2),
        "a gradient": (x.grad, plain),
        "a copy": (torch.zeros_like(weights).copy_(weights), plain),
        "another dtype": (weights.double(), plain.double()),
        "an index": (weights[torch.tensor([0])], plain[:1]),
        "vmap": (torch.vmap(lambda row: row.sum())(weights), torch.vmap(lambda row: row.sum())(plain)),
        "sparse": (weights.to_sparse().to_dense(), plain),
    }
    for name, (found, wanted) in computed.items():
        assert type(found) is torch.Tensor, name
        assert torch.equal(found, wanted), name
        found.zero_()
    assert (repr(weights), weights.tolist()) == (repr(plain), plain.tolist())
    container.verify()


AROUND = {
    "data": lambda stack, b: b.data.zero_(),
    "as_subclass": lambda stack, b: b.as_subclass(torch.Tensor).zero_(),
    "_base": lambda stack, b: b._base.zero_(),
    "chosen": lambda stack, b: [tensor.zero_() for tensor in stack.chosen([0]).values()],
    "set_": lambda stack, b: torch.empty(0).set_(b).zero_(),
    "the storage": lambda stack, b: b.untyped_storage().fill_(0),
    "to_dlpack": lambda stack, b: torch.from_dlpack(torch.utils.dlpack.to_dlpack(b)).zero_(),
    "from_numpy": lambda stack, b: torch.from_numpy(b.numpy()).zero_(),
    "the address": lambda stack, b: ctypes.memset(b.data_ptr(), 0, 4),
}


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
@pytest.mark.parametrize("way", AROUND)
def test_ways_around_are_found(container, way):
    stack = container.groups[0].stack
    AROUND[way](stack, stack.enc_in__weight)
    with pytest.raises(IntegrityError, match="CONTAINER_CHANGED"):
        container.verify()


def test_an_undeclared_write_of_a_custom_operator_is_found(container):
    with torch.library._scoped_library("batteries_test", "DEF") as library:
        library.define("halve(Tensor x) -> Tensor")
        library.impl("halve", lambda x: x.mul_(0.5).clone(), "CPU")
        torch.ops.batteries_test.halve(next(container.buffers()))
    with pytest.raises(IntegrityError, match="CONTAINER_CHANGED"):
        container.verify()


def test_buffers_cannot_be_replaced(container):
    stack = next(m for m in container.modules() if dict(m.named_buffers(recurse=False)))
    name = next(iter(dict(stack.named_buffers(recurse=False))))
    with pytest.raises(FrozenError, match="assignment"):
        setattr(stack, name, torch.zeros(1))
    with pytest.raises(FrozenError, match="deletion"):
        delattr(stack, name)
    with pytest.raises(InputError, match="ndarray"):
        container(images().numpy())


def test_a_write_around_torch_is_found(container):
    next(container.buffers()).data[1].zero_()
    with pytest.raises(IntegrityError, match="mid/c") as caught:
        container.verify()
    assert "mid/a" not in str(caught.value)


def test_copies_are_frozen_too(container):
    copied = copy.deepcopy(container)
    assert copied.digest == container.digest
    with pytest.raises(FrozenError, match="FROZEN"):
        next(copied.buffers()).zero_()


def test_a_hosts_state_carries_the_lock_and_not_the_weights(cells, container):
    state = Host(container).state_dict()
    assert {key for key, value in state.items() if isinstance(value, torch.Tensor)} == {
        *("stem.weight", "stem.bias", "head.weight", "head.bias", "container._extra_state")
    }
    Host(compose(cells)).load_state_dict(state)
    with pytest.raises(IntegrityError, match="other cells"):
        Host(compose(cells[:2])).load_state_dict(state)


def test_a_move_keeps_the_dtype(container):
    container.to("cpu", torch.float64)
    assert all(buffer.dtype == torch.float32 for buffer in container.buffers())


def test_bad_input(cells, container):
    with pytest.raises(InputError, match="nothing to compose") as caught:
        compose([])
    assert caught.value.exit_code == 2
    with pytest.raises(ConflictError, match=r"duplicate cell: got mid/a") as caught:
        compose([cells[0], cells[0]])
    assert caught.value.exit_code == 6
    grey = from_model(CellSpec(V=12, D=4, patch_size=4, hidden=8, channels=1), 0, "grey")
    with pytest.raises(PolicyError, match="different channels") as caught:
        compose([cells[0], grey])
    assert caught.value.exit_code == 6
    with pytest.raises(InputError, match="multiples of 8"):
        container(images(size=(16, 12)))
    with pytest.raises(InputError, match="another device"):
        container(images().to("meta"))
    with pytest.raises(NotFoundError, match=r"mid/a \| high/b \| mid/c"):
        container(images())["low/x"]


def test_cells_of_another_input_normalisation_are_refused(cells):
    cell = cells[2]
    identity = cell.manifest.identity
    other = identity.input.model_copy(update={"mean": (0.485, 0.456, 0.406)})
    manifest = cell.manifest.model_copy(update={"identity": identity.model_copy(update={"input": other})})
    with pytest.raises(PolicyError, match="different input normalisation"):
        compose([cells[0], type(cell)(cell.weights, manifest)])
