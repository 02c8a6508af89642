"""Global settings of the caller's program change no shape, dtype or bit of what is made, and nothing is left changed by us."""

import contextlib
import dataclasses
import locale
import warnings

import numpy as np
import pytest
import torch

from batteries import CellSpec, InputError, NoiseSource, PatchSVAE, Plan, measure, probe, read_photos, train, untrained
from batteries.data.probes import photographs
from batteries.model.patch_svae import arrays_of
from batteries.noise import NAMES, of_types, random_batch
from batteries.readout import ReadOut
from composer import Classifier, Composition, Denoiser, Route, align, compare, compose, wire
from composer.alignment.untrained_null import untrained_group
from composer.procrustes.similarity import fit
from registry.checks.protocol import PROFILES
from registry.viability.tasks import own_tasks
from tests.compatibility import works
from tests.support import models
from tests.support.cells import from_model

pytestmark = pytest.mark.usefixtures("few_matrices")
LOW = CellSpec(V=8, D=8, patch_size=8, hidden=8)
FINE = CellSpec(V=6, D=4, patch_size=4, hidden=8, heads=2)
CELLS = [from_model(LOW, 0, "a", band="mid"), from_model(FINE, 1, "b"), from_model(LOW, 2, "c", band="mid")]
PICTURES = str(photographs()[0])


def images(count=8):
    return torch.randn(
        count, 3, 16, 16, generator=torch.Generator(device="cpu").manual_seed(0), dtype=torch.float32, device="cpu"
    )


X = images()
TRAINED = [(x, y.argmax(dim=1)) for x, y in [(torch.eye(6, 4, dtype=torch.float64), torch.eye(6, 3))]]


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make()


MAKERS = {
    "noise": lambda: of_types(torch.arange(len(NAMES), device="cpu"), (16, 16), torch.Generator().manual_seed(0)),
    "random_batch": lambda: random_batch(8, (16, 16), 0),
    "a noise probe": lambda: (probe.__wrapped__("noise16-64").images[::16], probe.__wrapped__("noise16-64").cluster),
    "photographs": lambda: read_photos(PICTURES).crops(2, 32, 0),
    "a source's batch": lambda: NoiseSource().batch(3, 4, 16),
    "untrained": lambda: untrained(FINE, 1).state_dict(),
    "PatchSVAE": lambda: seeded(lambda: PatchSVAE(LOW)).state_dict(),
    "from_cell": lambda: PatchSVAE.from_cell(CELLS[0]).state_dict(),
    "a container's weights": lambda: [group.stack._held for group in compose(CELLS).groups],
    "an alignment": lambda: compose(CELLS, X).consensus,
    "a map": lambda: fit(X.flatten(1)[:, :4].double().repeat(3, 1), X.flatten(1)[:, 4:8].double().repeat(3, 1)),
    "a wired model": lambda: dict(models.model().named_parameters()),
    "tokens of untrained cells": lambda: untrained_group(
        FINE, range(2), torch.float32, "cpu", compose(CELLS).scale, X, "S", (2, 2)
    ),
    "a table of pairs": lambda: compare(compose(CELLS[:2]), X).p_values,
    "a classifier": lambda: seeded(lambda: Classifier(compose(CELLS), X, 3)).state_dict(),
    "a denoiser": lambda: seeded(lambda: Denoiser(compose(CELLS), X)).state_dict(),
    "a read-out": lambda: ReadOut.of(*TRAINED[0]).weights,
    "a trained cell": lambda: arrays_of(train(PLAN, NoiseSource(), SMALL).model),
    "measured figures": lambda: measure(untrained(FINE, 1), SMALL).model_dump(mode="json"),
    "tasks": lambda: [(task.train, task.test) for task in own_tasks.__wrapped__(probe("noise16-64"), PROTOCOL, 0)],
}
PLAN = Plan(spec=FINE, size=16, steps=2, batch=4, rate=1e-3)
SMALL = dataclasses.replace(probe("noise16-64"), images=probe("noise16-64").images[::16, :, :16, :16], group=torch.arange(16))
PROTOCOL = PROFILES["smoke"] if "smoke" in PROFILES else next(iter(PROFILES.values()))


@contextlib.contextmanager
def switched(get, put, value):
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def default_dtype(dtype):
    return switched(torch.get_default_dtype, torch.set_default_dtype, dtype)


SETTINGS = {
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device meta": lambda: torch.device("meta"),
    "set_default_device meta": lambda: switched(lambda: None, torch.set_default_device, "meta"),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "flush_denormal": lambda: switched(lambda: False, torch.set_flush_denormal, True),
    "deterministic algorithms": lambda: switched(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "np.seterr raise": lambda: np.errstate(all="raise"),
    "locale": lambda: switched(
        lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value), "C"
    ),
    "warnings as errors": warnings.catch_warnings,
}


SLOW = ("a wired model", "a table of pairs")  # under the settings that move dtype, device or grad mode alone
TELLING = ("default dtype float64", "default device meta", "inference mode", "autocast bfloat16")


def plainly(value):
    """Every number in a thing as (type, shape, bytes)."""
    if isinstance(value, torch.Tensor):
        array = value.detach().numpy()
        return (str(value.dtype), value.device.type, array.shape, array.tobytes())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if dataclasses.is_dataclass(value):
        return [plainly(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        return {str(key): plainly(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plainly(item) for item in value]
    return repr(value)


@pytest.fixture(scope="module")
def wanted():
    return {}


@pytest.mark.slow
@works("torch", "set_default_dtype: float64, bfloat16")
@works("torch", "a default device: set_default_device, with torch.device", note="what is made is on the CPU")
@works("torch", "inference_mode and no_grad around what makes and measures")
@works("torch", "autocast around what makes and measures")
@works("torch", "set_flush_denormal, use_deterministic_algorithms")
@works("torch", "np.seterr(all='raise') and warnings as errors")
@pytest.mark.filterwarnings("ignore::composer.procrustes.FewSamplesWarning")
@pytest.mark.parametrize("maker", MAKERS)
def test_settings_change_no_bit_of_what_is_made(maker):
    make = MAKERS[maker]
    wanted, other = plainly(make()), []
    for name in TELLING if maker in SLOW else SETTINGS:
        with SETTINGS[name]():
            made = make()
        if plainly(made) != wanted:
            other.append(name)
    assert other == []


@pytest.mark.slow
@works("torch", "the caller's random generators: torch, NumPy", note="neither read nor reset")
@pytest.mark.filterwarnings("ignore::composer.procrustes.FewSamplesWarning")
def test_no_global_generator_is_read_or_reset():
    before, rolls = torch.get_rng_state(), repr(np.random.get_state())
    for name, make in MAKERS.items():
        make()
        assert torch.equal(torch.get_rng_state(), before), name
        assert repr(np.random.get_state()) == rolls, name


@pytest.mark.slow
def test_what_is_made_under_inference_mode_can_be_trained_around():
    with torch.inference_mode():
        model, container, wired = untrained(FINE, 1), compose(CELLS, images()), wire_of()
        host = Classifier(compose(CELLS), images(), 3)
    x = images().requires_grad_()
    for loss in (model(x).recon, container(x).recon, container(x).omega[0], wired(x).output.recon, host(x)):
        loss.square().sum().backward()
    assert x.grad.isfinite().all()


def wire_of():
    names = {"a": "mid/a@1.0.0", "c": "mid/c@1.0.0"}
    composition = Composition(schema_version="1.0", output="r", cells=names, nodes={"r": Route(of=("a", "c"))})
    return wire({"a": CELLS[0], "c": CELLS[2]}, composition)


LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "strided": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "transposed memory": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "a negative stride of NumPy": lambda x: torch.from_numpy(np.ascontiguousarray(x.numpy()[..., ::-1])).flip(3),
    "a part of more": lambda x: torch.cat([x, x])[:8],
}


@works("torch", "memory formats: channels_last, strided, expanded images")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_formats_change_no_number(layout):
    container, x = compose(CELLS), images()
    wanted, found = container(x), container(LAYOUTS[layout](x))
    assert torch.equal(found.recon, wanted.recon)
    model = PatchSVAE.from_cell(CELLS[0])
    assert torch.allclose(model(LAYOUTS[layout](x)).recon, model(x).recon, rtol=1e-5, atol=1e-6)
    same = container(x[:1].expand(4, -1, -1, -1)).recon
    assert torch.allclose(same, container(x[:1]).recon.expand_as(same), rtol=1e-5, atol=1e-6)


@works("torch", "PatchSVAE under autocast: bfloat16, float16", note="the bits of without")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_a_cell_alone(dtype):
    model, x = untrained(FINE, 1), images().requires_grad_()
    for run in (lambda: model(x).recon, lambda: model.tokens(x).omega, lambda: model.decode(model.encode(x))):
        plain = run()
        (gradient,) = torch.autograd.grad(plain.sum(), x)
        with torch.autocast("cpu", dtype=dtype):
            found = run()
            (within,) = torch.autograd.grad(run().sum(), x)  # where torch's own backward passes are cast
        assert torch.equal(found, plain)
        assert torch.equal(torch.autograd.grad(found.sum(), x)[0], gradient)
        assert torch.allclose(within, gradient, atol=0.1 * float(gradient.abs().max()))


def answers():
    wired = models.model().eval()
    return {"container": compose(CELLS, images()), "PatchSVAE": untrained(FINE, 1), "wired": wired}


@works("torch", "images of another dtype than the weights: float64, float16, bfloat16", note="outputs come in the images' own")
@pytest.mark.filterwarnings("ignore::composer.procrustes.FewSamplesWarning")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_outputs_come_in_the_dtype_of_the_images(dtype):
    for name, model in answers().items():
        x = images().to(dtype).requires_grad_()
        found = model(x)
        tensors = list(found.groups if name == "container" else models.tensors(found))
        tensors = [t for group in tensors for t in group.found.values()] if name == "container" else tensors
        assert {t.dtype for t in tensors if t.is_floating_point()} == {dtype}, name
        sum(t.float().sum() for t in tensors if t.requires_grad).backward()
        assert x.grad.dtype == dtype
        assert x.grad.isfinite().all()


@pytest.mark.slow
def test_a_float64_container_keeps_its_digits_for_float64_images():
    x = images().double()
    fine, coarse = compose(CELLS, dtype=torch.float64)(x).recon, compose(CELLS)(x).recon
    assert coarse.dtype == fine.dtype == torch.float64
    assert 1e-9 < float((fine - coarse).abs().max()) < 1e-3


@pytest.mark.parametrize("name", ["container", "PatchSVAE", "wired"])
@pytest.mark.filterwarnings("ignore::composer.procrustes.FewSamplesWarning")
def test_integers_are_refused(name):
    with pytest.raises(InputError) as caught:
        answers()[name](torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    assert caught.value.code == "IMAGE_DTYPE"


@pytest.mark.filterwarnings("ignore::composer.procrustes.FewSamplesWarning")
def test_an_alignment_of_a_float64_container_has_its_digits():
    container = compose(CELLS, dtype=torch.float64)
    one, other = align(container, images()), align(container, images().double())
    assert plainly([m.rotation for m in one.maps]) == plainly([m.rotation for m in other.maps])
