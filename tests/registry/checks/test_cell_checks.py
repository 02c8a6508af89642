"""Each check of the viability test alone, and the numbers that it is made of."""

import pytest
import torch

import registry
from batteries import probe
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from batteries.measurement.content import kept
from registry import Task
from registry.catalog.figures import DoseFigure, FrozenFigure
from registry.checks import cell_checks as checks
from registry.checks.cell_checks import Measurement
from registry.viability.controls import untrained_cell
from registry.viability.trials import Trial
from registry.viability.verdict import holding_rate
from tests.support.cells import tiny
from tests.support.viability import QUICK

pytestmark = pytest.mark.usefixtures("few_matrices")


def about(value, error=0.001, images=20):
    return Estimate(value, error, images, tuple([value] * images))


def measured(**changes):
    values = {
        "finite": True,
        "radius_error": 1e-7,
        "cv": about(0.92),
        "axial_cv": about(0.95),
        "rank": about(3.9),
        "mse": about(0.25),
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
        ({"axial_cv": about(0.2)}, "band"),
        ({"axial_cv": Degenerate("flat", 3, 3)}, "band"),
        ({"mse": about(1.1)}, "error, mean"),
        ({"mse": about(1.0, 0.1)}, "error, mean"),
        ({"mse": about(1.15)}, "error, untrained"),
        ({"mse": about(0.26)}, "error, claimed"),
        ({"mse": about(0.24)}, "error, claimed"),
        ({"cv": about(0.95, 0.01)}, "CV, claimed"),
        ({"cv": about(0.89, 0.01)}, "CV, claimed"),
        ({"cv": Degenerate("flat", 3, 3)}, "CV, claimed"),
        ({"mse": about(0.26)}, "history"),
    ],
)
def test_each_check_can_fail(changes, name):
    assert standing(**changes)[name].passed is False


def test_leaving_the_attractor_is_reported_and_does_not_decide():
    check = standing(axial_cv=about(1.37))["on attractor"]
    assert check.passed is False
    assert check.decides is False
    assert check.value == pytest.approx(1.37 / 0.92307, abs=1e-4)


def test_infinite_spread_never_passes_and_stays_json():
    check = standing(mse=Estimate(0.1, float("inf"), 1, (0.1,)))["error, mean"]
    assert check.passed is False
    assert check.upper is None


def test_the_published_cv_decides_nothing_and_is_reported():
    found = standing(cv=about(0.2))
    assert found["band"].passed is True
    assert (found["band"].value, found["band"].reason) == (0.95, "axial CV is in band high; published CV 0.2000")
    assert "published CV degenerate" in standing(cv=Degenerate("flat", 3, 3))["band"].reason


def test_the_interval_of_a_cv_is_student_s():
    band = standing(axial_cv=Estimate(0.92, 0.001, 4, (0.91, 0.92, 0.92, 0.93)))["band"]
    assert band.upper == pytest.approx(0.92 + 3.182446 * 0.001)


def frozen(**changes):
    values = {"subject": "cell", "task": "t", "host": "h", "seed": 0, "score": 0.8, "score_error": 0.02, "gradient": 0.1}
    values |= {"cv": None, "axial_cv": (1.01, 0.99, 1.03), "rank": (1.0, 1.0, 1.0), "unchanged": True}
    return FrozenFigure(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"unchanged": False}, "frozen digest"),
        ({"axial_cv": (1.3, 1.29, 1.31)}, "frozen CV"),
        ({"axial_cv": (1.1, 1.05, 1.16)}, "frozen CV"),
        ({"axial_cv": None}, "frozen CV"),
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
    values |= {"cv": None, "axial_cv": (1.0, 0.99, 1.01), "rank": (1.0, 0.99, 1.01), "retention": 1.2, "kept": 0.98}
    return DoseFigure(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"axial_cv": (1.3, 1.2, 1.4)}, ["dosed CV"]),
        ({"axial_cv": None}, ["dosed CV"]),
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
