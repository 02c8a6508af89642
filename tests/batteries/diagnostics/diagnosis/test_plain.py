"""Figures of models and of the linear code against a plain computation in float64."""

import pytest
import torch

import batteries
from batteries.diagnostics.diagnosis import kinds as kinds_module
from batteries.diagnostics.diagnosis import reconstruction, resolution, survival
from batteries.diagnostics.diagnosis.coders import LinearCoder, ModelCoder, linear_coder, width_of
from batteries.diagnostics.diagnosis.kinds import kinds
from batteries.measurement.baselines import LinearCode
from tests.support.planted_coders import SPEC


@pytest.fixture(scope="module")
def model():
    return batteries.untrained(SPEC, seed=1).eval()


def test_errors_shares_and_spectra_are_the_plain_ones(model):
    some = [kind for kind in kinds(32) if kind.name in ("gaussian", "pink", "text")]
    found = {one.key: one.figure for one in reconstruction.kind_errors(ModelCoder(model), some).findings}
    for kind in some:
        images = kind.images.double()
        squares = (model(kind.images).recon.detach().double() - images).square()
        spread = (images - images.mean(dim=(2, 3), keepdim=True)).square()
        assert found[f"mse {kind.name}"].value == pytest.approx(float(squares.mean()), rel=1e-6)
        assert found[f"left {kind.name}"].value == pytest.approx(float(squares.sum() / spread.sum()), rel=1e-6)
    M = torch.cat([model.tokens(kind.images).M.detach().double() for kind in some[:2]])
    S = torch.linalg.svdvals(M).mean(dim=(0, 1))
    for mode, value in enumerate(S, 1):
        assert found[f"spectrum known laws, mode {mode}"].value == pytest.approx(float(value), rel=1e-5)
    assert found["cv known laws"].standard_error > 0


def test_an_input_scale_is_applied_and_undone(model):
    scaled = batteries.untrained(SPEC, seed=1).eval()
    scaled.scale = batteries.InputScale(mean=(0.2, 0.1, 0.0), std=(0.5, 0.6, 0.7))
    images = batteries.probe("photos-64").images[:2]
    mean, std = (torch.tensor(values)[:, None, None] for values in (scaled.scale.mean, scaled.scale.std))
    wanted = model((images - mean) / std).recon * std + mean
    assert torch.allclose(ModelCoder(scaled).reconstruct(images), wanted, atol=1e-5)
    assert torch.allclose(ModelCoder(scaled).tokens(images)[1], model((images - mean) / std).omega, atol=1e-5)


def test_tiles_of_a_model_differ_by_its_attention_alone(model):
    found = {one.figure.definition.key: one.figure for one in resolution.by_tile(ModelCoder(model), "noise", 32)}
    assert found["tile-S"].value <= found["tile-S"].tolerance
    assert found["tile-omega"].value > 0
    images, _ = resolution.wholes("noise", 128, resolution.TILED)
    whole, tiles = model.tokens(images).omega.detach(), model.tokens(resolution.cut(images, 32)).omega.detach()
    apart = tiles.view(8, 4, 4, 2, 2, 16).permute(0, 1, 3, 2, 4, 5).reshape(8, 64, 16).double()
    assert found["tile-omega"].value == pytest.approx(float((whole - apart).norm() / apart.norm()), rel=1e-3)


def test_the_linear_code_is_a_projection_of_each_half_by_the_other():
    basis = torch.eye(768, dtype=torch.float64)
    codes = (LinearCode(torch.zeros(768).double(), basis, ""), LinearCode(torch.zeros(768).double(), basis.flip(1), ""))
    coder = LinearCoder(SPEC, codes)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = coder.reconstruct(images, torch.tensor([0, 1])).flatten(1)
    k = width_of(SPEC)
    assert k == 8
    assert torch.equal(found[0, :k], images[0].flatten()[:k])
    assert not found[0, k:].any()
    assert torch.equal(found[1, -k:], images[1].flatten()[-k:])
    assert not found[1, :-k].any()
    assert torch.equal(coder.errors(images)[0], (coder.reconstruct(images).double() - images).square().mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("home", ["noise", "photos"])
def test_the_fitted_code_leaves_less_than_the_mean_of_its_own_domain(home):
    coder = linear_coder(batteries.CellSpec.preset("high"), home)
    kind = next(one for one in kinds(32) if one.name == ("pink" if home == "noise" else "photographs"))
    error, _ = coder.errors(kind.images, kind.fold)
    assert error.sum() < 0.5 * survival.variances(kind.images).sum()


@pytest.mark.parametrize(("preset", "ratio", "to_omega"), [("low", 12, 48), ("mid", 12, 96), ("high", 1, 12)])
def test_compression_counts_the_narrowest_layer(preset, ratio, to_omega):
    found = {one.figure.definition.key: one.figure.value for one in survival.compression(batteries.CellSpec.preset(preset))}
    assert (found["compression"], found["compression-omega"]) == (ratio, to_omega)
    free = batteries.CellSpec.preset(preset, row_norm="none")
    rows = {one.figure.definition.key: one.figure.value for one in survival.compression(free)}["numbers-rows"]
    assert rows == free.V * free.D


def test_kinds_are_seeded_and_gradients_are_planes():
    kinds_module.kinds.cache_clear()
    first = kinds(32)
    kinds_module.kinds.cache_clear()
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, kinds(32), strict=True))
    assert [kind.group for kind in first].count("known laws") == [kind.group for kind in first].count("unseen laws") == 16
    planes = next(kind for kind in first if kind.name == "gradients").images
    for axis in (2, 3):
        assert planes.diff(n=2, dim=axis).abs().max() < 1e-5


def test_large_images_are_cut_and_joined_again_and_photographs_continued():
    images, fold = resolution.wholes("photos", 64, 16)
    assert fold.tolist() == [0, 1] * 8
    assert torch.equal(resolution.joined(resolution.cut(images, 16), 4), images)
    wide, _ = resolution.wholes("photos", 1024, 1)
    assert torch.equal(wide[..., 512:600], wide[..., 423:511].flip(-1))
    assert torch.equal(wide[..., :64, :64], resolution.wholes("photos", 64, 1)[0])
