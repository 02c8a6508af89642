"""Terms of a hold: what each is of a parent and of a changed cell, and where its gradient points."""

import pytest
import torch

from batteries.data.sources import NoiseSource, seed_of
from batteries.geometry import axial_cv, cv
from batteries.geometry.simplex_cv import differentiable_cv
from batteries.model.patch_svae import untrained
from composer import Hold
from composer.adaptation.terms import OWN, Terms
from tests.support.adaptation import SPEC


def terms(parent, cv=0.9, **weights):
    hold = Hold(**{"reconstruction": 0.0, "cv": 0.0, "anchor": 0.0, **weights})
    return Terms(hold, NoiseSource(), 64, parent, 0.5, cv, 0)


def slope(found, model):
    return torch.autograd.grad(found, list(model.parameters()), allow_unused=True)


def test_the_anchor_is_nothing_where_the_parent_is_and_pulls_back():
    model, parent = untrained(SPEC, 0), untrained(SPEC, 0)
    anchored = terms(parent, anchor=2.0)
    assert anchored.loss(model, 0).item() == 0
    with torch.no_grad():
        model.enc_out.weight += 0.01 * torch.randn(model.enc_out.weight.shape, generator=torch.Generator().manual_seed(0))
    before = anchored.loss(model, 0)
    (gradient,) = torch.autograd.grad(before, model.enc_out.weight)
    with torch.no_grad():
        model.enc_out.weight -= 0.5 * gradient
    assert 0 < anchored.loss(model, 0).item() < before.item()
    assert terms(parent, anchor=4.0).loss(model, 0).item() == pytest.approx(2 * anchored.loss(model, 0).item())


def test_the_reconstruction_is_in_shares_of_what_the_cell_explained():
    model = untrained(SPEC, 1)
    found = terms(model, reconstruction=10.0).loss(model, 3)
    images = NoiseSource().batch(seed_of(0, 3, OWN), 16, 64)
    mse = (model(images).recon - images).square().mean()
    assert found.item() == pytest.approx(10 * mse.item() / 0.5, rel=1e-5)
    assert all(gradient is not None for gradient in slope(found, model))


@pytest.mark.slow
def test_the_volumes_bring_the_axial_cv_to_that_before():
    """In enough steps to arrive: how far it is on the way depends on a processor's rounding. Of few rows the two CVs differ."""
    model = untrained(SPEC.model_copy(update={"V": 48}), 2)
    images = NoiseSource().batch(7, 64, 64)

    def now():
        M = model.tokens(images).M[:, ::64].detach()  # (B, n, V, D)
        return axial_cv(M.flatten(0, 1), torch.arange(len(M)).repeat_interleave(M.shape[1])).value

    target, before = 1.2 * now(), now()
    held = Terms(Hold(reconstruction=0, cv=10, anchor=0), NoiseSource(), 64, model, 0.5, target, 0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(100):
        optimiser.zero_grad()
        held.loss(model, step).backward()
        optimiser.step()
    assert abs(now() - target) < 0.5 * abs(before - target)


def test_a_degenerate_parent_has_no_volumes():
    assert not Terms(Hold(reconstruction=0, cv=10, anchor=0), NoiseSource(), 64, untrained(SPEC, 0), 0.5, None, 0).any
    assert not terms(untrained(SPEC, 0)).any


def test_several_matrices_at_once_are_each_of_them():
    rows = torch.randn(5, 12, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    M = torch.nn.functional.normalize(rows, dim=-1)
    few = M[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda M: differentiable_cv(M, draws=20, seed=0, axial=True), few)
    readings = [cv(one[None], torch.zeros(1, dtype=torch.int64), draws=400, seed=0, corrected=False).value for one in M[:1]]
    assert differentiable_cv(M[:1], draws=400, seed=0).tolist() == pytest.approx(readings, rel=1e-12)
    many = [axial_cv(one[None], torch.zeros(1, dtype=torch.int64), draws=4000).value for one in M]
    assert differentiable_cv(M, draws=4000, seed=1, axial=True).tolist() == pytest.approx(many, rel=0.1)
