"""The viability test: each check alone, each control against its named check, the verdict's rules, the report's bytes."""

import json

import numpy as np
import pytest
import torch

from batteries import Cell, CellSpec
from batteries.errors import InputError, NotFoundError, PolicyError
from batteries.geometry import Degenerate, Estimate
from batteries.manifest import TrainingPoint, Triage
from registry import checks, validate
from registry.attestation import Attestation
from registry.checks import Measurement, Null
from registry.controls import CONTROLS, NAMED_CHECK, control_cell
from registry.protocol import FIRST
from registry.stores import DirectoryStore, MemoryStore
from registry.tasks import own_task
from registry.trials import FrozenTrial, State, UnfrozenTrial
from tests.making import from_model, tiny

QUICK = FIRST.model_copy(update={"name": "test-1", "host_steps": 6, "train": 64, "test": 64, "untrained": 2, "dose_steps": 2})
SPEC = CellSpec(V=12, D=4, patch_size=16, hidden=8)


def about(value, error=0.001, images=20):
    return Estimate(value, error, images, tuple([value] * images))


def measured(**changes):
    values = {
        "finite": True,
        "radius_error": 1e-7,
        "cv": about(0.92),
        "rank": about(3.9),
        "mse": about(0.1),
        "mean_baseline": 1.0,
    }
    return Measurement(**{**values, **changes})


NULL = Null(mse=(1.2, 1.25, 1.22), accuracy=(0.30, 0.34, 0.32), cv=0.92)


def standing(**changes):
    return {check.name: check for check in checks.standing(measured(**changes), tiny().manifest, NULL, FIRST)}


def test_a_good_cell_passes_every_standing_check():
    found = standing()
    assert all(check.passed for check in found.values() if check.decides)
    assert all(check.source and check.threshold and check.reason for check in found.values())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"radius_error": 0.4}, "radius"),
        ({"rank": about(1.0)}, "rank"),
        ({"rank": about(2.81, 0.02)}, "rank"),
        ({"cv": about(0.2)}, "band"),
        ({"cv": Degenerate("flat", 3, 3)}, "band"),
        ({"mse": about(1.1)}, "error, mean"),
        ({"mse": about(1.0, 0.1)}, "error, mean"),
        ({"mse": about(1.15)}, "error, untrained"),
    ],
)
def test_each_check_can_fail(changes, name):
    assert standing(**changes)[name].passed is False


def test_leaving_the_attractor_is_reported_and_does_not_decide():
    check = standing(cv=about(1.37))["on attractor"]
    assert check.passed is False
    assert check.decides is False
    assert check.value == pytest.approx(1.37 / 0.92307, abs=1e-4)


def test_infinite_spread_never_passes_and_stays_json():
    check = standing(mse=Estimate(0.1, float("inf"), 1, (0.1,)))["error, mean"]
    assert check.passed is False
    assert check.upper is None


def frozen(**changes):
    values = {"accuracy": 0.8, "unchanged": True, "stem_gradient": 0.1}
    values |= {"before": (about(0.92), about(3.9)), "after": (about(0.93), about(3.9))}
    trial = FrozenTrial(**{**values, **changes})
    return {check.name: check for check in checks.hosted(trial, 320, "noise", NULL, FIRST)}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"unchanged": False}, "frozen digest"),
        ({"after": (about(1.2), about(3.9))}, "frozen CV"),
        ({"after": (Degenerate("flat", 1, 1), about(3.9))}, "frozen CV"),
        ({"after": (about(0.92), about(3.0))}, "frozen rank"),
        ({"stem_gradient": 0.0}, "frozen gradient"),
        ({"stem_gradient": float("nan")}, "frozen gradient"),
        ({"accuracy": 0.38}, "accuracy lift"),
    ],
)
def test_each_frozen_check_can_fail(changes, name):
    assert all(check.passed for check in frozen().values())
    assert frozen(**changes)[name].passed is False


def test_the_lift_decides_on_noise_and_is_reported_on_photographs():
    assert checks.accuracy_lift(0.8, 320, "noise", NULL, FIRST).decides
    assert not checks.accuracy_lift(0.8, 320, "photos", NULL, FIRST).decides


@pytest.mark.parametrize(
    ("cv", "rank", "mse", "failed"),
    [
        (0.93, 3.9, 0.11, []),
        (1.3, 3.9, 0.11, ["unfrozen CV"]),
        (0.93, 3.0, 0.11, ["unfrozen rank"]),
        (0.93, 3.9, 0.2, ["retention"]),
    ],
)
def test_the_unfrozen_checks(cv, rank, mse, failed):
    before, after = State(about(0.92), about(3.9), 0.1), State(about(cv), about(rank), mse)
    found = checks.dosed(UnfrozenTrial(0.8, before, after, 0.01), FIRST)
    assert [check.name for check in found if not check.passed] == failed


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_have_the_spec_of_their_cell(control):
    cell = from_model(SPEC, 0, "a")
    made = control_cell(cell, control)
    assert made.spec.model_copy(update={"row_norm": "sphere"}) == cell.spec
    assert made.digest == made.manifest.file.sha256
    assert (made.digest != cell.digest) == (control == "untrained")


def test_an_untrained_cell_gets_no_mercy():
    """It is in band and on its attractor: only error and accuracy tell."""
    report = validate(from_model(SPEC, 0, "a"), protocol=QUICK)
    found = {check.name: check for check in report.checks}
    assert report.verdict in {"walked back", "no verdict"}
    assert found["band"].passed
    assert found["on attractor"].passed
    assert found["frozen digest"].passed
    assert "error, untrained" in report.failed


def test_the_same_seed_gives_the_same_report():
    cell = from_model(SPEC, 0, "a")
    first, second = (validate(cell, protocol=QUICK, seed=3).attestation.to_bytes() for _ in range(2))
    assert first == second
    assert Attestation.from_bytes(first, where="a report").seed == 3


@pytest.mark.parametrize("control", CONTROLS)
def test_the_named_check_rejects_its_control(control):
    report = validate(from_model(SPEC, 0, "a"), control=control, protocol=QUICK)
    assert report.verdict == "walked back"
    assert NAMED_CHECK[control] in report.failed
    assert report.attestation.controls == ()


def test_nan_is_rejected_by_finiteness_alone():
    cell = from_model(SPEC, 0, "a")
    weights = {name: np.array(array) for name, array in cell.weights.items()}
    weights["enc_in.bias"][0] = np.nan
    report = validate(Cell(weights, cell.manifest), protocol=QUICK)
    assert report.verdict == "walked back"
    assert report.failed == ("finite",)


def test_a_run_whose_control_passes_has_no_verdict():
    lax = QUICK.model_copy(update={"radius": QUICK.radius.model_copy(update={"value": 1e9})})
    report = validate(from_model(SPEC, 0, "a"), protocol=lax)
    assert report.verdict == "no verdict"
    assert [control.name for control in report.attestation.controls if not control.rejected] == ["none", "scale"]


@pytest.mark.parametrize("domain", ["noise", "photos"])
def test_tasks_are_balanced_and_their_parts_differ(domain):
    task = own_task(domain, 64, 64, 64, 0)
    for images, labels in (task.train, task.test):
        assert len(set(labels.bincount().tolist())) == 1
        assert len(labels.unique()) == task.classes
        assert images.shape[1:] == (3, 64, 64)
    assert not torch.equal(task.train[0][:4], task.test[0][:4])


def test_bad_targets(tmp_path):
    with pytest.raises(NotFoundError):
        validate("high/nothing", registry=MemoryStore())
    with pytest.raises(NotFoundError, match="no such file"):
        validate(tmp_path / "missing.safetensors")
    with pytest.raises(InputError, match="3 channels"):
        validate(tiny())
    with pytest.raises(InputError, match="no such control"):
        validate(from_model(SPEC, 0, "a"), control="bogus")


def test_a_controls_report_is_never_an_attestation(tmp_path):
    from registry import attest, publish

    cell = from_model(SPEC, 0, "a")
    publish(cell, DirectoryStore(tmp_path))
    report = validate(cell, control="none", protocol=QUICK)
    assert report.attestation.cell == cell.digest
    with pytest.raises(PolicyError, match="not an attestation"):
        attest(report.attestation, DirectoryStore(tmp_path))


def test_outputs_that_overflow_are_not_finite():
    cell = from_model(SPEC, 0, "a")
    for name in ("enc_in.weight", "dec_out.weight"):
        weights = {key: np.array(array) for key, array in cell.weights.items()}
        weights[name] = np.full_like(weights[name], 3e38)
        report = validate(Cell(weights, cell.manifest), protocol=QUICK)
        assert report.failed == ("finite",)


def trajectory(*cvs, triage=1, **changes):
    manifest = tiny().manifest
    points = tuple(TrainingPoint(step=i + 1, mse=0.1, cv=cv, cv_standard_error=0.001) for i, cv in enumerate(cvs))
    tier = Triage(step=triage, expected="high", found="high", passed=True)
    return manifest.model_copy(update={"training": manifest.training.model_copy(update={"trajectory": points, "triage": tier})})


def test_the_tiers_are_read_off_the_trajectory_and_not_taken_on_trust():
    assert checks.triage(trajectory(0.92, 0.93)).passed is True
    assert checks.triage(trajectory(0.5, 0.93)).passed is False
    assert checks.stable(trajectory(0.92, 0.93, 0.95)).passed is True
    assert checks.stable(trajectory(0.92, 1.4, 0.95)).passed is False  # an excursion
    assert checks.stable(trajectory(0.92, None, 0.95)).passed is False
    for short in (trajectory(0.92), tiny().manifest):
        assert checks.stable(short).passed is None
        assert checks.stable(short).decides is False


def test_an_attestation_is_published_beside_its_cell(tmp_path):
    from registry import attest, publish

    cell = from_model(SPEC, 0, "a")
    store = DirectoryStore(tmp_path)
    publish(cell, store)
    report = validate(cell, protocol=QUICK)
    index = attest(report.attestation, store)
    row = index.attestations[cell.digest]["test-1"]
    assert row.verdict == report.verdict
    stored = store.read(f"attestations/{cell.digest}/{row.sha256}.json", limit=2**20)
    assert json.loads(stored)["reference"] == "high/a@1.0.0"
