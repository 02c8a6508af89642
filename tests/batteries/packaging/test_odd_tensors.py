"""Tensors of other layouts, flags and dtypes in a checkpoint: each is the value that torch gives, or refused by a sentence."""

import re

import pytest
import torch

from batteries.errors import FormatError
from batteries.packaging import foreign_checkpoint
from batteries.packaging.pickles.pickled_tensors import MAX_EXPANDED
from batteries.training import checkpoint
from tests.support import checkpoints
from tests.support.costs import peak_of

NAME = "enc_out.weight"
READ = {
    "negative bit": torch._neg_view,
    "negative bit of an imaginary part": lambda w: torch.complex(w, -w).conj().imag,
    "expanded": lambda w: w[:, :1].expand(w.shape),
    "zero-dim": lambda w: w[0, 0],
    "transposed": lambda w: w.T.contiguous().T,
    "every second number": lambda w: torch.stack([w, w], -1)[..., 0],
    "offset": lambda w: torch.cat([w, w])[len(w) :],
    "parameter": torch.nn.Parameter,
    "bfloat16": lambda w: w.bfloat16(),
    "half": lambda w: w.half(),
    "double": lambda w: w.double(),
    "double, expanded": lambda w: w.double()[:, :1].expand(w.shape),
}
REFUSED = {
    "conjugate": (lambda w: torch.complex(w, w).conj(), "ST_DTYPE", "complex64"),
    "complex": (lambda w: w.to(torch.complex128), "ST_DTYPE", "complex128"),
    "integers": (lambda w: w.int(), "ST_DTYPE", "int32"),
    "flags": (lambda w: w.bool(), "ST_DTYPE", "bool"),
    "float8": (lambda w: w.to(torch.float8_e4m3fn), "ST_LAYOUT", "of a dtype"),
    "unsigned": (lambda w: w.to(torch.uint16), "ST_LAYOUT", "of a dtype"),
    "complex32": (lambda w: w.to(torch.complex32), "ST_LAYOUT", "of a dtype"),
    "quantised": (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "ST_LAYOUT", "quantised"),
    "quantised by channel": (
        lambda w: torch.quantize_per_channel(w, torch.ones(len(w)), torch.zeros(len(w)), 0, torch.qint8),
        "ST_LAYOUT",
        "quantised",
    ),
    "coordinates": (lambda w: w.to_sparse(), "ST_LAYOUT", "sparse"),
    "rows": (lambda w: w.to_sparse_csr(), "ST_LAYOUT", "sparse"),
    "blocks": (lambda w: w.to_sparse_bsr((1, 1)), "ST_LAYOUT", "sparse"),
    "meta": (lambda w: w.to("meta"), "ST_LAYOUT", "device meta"),
    "nested": (lambda w: torch.nested.nested_tensor([w]), "ST_LAYOUT", "nested"),
    "class": (torch.nn.Buffer, "ST_LAYOUT", "class of its own"),
    "more than there is": (lambda w: w[:1, :1].expand(2**30, 2**30), "TOO_LARGE", "expanded from"),
    "more doubles than there are": (lambda w: w.double()[:1, :1].expand(2**15, 2**15), "TOO_LARGE", "expanded from"),
}
QUIET = pytest.mark.filterwarnings("ignore")  # of torch, about layouts that it may change


def state(change):
    tensors = dict(checkpoints.state())
    return tensors | {NAME: change(tensors[NAME])}


def arrays(folder, tensors):
    checkpoints.saved(folder, tensors)
    found = foreign_checkpoint.read(folder / "checkpoint.pt")
    return foreign_checkpoint.floats(found.tensors, folder)[0]


@pytest.mark.parametrize("change", READ.values(), ids=READ)
def test_a_tensor_of_numbers_is_read_as_torch_reads_it(tmp_path, change):
    tensors = state(change)
    found = torch.from_numpy(arrays(tmp_path, tensors)[NAME].copy())
    assert torch.equal(found, tensors[NAME].detach().float())


@QUIET
@pytest.mark.parametrize(("change", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_any_other_tensor_is_refused_by_name(tmp_path, change, code, words):
    with pytest.raises(FormatError, match=re.escape(words)) as caught:
        arrays(tmp_path, state(change))
    assert caught.value.code == code


def test_nothing_is_allocated_for_what_a_tensor_claims(tmp_path):
    checkpoints.saved(tmp_path, state(lambda w: w.double()[:1, :1].expand(2**15, 2**15)))

    def refuse():
        with pytest.raises(FormatError, match="expanded from"):
            foreign_checkpoint.read(tmp_path / "checkpoint.pt")

    assert peak_of(refuse) < 8 * MAX_EXPANDED + 2**24


def test_tensors_of_one_storage_are_read_once(tmp_path):
    whole = torch.zeros(2**20)
    views = {name: whole[: tensor.numel()].view(tensor.shape) for name, tensor in checkpoints.state().items()}
    checkpoints.saved(tmp_path, views)
    path = tmp_path / "checkpoint.pt"
    assert peak_of(lambda: foreign_checkpoint.read(path)) < 5 * whole.nbytes
    found = foreign_checkpoint.read(path)
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.tensors.values()}) == 1


def test_what_tensors_claim_together_is_bounded_by_what_a_cell_may_be(tmp_path):
    whole = torch.zeros(2**21, dtype=torch.float16)
    checkpoints.saved(tmp_path, dict.fromkeys(checkpoints.state(), whole))
    with pytest.raises(FormatError, match="too large for a cell") as caught:
        foreign_checkpoint.read(tmp_path / "checkpoint.pt")
    assert caught.value.code == "TOO_LARGE"


class Adam(torch.optim.SGD):
    """An optimiser whose state has one odd tensor."""

    odd = None

    def state_dict(self):
        return {"state": {0: {"moment": self.odd}}, "param_groups": super().state_dict()["param_groups"]}

    def load_state_dict(self, state):
        self.odd = state["state"][0]["moment"]


DENSE = [name for name in READ if name not in ("zero-dim", "parameter")]


@pytest.mark.parametrize("name", DENSE)
def test_a_training_checkpoint_keeps_the_value_of_a_view(tmp_path, name):
    model = torch.nn.Linear(8, 6)
    optimiser = Adam(model.parameters(), lr=0.1)
    optimiser.odd = READ[name](torch.randn(6, 8))
    wanted = optimiser.odd.clone()
    checkpoint.write(tmp_path / "run", model, [optimiser], {"identity": "x"})
    checkpoint.read(tmp_path / "run", model, [optimiser], "x")
    assert torch.equal(optimiser.odd, wanted)


@QUIET
@pytest.mark.parametrize("name", ["conjugate", "complex", "quantised", "coordinates", "rows", "meta", "nested"])
def test_a_training_checkpoint_refuses_what_it_cannot_hold(tmp_path, name):
    model = torch.nn.Linear(8, 6)
    optimiser = Adam(model.parameters(), lr=0.1)
    optimiser.odd = REFUSED[name][0](torch.randn(6, 8))
    with pytest.raises(FormatError, match="ST_LAYOUT"):
        checkpoint.write(tmp_path / "run", model, [optimiser], {"identity": "x"})
    assert not (tmp_path / "run").exists()
