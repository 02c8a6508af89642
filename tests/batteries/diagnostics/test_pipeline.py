"""Stages of a cell are the steps of its forward pass, whatever its spec."""

import pytest
import torch

import batteries
from batteries import diagnostics
from batteries.diagnostics.pipeline import Passage

SPECS = {
    "svd": {},
    "linear": {"readout": "linear"},
    "none": {"readout": "none"},
    "narrow": {"readout": "narrow", "cross_layers": 2},
    "narrow sphere": {"readout": "narrow_sphere"},
    "deep": {"depth": 3, "cross_layers": 2},
    "shallow": {"depth": 0, "cross_layers": 0},
    "free rows": {"row_norm": "none"},
}


@pytest.mark.parametrize("changed", SPECS.values(), ids=SPECS)
def test_stages_end_where_the_model_ends(changed):
    spec = batteries.CellSpec.preset("high", hidden=16, smooth_width=4, **changed)
    model = batteries.untrained(spec, seed=0)
    images = batteries.noise.random_batch(3, (16, 24), seed=1)[0]
    found, out = diagnostics.stages(model, images), model(images)
    assert torch.equal(found.recon, out.recon)
    assert torch.equal(found.M, out.M)
    assert torch.equal(found.S, out.S)
    assert torch.equal(found.omega, out.omega)
    assert len(found.enc_blocks) == len(found.dec_blocks) == spec.depth
    assert found.enc_in.shape == found.dec_in.shape == (3, 24, 16)
    factors = torch.ones_like(found.lengths)
    for layer in found.layers:
        factors = factors * layer
    assert torch.equal(factors, model.factors(found.lengths))


def test_last_blocks_lead_to_the_rows_and_the_images():
    model = batteries.untrained(batteries.CellSpec.preset("low", hidden=16), seed=0)
    images = batteries.noise.random_batch(2, (32, 32), seed=1)[0]
    found = diagnostics.stages(model, images)
    assert torch.equal(model.rows(found.enc_blocks[-1]), found.M)
    patches = model.dec_out(found.dec_blocks[-1]).detach()
    pictures = patches.view(2, 2, 2, 3, 16, 16).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 32, 32)
    assert torch.allclose(model.boundary_smooth(pictures), found.recon, atol=1e-6)


@pytest.mark.parametrize("changed", [*SPECS.values(), {"row_norm": "scale"}], ids=[*SPECS, "rows by the batch"])
def test_patches_a_few_at_a_time_are_those_of_the_whole(changed):
    model = batteries.untrained(batteries.CellSpec.preset("high", hidden=16, smooth_width=4, **changed), seed=0)
    images = batteries.noise.random_batch(2, (16, 24), seed=1)[0]
    whole, passage = diagnostics.stages(model, images), Passage(model, images, at_once=7)
    with torch.no_grad():
        parts = list(passage.parts())
        assert torch.allclose(passage.recon(), whole.recon, atol=1e-6)
    assert torch.equal(torch.cat([place for place, _ in parts]), torch.arange(24))
    assert len(parts) == (1 if model.spec.row_norm == "scale" else 4)
    for name in ("enc_in", "M", "S", "omega", "dec_in"):
        found = torch.cat([getattr(steps, name) for _, steps in parts], dim=1)
        assert torch.allclose(found, getattr(whole, name), rtol=1e-5, atol=1e-6)


def test_other_images_are_refused():
    model = batteries.untrained(batteries.CellSpec.preset("low", hidden=16), seed=0)
    with pytest.raises(batteries.InputError, match="multiple"):
        diagnostics.stages(model, torch.zeros(1, 3, 20, 20))
