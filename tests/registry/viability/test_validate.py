"""The viability test: each control against its named check, the verdict's rules, the report's bytes."""

import json

import numpy as np
import pytest
import torch

import registry
from batteries import Cell
from batteries.errors import PolicyError
from registry import validate
from registry.catalog.attestation import Attestation
from registry.catalog.figures import ControlFigure
from registry.checks import cell_checks as checks
from registry.stores.directory import DirectoryStore
from registry.viability.controls import CONTROLS, NAMED_CHECK, control_cell, control_model
from registry.viability.verdict import decided
from tests.support.cells import from_model, publish
from tests.support.viability import SPEC, TEST, few

pytestmark = pytest.mark.usefixtures("few_matrices")

CHANGED = {"untrained", "rank-one", "doubled-rows", "scrambled", "random-encoder", "constant-S"}  # the weights are others


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_have_the_spec_of_their_cell(control):
    cell, images = from_model(SPEC, 0, "a"), few("noise16-64").images
    made = control_cell(cell, control, 0, images)
    assert made.spec.model_copy(update={"row_norm": "sphere"}) == cell.spec
    assert (made.digest != cell.digest) == (control in CHANGED)
    assert cell.weights.keys() == made.weights.keys()


def test_shuffled_rows_are_the_cells_own_in_other_places():
    cell, images = from_model(SPEC, 0, "a"), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        own, shuffled = (control_model(cell, control, 1, few("")).tokens(images).M for control in ("none", "shuffled"))
    assert not torch.equal(own, shuffled)
    assert torch.equal(own.flatten(0, 1).sort(dim=0).values, shuffled.flatten(0, 1).sort(dim=0).values)


@pytest.mark.slow
def test_an_untrained_cell_gets_no_mercy(report):
    """It is in band and on its attractor: only error and score tell, and the report says so."""
    found = {check.name: check for check in report.checks}
    assert report.verdict in {"walked back", "no verdict"}
    assert found["band"].passed
    assert found["on attractor"].passed
    assert found["frozen digest"].passed
    assert "error, untrained" in report.failed
    words = " ".join(report.attestation.words)
    assert "CV does not separate a trained cell from an untrained one" in words
    assert "What separates them" in words
    assert {dose.subject for dose in report.attestation.doses} == {"cell", "untrained"}
    assert len(report.attestation.returns) == 2


@pytest.mark.slow
def test_every_part_is_told_before_it_begins(report, told):
    assert report.checks
    assert [done for _, done, _ in told] == list(range(len(told)))
    assert {parts for _, _, parts in told} == {len(told)}


class StoppedError(Exception):
    pass


@pytest.mark.slow
def test_a_stopped_test_goes_on_and_ends_in_the_same_bytes(report, tmp_path, monkeypatch):
    cell, made = from_model(SPEC, 0, "a"), []

    def stop_at_the_doses(words, done, parts):
        if "gradient" in words:
            raise StoppedError(words)

    with pytest.raises(StoppedError, match="gradient"):
        validate(cell, profile=TEST, cache=tmp_path, progress=stop_at_the_doses)
    assert len(list(tmp_path.iterdir())) >= 1 + 2 * 2  # null; frozen hosts of the cell and of the untrained control
    monkeypatch.setattr("registry.viability.runner.frozen_trial", lambda *_, **__: made.append(1))
    again = validate(cell, profile=TEST, cache=tmp_path)
    assert not made
    assert again.attestation.to_bytes() == report.attestation.to_bytes()
    assert again.attestation.digest == report.attestation.digest
    assert Attestation.from_bytes(again.attestation.to_bytes(), where="a report") == report.attestation


@pytest.mark.slow
def test_another_seed_gives_another_report(report, results):
    other = validate(from_model(SPEC, 0, "a"), profile=TEST, seed=4, cache=results).attestation
    assert other.frozen[0] != report.attestation.frozen[0]
    assert [t for t in other.frozen if t.subject == "untrained"] == [
        t for t in report.attestation.frozen if t.subject == "untrained"
    ]


@pytest.mark.slow
def test_a_damaged_result_costs_time_only(report, results):
    for path in results.iterdir():
        if path.stat().st_size < 2000:  # all but the null, which takes longest to make again
            path.write_bytes(path.read_bytes()[:-7] + b"garbage")
    assert validate(from_model(SPEC, 0, "a"), profile=TEST, cache=results).attestation == report.attestation


@pytest.mark.slow
@pytest.mark.parametrize(
    "control", [name for name in CONTROLS if name != "shuffled"]
)  # whose error is that of an untrained cell
def test_the_named_check_rejects_its_control(control, results):
    report = validate(from_model(SPEC, 0, "a"), control=control, profile=TEST, cache=results)
    assert report.verdict == "walked back"
    assert NAMED_CHECK[control] in report.failed
    assert report.attestation.controls == ()


def test_nan_is_rejected_by_finiteness_alone():
    cell = from_model(SPEC, 0, "a")
    weights = {name: np.array(array) for name, array in cell.weights.items()}
    weights["enc_in.bias"][0] = np.nan
    report = validate(Cell(weights, cell.manifest), profile=TEST)
    assert report.verdict == "walked back"
    assert report.failed == ("finite",)


@pytest.mark.slow
def test_a_control_that_passes_is_listed(tmp_path):
    lax = TEST.model_copy(update={"radius": TEST.radius.model_copy(update={"value": 1e9})})
    report = validate(from_model(SPEC, 0, "a"), profile=lax, cache=tmp_path)
    passed = [control.name for control in report.attestation.controls if not control.rejected]
    assert passed == ["none", "scale", "shuffled"]  # an untrained cell decodes its rows in any place


def test_the_verdict():
    good, bad = (checks.finite(passed) for passed in (True, False))
    rejected, passed = (ControlFigure(name="none", rejected=it, by="radius") for it in (True, False))
    assert decided([good], [rejected]) == "viable"
    assert decided([good], [rejected, passed]) == "no verdict"
    assert decided([good, bad], [rejected]) == decided([good, bad], [passed]) == "walked back"


@pytest.mark.slow
def test_a_controls_report_is_never_an_attestation(tmp_path, results):
    cell = from_model(SPEC, 0, "a")
    publish(cell, DirectoryStore(tmp_path))
    report = validate(cell, control="none", profile=TEST, cache=results)
    assert report.attestation.cell == cell.digest
    with pytest.raises(PolicyError, match="report of a negative control"):
        registry.attest(report.attestation, DirectoryStore(tmp_path))


@pytest.mark.slow
def test_outputs_that_overflow_are_not_finite(results):
    cell = from_model(SPEC, 0, "a")
    for name in ("enc_in.weight", "dec_out.weight"):
        weights = {key: np.array(array) for key, array in cell.weights.items()}
        weights[name] = np.full_like(weights[name], 3e38)
        report = validate(Cell(weights, cell.manifest), profile=TEST, cache=results)
        assert report.failed == ("finite",)


@pytest.mark.slow
def test_the_report_as_a_page(report, tmp_path):
    report.to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert report.attestation.digest in text
    assert report.verdict in text.lower()


@pytest.mark.slow
def test_an_attestation_is_published_beside_its_cell(report, tmp_path):
    cell = from_model(SPEC, 0, "a")
    store = DirectoryStore(tmp_path)
    publish(cell, store)
    index = registry.attest(report.attestation, store)
    row = index.attestations[cell.digest]["test-1"]
    assert row.verdict == report.verdict
    stored = store.read(f"attestations/{cell.digest}/{row.sha256}.json", limit=2**20)
    assert json.loads(stored)["reference"] == "high/a@1.0.0"
