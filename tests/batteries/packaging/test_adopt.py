"""Adopting somebody else's checkpoint: the same function, no code run, everything that does not fit named."""

import codecs
import contextlib
import dataclasses
import importlib
import io
import json
import math
import os
import pickle
import random
import shlex
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

import batteries
import registry
from batteries import Cell, CellSpec, InputScale, Label, NoiseSource, PatchSVAE, probe
from batteries.cell.input_scale import IMAGENET, of_unit_images
from batteries.cell.manifest import Manifest
from batteries.errors import BatteriesError, FormatError, InputError, NotFoundError, PolicyError
from batteries.images import from_input, to_input
from batteries.io.canonical_json import sha256
from batteries.packaging import foreign_checkpoint
from batteries.packaging.adopt import infer
from registry.cli import main
from tests.support.cells import python, tree
from tests.support.commands import run
from tests.support.soak import SOAK, many

SPEC = CellSpec.preset("high", V=12, hidden=8, smooth_width=4)
WIDE = CellSpec.preset("low", V=20, hidden=24, depth=3, cross_layers=2, smooth_width=8)
PLAIN = InputScale()
LABEL = Label(name="mine-64", version="1.0.0", family="mine", license="unknown", description="")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def state(spec=SPEC, seed=0):
    """A state dict under the public names, every tensor of it random, so that none may be left out."""
    generator = torch.Generator().manual_seed(seed)
    tensors = OrderedDict()
    for name, shape in spec.tensor_shapes().items():
        values = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        if "norm.weight" in name or (name.endswith(".0.weight") and len(shape) == 1):
            values = 1 + 0.1 * values
        elif name.endswith("alpha_logits"):
            values = values - 1
        tensors[name] = values if len(shape) > 1 or "logits" in name or "weight" in name else 0.1 * values
    return tensors


def reference(weights, images, patch, heads):
    """The published forward pass, written from its description alone."""

    def linear(h, name):
        return F.linear(h, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(h, name):
        return F.layer_norm(h, h.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    def blocks(h, side):
        for i in range(sum(name.startswith(f"{side}_blocks") and name.endswith(".0.weight") for name in weights)):
            inner = F.gelu(linear(norm(h, f"{side}_blocks.{i}.0"), f"{side}_blocks.{i}.1"))
            h = h + linear(inner, f"{side}_blocks.{i}.3")
        return h

    def attention(S, name):
        B, N, D = S.shape
        q, k, v = linear(norm(S, f"{name}.norm"), f"{name}.qkv").reshape(B, N, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.mT / math.sqrt(D // heads), dim=-1) @ v
        alpha = 0.2 * torch.sigmoid(weights[f"{name}.alpha_logits"])
        return S * (1 + alpha * torch.tanh(linear(mixed.transpose(1, 2).reshape(B, N, D), f"{name}.out_proj")))

    D = weights["cross_attn.0.alpha_logits"].shape[0]
    patches = F.unfold(images, patch, stride=patch).mT  # (B, N, C * p * p)
    h = blocks(F.gelu(linear(patches, "enc_in")), "enc")
    M = linear(h, "enc_out").unflatten(-1, (-1, D))
    M = M / M.norm(dim=-1, keepdim=True)
    G = M.double().mT @ M.double() + 1e-12 * torch.eye(D, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(G)
    S, V = values.flip(-1).clamp(min=1e-24).sqrt(), vectors.flip(-1)
    U = M.double() @ V / S.clamp(min=1e-16)[..., None, :]
    omega = S.to(M.dtype)
    for i in range(sum(name.endswith("alpha_logits") for name in weights)):
        omega = attention(omega, f"cross_attn.{i}")
    gated = (U @ torch.diag_embed(omega.double()) @ V.mT).to(M.dtype)
    h = blocks(F.gelu(linear(gated.flatten(2), "dec_in")), "dec")
    stitched = F.fold(linear(h, "dec_out").mT, images.shape[2:], patch, stride=patch)
    first, last = "boundary_smooth.net.0", "boundary_smooth.net.2"
    middle = F.gelu(F.conv2d(stitched, weights[f"{first}.weight"], weights[f"{first}.bias"], padding=1))
    return stitched + F.conv2d(middle, weights[f"{last}.weight"], weights[f"{last}.bias"], padding=1)


@pytest.fixture
def few(monkeypatch):
    """Measure on one image of a group, and little of it."""

    def some(name):
        whole, every = probe(name), 6 if name == "photos-64" else 16
        return dataclasses.replace(whole, images=whole.images[::every], group=whole.group[::every])

    monkeypatch.setattr("batteries.packaging.package.probe", some)
    monkeypatch.setattr("registry.transfer.remeasure.probe", some)
    monkeypatch.setattr("batteries.packaging.package.BASELINE_PATCHES", 512)
    monkeypatch.setattr(sys.modules["batteries.measurement.measure"], "MATRICES", 64)


def adopt(path, **options):
    return batteries.adopt(path, **{"label": LABEL, "input": PLAIN, "source": NoiseSource(), **options})


def saved(folder, content, name="checkpoint.pt"):
    torch.save(content, folder / name)
    return folder / name


# The same function


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["high", "low"])
def test_an_adopted_checkpoint_is_the_same_function(tmp_path, spec):
    weights = state(spec)
    cell = adopt(saved(tmp_path, weights))
    assert cell.spec == spec
    images = probe("noise16-64").images[::40].double()  # in float64 nothing is left but what is another function
    expected = reference({name: tensor.double() for name, tensor in weights.items()}, images, spec.patch_size, spec.heads)
    assert expected.std() > 0.1
    found = PatchSVAE.from_cell(cell).double()(images)
    torch.testing.assert_close(found.recon, expected, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["high", "low"])
def test_so_is_one_of_images_normalised_as_for_imagenet(tmp_path, spec):
    weights = state(spec)
    cell = adopt(saved(tmp_path, weights), input=IMAGENET)
    mean, std = (torch.tensor(numbers, dtype=torch.float64)[:, None, None] for numbers in (MEAN, STD))
    pixels = torch.randint(256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(1)).double()
    theirs = (pixels / 255 - mean) / std
    wide = {name: tensor.double() for name, tensor in weights.items()}
    expected = reference(wide, theirs, spec.patch_size, spec.heads)
    scale = cell.manifest.identity.input
    found = PatchSVAE.from_cell(cell).double()(to_input(pixels / 127.5 - 1, scale)).recon
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    ours = 2 * (expected * std + mean) - 1
    torch.testing.assert_close(from_input(found, scale), ours, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("band", ["low", "high"])
@pytest.mark.parametrize("scale", [PLAIN, IMAGENET], ids=["plain", "imagenet"])
def test_in_float32_they_agree_within_a_millionth(tmp_path, band, scale):
    spec = CellSpec.preset(band)
    weights = {name: tensor.detach() for name, tensor in batteries.untrained(spec, 3).state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    last = weights["boundary_smooth.net.2.weight"]
    weights["boundary_smooth.net.2.weight"] = 0.05 * torch.randn(last.shape, generator=generator)
    cell = adopt(saved(tmp_path, weights), input=scale)
    images = to_input(probe("photos-64").images[::12], scale)
    expected = reference(weights, images, spec.patch_size, spec.heads)
    torch.testing.assert_close(PatchSVAE.from_cell(cell)(images).recon, expected, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("few")
def test_the_error_is_on_our_scale_whatever_the_cells(tmp_path):
    weights = state()
    cell = adopt(saved(tmp_path, weights), input=IMAGENET)
    whole = probe("noise16-64")
    images = whole.images[::16]
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    theirs = ((images + 1) / 2 - mean) / std
    ours = 2 * (reference(weights, theirs, SPEC.patch_size, SPEC.heads) * std + mean) - 1
    error = (ours - images).square().mean(dim=(1, 2, 3))
    own = cell.manifest.own
    assert own.mse.value == pytest.approx(float(error.mean()), rel=1e-4)
    assert own.mse_by_group["gaussian"] == pytest.approx(float(error[0]), rel=1e-4)
    assert cell.manifest.untrained[own.probe].mse.value != own.mse.value
    assert own.baselines.fitted_on.startswith("at adoption: generated noise")
    few = dataclasses.replace(whole, images=images, group=whole.group[::16])
    again = batteries.measure(PatchSVAE.from_cell(cell), few, input=cell.manifest.identity.input)
    assert again == own.model_copy(update={"baselines": None})


@pytest.mark.usefixtures("few")
def test_a_shipped_cell_saved_as_a_checkpoint_is_adopted_as_itself(tmp_path):
    (cell,) = registry.pull("mid/johanna-64")
    found = adopt(saved(tmp_path, {name: torch.tensor(array) for name, array in cell.weights.items()}))
    assert (found.digest, found.spec) == (cell.digest, cell.spec)
    assert found.to_bytes() == cell.to_bytes()


@pytest.mark.skipif(not SOAK, reason="measures on whole probes")
def test_and_measured_as_it_was_when_it_was_trained(tmp_path):
    (cell,) = registry.pull("mid/johanna-64")
    found = adopt(saved(tmp_path, {name: torch.tensor(array) for name, array in cell.weights.items()}))
    for name, ours in cell.manifest.measured.items():
        again = found.manifest.measured[name]
        assert (again.mse.value, again.cv.value) == (pytest.approx(ours.mse.value), pytest.approx(ours.cv.value))
    assert found.manifest.own.baselines.pca == pytest.approx(cell.manifest.own.baselines.pca)


def test_mean_zero_and_std_one_change_no_bit():
    images = probe("noise16-64").images[::64]
    assert torch.equal(to_input(images, PLAIN), images)
    few = dataclasses.replace(probe("photos-64"), images=probe("photos-64").images[::6], group=torch.arange(16))
    model = batteries.untrained(SPEC, 0)
    assert batteries.measure(model, few) == batteries.measure(model, few, input=PLAIN)


def test_images_of_other_channels_than_the_scale_are_refused():
    for images in (torch.zeros(1, 1, 8, 8), torch.zeros(3, 8, 8)):
        with pytest.raises(InputError, match="IMAGE_SHAPE"):
            to_input(images, PLAIN)


# Reading, and nothing run


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        dict,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "config": {"D": 4, "name": "x"}},
        lambda s: {"model_state_dict": s, "cv": torch.tensor(0.9), "losses": [1.0, 0.5], "device": torch.device("cpu")},
        lambda s: {f"module.{name}": tensor for name, tensor in s.items()},
        lambda s: {"model": {f"_orig_mod.module.{name}": tensor for name, tensor in s.items()}},
        lambda s: {f"module._orig_mod.{name}": torch.nn.Parameter(tensor) for name, tensor in s.items()},
    ],
)
def test_the_usual_wrappings(tmp_path, wrap):
    found = foreign_checkpoint.read(saved(tmp_path, wrap(state())))
    assert found.tensors.keys() == state().keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state().items())


def test_safetensors_with_metadata_behind_a_link(tmp_path):
    save_file(dict(state()), tmp_path / "blob", metadata={"format": "pt"})
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")
    found = foreign_checkpoint.read(tmp_path / "model.safetensors")
    assert (found.name, found.digest) == ("model.safetensors", sha256((tmp_path / "blob").read_bytes()))
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state().items())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda s: {"model": s, "state_dict": s}, "state_dict and model"),
        (lambda s: {**s, "model": s}, "model and the file itself"),
        (lambda s: {"net": s}, "got none of them"),
        (lambda s: {}, "got none of them"),
        (lambda s: list(s.values()), "a list"),
        (lambda s: torch.zeros(3), "a Tensor"),
        (lambda s: {**s, "module.enc_in.weight": torch.zeros(1)}, "names with and without module."),
        (lambda s: {**s, "epoch": 3, "note": "x"}, "got epoch, note"),
        (lambda s: {"state_dict": {**s, "more": {"x": torch.zeros(1)}}}, "got more"),
        (lambda s: {"state_dict": {0: torch.zeros(1)}}, "got 0"),
        (lambda s: {"x" * 201: torch.zeros(1)}, "entries other than tensors"),
        (lambda s: {f"t{i}": torch.zeros(1) for i in range(257)}, "too many tensors"),
    ],
)
def test_what_is_not_one_state_dict_is_refused(tmp_path, content, says):
    with pytest.raises(FormatError) as caught:
        foreign_checkpoint.read(saved(tmp_path, content(state())))
    assert says in str(caught.value)


class Hostile:
    """A pickle of this calls whatever it was made with."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(folder):
    """Checkpoints that would write a file, if anybody ran them, and others that call things."""
    mark = f"open({str(folder / 'mark')!r}, 'w').write('x')"
    torch.save({"model": state(), "x": Hostile(exec, mark)}, folder / "exec.pt")
    torch.save({**state(), "enc_in.bias": Hostile(eval, mark)}, folder / "eval.pt")
    torch.save({"x": Hostile(os.system, f"touch {folder / 'mark'}")}, folder / "system.pt")
    torch.save({"x": Hostile(os.system, f"touch {folder / 'mark'}")}, folder / "four.pt", pickle_protocol=4)
    torch.save({"x": Hostile(importlib.import_module, "antigravity")}, folder / "import.pt")
    torch.save({"x": Hostile(codecs.encode, "text", "bz2_codec")}, folder / "codec.pt")  # imports, and torch lets it
    torch.save({"x": Hostile(bytearray, 10**11)}, folder / "memory.pt")  # so does this
    torch.save({"x": Label}, folder / "class.pt")
    torch.save({"x": state()["enc_in.bias"].numpy()}, folder / "numpy.pt")
    torch.save({"x": Hostile(exec, mark)}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    (folder / "bare.pt").write_bytes(pickle.dumps(Hostile(exec, mark)))
    (folder / "deep.pt").write_bytes(b"\x80\x02" + b"(" * 100_000 + b".")
    return sorted(path.name for path in folder.iterdir())


AUDITED = """
import sys
from pathlib import Path
from batteries.packaging import foreign_checkpoint
from batteries.errors import PolicyError
folder, good = map(Path, sys.argv[1:])
foreign_checkpoint.read(good)
watched, seen = {"exec", "compile", "import", "os.system", "subprocess.Popen", "pickle.find_class", "marshal.loads"}, []
def hook(event, arguments):
    if event in watched or event == "open" and arguments[1] not in ("r", "rb", None):
        seen.append((event, str(arguments)[:80]))
sys.addaudithook(hook)
for path in sorted(folder.iterdir()):
    try:
        foreign_checkpoint.read(path)
    except PolicyError as error:
        print(path.name, error.code, error.found)
foreign_checkpoint.read(good)
assert seen == [], seen
"""


@pytest.mark.slow
def test_a_checkpoint_that_needs_code_is_refused_and_not_run(tmp_path):
    (tmp_path / "hostile").mkdir()
    names = hostile(tmp_path / "hostile")
    done = python(AUDITED, tmp_path / "hostile", saved(tmp_path, state()))
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert sorted(rows) == names
    assert {row.split()[0] for row in rows.values()} == {"UNSAFE_FORMAT"}
    assert rows["system.pt"] == "UNSAFE_FORMAT posix.system"
    assert tree(tmp_path / "hostile").keys() == set(names)


def rewritten(folder, change, **options):
    """A good checkpoint with one of its entries changed."""
    buffer = io.BytesIO()
    torch.save(state(), buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(folder / "changed.pt", "w", **options) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return folder / "changed.pt"


@pytest.mark.parametrize(
    ("change", "options", "code"),
    [
        (lambda name, data: data, {}, None),
        (lambda name, data: data[:-4] if name.endswith("/data/0") else data, {}, "CHECKPOINT"),  # less than its tensor has
        (lambda name, data: b"" if name.endswith("data.pkl") else data, {}, "CHECKPOINT"),
        (lambda name, data: data[:-20] if name.endswith("data.pkl") else data, {}, "CHECKPOINT"),
        (lambda name, data: b"cbuiltins\nlen\n" + data if name.endswith("data.pkl") else data, {}, "UNSAFE_FORMAT"),
        (lambda name, data: data, {"compression": zipfile.ZIP_DEFLATED}, "TOO_LARGE"),
        (
            lambda name, data: bytes(2**24) if name.endswith("/data/0") else data,
            {"compression": zipfile.ZIP_BZIP2},
            "TOO_LARGE",
        ),
        (lambda name, data: bytes(5 * 2**20) if name.endswith("data.pkl") else data, {}, "CHECKPOINT"),
    ],
)
def test_a_changed_archive(tmp_path, change, options, code):
    path = rewritten(tmp_path, change, **options)
    if code is None:
        assert foreign_checkpoint.read(path).tensors.keys() == state().keys()
        return
    with pytest.raises((FormatError, PolicyError), match=code):
        foreign_checkpoint.read(path)


def test_two_pickles_in_one_archive_are_refused(tmp_path):
    path = saved(tmp_path, state())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"")
    with pytest.raises(FormatError, match=r"one data\.pkl"):
        foreign_checkpoint.read(path)


def test_a_file_cut_anywhere_is_a_typed_error(tmp_path):
    whole = saved(tmp_path, state()).read_bytes()
    cut = tmp_path / "cut.pt"
    for size in range(0, len(whole) - 1, len(whole) // many(60, 2000)):
        cut.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="CHECKPOINT"):
            foreign_checkpoint.read(cut)


def test_a_flipped_byte_is_a_typed_error_or_reads(tmp_path):
    whole = bytearray(saved(tmp_path, state()).read_bytes())
    pick, flipped = random.Random(0), tmp_path / "flipped.pt"
    for _ in range(many(150, 5000)):
        place, bit = pick.randrange(len(whole)), 1 << pick.randrange(8)
        whole[place] ^= bit
        flipped.write_bytes(whole)
        whole[place] ^= bit
        with contextlib.suppress(FormatError, PolicyError):
            foreign_checkpoint.read(flipped)


def test_more_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("batteries.packaging.foreign_checkpoint.MAX_FOREIGN", 1000)
    with pytest.raises(FormatError, match="TOO_LARGE"):
        foreign_checkpoint.read(saved(tmp_path, state()))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_become_float32(kind):
    tensors = {"a": torch.tensor([0.5, 1.25], dtype=kind), "b": torch.zeros(2)}
    arrays, converted = foreign_checkpoint.floats(tensors, "x")
    assert (arrays["a"].dtype, arrays["a"].tolist()) == ("float32", [0.5, 1.25])
    assert converted == (str(kind).removeprefix("torch."),)


def test_other_types_are_refused_all_at_once():
    tensors = {"a": torch.zeros(2, dtype=torch.int64), "b": torch.zeros(2), "c": torch.zeros(2, dtype=torch.complex64)}
    with pytest.raises(FormatError, match=r"found a is int64; c is complex64; in x \[ST_DTYPE\]"):
        foreign_checkpoint.floats(tensors, "x")


# The spec


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
        f"found {sum(tensor.numel() for tensor in weights.values()):,}: ",
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


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("enc_in.weight", 1e30, "non-finite figures"), ("enc_out.bias", 1e9, "CV outside every band")],
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


# The command


@pytest.mark.slow
def test_the_command_writes_a_measured_cell(capsys, tmp_path):
    path = saved(tmp_path, {"model_state_dict": {f"module.{name}": tensor.half() for name, tensor in state().items()}})
    words = ["adopt", path, "--name", "high/my-cell@0.3.0", "--input", "imagenet", "--noise", "--description", "two words"]
    code, out, err = run(capsys, *words, "--out", tmp_path, "--json")
    assert code == 0, err
    assert "float16 made float32" in err
    assert f"{SPEC.parameters:,}" in err
    answer = json.loads(out)
    cell = Cell.read(answer["path"])
    assert answer["manifest"] == cell.manifest.model_dump(mode="json")
    assert (cell.name, cell.version, cell.spec) == ("high/my-cell", "0.3.0", SPEC)
    assert cell.manifest.identity.input == IMAGENET
    assert cell.manifest.measured.keys() == {"noise16-64", "photos-64"}
    assert cell.manifest.untrained.keys() == {"noise16-64"}
    assert cell.manifest.own.baselines.mean > 0
    facts = cell.manifest.training
    words_of_data = f"unknown: adopted from checkpoint.pt, sha256:{sha256(path.read_bytes())}, float16 made float32"
    assert facts.data.description == words_of_data
    nothing = (facts.steps, facts.batch, facts.seed, facts.data.digest, facts.data.images, facts.triage, facts.trajectory)
    assert nothing == (None, None, None, None, None, None, ())
    assert Manifest.from_bytes(cell.manifest.to_bytes(), where="x") == cell.manifest
    assert shlex.split(facts.command) == ["batteries", *map(str, words)]
    with pytest.raises(InputError, match="CELL_INPUT"):
        registry.validate(answer["path"])


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("scale", ["plain", "imagenet"])
def test_an_adopted_cell_is_published_and_shown(capsys, tmp_path, scale):
    Image.linear_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "registry").mkdir()
    words = ["--name", "high/mine-64", "--input", scale, "--photos", tmp_path / "a.png", "--out", tmp_path]
    code, out, err = run(capsys, "adopt", saved(tmp_path, state()), *words)
    assert code == 0, err
    assert "high/mine-64@1.0.0" in out
    assert "photos-64" in out
    assert "1 read, 0 skipped" in err
    code, _, err = run(capsys, "publish", tmp_path / "high" / "mine-64.safetensors", "--to", tmp_path / "registry")
    assert code == 0, err
    code, out, err = run(capsys, "show", "high/mine-64", "--registry", tmp_path / "registry")
    assert code == 0, err
    assert "adopted from checkpoint.pt" in out


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("band", ["low", "mid", "open"])
def test_a_band_that_the_cv_denies_is_refused_before_anything_is_written(capsys, tmp_path, band):
    path = saved(tmp_path, state())
    before = tree(tmp_path)
    code, out, err = run(capsys, "adopt", path, "--name", f"{band}/x", "--input", "plain", "--noise", "--out", tmp_path)
    assert (code, out) == (6, "")
    assert "BAND_DENIED" in err
    assert f"got {band}" in err
    assert "Name it high/x" in err
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("plain", PLAIN),
        ("imagenet", IMAGENET),
        ("0.485,0.456,0.406/0.229,0.224,0.225", IMAGENET),
        ("0.5/0.5", PLAIN),
        ("0/1", InputScale(mean=(-1.0,) * 3, std=(2.0,) * 3)),
        ("0.5,0.5,0.5/1", InputScale(mean=(0.0,) * 3, std=(2.0,) * 3)),
    ],
)
def test_the_input_scale_is_read(tmp_path, monkeypatch, text, scale):
    given = []

    def refuse(*_, input, **__):
        given.append(input)
        raise PolicyError("far enough", code="ENOUGH")

    monkeypatch.setattr(batteries, "adopt", refuse)
    assert main(["adopt", str(tmp_path), "--name", "high/x", "--input", text, "--noise"]) == 6
    assert given == [scale]


def test_imagenets_scale_on_ours():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    theirs = (images - torch.tensor(MEAN)[:, None, None].double()) / torch.tensor(STD)[:, None, None].double()
    torch.testing.assert_close(to_input(2 * images - 1, IMAGENET), theirs, rtol=0, atol=1e-6)
    assert of_unit_images(MEAN, STD) == IMAGENET
    assert IMAGENET.mean == tuple(2 * value - 1 for value in MEAN)
    assert IMAGENET.std == tuple(2 * value for value in STD)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--name", "high/x", "--noise"], 2, "--input"),
        (["--input", "plain", "--noise"], 2, "--name"),
        (["--name", "x", "--input", "plain", "--noise"], 2, "BAD_REFERENCE"),
        (["--name", "high/x", "--input", "plain"], 2, "--noise, or --photos"),
        (["--name", "high/x", "--input", "plain", "--noise", "--photos", "x"], 2, "missing or conflicting domain"),
        (["--name", "high/x", "--input", "unit", "--noise"], 2, "MEAN/STD"),
        (["--name", "high/x", "--input", "1,2/1", "--noise"], 2, "MEAN/STD"),
        (["--name", "high/x", "--input", "0/0", "--noise"], 2, "greater than 0"),
        (["--name", "high/x", "--input", "nan/1", "--noise"], 2, "finite"),
        (["--name", "high/x", "--input", "plain", "--noise", "--heads", "3"], 2, "heads must divide D"),
        (["--name", "high/x_y", "--input", "plain", "--noise"], 2, "family"),
    ],
)
def test_bad_options(capsys, tmp_path, words, code, says):
    path = saved(tmp_path, state())
    before = tree(tmp_path)
    found, out, err = run(capsys, "adopt", path, *words, "--out", tmp_path)
    assert (found, out) == (code, "")
    assert says in err
    assert tree(tmp_path) == before


def test_its_help_starts_without_torch():
    code = "import sys; from registry.cli import main; main(['adopt', '--help']); print('torch' in sys.modules)"
    assert python(code).stdout.splitlines()[-1] == "False"
