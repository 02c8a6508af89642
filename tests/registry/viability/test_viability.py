"""The viability test: each check alone, each control against its named check, the verdict's rules, the report's bytes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import registry
from batteries import Cell, CellSpec, probe
from batteries.cell.manifest import TrainingPoint, Triage
from batteries.errors import BatteriesError, InputError, NotFoundError, PolicyError
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from registry import Task, validate
from registry.catalog.attestation import Attestation, DoseFigure, FrozenFigure
from registry.stores.directory import DirectoryStore
from registry.stores.memory import MemoryStore
from registry.viability import checks
from registry.viability.checks import Measurement
from registry.viability.controls import CONTROLS, NAMED_CHECK, control_cell, control_model
from registry.viability.protocol import PROFILES
from registry.viability.runner import untrained_cell
from registry.viability.tasks import own_tasks
from registry.viability.trials import Trial, kept
from registry.viability.verdict import holding_rate
from tests.support.cells import from_model, tiny

QUICK = PROFILES["quick"]
TEST = QUICK.model_copy(
    update={
        "name": "test-1",
        "train": 64,
        "test": 64,
        "crops": 64,
        "width": 16,
        "blocks": 1,
        "host_steps": 3,
        "dose_rates": (1e-4, 1e-2),
        "dose_steps": 2,
        "reference_seeds": 2,
        "return_limit": 2,
        "return_every": 1,
    }
)
pytestmark = pytest.mark.usefixtures("few_matrices")
SPEC = CellSpec(V=12, D=4, patch_size=16, hidden=8)


def few(_):
    """Two images a type, in place of any probe."""
    whole = probe("noise16-64")
    return dataclasses.replace(whole, images=whole.images[::8], group=whole.group[::8], digest="1" * 64)


@pytest.fixture(scope="module", autouse=True)
def few_images():
    """What is read is read of few images: the tests ask what becomes of the figures, and know no verdict of a trained cell."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("registry.viability.validate.probe", few)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Shared by the tests of this file: the null of the one spec is made once."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def told():
    """What a test tells of its parts."""
    return []


@pytest.fixture(scope="module")
def report(results, told):
    """Of an untrained cell."""
    return validate(from_model(SPEC, 0, "a"), profile=TEST, cache=results, progress=lambda *row: told.append(row))


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


def standing(**changes):
    return {check.name: check for check in checks.standing(measured(**changes), tiny().manifest, (1.2, 1.25, 1.22), QUICK)}


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
        ({"mse": about(0.26)}, "error, claimed"),
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
    values = {"subject": "cell", "task": "t", "host": "h", "seed": 0, "score": 0.8, "score_error": 0.02, "gradient": 0.1}
    values |= {"cv": (1.01, 0.99, 1.03), "rank": (1.0, 1.0, 1.0), "unchanged": True}
    return FrozenFigure(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"unchanged": False}, "frozen digest"),
        ({"cv": (1.3, 1.29, 1.31)}, "frozen CV"),
        ({"cv": (1.1, 1.05, 1.16)}, "frozen CV"),
        ({"cv": None}, "frozen CV"),
        ({"rank": (0.77, 0.76, 0.78)}, "frozen rank"),
        ({"gradient": 0.0}, "frozen gradient"),
        ({"gradient": None}, "frozen gradient"),
    ],
)
def test_each_frozen_check_can_fail_by_one_trial_of_three(changes, name):
    assert all(check.passed for check in checks.hosted([frozen()] * 3, QUICK))
    found = {check.name: check for check in checks.hosted([frozen(), frozen(**changes), frozen()], QUICK)}
    assert [check.name for check in found.values() if not check.passed] == [name]


def test_the_lift_needs_its_lower_bound_above_the_untrained():
    null = [frozen(subject="untrained", score=score) for score in (0.30, 0.34, 0.32)]
    assert checks.lift("t", True, [frozen()], null, QUICK).passed
    assert not checks.lift("t", True, [frozen(score=0.36)], null, QUICK).passed
    assert not checks.lift("t", True, [frozen(score=0.9), frozen(score=0.1)], null, QUICK).passed  # seeds that disagree
    assert not checks.lift("t", False, [frozen()], null, QUICK).decides


def dose(**changes):
    values = {"subject": "cell", "rate": 1e-4, "seed": 0, "score": 0.5, "weight_change": 0.01, "moments": ()}
    values |= {"cv": (1.0, 0.99, 1.01), "rank": (1.0, 0.99, 1.01), "retention": 1.2, "kept": 0.98}
    return DoseFigure(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"cv": (1.3, 1.2, 1.4)}, ["dosed CV"]),
        ({"cv": None}, ["dosed CV"]),
        ({"rank": (0.8, 0.79, 0.81)}, ["dosed rank"]),
        ({"kept": 0.5, "retention": 9.0}, ["content kept"]),
    ],
)
def test_the_dosed_checks(changes, failed):
    trials = [dose(seed=seed, **changes) for seed in range(3)]
    found = checks.dosed([*trials, dose(rate=1e-2, kept=-5.0)], QUICK)  # another rate decides nothing
    assert [check.name for check in found if check.decides and not check.passed] == failed


def test_the_bound_of_what_is_kept_widens_where_seeds_are_few():
    few, many = ([dose(kept=k) for k in (0.91, 0.92, 0.93) * times] for times in (1, 4))
    found = {len(trials): checks.dosed(trials, QUICK)[2] for trials in (few, many)}
    # mean 0.92; 3 seeds: error 0.01 / sqrt(3), t 9.92; 12: 0.00853 / sqrt(12), t 3.11
    assert found[3].lower == pytest.approx(0.92 - 9.925 * 0.01 / 3**0.5, abs=1e-4)
    assert found[12].lower == pytest.approx(0.92 - 3.106 * 0.008528 / 12**0.5, abs=1e-4)
    assert (found[3].passed, found[12].passed) == (False, True)


@pytest.mark.parametrize(("band", "size", "batch"), [("low", 64, 32), ("low", 128, 16), ("high", 64, 4), ("high", 256, 1)])
def test_a_step_of_a_restoring_host_sees_a_bounded_number_of_patches(band, size, batch, monkeypatch):
    seen = []
    monkeypatch.setattr("registry.viability.trials.learn", lambda *_, batch, **__: seen.append(batch))
    images = torch.zeros(2, 3, size, size)
    cell = untrained_cell(registry.load(f"{band}/johanna-64"), 0)
    trial = Trial(cell, "cell", QUICK, probe("noise16-64"))
    for task in (Task("restore", (images, images), (images, images)), Task("name", *[(images, torch.tensor([0, 1]))] * 2)):
        trial.learn(None, task, 0, None, steps=1)
    assert seen == [batch, QUICK.batch]


def test_the_holding_rate_is_the_last_before_the_first_that_does_not_hold():
    rates = {1e-5: 0.99, 1e-4: 0.95, 3e-4: 0.5, 1e-3: 0.97}
    assert holding_rate([dose(rate=rate, kept=share) for rate, share in rates.items()], QUICK) == 1e-4
    assert holding_rate([dose(rate=1e-5), dose(rate=1e-5, kept=0.1)], QUICK) is None


def test_what_is_kept_is_a_share_of_what_was_explained():
    assert kept(0.2, 0.2, 1.0) == 1
    assert kept(0.2, 0.6, 1.0) == pytest.approx(0.5)
    assert kept(0.2, 1.0, 1.0) == 0
    assert kept(1.1, 0.5, 1.0) == 0  # it explained nothing


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_have_the_spec_of_their_cell(control):
    cell = from_model(SPEC, 0, "a")
    made = control_cell(cell, control)
    assert made.spec.model_copy(update={"row_norm": "sphere"}) == cell.spec
    assert (made.digest != cell.digest) == (control in {"untrained", "rank-one", "scrambled"})
    assert cell.weights.keys() == made.weights.keys()


def test_shuffled_rows_are_the_cells_own_in_other_places():
    cell, images = from_model(SPEC, 0, "a"), torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        own, shuffled = (control_model(cell, control, 1).tokens(images).M for control in ("none", "shuffled"))
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
    monkeypatch.setattr("registry.viability.runner.frozen_trial", lambda *_: made.append(1))
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
@pytest.mark.parametrize("control", CONTROLS)
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
def test_a_run_whose_control_passes_has_no_verdict(tmp_path):
    lax = TEST.model_copy(update={"radius": TEST.radius.model_copy(update={"value": 1e9})})
    report = validate(from_model(SPEC, 0, "a"), profile=lax, cache=tmp_path)
    assert report.verdict == "no verdict"
    assert [control.name for control in report.attestation.controls if not control.rejected] == ["none", "scale"]


@pytest.mark.parametrize("domain", ["noise", "photos"])
def test_tasks_are_balanced_and_their_parts_differ(domain):
    tasks = own_tasks(domain, TEST, 0)
    for images, targets in (part for task in tasks for part in (task.train, task.test)):
        assert images.shape == (64, 3, 64, 64)
        assert targets.shape == images.shape or len(set(targets.bincount().tolist())) == 1
    naming = tasks[-1]
    assert naming.classes == 16
    assert not torch.equal(naming.train[0][:4], naming.test[0][:4])
    assert [task.decides for task in tasks] == ([True] if domain == "noise" else [True, False])


def images(n=8, channels=3, side=32):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(n))


def two_classes(n=8, **changes):
    return images(n, **changes), torch.arange(n) % 2


class Pooled(nn.Module):
    """A user's host: no stem, a linear read-out of omega."""

    def __init__(self, cell, sample, classes):
        super().__init__()
        self.read = cell.tokens
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.read(x).omega.mean(dim=1))


@pytest.mark.slow
def test_a_users_own_host_and_task():
    task = Task("odd or even", two_classes(40), two_classes(20))
    report = validate(from_model(SPEC, 0, "a"), profile=TEST, host=Pooled, task=task)
    assert report.attestation.protocol == "custom-test-1"
    assert {trial.task for trial in report.attestation.frozen} == {"odd or even"}
    assert "frozen gradient" in report.failed  # nothing before the cell learns
    with pytest.raises(PolicyError) as caught:
        registry.attest(report.attestation, MemoryStore())
    assert caught.value.code == "CUSTOM_PROTOCOL"


class NoCell(Pooled):
    def forward(self, x):
        return self.head(x.mean(dim=(1, 2, 3))[:, None].expand(-1, 4))


class Wide(Pooled):
    def forward(self, x):
        return super().forward(x)[:, :, None]


class Fixed(Pooled):
    def __init__(self, cell, sample, classes):
        super().__init__(cell, sample, classes)
        self.requires_grad_(False)


@pytest.mark.parametrize(("host", "code"), [(NoCell, "HOST_UNUSED"), (Wide, "HOST_OUTPUT"), (Fixed, "HOST_FROZEN")])
def test_hosts_that_are_none(host, code):
    with pytest.raises(InputError) as caught:
        validate(from_model(SPEC, 0, "a"), profile=TEST, host=host)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert host.__name__ in str(caught.value)


def one_class():
    return Task("all the same", (images(), torch.zeros(8, dtype=torch.long)), two_classes())


def unseen_class():
    return Task("a class too many", two_classes(), (images(), torch.arange(8)))


def no_images():
    return Task("nothing", two_classes(0), two_classes())


def two_channels():
    return validate(from_model(SPEC, 0, "a"), task=Task("grey", two_classes(channels=2), two_classes(channels=2)))


def odd_size():
    return validate(from_model(SPEC, 0, "a"), task=Task("odd", two_classes(side=30), two_classes(side=30)))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (one_class, "TASK_CLASSES"),
        (unseen_class, "TASK_CLASSES"),
        (no_images, "TASK_IMAGES"),
        (two_channels, "CELL_INPUT"),
        (odd_size, "IMAGE_SIZE"),
        (lambda: validate(tiny()), "CELL_INPUT"),
        (lambda: validate(tiny(), profile="thorough"), "PROFILE"),
        (lambda: validate(tiny(), control="bogus"), "CONTROL"),
    ],
)
def test_bad_input_is_named(make, code):
    with pytest.raises(BatteriesError) as caught:
        make()
    assert caught.value.code == code
    assert caught.value.exit_code == 2


def test_bad_targets(tmp_path):
    with pytest.raises(NotFoundError, match=r"NO_INDEX|NO_CELL"):
        validate("high/nothing", registry=MemoryStore())
    with pytest.raises(NotFoundError, match="no such file"):
        validate(tmp_path / "missing.safetensors")


@pytest.mark.slow
def test_a_controls_report_is_never_an_attestation(tmp_path, results):
    cell = from_model(SPEC, 0, "a")
    registry.publish(cell, DirectoryStore(tmp_path))
    report = validate(cell, control="none", profile=TEST, cache=results)
    assert report.attestation.cell == cell.digest
    with pytest.raises(PolicyError, match="not an attestation"):
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


@pytest.mark.slow
def test_an_attestation_is_published_beside_its_cell(report, tmp_path):
    cell = from_model(SPEC, 0, "a")
    store = DirectoryStore(tmp_path)
    registry.publish(cell, store)
    index = registry.attest(report.attestation, store)
    row = index.attestations[cell.digest]["test-1"]
    assert row.verdict == report.verdict
    stored = store.read(f"attestations/{cell.digest}/{row.sha256}.json", limit=2**20)
    assert json.loads(stored)["reference"] == "high/a@1.0.0"
