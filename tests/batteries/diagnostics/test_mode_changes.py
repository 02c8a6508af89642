"""Modes against plain float64 computation, and planted cells: one whose decoder ignores a mode, one whose S is a property."""

import math

import numpy as np
import pytest
import torch

import batteries
from batteries import diagnostics
from batteries.diagnostics.mode_changes import CHANGES
from batteries.diagnostics.patch_properties import correlations, patch_statistics

SMALL = {"hidden": 16, "smooth_width": 4}


def images_of(n=4, side=12):
    return batteries.noise.random_batch(n, (side, side), seed=3)[0]


def test_changes_are_those_of_a_decomposition_in_float64():
    model = batteries.untrained(batteries.CellSpec.preset("high", **SMALL), seed=0).eval()
    with torch.no_grad():
        model.cross_attn[0].alpha_logits.fill_(4.0)  # so that gates differ
    images = images_of()
    group = torch.tensor([0, 0, 7, 7])
    found = diagnostics.modes(model, images, group, torch.arange(4))
    double = batteries.untrained(model.spec, seed=0).double().eval()
    double.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    with torch.no_grad():
        M = double(images.double()).M.numpy()
        U, S, Wt = np.linalg.svd(M, full_matrices=False)  # (B, N, V, D), (B, N, D), (B, N, D, D)
        omega = double.factors(torch.from_numpy(S)).numpy() * S
        for mode in range(4):
            for change, sizes in {
                "removed": np.zeros_like(omega[..., mode]),
                "even gate": S[..., mode] * (omega / S)[..., mode].mean(axis=1, keepdims=True),
                "even size": np.broadcast_to(omega[..., mode].mean(axis=1, keepdims=True), omega[..., mode].shape),
            }.items():
                changed = omega.copy()
                changed[..., mode] = sizes
                received = torch.from_numpy(U * changed[..., None, :] @ Wt)
                mse = (double.decode_matrices(received, (3, 3)) - images).square().mean(dim=(1, 2, 3))
                row = found.change(mode, change)
                assert row.error.value == pytest.approx(float(mse.mean()), rel=1e-4)
                assert row.error.standard_error == pytest.approx(float(mse.std() / 2), rel=1e-3)
                assert found.change(mode, change, 7).error.value == pytest.approx(float(mse[2:].mean()), rel=1e-4)
    whole = found.whole[7].value
    assert found.change(2, "removed", 7).ratio.value == pytest.approx(found.change(2, "removed", 7).error.value / whole)


@pytest.mark.parametrize("readout", ["none", "linear"])
def test_columns_that_the_decoder_ignores_cost_nothing(readout):
    model = batteries.untrained(batteries.CellSpec.preset("high", readout=readout, **SMALL), seed=0).eval()
    with torch.no_grad():
        model.dec_in.weight.view(16, 32, 4)[:, :, 2] = 0  # (H, V, D)
    found = diagnostics.modes(model, images_of(), torch.zeros(4), torch.arange(4))
    for change in CHANGES:
        assert found.change(2, change).ratio.value == 1
        assert found.change(2, change).ratio.standard_error == 0
    assert found.change(1, "removed").ratio.value != 1


def lit_cell(scale):
    """A cell whose rows are (1, +-h), h = scale times the luminance: S2 / S1 is |h|, W the axes."""
    spec = batteries.CellSpec(V=8, D=2, patch_size=4, hidden=2, depth=0, cross_layers=0, smooth_width=4)
    model = batteries.untrained(spec, seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.enc_in.weight[0] = scale / spec.patch_dim
        model.enc_in.bias[0] = 16.0  # where the activation is the identity
        rows, bias = model.enc_out.weight.view(8, 2, 2), model.enc_out.bias.view(8, 2)  # (V, D, H), (V, D)
        signs = torch.tensor([1.0, -1.0]).repeat(4)
        bias[:, 0], rows[:, 1, 0], bias[:, 1] = 1.0, signs, -16.0 * signs
        model.dec_in.weight.view(2, 8, 2)[:, :, 0] = 1.0  # reads the first axis alone
        model.dec_out.weight.fill_(0.1)
    return model


def test_property_that_s_is_has_correlation_one_and_unread_mode_costs_nothing():
    images = images_of().abs() + 0.1
    found = diagnostics.modes(lit_cell(0.1), images, torch.zeros(4), torch.arange(4))
    assert found.correlation(1, "luminance").figure.value == pytest.approx(1)
    assert found.correlation(0, "distance from grey").figure.value == pytest.approx(-1)
    assert abs(found.correlation(1, "orientation 0").figure.value) < 0.9
    assert found.change(1, "removed").ratio.value == pytest.approx(1, abs=1e-6)
    assert found.change(0, "removed").ratio.value != pytest.approx(1, abs=1e-3)


def test_independent_values_have_correlation_zero_with_an_honest_error():
    generator = torch.Generator().manual_seed(0)
    S = torch.randn(400, 64, 1, generator=generator)
    (row,) = correlations(S, {"other": torch.randn(400, 64, generator=generator)}, torch.arange(400))
    assert row.figure.standard_error == pytest.approx(1 / math.sqrt(63 * 400), rel=0.15)
    assert abs(row.figure.value) < 4 * row.figure.standard_error


def test_ties_share_their_rank():
    S = torch.tensor([[1.0, 2.0, 2.0, 5.0]])[..., None]
    (row,) = correlations(S, {"other": torch.tensor([[4.0, 4.0, 6.0, 7.0]])}, torch.zeros(1))
    one, other = np.array([1, 2.5, 2.5, 4]), np.array([1.5, 1.5, 3, 4])
    assert row.figure.value == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert row.figure.standard_error == math.inf


def test_constant_images_are_left_out():
    S = torch.rand(3, 9, 1, generator=torch.Generator().manual_seed(0))
    values = S[..., 0].clone()
    values[1] = 0.7 + 1e-9 * torch.arange(9)
    both = {"property": values, "flat": torch.ones(3, 9)}
    row, flat = correlations(S, both, torch.arange(3))
    assert (row.images, row.figure.value) == (2, pytest.approx(1))
    assert (flat.images, flat.figure.value) == (0, None)
    assert "constant" in flat.figure.undefined


def test_statistics_of_a_patch():
    x = torch.arange(4.0)
    falling = (x[:, None] + x[None, :]).expand(3, 4, 4)
    pictures = torch.stack([x.expand(3, 4, 4), x[:, None].expand(3, 4, 4), falling, -torch.ones(3, 4, 4)])
    found = {name: [round(v, 6) for v in value[:, 0].tolist()] for name, value in patch_statistics(pictures, 4).items()}
    assert found["luminance"] == [1.5, 1.5, 3, -1]
    assert found["distance from grey"] == [1.5, 1.5, 3, 1]
    assert found["contrast"] == pytest.approx([1.118034, 1.118034, 1.581139, 0])
    assert found["gradient energy"] == [1, 1, 2, 0]
    assert found["orientation 0"] == [1, -1, 0, 0]
    assert found["orientation 45"] == [0, 0, 1, 0]
    assert found["coherence"] == [1, 1, 1, 0]
    assert patch_statistics(pictures, 1)["gradient energy"].abs().max() == 0


def test_groups_and_clusters_are_one_per_image():
    model, images = batteries.untrained(batteries.CellSpec.preset("high", **SMALL), seed=0), images_of()
    with pytest.raises(batteries.InputError, match="group"):
        diagnostics.modes(model, images, torch.zeros(3), torch.arange(4))
    with pytest.raises(batteries.InputError, match="cluster"):
        diagnostics.modes(model, images, torch.zeros(4), torch.zeros(4, 1))


def test_places_have_mode_change_and_group():
    model = batteries.untrained(batteries.CellSpec.preset("high", **SMALL), seed=0)
    found = diagnostics.modes(model, images_of(), torch.tensor([5, 5, 5, 5]), torch.arange(4))
    assert found.change(0, "even gate", 5).error.place == "mode 1, even gate, group 5"
    assert len(found.changes) == 4 * 3 * 2
    assert len(found.correlations) == 4 * 7
    with pytest.raises(batteries.InputError, match="no such mode"):
        found.change(4, "removed")
    with pytest.raises(batteries.InputError, match="no such correlation"):
        found.correlation(0, "colour")
