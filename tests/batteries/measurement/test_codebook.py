"""The codebook of a model on a probe: its figures, and the null that is as clean."""

import dataclasses
import math

import pytest
import torch

import batteries
from batteries.errors import InputError
from batteries.geometry import Codebook

SPEC = batteries.CellSpec.preset("high", patch_size=16, hidden=16, smooth_width=4)


@pytest.fixture(scope="module")
def few():
    whole = batteries.probe("photos-64")
    return dataclasses.replace(whole, images=whole.images[::3], group=whole.group[::3], digest="3" * 64)


def test_figures_are_those_of_their_definitions(few):
    model = batteries.untrained(SPEC, seed=1)
    found = batteries.codebook(model, few)
    with torch.no_grad():
        M, recon = model.tokens(few.images).M.double(), model(few.images).recon
    book = Codebook.of_rows(M.mean(dim=(0, 1)))
    torch.testing.assert_close(found.codebook.axes, book.axes)
    angles = (M * book.quantise(M)).sum(dim=-1).acos()
    assert found.angle.value == pytest.approx(float(angles.mean()), rel=1e-5)
    assert found.mse.value == pytest.approx(float((recon - few.images).double().square().mean()), rel=1e-5)
    assert found.angle.images == 16  # photographs
    assert 0 < found.constancy < 1
    assert 0 < found.standard_error < 0.05
    assert found.quantised_mse.value > 0


def test_constant_rows_are_as_far_from_their_axes_as_paired_rows_may_be(few):
    model = batteries.untrained(SPEC, seed=1)
    with torch.no_grad():
        model.enc_out.weight.zero_()
    found = batteries.codebook(model, few)
    assert found.constancy == pytest.approx(1, abs=1e-6)
    assert 0 < found.angle.value <= math.acos(0.9) / 2
    assert found.standard_error == pytest.approx(0, abs=1e-9)


def test_bad_input():
    with pytest.raises(InputError, match="ROW_NORM"):
        batteries.codebook(batteries.untrained(SPEC.model_copy(update={"row_norm": "none"}), 0), "photos-64")
    with pytest.raises(InputError, match="NO_PROBE"):
        batteries.codebook(batteries.untrained(SPEC, 0), "photos-65")
