"""Every figure of a manifest against a measurement: nothing that was edited is taken, and no rounding is refused."""

import pytest

import registry
from batteries import measure
from batteries.cell.manifest import DegenerateFigure
from batteries.measurement.differences import (
    Difference,
    baseline_differences,
    cv_tolerance,
    differences,
    history_differences,
    last_reading_differences,
)
from batteries.model.patch_svae import PatchSVAE

NAME = "high/fresnel-64@1.0.0"  # its readings have no axial CV


@pytest.fixture(scope="module")
def cell():
    return registry.load(NAME)


@pytest.fixture(scope="module")
def found(cell):
    return measure(PatchSVAE.from_cell(cell), cell.manifest.own_probe, like=cell.manifest.own)


def changed(figures, name, change):
    """Figures with a number changed, of a name with dots."""
    field, _, rest = name.partition(".")
    value = getattr(figures, field)
    if rest:
        return figures.model_copy(update={field: changed(value, rest, change)})
    return figures.model_copy(update={field: change(value)})


def test_a_manifest_that_ships_claims_what_is_measured(cell, found):
    assert differences(cell.manifest.own, found, cell.spec) == []
    assert differences(found, found, cell.spec, exact=True) == []


@pytest.mark.parametrize(
    ("name", "change", "figure"),
    [
        ("cv.value", lambda cv: 0.14, "CV"),
        ("cv.value", lambda cv: cv * 1.02, "CV"),
        ("cv.standard_error", lambda error: 1e-6, "standard error of the CV"),
        ("cv.standard_error", lambda error: error * 2.1, "standard error of the CV"),
        ("cv.standard_error", lambda error: None, "standard error of the CV"),
        ("cv.ratio", lambda ratio: 1.0, "CV / exact CV"),
        ("cv.on_attractor", lambda on: not on, "on attractor"),
        ("cv.matrices", lambda count: count * 2, "matrices"),
        ("cv.images", lambda count: count * 2, "images"),
        ("cv.draws", lambda count: count * 2, "draws"),
        ("cv.seed", lambda seed: seed + 1, "seed"),
        ("band", lambda band: "low", "band"),
        ("band", lambda band: None, "band"),
        ("mse.value", lambda mse: mse * 0.99, "MSE"),
        ("mse.value", lambda mse: -mse, "MSE"),
        ("mse.standard_error", lambda error: error / 2, "standard error of the MSE"),
        ("mse_by_group", lambda groups: {**groups, "chelsea": 1e-9}, "MSE of chelsea"),
        ("mse_by_group", lambda groups: {}, "groups"),
        ("effective_rank.value", lambda rank: rank + 0.01, "effective rank"),
        ("effective_rank.standard_error", lambda error: 1e-9, "standard error of the effective rank"),
        ("spectrum", lambda S: (S[0] + 1e-4, *S[1:]), "S[0]"),
        ("spectrum", lambda S: S[:-1], "width"),
        ("radius_error", lambda error: 0.0001, "radius error"),
        ("probe", lambda probe: "photos-256", "probe"),
        ("probe_version", lambda version: version + 1, "probe version"),
    ],
)
def test_an_edited_figure_is_named_alone(cell, found, name, change, figure):
    (wrong,) = [one.figure for one in differences(changed(cell.manifest.own, name, change), found, cell.spec)][:1]
    assert wrong == figure


def test_a_cv_that_is_none_and_one_that_is(cell, found):
    none = found.model_copy(update={"cv": DegenerateFigure(degenerate="flat"), "band": None})
    for claimed, measured in ((none, found), (found, none)):
        assert "CV" in {one.figure for one in differences(claimed, measured, cell.spec)}
    assert differences(none, none, cell.spec) == []


def test_a_difference_says_what_was_claimed_and_measured():
    words = str(Difference("CV", 0.14, 0.2110955280270, "0.001"))
    assert words == "CV 0.14 claimed, 0.211095528 measured, tolerance 0.001"


def test_the_tolerance_of_a_cv_is_half_its_interval_and_never_infinite():
    assert cv_tolerance(0.2, 0.001) == pytest.approx(0.002576, abs=1e-6)
    assert cv_tolerance(0.2, 0.0001) == cv_tolerance(0.2, None) == pytest.approx(0.002)


def test_baselines_are_compared_where_they_can_be_fitted_again(cell):
    own = cell.manifest.own.baselines
    assert baseline_differences(own, own) == []
    for name in ("mean", "pca_width"):
        (wrong,) = baseline_differences(own.model_copy(update={name: getattr(own, name) * 1.01}), own)
        assert name in str(wrong)
    assert baseline_differences(own.model_copy(update={"pca": 1e-31}), own) == []  # rounding


def history(manifest, **training):
    return manifest.model_copy(update={"training": manifest.training.model_copy(update=training)})


def test_a_history_that_contradicts_itself(cell):
    manifest = cell.manifest
    training, own = manifest.training, manifest.own
    points, triage = training.trajectory, training.triage
    assert history_differences(manifest) == []
    moved = history(manifest, trajectory=tuple(point for point in points if point.step != 1000))
    assert {one.figure for one in history_differences(moved)} == {"band at triage, step 1000", "held, ratio"}
    assert history_differences(history(manifest, trajectory=points[::-1]))
    for change in ({"found": "low"}, {"passed": False}):
        assert history_differences(history(manifest, triage=triage.model_copy(update=change)))
    for change in ({"ratio": 1.0}, {"lower": 1.2}, {"holds": not own.held.holds}, {"since_step": 250}):
        held = own.model_copy(update={"held": own.held.model_copy(update=change)})
        assert history_differences(manifest.model_copy(update={"measured": {**manifest.measured, manifest.own_probe: held}}))


def test_the_last_reading_is_of_the_finished_cell(cell):
    manifest, own = cell.manifest, cell.manifest.own
    figures = own.cv, own.cv, own.mse.value
    points = manifest.training.trajectory
    assert last_reading_differences(manifest, *figures) == []
    assert last_reading_differences(history(manifest, trajectory=()), *figures) == []
    found = last_reading_differences(history(manifest, trajectory=points[:-1]), *figures)
    assert [one.figure for one in found] == ["step of the last reading", "MSE of the last reading"]
    flat = DegenerateFigure(degenerate="flat")
    assert last_reading_differences(manifest, flat, flat, own.mse.value)
    other = own.cv.model_copy(update={"value": own.cv.value + 6 * own.cv.standard_error})
    assert last_reading_differences(manifest, other, own.cv, own.mse.value)
    assert last_reading_differences(manifest, own.cv, other, own.mse.value) == []  # no reading has an axial CV
    last = points[-1].model_copy(update={"axial_cv": own.cv.value, "axial_cv_standard_error": 0.001})
    axial = history(manifest, trajectory=(*points[:-1], last))
    assert last_reading_differences(axial, other, own.cv, own.mse.value) == []
    assert last_reading_differences(axial, own.cv, other, own.mse.value)
