"""The spec that the shapes of a checkpoint tell, and everything that does not fit named."""

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batteries import CellSpec, InputScale
from batteries.errors import BatteriesError, FormatError, InputError, NotFoundError, PolicyError
from batteries.packaging.inferred_spec import infer
from tests.support.checkpoints import SPEC, adopt, saved, state


@st.composite
def specs(draw):
    D = draw(st.integers(2, 20))
    return CellSpec(
        V=draw(st.integers(5, 40)),
        D=D,
        patch_size=draw(st.integers(1, 20)),
        hidden=draw(st.integers(1, 40)),
        depth=draw(st.integers(0, 5)),
        cross_layers=draw(st.integers(0, 3)),
        smooth_width=draw(st.integers(1, 20)),
        channels=draw(st.integers(1, 4)),
    )


@settings(deadline=None)
@given(specs())
def test_shapes_tell_the_spec(spec):
    shapes = spec.tensor_shapes()
    assert infer(shapes, spec.D, {}, "x") == spec
    if spec.cross_layers:
        assert infer(shapes, None, {}, "x") == spec
    else:
        with pytest.raises(InputError, match="--width D"):
            infer(shapes, None, {}, "x")


@settings(deadline=None)
@given(specs(), st.data())
def test_one_lost_tensor_does_not_change_the_spec(spec, data):
    shapes = spec.tensor_shapes()
    lost = data.draw(st.sampled_from([name for name in sorted(shapes) if "_blocks" not in name and "cross" not in name]))
    del shapes[lost]
    assert infer(shapes, spec.D, {}, "x") == spec


def test_what_no_shape_tells_may_be_said():
    choices = {"heads": 1, "activation": "relu", "row_norm": "layernorm", "bounded_alpha": False}
    found = infer(SPEC.tensor_shapes(), None, choices, "x")
    assert found == SPEC.model_copy(update=choices)


def test_every_misfit_is_in_one_error(tmp_path):
    weights = state()
    del weights["enc_in.bias"], weights["cross_attn.0.norm.bias"]
    weights["svd.buffer"], weights["head.weight"] = torch.zeros(2), torch.zeros(3, 3)
    weights["dec_in.weight"] = torch.zeros(9, 48)
    with pytest.raises(FormatError) as caught:
        adopt(saved(tmp_path, weights))
    text = str(caught.value)
    for misfit in (
        "cross_attn.0.norm.bias is missing",
        "enc_in.bias is missing",
        "head.weight is unexpected",
        "svd.buffer is unexpected",
        "dec_in.weight is [9, 48] instead of [8, 48]",
        f"expected {SPEC.parameters:,} parameters",
        f"got {sum(tensor.numel() for tensor in weights.values()):,}: ",
    ):
        assert misfit in text
    assert caught.value.code == "ST_TENSORS"


def expanded(spec):
    """A file of a few kilobytes whose tensors claim any size."""
    return {name: torch.zeros(1).expand(shape) for name, shape in spec.tensor_shapes().items()}


BIG = CellSpec(V=4096, D=256, patch_size=16, hidden=8192)


@pytest.mark.parametrize(
    ("content", "options", "kind", "says"),
    [
        (lambda: {"fc.weight": torch.zeros(2, 2)}, {}, FormatError, "not a PatchSVAE checkpoint"),
        (lambda: state() | {"enc_in.weight": torch.zeros(8, 47)}, {}, FormatError, "enc_in.weight is [8, 47]"),
        (lambda: {n: t for n, t in state().items() if "cross" not in n}, {}, InputError, "D, a divisor of 48 (V * D)"),
        (lambda: {n: t for n, t in state().items() if "cross" not in n}, {"width": 5}, InputError, "contradicts the tensors"),
        (state, {"width": 8}, InputError, "expected 4, got 8"),
        (state, {"width": 0}, InputError, "WIDTH"),
        (state, {"heads": 3}, InputError, "heads must divide D"),
        (state, {"activation": "step"}, InputError, "activation"),
        (state, {"row_norm": "batch"}, InputError, "row_norm"),
        (lambda: state() | {"enc_blocks.77.0.bias": torch.zeros(8)}, {}, InputError, "depth"),
        (lambda: state() | {"cross_attn.5.qkv.bias": torch.zeros(12)}, {}, FormatError, "cross_attn.3.norm.bias is missing"),
        (lambda: expanded(BIG), {}, FormatError, "too large for a cell"),
        (lambda: state(CellSpec.preset("high", V=12, hidden=8, channels=1)), {}, InputError, "CHANNELS"),
        (state, {"input": InputScale(mean=(0.0,), std=(1.0,))}, InputError, "CHANNELS"),
        (state, {"size": 65}, InputError, "multiples of 4"),
        (state, {"size": 0}, InputError, "1 to 4096"),
        (state, {"size": 8192}, InputError, "1 to 4096"),
        (lambda: state(CellSpec(V=5, D=5, patch_size=24, hidden=4)), {"size": 48}, InputError, "multiples of 24"),
        (lambda: state() | {"enc_in.bias": torch.zeros(8, dtype=torch.int8)}, {}, FormatError, "enc_in.bias is int8"),
        (lambda: state() | {"enc_in.bias": torch.full((8,), math.nan)}, {}, PolicyError, "enc_in.bias (8)"),
        (lambda: state() | {"dec_in.bias": torch.full((8,), 1e300, dtype=torch.float64)}, {}, PolicyError, "NON_FINITE"),
        (state, {"command": "x" * 2001}, InputError, "command"),
    ],
)
def test_bad_input(tmp_path, content, options, kind, says):
    path = saved(tmp_path, content())
    with pytest.raises(kind) as caught:
        adopt(path, **options)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"activations": ["relu"]}, "a table of enc_in"),
        ({"activations": {"enc_out": "relu"}}, "a table of enc_in"),
        ({"readout": "qr"}, "readout 'qr'"),
    ],
)
def test_a_function_that_no_cell_has_is_refused_as_the_config_names_it(tmp_path, config, says):
    path = saved(tmp_path, {"model_state_dict": state(), "config": config})
    with pytest.raises(InputError) as caught:
        adopt(path)
    assert says in str(caught.value)


def test_no_number_is_read_of_what_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("batteries.packaging.foreign_checkpoint.floats", lambda *_: pytest.fail("read"))
    with pytest.raises(FormatError, match="TOO_LARGE"):
        adopt(saved(tmp_path, expanded(BIG)))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("enc_in.weight", 1e30, "non-finite figures"), ("enc_out.bias", 1e9, "no CV, hence no band")],
)
def test_finite_weights_that_compute_nothing_are_refused(tmp_path, name, value, says):
    weights = state()
    weights[name] = torch.full_like(weights[name], value)
    with pytest.raises(PolicyError, match=says):
        adopt(saved(tmp_path, weights))


@pytest.mark.parametrize(
    ("name", "content", "kind", "code"),
    [
        ("x.pt", None, NotFoundError, "NO_FILE"),
        (".", None, NotFoundError, "NO_FILE"),
        ("\0", None, InputError, "BAD_PATH"),
        ("x.pt", b"", FormatError, "CHECKPOINT"),
        ("x.pt", b"hello, I am a text.\n", FormatError, "CHECKPOINT"),
        ("x.pt", b"PK\x03\x04", FormatError, "CHECKPOINT"),
        ("x.safetensors", b"", FormatError, "CHECKPOINT"),
        ("x.safetensors", b"PK\x03\x04" * 9, FormatError, "CHECKPOINT"),
        ("x.safetensors", pickle.dumps({}), FormatError, "CHECKPOINT"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, kind, code):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=code):
        adopt(tmp_path / name)
    assert issubclass(kind, BatteriesError)
