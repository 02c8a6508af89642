"""False claims about a cell that ships, on a part of its probe: they walk it back by name, and no control passes for them."""

import dataclasses

import pytest

import registry
from batteries import Cell, PatchSVAE, measure, probe
from registry import validate
from registry.viability.controls import NAMED_CHECK
from tests.support.viability import TEST

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_matrices")]
SHORT = TEST.model_copy(update={"dose_rates": (1e-4,), "reference_seeds": 1, "return_limit": 1})  # doses judge no claim


def quarter(name):
    """Every fourth image of a probe: more than the other tests take."""
    whole = probe(name)
    return dataclasses.replace(whole, images=whole.images[::4], group=whole.group[::4], digest="6" * 64)


@pytest.fixture(scope="module", autouse=True)
def few_images():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("registry.viability.validate.probe", quarter)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def edited(factor):
    """The cell with its error, on these images, claimed so many times as high."""
    cell = registry.load("high/johanna-64-s1@1.0.0")
    manifest, training = cell.manifest, cell.manifest.training
    error = measure(PatchSVAE.from_cell(cell), quarter(manifest.own_probe)).mse
    last = training.trajectory[-1].model_copy(update={"mse": error.value})
    own = manifest.own.model_copy(update={"mse": error.model_copy(update={"value": error.value * factor})})
    update = {
        "measured": {**manifest.measured, manifest.own_probe: own},
        "training": training.model_copy(update={"trajectory": (*training.trajectory[:-1], last)}),
    }
    return Cell(cell.weights, manifest.model_copy(update=update))


@pytest.mark.parametrize("factor", [10.0, 1.0])
def test_a_false_error_walks_a_cell_back_and_lets_no_control_pass(results, factor):
    report = validate(edited(factor), profile=SHORT, cache=results)
    assert ("error, claimed" in report.failed) == (factor != 1)
    assert {control.name: control.by for control in report.attestation.controls if control.name in NAMED_CHECK} == NAMED_CHECK
    assert [control.name for control in report.attestation.controls if not control.rejected and control.by in NAMED_CHECK] == []
    assert report["history"].passed
    assert report["CV, claimed"].passed
    assert "Tiers 1 and 2 rest on the maker's trajectory." in report.attestation.words


@pytest.mark.parametrize("factor", [10.0, 1.0])
def test_the_shuffled_control_in_a_cells_place_is_compared_with_the_cell(results, factor):
    report = validate(edited(factor), control="shuffled", profile=SHORT, cache=results)
    assert "error, claimed" in report.failed
