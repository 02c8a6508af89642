"""Checkpoints: any value of an optimiser's state, and every optimiser of torch, to the same bits."""

import math

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from batteries.errors import FormatError, IntegrityError
from batteries.training import checkpoint
from tests.support.laws import given, settings, st

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16])
TENSORS = st.builds(
    lambda shape, dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    DTYPES,
)
KEYS = st.text() | st.integers() | st.booleans() | st.none()
VALUES = st.recursive(
    SCALARS | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)
BIAS = st.builds(lambda shape, dtype: torch.ones(shape).to(dtype), st.sampled_from([(), (4,), (39,)]), DTYPES)
ENTRIES = VALUES.filter(lambda value: not isinstance(value, torch.Tensor)) | BIAS  # a tensor of a bias, or of all weights


class Stateful(torch.optim.Optimizer):
    """Optimiser whose state is what it is given, as torch would not cast it."""

    def __init__(self, model, state=None):
        super().__init__(list(model.parameters()), {})
        self.given = state or {}

    def state_dict(self):
        return {"state": self.given, "param_groups": super().state_dict()["param_groups"]}

    def load_state_dict(self, state):
        self.given = state["state"]


def alike(one, other):
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(alike, one.values(), other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other or (one != one and other != other)


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(st.sampled_from("abcd"), ENTRIES, max_size=4))
def test_any_value_comes_back(tmp_path_factory, entry):
    path = tmp_path_factory.getbasetemp() / "checkpoint.safetensors"
    checkpoint.write(path, model(), [Stateful(model(), {1: entry})], {"identity": "a", "step": 3})
    found = Stateful(model())
    assert checkpoint.read(path, model(), [found], "a") == {"identity": "a", "step": 3}
    restored = found.given.get(1, {})
    assert restored.keys() == entry.keys()
    assert all(alike(restored[key], entry[key]) for key in entry)


MAKERS = {
    "Adadelta": torch.optim.Adadelta,
    "Adagrad": torch.optim.Adagrad,
    "Adam": torch.optim.Adam,
    "AMSGrad": lambda parameters: torch.optim.Adam(parameters, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "Adamax": torch.optim.Adamax,
    "ASGD": torch.optim.ASGD,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, momentum=0.9, centered=True),
    "Rprop": torch.optim.Rprop,
    "plain SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.99),
    "LBFGS": lambda parameters: torch.optim.LBFGS(parameters, max_iter=2, history_size=3, line_search_fn="strong_wolfe"),
    "LBFGS, no search": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=1, history_size=2),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("before", [0, 1, 6])
def test_every_optimiser_of_torch_goes_on_as_if_it_had_not_stopped(tmp_path, name, before):
    def walk(network, optimiser, steps):
        for step in steps:
            x = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))

            def closure(x=x):
                optimiser.zero_grad()
                loss = network(x).square().mean() + network(x).sin().mean()
                loss.backward()
                return loss

            optimiser.step(closure)

    unbroken, other = model(), model(1)
    first, second = (MAKERS[name](network.parameters()) for network in (unbroken, other))
    walk(unbroken, first, range(before))
    checkpoint.write(tmp_path / "saved", unbroken, [first], {"identity": "a"})
    checkpoint.read(tmp_path / "saved", other, [second], "a")
    for network, optimiser in ((unbroken, first), (other, second)):
        walk(network, optimiser, range(before, before + 5))
    assert all(torch.equal(*pair) for pair in zip(unbroken.parameters(), other.parameters(), strict=True))


def test_state_of_tensors_alone_is_stored_as_before(tmp_path):
    network = model()
    adam = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 5)).sum().backward()
    adam.step()
    checkpoint.write(tmp_path / "saved", network, [adam], {"identity": "a"})
    data = (tmp_path / "saved").read_bytes()
    header = data[8 : 8 + int.from_bytes(data[:8], "little")].decode()
    assert checkpoint.VALUES not in header
    assert '"optimiser.3.exp_avg_sq"' in header


@pytest.mark.parametrize(
    "form", [{"tensor": "none"}, {"list": [{"tensor": "none"}]}, {"dict": 3}, {"list": None}, {}, {"dict": [["a"]]}]
)
def test_a_form_that_cannot_be_read_is_an_error_of_the_checkpoint(tmp_path, monkeypatch, form):
    monkeypatch.setattr(checkpoint, "_packed", lambda value, name, tensors: form)
    checkpoint.write(tmp_path / "saved", model(), [Stateful(model(), {0: {"a": None}})], {"identity": "a"})
    with pytest.raises(FormatError, match="not a checkpoint of this model") as caught:
        checkpoint.read(tmp_path / "saved", model(), [Stateful(model())], "a")
    assert caught.value.code == "CHECKPOINT"


def written(path, **state):
    network = model()
    adam = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 5)).sum().backward()
    adam.step()
    checkpoint.write(path, network, [adam], {"identity": "a", **state})
    return path.read_bytes()


def read(path):
    other = model(1)
    return checkpoint.read(path, other, [torch.optim.Adam(other.parameters())], "a")


def test_every_byte_is_covered_by_the_digest(tmp_path):
    """One bit of each byte in turn, header and digest included; every fault is typed, and none is trained on."""
    path = tmp_path / "saved"
    good, codes = written(path), set()
    for place in range(0, len(good), 1 if len(good) < 3000 else 3):
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :])
        with pytest.raises((FormatError, IntegrityError)) as caught:
            read(path)
        codes.add(caught.value.code)
    assert codes == {"DIGEST_MISMATCH", "CHECKPOINT"}
    path.write_bytes(good)
    assert read(path) == {"identity": "a"}


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_cuts_additions_and_swaps_are_typed(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "cut"
    good = written(path)
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(good)), st.integers(0, len(good)))))
    bad = good[:start] + data.draw(st.binary(max_size=20)) + good[end:]
    if bad == good:
        return
    path.write_bytes(bad)
    with pytest.raises((FormatError, IntegrityError), match=r"CHECKPOINT|DIGEST_MISMATCH|POINTER|HTML"):
        read(path)


def resealed(path, change):
    """A checkpoint with other content and the digest that it should have: made up, not damaged."""
    tensors = safetensors.torch.load(path.read_bytes())
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    change(tensors, metadata)
    metadata[checkpoint.DIGEST] = checkpoint.NO_DIGEST
    path.write_bytes(checkpoint._with_digest(safetensors.torch.save(tensors, metadata)))


MADE = {
    "no state": lambda tensors, metadata: metadata.pop(checkpoint.KEY),
    "a list": lambda tensors, metadata: metadata.update({checkpoint.KEY: "[]"}),
    "no identity": lambda tensors, metadata: metadata.update({checkpoint.KEY: "{}"}),
    "deep": lambda tensors, metadata: metadata.update({checkpoint.KEY: "[" * 10**5}),
    "digits": lambda tensors, metadata: metadata.update({checkpoint.KEY: "9" * 5000}),
    "values": lambda tensors, metadata: metadata.update({checkpoint.VALUES: "[]"}),
    "no weights": lambda tensors, metadata: tensors.pop("model.0.weight"),
    "a shape": lambda tensors, metadata: tensors.update({"model.0.weight": torch.zeros(4, 1)}),
    "a dtype": lambda tensors, metadata: tensors.update({"model.0.weight": torch.zeros(4, 5).double()}),
    "a moment": lambda tensors, metadata: tensors.update({"optimiser.0.exp_avg": torch.zeros(1, 5)}),
    "a number": lambda tensors, metadata: tensors.update({"optimiser.x.exp_avg": torch.zeros(4, 5)}),
}


@pytest.mark.parametrize("name", MADE)
def test_a_made_checkpoint_is_refused_by_what_it_holds(tmp_path, name):
    path = tmp_path / "saved"
    written(path)
    resealed(path, MADE[name])
    with pytest.raises(FormatError) as caught:
        read(path)
    assert caught.value.code == "CHECKPOINT"


def test_a_checkpoint_without_a_digest_is_refused(tmp_path):
    path = tmp_path / "saved"
    written(path)
    path.write_bytes(safetensors.torch.save(safetensors.torch.load(path.read_bytes()), {checkpoint.KEY: '{"identity": "a"}'}))
    with pytest.raises(FormatError, match="no digest") as caught:
        read(path)
    assert "Remove the file" in caught.value.remedy


def test_a_checkpoint_of_other_shapes_is_named(tmp_path):
    checkpoint.write(tmp_path / "saved", torch.nn.Linear(3, 2), [], {"identity": "a"})
    for other in (torch.nn.Linear(4, 2), model()):
        with pytest.raises(FormatError, match="not a checkpoint of this model"):
            checkpoint.read(tmp_path / "saved", other, [], "a")
