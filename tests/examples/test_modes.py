"""The example of modes: its sentences and its picture follow from the figures."""

import xml.etree.ElementTree as ET

import pytest

from batteries.diagnostics.mode_changes import ERROR
from tests.support.examples import RESULTS, example, rows

modes = example("modes")


@pytest.fixture(scope="module")
def some():
    return modes.seen("high/johanna-64", every=32)


def test_page_has_each_mode_with_its_figures_and_a_picture(some):
    page = modes.report([some])
    removed = [row for row in rows(page) if row[0] == "high/johanna-64" and len(row) == 11]
    assert [row[1] for row in removed] == ["1", "2", "3", "4"]
    assert removed[1][2] == f"{some.modes.change(1, 'removed').error.value:.3g}"
    assert page.count("gaussian") == 1
    drawing = ET.fromstring(modes.picture([some]))
    assert len(drawing.findall(".//{*}polyline")) == 3 + 2 + 1 + 4 * 3 + 4  # untrained, changed, whole; untrained, correlations


def test_a_trained_cell_needs_every_mode_and_an_untrained_one_none(some):
    for mode in range(4):
        assert some.modes.change(mode, "removed").ratio.value > 100
        assert all(0.9 < other.change(mode, "removed").ratio.value < 1.1 for other in some.untrained)
    assert "the decoder needs every mode" in modes.sentences(some)[0]


def test_bounds_are_student_s():
    figure = modes.Figure(ERROR, value=2.0, standard_error=0.5, by_cluster=(1.0, 2.0, 3.0))
    assert modes.bounds(figure) == pytest.approx((2, 2 - 0.5 * 4.3027, 2 + 0.5 * 4.3027), abs=1e-4)


def test_kept_page_names_its_command_and_its_cells():
    page = (RESULTS / "modes.md").read_text()
    assert "python examples/modes.py --write" in page
    assert all(f"**{name}.**" in page for name in modes.CELLS)
