"""Measuring and baselines: against plain formulas, and the same whatever the chunking."""

import dataclasses
import sys

import pytest
import torch

from batteries import CellSpec, measure
from batteries.cell.manifest import CvFigure, DegenerateFigure, Measured
from batteries.data.probes import Probe
from batteries.measurement.baselines import baselines, fit, to_patches
from batteries.model.patch_svae import untrained
from batteries.noise import random_batch

SPEC = CellSpec(V=12, D=4, patch_size=4, hidden=8)


@pytest.fixture(scope="module")
def small():
    images, types = random_batch(24, (16, 16), 0)
    return Probe("small", 1, "noise", images, types % 2, ("even", "odd"), "0" * 64)


def test_figures_are_the_plain_ones(small):
    model = untrained(SPEC, 0)
    found = measure(model, small)
    with torch.no_grad():
        out = model(small.images)
    error = (out.recon - small.images).double().square().mean(dim=(1, 2, 3))
    assert found.mse.value == pytest.approx(float(error.mean()))
    assert found.mse.standard_error == pytest.approx(float(error.std() / 24**0.5))
    assert found.mse_by_group["even"] == pytest.approx(float(error[small.group == 0].mean()))
    assert found.spectrum == pytest.approx(out.S.double().mean(dim=(0, 1)).tolist())
    assert isinstance(found.cv, CvFigure)
    assert found.cv.images == 24
    assert found.cv.matrices >= 64
    assert found.band == "high"
    assert found.held is None
    assert found.deciding_cv is found.axial_cv
    assert (found.cv.corrected, found.axial_cv.corrected) == (True, True)
    assert found.axial_cv.value != found.cv.value


def test_figures_from_before_the_axial_cv_keep_their_bytes(small):
    now = measure(untrained(SPEC, 0), small)
    old = now.model_copy(update={"axial_cv": None, "cv": now.cv.model_copy(update={"corrected": False})})
    written = old.model_dump(mode="json")
    assert "axial_cv" not in written
    assert "corrected" not in written["cv"]
    assert old.deciding_cv is old.cv
    assert Measured.model_validate_json(old.to_bytes()) == old
    assert Measured.model_validate_json(now.to_bytes()) == now


@pytest.mark.slow
def test_chunking_changes_nothing(small, monkeypatch):
    model = untrained(SPEC, 0)
    whole = measure(model, small)
    monkeypatch.setattr(sys.modules["batteries.measurement.measure"], "PATCHES_AT_ONCE", 40)
    parts = measure(model, small)
    assert parts.mse.value == pytest.approx(whole.mse.value, rel=1e-6)
    assert parts.cv.value == pytest.approx(whole.cv.value, rel=1e-6)


@pytest.mark.slow
def test_crops_of_one_photograph_are_one_cluster(small):
    model = untrained(SPEC, 0)
    crops = dataclasses.replace(small, domain="photos", group=torch.arange(24) // 8)
    found, as_noise = measure(model, crops), measure(model, small)
    assert (found.cv.images, as_noise.cv.images) == (3, 24)
    assert found.mse.value == pytest.approx(as_noise.mse.value)
    assert found.mse.standard_error != pytest.approx(as_noise.mse.standard_error)


def test_a_flat_cell_is_degenerate_in_its_figures(small):
    found = measure(untrained(CellSpec(V=12, D=4, patch_size=4, hidden=8, row_norm="layernorm"), 0), small)
    assert isinstance(found.cv, DegenerateFigure)
    assert isinstance(found.axial_cv, DegenerateFigure)
    assert found.band is None


def test_the_linear_code_is_pca():
    images = random_batch(64, (16, 16), 1)[0]
    code = fit(images, SPEC)
    patches = to_patches(images, SPEC).double()
    centred = patches - patches.mean(dim=0)
    _, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    for k in (0, 4, 20, 48):
        left = float(singular[k:].square().sum() / centred.numel())
        assert code.error(patches, k) == pytest.approx(left, abs=1e-9)


def test_baselines_name_their_width_and_the_missing_bottleneck():
    images = random_batch(64, (16, 16), 1)[0]
    held_out = random_batch(16, (16, 16), 2)[0]
    wide = CellSpec(V=32, D=4, patch_size=4, hidden=64)
    found = baselines(fit(images, wide), held_out, wide)
    assert (found.pca_k, found.bottleneck) == (48, False)
    assert found.pca == pytest.approx(0, abs=1e-12)
    assert found.pca < found.pca_width < found.mean
    narrow = baselines(fit(images, SPEC), held_out, SPEC)
    assert (narrow.pca_k, narrow.bottleneck) == (8, True)
    assert "1024 patches of 64 training images" in narrow.fitted_on
