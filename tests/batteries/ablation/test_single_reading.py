"""Single readings: their law depends on norm, number of rows and width, and is that of what it is compared with."""

import math

import pytest
import torch

from batteries import CellSpec
from batteries.ablation.single_reading import Reading, reading_of
from batteries.geometry import simplex_cv


@pytest.mark.parametrize("band", ["low", "mid", "high"])
def test_readings_of_gaussian_rows_vary_more_and_are_lower(band):
    sphere, none, scale = (reading_of(CellSpec.preset(band, row_norm=norm)) for norm in ("sphere", "none", "scale"))
    assert none == scale
    assert none.deviation > 2 * sphere.deviation
    assert none.share < sphere.share < 1


def test_the_law_is_that_of_readings_one_by_one():
    law = reading_of(CellSpec.preset("mid"))
    matrices = torch.nn.functional.normalize(torch.randn(300, 64, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    image = torch.zeros(1, dtype=torch.int64)
    read = [simplex_cv.cv(one[None], image, draws=200, seed=seed, corrected=False).value for seed, one in enumerate(matrices)]
    assert torch.tensor(read).std().item() == pytest.approx(law.deviation, rel=0.2)
    assert torch.tensor(read).mean().item() == pytest.approx(
        law.share * simplex_cv.cv(matrices, torch.arange(300)).value, rel=0.01
    )


@pytest.mark.parametrize("changes", [{"D": 3}, {"row_norm": "row_max"}, {"D": 4, "row_norm": "layernorm"}])
def test_where_there_is_no_law(changes):
    assert reading_of(CellSpec.preset("low", **changes)) is None


def test_a_difference_has_the_errors_of_both():
    assert Reading(share=0.9, deviation=0.3).z(0.8, cv=1.0, error=0.5) == pytest.approx(0.1 / math.hypot(0.45, 0.3))
