"""False claims about a cell that ships, on its whole probe: they walk it back by name, and no control passes for them."""

import pytest

import registry
from batteries import Cell
from registry import validate
from registry.viability.controls import NAMED_CHECK
from tests.support.viability import TEST


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """The whole probe, in place of the few images of the other tests."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def edited(factor):
    """The cell with its error claimed so many times as high."""
    cell = registry.load("high/johanna-64-s1@1.0.0")
    manifest = cell.manifest
    own = manifest.own.model_copy(
        update={"mse": manifest.own.mse.model_copy(update={"value": manifest.own.mse.value * factor})}
    )
    return Cell(cell.weights, manifest.model_copy(update={"measured": {**manifest.measured, manifest.own_probe: own}}))


@pytest.mark.slow
@pytest.mark.parametrize("factor", [10.0, 1.0])
def test_a_false_error_walks_a_cell_back_and_lets_no_control_pass(results, factor):
    report = validate(edited(factor), profile=TEST, cache=results)
    assert ("error, claimed" in report.failed) == (factor != 1)
    assert {control.name: control.by for control in report.attestation.controls if control.name in NAMED_CHECK} == NAMED_CHECK
    assert [control.name for control in report.attestation.controls if not control.rejected and control.by in NAMED_CHECK] == []
    assert report["history"].passed
    assert report["CV, claimed"].passed
    assert "Tiers 1 and 2 rest on the maker's trajectory." in report.attestation.words


@pytest.mark.slow
@pytest.mark.parametrize("factor", [10.0, 1.0])
def test_the_shuffled_control_in_a_cells_place_is_compared_with_the_cell(results, factor):
    report = validate(edited(factor), control="shuffled", profile=TEST, cache=results)
    assert "error, claimed" in report.failed
