"""What a manifest claims: checked where it can be, called a claim where it cannot, and never passed by what is missing."""

import pytest

import registry
from batteries import Cell
from batteries.cell.manifest import TrainingPoint, Triage
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from registry.checks import claims
from registry.checks.claims import History, Reference
from tests.support.cells import tiny
from tests.support.viability import QUICK


def about(value, error=0.001, images=20):
    return Estimate(value, error, images, tuple([value] * images))


def manifest(*points, steps=2000, triage=1000, found="high"):
    """A manifest with readings (step, CV); the error is 0.25 in all."""
    base = tiny().manifest
    readings = tuple(TrainingPoint(step=step, mse=0.25, cv=cv, cv_standard_error=0.001) for step, cv in points)
    tier = triage and Triage(step=triage, expected="high", found=found, passed=found == "high")
    return base.model_copy(
        update={"training": base.training.model_copy(update={"trajectory": readings, "triage": tier, "steps": steps})}
    )


def every(*cvs, first=250, step=250):
    return [(first + i * step, cv) for i, cv in enumerate(cvs)]


STEADY = every(*[0.92] * 8)
MOVED = every(1.4, 1.4, 1.4, 1.2, 1.0, 0.95, 0.92, 0.92)  # 1.2 at step 1000, 0.92 at the end


def outcome(found):
    return {
        check.name: check.passed if check.decides else "reported"
        for check in (claims.triage(found), claims.stable(found), claims.history(about(0.92), about(0.92), 0.25, found))
    }


def test_a_whole_history_decides_and_is_called_a_claim():
    found = manifest(*STEADY)
    assert outcome(found) == {"triage": True, "stable": True, "history": True}
    assert "claimed by the maker" in claims.triage(found).threshold
    assert "claimed by the maker" in claims.stable(found).threshold
    assert History.of(found).words() == ["Tiers 1 and 2 rest on the maker's trajectory."]
    assert outcome(manifest(*MOVED)) == {"triage": True, "stable": False, "history": True}
    assert outcome(manifest(*every(*[0.5] * 4, *[0.92] * 4))) == {"triage": False, "stable": False, "history": True}


@pytest.mark.parametrize(
    "points",
    [[], MOVED[-1:], MOVED[:3] + MOVED[-1:], MOVED[4:]],
    ids=["none", "only the last", "none at triage", "none up to triage"],
)
def test_a_history_without_the_readings_of_a_tier_walks_back(points):
    found = manifest(*points)
    assert outcome(found) == {"triage": None, "stable": None, "history": False}
    assert "no history" in claims.triage(found).reason
    assert "No history: tiers 1 and 2 not tested, so the cell is not shown to be stable." in History.of(found).words()


def test_a_history_that_ends_at_triage_walks_back():
    found = manifest(*STEADY[:4])
    assert outcome(found) == {"triage": True, "stable": None, "history": False}
    assert (
        "step of the last reading 1000 claimed, 2000 measured" in claims.history(about(0.92), about(0.92), 0.25, found).reason
    )
    assert History.of(found).words()[0] == "Tier 1 rests on the maker's trajectory."


def test_a_triage_moved_to_a_later_step_is_still_at_step_1000():
    assert outcome(manifest(*MOVED, triage=1750)) == outcome(manifest(*MOVED)) == outcome(manifest(*MOVED, triage=None))
    late = [point for point in MOVED if point[0] != 1000]
    assert outcome(manifest(*late, triage=1750)) == {"triage": None, "stable": None, "history": False}


def test_readings_left_out_are_mentioned():
    thinned = manifest(MOVED[3], MOVED[7])
    assert outcome(thinned)["stable"] is False
    words = "thinned: up to 1000 steps between readings, where packaging keeps 250"
    assert words in claims.history(about(0.92), about(0.92), 0.25, thinned).reason
    assert History.of(thinned).words() == [f"Tiers 1 and 2 rest on the maker's trajectory ({words})."]
    long = manifest(*every(*[0.92] * 200, first=1000, step=1000), steps=200_000)
    assert History.of(long).thinned == ""  # packaging keeps one reading of four


@pytest.mark.parametrize("point", [(2000, 1.0), (2000, None), (1900, 0.92)])
def test_the_last_reading_is_of_the_finished_cell(point):
    found = manifest(*STEADY[:-1], point)
    assert claims.history(about(0.92), about(0.92), 0.25, found).passed is False


def test_another_error_in_the_last_reading_is_seen():
    assert claims.history(about(0.92), about(0.92), 0.2501, manifest(*STEADY)).passed is False
    assert claims.history(Degenerate("flat", 1, 1), Degenerate("flat", 1, 1), 0.25, manifest(*STEADY)).passed is False


def test_an_adopted_cell_keeps_its_verdict_and_says_that_it_has_no_history():
    found = manifest(steps=None, triage=None)
    assert outcome(found) == {"triage": "reported", "stable": "reported", "history": "reported"}
    assert History.of(found).words() == ["No history: tiers 1 and 2 not tested, so the cell is not shown to be stable."]


def test_a_short_run_says_so():
    found = manifest((500, 0.92), steps=500, triage=None)
    assert outcome(found) == {"triage": "reported", "stable": "reported", "history": True}
    assert claims.triage(found).reason == "not recorded: the run was shorter"
    assert History.of(found).words() == ["The run was shorter than the triage step, 1000: tiers 1 and 2 not tested."]
    assert outcome(manifest(*STEADY[:4], steps=1000))["stable"] == "reported"
    assert claims.stable(manifest(*STEADY[:4], steps=1000)).reason == "not recorded: the run was no longer"
    assert outcome(manifest(steps=500, triage=None))["history"] is False  # packaging always keeps the last reading


@pytest.mark.parametrize("cv", [0.0, -0.92, None])
def test_a_reading_that_is_no_cv_stops_no_check(cv):
    assert claims.stable(manifest(*STEADY[:4], *every(cv, cv, cv, 0.92, first=1250))).passed is False
    assert claims.stable(manifest(*STEADY[:3], (1000, cv), *STEADY[4:])).passed is False


def test_a_reading_without_its_error_does_not_hold():
    found = manifest(*STEADY)
    points = [point.model_copy(update={"cv_standard_error": None}) for point in found.training.trajectory]
    training = found.training.model_copy(update={"trajectory": tuple(points)})
    assert claims.stable(found.model_copy(update={"training": training})).passed is False


@pytest.mark.parametrize("factor", [10, 1.37, 1.02, 0.98, 0.1])
def test_a_false_error_is_a_fault_of_the_cell_in_either_direction(factor):
    reference = Reference(0.25 * factor, 0.92)
    assert claims.error(0.25, reference, QUICK).passed is False
    assert claims.error(0.25, Reference(0.25, 0.92), QUICK).passed is True


def test_an_error_that_no_cell_has_is_refused():
    for claim in (0.0, -0.25):
        assert claims.error(0.25, Reference(claim, 0.92), QUICK).passed is False


@pytest.mark.parametrize(("claim", "passed"), [(0.92, True), (0.929, True), (0.93, False), (0.91, False), (None, False)])
def test_a_cv_beyond_the_interval_is_refused(claim, passed):
    assert claims.cv(about(0.92), about(0.92), Reference(0.25, claim)).passed is passed


def test_degenerate_figures_agree_only_with_each_other():
    assert claims.cv(Degenerate("flat", 1, 1), Degenerate("flat", 1, 1), Reference(0.25, None)).passed is True
    assert claims.cv(Degenerate("flat", 1, 1), Degenerate("flat", 1, 1), Reference(0.25, 0.92)).passed is False


def forged(name, **training):
    """A cell that ships, with another history."""
    cell = registry.load(name)
    facts = cell.manifest.training
    return Cell(cell.weights, cell.manifest.model_copy(update={"training": facts.model_copy(update=training)}))


def test_a_shipped_cell_that_is_not_stable_does_not_become_so_by_its_history():
    """``high/johanna-64@2.0.0`` is walked back since its CV moved after triage."""
    cell = registry.load("high/johanna-64@2.0.0")
    points, own = cell.manifest.training.trajectory, cell.manifest.own
    cv, mse = about(own.cv.value, own.cv.standard_error), own.mse.value
    late = cell.manifest.training.triage.model_copy(update={"step": 3000})
    assert claims.stable(cell.manifest).passed is False
    for history in (
        {"trajectory": ()},
        {"trajectory": points[-1:]},
        {"trajectory": points[6:], "triage": None},
        {"trajectory": tuple(point for point in points if point.step != 1000), "triage": late},
    ):
        found = forged("high/johanna-64@2.0.0", **history).manifest
        assert claims.history(cv, cv, mse, found).passed is False
        assert not claims.stable(found).passed
    assert claims.stable(forged("high/johanna-64@2.0.0", triage=late).manifest).passed is False
