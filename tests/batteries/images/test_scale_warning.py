"""Images of another scale are warned of once; what is no batch is refused with the next step; relative errors."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import batteries
import composer
from batteries import CellSpec, InputScale, PatchSVAE, probe, untrained
from batteries.errors import InputError
from batteries.images import ScaleWarning, image_batch
from batteries.readout import omega_statistics
from tests.compatibility import refused, works
from tests.support.cells import from_model

SPEC = CellSpec(V=6, D=4, patch_size=4, hidden=8, depth=1, cross_layers=1, smooth_width=2)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """As in a process that has not warned."""
    monkeypatch.setattr(image_batch, "_given", set())
    monkeypatch.setattr(image_batch, "_looks", [0])


@pytest.fixture(scope="module")
def cells():
    return [from_model(SPEC, 0, "a"), from_model(SPEC, 1, "b")]


def good(count=3):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def entries(cells):
    """Every way in that is given images."""
    container, model = composer.compose(cells), untrained(SPEC, 0)
    return {
        "container": container,
        "tokens of a container": container.tokens,
        "a part of a container": container.cells(container.names[0]),
        "model": model,
        "tokens of a model": model.tokens,
        "encode": model.encode,
        "fitting": container.fitting,
        "align": lambda images: composer.align(container, images),
        "compose": lambda images: composer.compose(cells, images),
        "to_input": lambda images: batteries.images.to_input(images, InputScale()),
        "from_input": lambda images: batteries.images.from_input(images, InputScale()),
        "omega statistics": lambda images: omega_statistics(model, images),
        "a host": lambda images: composer.Classifier(container, images, 3),
    }


WRONG = {
    "one picture": (lambda x: x[0], "IMAGE_SHAPE", "images[None]."),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), "IMAGE_SHAPE", "images.permute(0, 3, 1, 2)."),
    "one picture, channels last": (lambda x: x[0].permute(1, 2, 0), "IMAGE_SHAPE", "images.permute(2, 0, 1)[None]."),
    "alpha": (lambda x: torch.cat([x, x[:, :1]], dim=1), "IMAGE_SHAPE", "images[:, :3]."),
    "gray": (lambda x: x[:, :1], "IMAGE_SHAPE", "images.expand(-1, 3, -1, -1)."),
    "gray without its axis": (lambda x: torch.rand(5, 16, 16), "IMAGE_SHAPE", "images[:, None].expand(-1, 3, -1, -1)."),
    "two axes": (lambda x: x[0, 0], "IMAGE_SHAPE", "images[None, None].expand(-1, 3, -1, -1)."),
    "five axes": (lambda x: x[None], "IMAGE_SHAPE", "images.flatten(0, 1)"),
    "NumPy": (lambda x: x.numpy(), "IMAGE_SHAPE", "torch.from_numpy(images)"),
    "Pillow": (lambda x: Image.new("RGB", (16, 16)), "IMAGE_SHAPE", "batteries.images.load("),
    "a path": (lambda x: "photo.jpg", "IMAGE_SHAPE", "batteries.images.load("),
    "a list": (lambda x: list(x), "IMAGE_SHAPE", "torch.stack(images)"),
    "None": (lambda x: None, "IMAGE_SHAPE", "batteries.images.load("),
    "bytes": (lambda x: (x * 127.5 + 127.5).byte(), "IMAGE_DTYPE", "images.float() / 127.5 - 1"),
    "integers": (lambda x: x.long(), "IMAGE_DTYPE", "batteries.images.load(images"),
    "a mask": (lambda x: x > 0, "IMAGE_DTYPE", "images.float()"),
    "complex": (lambda x: x + 0j, "IMAGE_DTYPE", "images.real"),
    "sparse": (lambda x: x.to_sparse(), "IMAGE_DTYPE", "images.to_dense()"),
    "float8": (lambda x: x.to(torch.float8_e4m3fn), "IMAGE_DTYPE", "images.float()"),
    "float8 of another kind": (lambda x: x.to(torch.float8_e5m2), "IMAGE_DTYPE", "images.float()"),
}


@refused("Images", "One picture, channels last, RGBA, gray, NumPy, Pillow or a list where a batch belongs", "IMAGE_SHAPE")
@refused("Images", "Integer, boolean, complex, sparse and float8 tensors given to a model", "IMAGE_DTYPE")
@pytest.mark.parametrize("case", WRONG)
def test_every_entry_names_the_next_step(case, cells):
    make, code, step = WRONG[case]
    for name, entry in entries(cells).items():
        if name == "compose" and case in ("None", "a path"):
            continue  # no probe, and the name of one
        if name == "align" and case == "a path":
            continue
        with pytest.raises(InputError) as caught:
            entry(make(good()))
        assert (caught.value.code, step in caught.value.remedy) == (code, True), (name, str(caught.value))


def test_the_steps_are_right(cells):
    container = composer.compose(cells)
    x = good()
    for step in ("x[0][None]", "x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)", "torch.cat([x, x[:, :1]], 1)[:, :3]"):
        container(eval(step, {"x": x, "torch": torch}))  # noqa: S307
    container(torch.from_numpy(x.numpy()))
    container(x[:, :1].expand(-1, 3, -1, -1))


def test_sides_that_the_patch_does_not_divide_name_the_reader(cells):
    with pytest.raises(InputError, match="fit='crop'") as caught:
        composer.compose(cells)(torch.rand(1, 3, 18, 16))
    assert caught.value.code == "IMAGE_SIZE"


SCALES = {
    "unit": (lambda x: (x + 1) / 2, "negative"),
    "bytes": (lambda x: (x + 1) * 127.5, "negative"),
    "wide": (lambda x: x * 20, "beyond"),
    "NaN": (lambda x: x * np.nan, "NaN"),
}


@works("Images", "A warning, once in a process, where images are in [0, 1], in 0..255 or not finite")
@pytest.mark.parametrize("case", SCALES)
def test_another_scale_is_warned_of_once(case, cells):
    make, words = SCALES[case]
    container, model = composer.compose(cells), untrained(SPEC, 0)
    container(good())
    with pytest.warns(ScaleWarning, match=words):
        container(make(good()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        container(make(good()))
        model(make(good()))


@pytest.mark.parametrize("entry", ["container", "tokens of a container", "model", "tokens of a model", "encode", "compose"])
def test_every_entry_warns(entry, cells):
    with pytest.warns(ScaleWarning, match="negative"):
        entries(cells)[entry](good(8).abs())


@pytest.mark.slow
def test_what_is_right_is_not_warned_of(cells):
    container = composer.compose(cells)
    for images in (good(), torch.zeros(1, 3, 16, 16), probe("noise16-64").images, good()[:0]):
        container(images)
    for name in ("photos-64", "noise16-64"):
        batteries.measure(untrained(CellSpec.preset("high"), 0), probe(name))
    assert not image_batch._given


def test_a_cell_whose_own_scale_is_never_negative_is_not_warned_of():
    model = untrained(SPEC, 0)
    model.scale = InputScale(mean=(-1.0,) * 3, std=(2 / 255,) * 3)  # of 0..255
    model(batteries.images.to_input(good(), model.scale))
    with pytest.warns(ScaleWarning, match="beyond"):
        model(good() * 2000)


def test_what_a_network_computed_is_its_own_business(cells):
    container = composer.compose(cells)
    container(torch.relu(torch.nn.Conv2d(3, 3, 1)(good())))
    container.cells(container.names[0])(good().requires_grad_().exp())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
def test_the_warning_can_be_filtered_and_nothing_is_looked_at_in_a_trace(cells):
    container = composer.compose(cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScaleWarning)
        container(good().abs())
    image_batch._given.clear()
    scale = container.scale
    traced = torch.jit.trace(lambda x: (image_batch.judge_scale(x, scale), x + 1)[1], good().abs(), check_trace=False)
    assert torch.equal(traced(good()), good() + 1)
    compiled = torch.compile(lambda x: (image_batch.judge_scale(x, scale), x + 1)[1], backend="eager", fullgraph=True)
    assert torch.equal(compiled(good().abs()), good().abs() + 1)
    torch.func.vmap(lambda x: (image_batch.judge_scale(x, scale), x)[1])(good().abs())
    assert not image_batch._given


@pytest.mark.slow
def test_once_is_once_in_a_process_and_a_new_process_warns_again():
    lines = (
        "import torch, batteries\n"
        "model = batteries.untrained(batteries.CellSpec.preset('high'), 0)\n"
        "for _ in range(3): model(torch.rand(1, 3, 8, 8))\n"
    )
    told = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stderr
    assert told.count("ScaleWarning") == 1


def test_relative_errors_do_not_change_with_the_scale_of_the_variance(cells):
    container, x = composer.compose(cells), good(4)
    out = container(x)
    expected = out.error / x.var(dim=(1, 2, 3), correction=0)[:, None]
    assert torch.allclose(out.relative_error, expected, rtol=1e-5)
    assert out.relative_error.shape == (4, 2)
    flat = container(torch.full((1, 3, 16, 16), -0.5)).relative_error
    assert flat.isinf().all()
    with pytest.raises(batteries.PolicyError, match="tap not requested"):
        _ = container(x, ("omega",)).relative_error
    wider = torch.cat([x[:1], x[:1] / 2])  # an error that is small only because the image is flat
    low = container(wider)
    assert low.relative_error[1, 0] > low.error[1, 0]


def test_a_bare_model_judges_by_the_scale_of_its_cell(cells):
    assert PatchSVAE.from_cell(cells[0]).scale == cells[0].manifest.identity.input
