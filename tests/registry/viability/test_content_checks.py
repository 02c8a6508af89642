"""Checks of content: crafted cells that a mean error and a CV in band let pass, and equivalent cells that keep every figure."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import batteries
import registry
from batteries.cell.cell import Cell
from batteries.model.patch_svae import PatchSVAE
from registry.catalog.attestation import Attestation
from registry.catalog.figures import ControlFigure, ReadOutFigure
from registry.checks import content_checks
from registry.checks.content_checks import OMEGA_CHECKS
from registry.checks.figures import flag
from registry.viability import verdict
from registry.viability.controls import control_cell, untrained_cell
from registry.viability.readouts import Ridge, read_outs
from registry.viability.tasks import own_tasks
from tests.support.viability import QUICK

FEW = QUICK.model_copy(update={"test": 64, "crops": 64})
CELLS = ("low/fresnel-64", "mid/johanna-64", "high/johanna-64-s1")


@pytest.fixture(scope="module", params=CELLS)
def tested(request):
    """A trained cell, its probe, the task its read-outs learn, and read-outs of untrained cells."""
    cell = registry.load(request.param)
    whole = batteries.probe(cell.manifest.own_probe)
    every = 2 if whole.domain == "noise" else 1  # of photographs, half of the crops tell too little of a mirror image
    own = dataclasses.replace(whole, images=whole.images[::every], group=whole.group[::every])
    task = next(task for task in own_tasks(own, FEW, 0) if not task.restores)
    null = [f for seed in range(5) for f in read_outs(PatchSVAE.from_cell(untrained_cell(cell, seed)), task, "untrained")]
    return cell, own, task, null


def passed(model, own, task, null):
    """Names of the content checks that a model passes."""
    reading = batteries.measurement.measure.read(model, own.images, own.cluster)
    found = content_checks.of_content(content_checks.content(reading, own), model.spec.V, FEW)
    found.append(content_checks.of_mirrored(content_checks.mirrored(model, own, reading), FEW))
    found += [content_checks.of_readout(figure, null, FEW) for figure in read_outs(model, task, "cell")]
    return {check.name for check in found if check.passed}


ALL = {"rows", "error, worst type", "error, worst image", "error, mirrored", "read-out, M", "read-out, omega"}


@pytest.mark.slow
def test_a_trained_cell_passes_every_check(tested):
    cell, *others = tested
    assert passed(PatchSVAE.from_cell(cell), *others) == ALL


def test_types_of_constant_colours_have_no_worst_error():
    own, model = batteries.probe("noise16p-64"), batteries.untrained(batteries.CellSpec.preset("high", V=12, hidden=8), 0)
    found = content_checks.content(batteries.measurement.measure.read(model, own.images, own.cluster), own)
    assert set(own.groups) - set(found.types) == {"pink", "brown"}
    assert max(found.types.values()) < 100
    assert len(found.images) == len(own.images)
    assert all(map(math.isfinite, found.images))


@pytest.mark.slow
def test_a_spectrum_that_is_the_same_for_all_images_carries_nothing(tested):
    """Its rows are unit rows and its decoder is trained: only omega tells."""
    cell, own, task, null = tested
    crafted = PatchSVAE.from_cell(control_cell(cell, "constant-S", 0, task.train[0]))
    with torch.no_grad():
        S = crafted.tokens(own.images[:8]).S
    assert torch.allclose(S, S[0, 0].expand_as(S), atol=1e-4)
    assert "read-out, omega" not in passed(crafted, own, task, null)


@pytest.mark.slow
def test_a_trained_decoder_does_not_stand_for_an_encoder(tested):
    cell, own, task, null = tested
    crafted = PatchSVAE.from_cell(control_cell(cell, "random-encoder", 0, task.train[0]))
    assert "read-out, M" not in passed(crafted, own, task, null)


class FourTypes(PatchSVAE):
    """Answers four of the sixteen groups of a probe with one colour."""

    def forward(self, images):
        out = super().forward(images)
        known = self.group[: len(images)] >= 4
        return dataclasses.replace(out, recon=torch.where(known[:, None, None, None], out.recon, images.mean()))


def test_types_answered_by_a_constant_are_found_though_the_mean_error_is_low(monkeypatch):
    cell, own = registry.load("mid/johanna-64"), batteries.probe("noise16-64")
    model = FourTypes.from_cell(cell)
    model.group = own.group
    monkeypatch.setattr(batteries.measurement.measure, "PATCHES_AT_ONCE", 16 * len(own.images))  # all in one chunk
    reading = batteries.measurement.measure.read(model, own.images, own.cluster)
    found = {c.name: c for c in content_checks.of_content(content_checks.content(reading, own), cell.spec.V, QUICK)}
    assert float(reading.mse.mean()) < float(own.images.square().mean())
    assert not found["error, worst type"].passed
    assert not found["error, worst image"].passed
    assert found["rows"].passed


@pytest.mark.slow
def test_a_cell_trained_on_the_probe_is_found_by_its_mirror_images():
    cell, whole = registry.load("low/fresnel-64"), batteries.probe("photos-64")
    own = dataclasses.replace(whole, images=whole.images[::3], group=whole.group[::3])  # as soon learned by heart
    model = PatchSVAE.from_cell(cell)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(120):
        optimiser.zero_grad()
        (model(own.images).recon - own.images).square().mean().backward()
        optimiser.step()
    found, honest = (
        content_checks.of_mirrored(
            content_checks.mirrored(one, own, batteries.measurement.measure.read(one, own.images, own.cluster)), QUICK
        )
        for one in (model, PatchSVAE.from_cell(cell))
    )
    assert honest.passed
    assert not found.passed
    assert found.value > 1.03


@pytest.mark.slow
@pytest.mark.parametrize("change", ["dead", "doubled", "opposite"])
def test_one_row_without_a_use_is_found(change):
    cell = registry.load("high/johanna-64-s1")
    weights = {name: array.copy() for name, array in cell.weights.items()}
    D = cell.spec.D
    if change == "dead":
        weights["enc_out.weight"][:D] = 0
    else:
        sign = 1 if change == "doubled" else -1
        for name in ("enc_out.weight", "enc_out.bias"):
            weights[name][:D] = sign * weights[name][D : 2 * D]
    own = batteries.probe("noise16-64")
    reading = batteries.measurement.measure.read(PatchSVAE.from_cell(Cell(weights, cell.manifest)), own.images, own.cluster)
    assert content_checks.content(reading, own).rows == cell.spec.V - 1


@pytest.mark.slow
def test_equivalent_cells_keep_the_figures(tested):
    """Signs and order of the rows, and a rotation of the D axes, are a choice of coordinates."""
    cell, own, task, _ = tested
    generator = torch.Generator().manual_seed(0)
    V, D = cell.spec.V, cell.spec.D
    order, signs = torch.randperm(V, generator=generator), torch.randint(2, (V, 1), generator=generator) * 2 - 1
    turn = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64))[0].float()
    model = PatchSVAE.from_cell(cell)
    with torch.no_grad():
        for weight, axis in ((model.enc_out.weight, 0), (model.enc_out.bias, 0), (model.dec_in.weight, 1)):
            rows = weight.movedim(axis, 0).reshape(V, D, -1)
            turned = torch.einsum("vdx,de->vex", rows[order] * signs[:, :, None], turn)
            weight.copy_(turned.reshape(weight.movedim(axis, 0).shape).movedim(0, axis))
    before, after = (read_outs(one, task, "cell") for one in (PatchSVAE.from_cell(cell), model))
    images = own.images[:4]
    with torch.no_grad():
        assert torch.allclose(PatchSVAE.from_cell(cell)(images).recon, model(images).recon, atol=2e-3)
    for own_figure, turned_figure in zip(before, after, strict=True):
        assert math.isclose(own_figure.loss, turned_figure.loss, rel_tol=0.02)


# ---- the parts ---------------------------------------------------------------------------------------------------------


def test_a_ridge_regression_finds_a_planted_relation_and_predicts_the_mean_from_constants():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 5, generator=generator, dtype=torch.float64)
    weights = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    found = Ridge.of(features, features @ weights + 2)
    assert torch.allclose(found.affine[0], weights, atol=0.1)
    assert torch.allclose(found.affine[1], torch.full((3,), 2.0, dtype=torch.float64), atol=0.05)
    affine, level = found.affine
    assert torch.allclose(found(features), features @ affine + level)
    flat = Ridge.of(torch.ones(400, 5, dtype=torch.float64), features @ weights)
    assert torch.allclose(flat(torch.ones(2, 5, dtype=torch.float64)), (features @ weights).mean(dim=0).expand(2, 3))


def figure(reads, loss, subject="cell", within=0.001):
    return ReadOutFigure(subject=subject, reads=reads, losses=(loss * 0.5, loss * 1.5) * 8, within=within)


def test_a_read_out_is_held_against_untrained_cells_with_its_error():
    null = [figure("M", loss, "untrained") for loss in (0.50, 0.51, 0.49, 0.50, 0.50)]
    null += [figure("omega", 9.0, "untrained")]  # of the other kind, which does not count
    check = content_checks.of_readout(figure("M", 0.25), null, QUICK)
    assert check.passed
    assert math.isclose(check.value, 0.5)
    assert not content_checks.of_readout(figure("M", 0.25, within=0.1), null, QUICK).passed
    assert not content_checks.of_readout(figure("M", 0.5), null, QUICK).passed


def test_photographs_are_paired_so_that_their_own_difficulty_adds_no_error():
    null = [figure("M", loss, "untrained", within=None) for loss in (0.50, 0.51, 0.49, 0.50, 0.50)]
    paired = content_checks.of_readout(figure("M", 0.25, within=None), null, QUICK)
    assert paired.upper - paired.value < 0.01
    other = ReadOutFigure(subject="cell", reads="M", losses=(0.6, 0.0) * 8, within=None)
    assert not content_checks.of_readout(other, null, QUICK).passed


@given(failed=st.sets(st.sampled_from([*OMEGA_CHECKS, "rank", "error, mean"])))
def test_only_checks_of_omega_leave_a_reconstructor(failed):
    found = [flag(name, name not in failed, "-", "-") for name in (*OMEGA_CHECKS, "rank", "error, mean")]
    decided = verdict.decided(found, [])
    assert (decided == "viable") == (not failed)
    assert (decided == "viable as a reconstructor") == (bool(failed) and failed <= OMEGA_CHECKS)
    unsound = verdict.decided(found, [ControlFigure(name="none", rejected=False, by="radius")])
    assert unsound == ("walked back" if failed - OMEGA_CHECKS else "no verdict")


def test_attestations_of_older_protocols_keep_their_bytes():
    store = registry.open_store()
    for key in store.keys("attestations"):
        data = store.read(key, limit=2**20)
        found = Attestation.from_bytes(data, where=key)
        assert (found.readouts == ()) == (found.protocol == "standard-2")
        assert found.to_bytes() == data
