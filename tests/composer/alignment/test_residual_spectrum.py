"""What maps leave over, by axis: the shares that were planted, and a sum that is the score's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batteries.errors import InputError
from composer import compose, spectra
from composer.alignment.residual_spectrum import spectra_of
from composer.procrustes.consensus import held_out_scores
from tests.composer.procrustes.test_procrustes import draw, rotation
from tests.support.models import cells, images

PHOTOGRAPHS = torch.arange(12).repeat_interleave(5)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.lists(st.integers(1, 6), min_size=2, max_size=4), st.floats(0.1, 3.0), st.booleans())
def test_the_axes_make_up_the_score(hidden, widths, noise, clustered):
    """Whatever the widths: what is left of all axes, and beyond them, is 1 - R2 of the cell's score against the others."""
    seen = draw(60, 2, hidden)
    tokens = [
        seen @ draw(hidden, width, seed=place + 1) + noise * draw(60, 2, width, seed=place + 9)
        for place, width in enumerate(widths)
    ]
    clusters = PHOTOGRAPHS if clustered else None
    scores = held_out_scores(tokens, clusters=clusters, seed=3)
    for width, found, score in zip(widths, spectra_of(tokens, clusters=clusters, seed=3), scores, strict=True):
        assert found.r2 == pytest.approx(score.r2, abs=1e-9)
        assert float(found.variance.sum()) == pytest.approx(1)
        assert bool((found.left >= 0).all())
        assert len(found.variance) <= max(widths)
        if width <= len(found.variance):
            assert found.beyond < 1e-9


def test_an_axis_that_is_not_shared_is_the_one_left_over():
    """Four axes of falling variance, of which the second is each cell's own."""
    size = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    shared, tokens = draw(400, 4, 4), []
    for place in range(2):
        mixed = shared.clone()
        mixed[..., 1] = draw(400, 4, 4, seed=50 + place)[..., 1]
        tokens.append((mixed * size) @ rotation(4, place))
    for found in spectra_of(tokens):
        assert found.variance.tolist() == pytest.approx((size.square() / size.square().sum()).tolist(), abs=0.03)
        assert found.left[1] > 0.9
        assert found.left[[0, 2, 3]].max() < 0.4  # one scale for all axes, smaller for what is not shared


def test_a_wide_cell_beside_narrow_ones_goes_beyond_them():
    seen = draw(200, 2, 6)
    wide, *narrow = spectra_of([seen, seen[..., :2], seen[..., :2] @ rotation(2, 1)])
    assert len(wide.left) == 2
    assert wide.beyond > 0.05
    assert all(found.beyond < 1e-9 for found in narrow)


def test_cells_of_a_container_by_name():
    container = compose(cells())
    found = spectra(container, images(), tokens="moment")
    assert tuple(found) == container.names
    tokens = {name: own.omega for name, own in container(images(), ("omega",)).items()}
    assert all(len(one.variance) == len(one.left) for one in found.values())
    assert max(len(one.left) for one in found.values()) > tokens["noise"].shape[-1]


@pytest.mark.parametrize(
    ("names", "count", "changes", "code"),
    [
        (["noise"], 8, {}, "ONE_CELL"),
        (["noise", "photo"], 3, {}, "FEW_IMAGES"),
        (["noise", "photo"], 8, {"tokens": "cats"}, "TOKENS"),
        (["noise", "low"], 8, {"grid": "exact"}, "GRIDS"),
        (["noise", "photo"], 8, {"clusters": torch.zeros(3, dtype=torch.long)}, "CLUSTERS"),
    ],
)
def test_bad_input(names, count, changes, code):
    with pytest.raises(InputError) as caught:
        spectra(compose(cells()).cells(*names), images(count), **changes)
    assert caught.value.code == code
