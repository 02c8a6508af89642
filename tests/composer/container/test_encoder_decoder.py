"""Encoders and decoders of many cells as kernels, against torch's products in float64, and that a patch's answer is its own."""

from dataclasses import replace

import pytest
import torch

from batteries import CellSpec
from batteries.model import spectral
from batteries.model.bottleneck import Gated
from batteries.model.patch_svae import untrained
from composer.container import encoder_decoder
from composer.container.batched_forward import Stage
from tests.support.laws import given, settings, st

TOLERANCE = 1e-5  # of the largest of the answer
SPECS = st.fixed_dictionaries(
    {
        "V": st.integers(16, 40),
        "D": st.sampled_from([2, 4, 8, 16]),
        "patch_size": st.sampled_from([1, 2, 3, 8]),
        "hidden": st.sampled_from([1, 7, 16, 33, 64, 65, 150]),
        "depth": st.integers(1, 2),
        "channels": st.integers(1, 4),
        "row_norm": st.sampled_from(["sphere", "none"]),
    }
).map(lambda fields: CellSpec(**fields))


def stage(spec, cells=2, dtype=torch.float32, seed=0):
    """Untrained cells whose norms and biases are not the ones and zeros that they start as."""
    g = torch.Generator().manual_seed(seed)
    states = [untrained(spec, seed + cell).state_dict() for cell in range(cells)]
    stacked = {name: torch.stack([state[name] for state in states]) for name in spec.tensor_shapes()}
    moved = {name: x + 0.1 * torch.randn(x.shape, generator=g) for name, x in stacked.items()}
    return Stage(spec, {name: x.to(dtype) for name, x in moved.items()}, compiled=False)


def pictures(spec, count=2, rows=2, columns=3, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, spec.channels, rows * spec.patch_size, columns * spec.patch_size, generator=g).to(dtype)


def answers(stage, images):
    """M and the images that are decoded from it, with factors of the modes that are not one."""
    stage = Stage.of(stage.spec, stage.weights, images)
    M = stage.matrices(images)
    found = spectral.spectrum(M)
    ratio = 1 + 0.3 * torch.sin(torch.arange(found.S.numel(), dtype=M.dtype)).view_as(found.S)
    return M, stage.images(Gated(M, ratio, found), stage.spec.grid(*images.shape[2:]))


def near(found, wanted):
    return bool((found - wanted).abs().max() <= TOLERANCE * wanted.abs().max())


def test_a_long_sum_rounds_no_more_than_its_parts():
    """Equal terms: summed one after another, each addition rounds the same way (4e-5 of the sum over 3,072 of them)."""
    pytest.importorskip("numba")
    spec = CellSpec(V=16, D=2, patch_size=32, hidden=1, depth=1, channels=3, row_norm="none")
    images = torch.full((2, 3, 32, 32), 0.7)
    weights = {name: torch.full((2, *shape), 0.1) for name, shape in spec.tensor_shapes().items()}
    wide = {name: x.double() for name, x in weights.items()}
    assert encoder_decoder.fits(spec, images)
    found, wanted = (
        Stage.of(spec, weights, images).matrices(images),
        Stage(spec, wide, compiled=False).matrices(images.double()),
    )
    assert float((found / wanted - 1).abs().max()) < 1e-6


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(SPECS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 8), st.integers(0, 99))
def test_as_torch_has_it_in_float64(spec, cells, count, columns, seed):
    """Before rows get their length, which makes anything of a row that is nearly zero; and from there on."""
    pytest.importorskip("numba")
    given, wide = stage(spec, cells, seed=seed), stage(spec, cells, torch.float64, seed)
    images = pictures(spec, count, columns=columns, seed=seed)
    assert encoder_decoder.fits(spec, images)
    free = spec.model_copy(update={"row_norm": "none"})
    raw = Stage.of(free, given.weights, images).matrices(images)
    assert near(raw, Stage(free, wide.weights, compiled=False).matrices(images.double()))
    M, decoded = answers(given, images)
    assert torch.allclose(M, spectral.unit_rows(raw) if spec.row_norm == "sphere" else raw, rtol=1e-5, atol=1e-7)
    found = spectral.spectrum(M.double())
    ratio = 1 + 0.3 * torch.sin(torch.arange(found.S.numel(), dtype=torch.float64)).view_as(found.S)
    assert near(decoded, wide.images(Gated(M.double(), ratio, found), spec.grid(*images.shape[2:])))


def test_many_patches_go_by_in_pieces():
    """More than a tile and than a piece, and not a whole number of either."""
    spec = CellSpec(V=6, D=4, patch_size=2, hidden=20)
    images = pictures(spec, 3, rows=11, columns=29)
    given, wide = stage(spec, 3), stage(spec, 3, torch.float64)
    for found, wanted in zip(answers(given, images), answers(wide, images.double()), strict=True):
        assert near(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_patch_that_is_not_finite_is_not_felt_by_others(bad):
    spec = CellSpec(V=6, D=4, patch_size=2, hidden=20, depth=2)
    given, images = stage(spec), pictures(spec, 2, rows=5, columns=13)
    clean = Stage.of(spec, given.weights, images).matrices(images)
    images[0, 1, 3, 5] = bad
    found = Stage.of(spec, given.weights, images).matrices(images)
    hit = torch.zeros(found.shape[:3], dtype=torch.bool)
    hit[:, 0, 13 + 2] = True
    assert found[hit].isnan().all()
    assert torch.equal(found[~hit], clean[~hit])


def test_weights_are_read_wherever_they_are_and_left_alone():
    spec = CellSpec(V=6, D=4, patch_size=2, hidden=20)
    given, images = stage(spec, 4), pictures(spec)
    before = {name: x.clone() for name, x in given.weights.items()}
    wanted = answers(given, images)
    apart = replace(given, weights={name: torch.stack([x, x], dim=-1)[..., 0] for name, x in given.weights.items()})
    assert not apart.weights["enc_in.weight"].is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(answers(apart, images), wanted, strict=True))
    assert all(torch.equal(x, before[name]) for name, x in given.weights.items())


def test_it_is_taken_where_it_is_meant_to_be():
    pytest.importorskip("numba")
    spec = CellSpec(V=6, D=4, patch_size=2, hidden=20)
    images = pictures(spec)
    assert encoder_decoder.fits(spec, images)
    assert not encoder_decoder.fits(spec, images.double())
    assert not encoder_decoder.fits(spec, images[:0])
    assert not encoder_decoder.fits(spec, images.clone().requires_grad_())
    with torch.no_grad():
        assert encoder_decoder.fits(spec, images.clone().requires_grad_())
    for change in ({"D": 6}, {"D": 32}, {"activation": "relu"}, {"depth": 0}, {"depth": 9}, {"hidden": 8192}):
        assert not encoder_decoder.fits(CellSpec(**({"V": 40, "D": 4, "patch_size": 2, "hidden": 20} | change)), images)


def test_both_sides_know_the_same_widths():
    rows = pytest.importorskip("composer.kernels.row_operations")
    assert encoder_decoder.NARROW == rows.NARROW
