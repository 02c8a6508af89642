"""Transformations of shipped cells that leave their function alone, and the figures that do."""

import numpy as np
import pytest

import registry
from tests.support.examples import example

invariance = example("invariance")
pytestmark = pytest.mark.usefixtures("few_matrices")

ROUNDING = {"function": 1e-4, "S": 1e-6, "omega": 1e-6, "MSE": 1e-5, "rank": 1e-7}
NO_DRAW_CHANGES = {"signs of rows": {"axial CV": 0.0}, "rotation of the D axes": {"CV": 1e-6}} | {
    "permutation of hidden units": {"CV": 1e-6, "axial CV": 1e-6}
}


@pytest.fixture(scope="module")
def before():
    cells = (registry.load(name) for name in ("low/fresnel-64", "mid/johanna-64", "high/johanna-64"))
    return {cell.name: (cell, invariance.seen(cell, cell.weights)) for cell in cells}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["low/fresnel-64", "mid/johanna-64", "high/johanna-64"])
@pytest.mark.parametrize("title", invariance.TRANSFORMATIONS)
def test_the_function_and_every_figure_that_decides_stay(before, name, title):
    cell, as_it_was = before[name]
    weights = invariance.TRANSFORMATIONS[title](cell, np.random.default_rng(1))
    assert any(not np.array_equal(weights[key], cell.weights[key]) for key in weights)
    found = invariance.changes(as_it_was, invariance.seen(cell, weights))
    assert {figure: found[figure] for figure, most in ROUNDING.items() if found[figure][0] > most} == {}
    for figure, most in NO_DRAW_CHANGES.get(title, {}).items():
        assert found[figure][0] <= most
    assert found["axial CV"][1] < 4.5  # standard errors


@pytest.mark.slow
def test_signs_of_rows_change_no_bit_of_them_but_the_published_cv(before):
    cell, as_it_was = before["low/fresnel-64"]
    found = invariance.changes(as_it_was, invariance.seen(cell, invariance.signed_rows(cell, np.random.default_rng(0))))
    assert {figure for figure, (change, _) in found.items() if change} == {"CV"}
