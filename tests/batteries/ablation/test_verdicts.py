"""Verdicts on runs, on reports made by hand: both rules, the exact value that a norm implies, and controls."""

import pytest

from batteries import CellSpec
from batteries.ablation import verdicts
from batteries.ablation.verdicts import exact_of
from batteries.cell.manifest import CvFigure, DegenerateFigure
from batteries.geometry import bulk_cv, sphere_cv
from tests.support.ablations import report


def cv(value, error=0.001, D=4):
    exact = sphere_cv(D)
    return CvFigure(
        value=value, standard_error=error, matrices=256, images=256, draws=200, seed=5, ratio=value / exact, on_attractor=True
    )


HIGH = sphere_cv(4)


@pytest.mark.parametrize(
    ("value", "error", "flag"),
    [
        (HIGH, 0.001, "on"),
        (1.24 * HIGH, 0.001, "on"),
        (1.24 * HIGH, 0.02, "undecided"),
        (1.26 * HIGH, 0.02, "undecided"),
        (1.4 * HIGH, 0.001, "off"),
        (0.86 * HIGH, 0.02, "undecided"),
        (0.8 * HIGH, 0.001, "off"),
    ],
)
def test_the_flag_needs_the_whole_interval(value, error, flag):
    found = verdicts.of_run(report(axial_cv=cv(value, error)))
    assert found.flag == flag
    assert found.lower < found.ratio < found.upper
    assert found.ratio == pytest.approx(value / HIGH)


def test_the_published_rule_reads_the_average_and_ours_the_axial_cv():
    found = verdicts.of_run(report(cv=cv(HIGH), axial_cv=cv(HIGH), cv_average=0.7533))  # the published misfire
    assert (found.band, found.matched, found.flag, found.disagree) == ("off", False, "on", True)
    found = verdicts.of_run(report(cv=cv(1.28), axial_cv=cv(1.28), cv_average=1.28))  # a band without an upper edge
    assert (found.band, found.matched, found.flag, found.disagree) == ("high", True, "off", True)
    found = verdicts.of_run(report(cv=cv(HIGH), axial_cv=cv(HIGH), cv_average=None))
    assert (found.band, found.matched, found.disagree) == ("high", True, False)


def test_no_ratio_without_a_cv():
    flat = DegenerateFigure(degenerate="all simplices are flat")
    found = verdicts.of_run(report(cv=flat, axial_cv=flat, cv_average=None))
    assert (found.flag, found.ratio, found.matched, found.band) == ("degenerate", None, False, None)
    found = verdicts.of_run(report(outcome="diverged"))
    assert (found.flag, found.ratio, found.matched) == ("diverged", None, False)
    assert verdicts.of_untrained(report(outcome="diverged")).matched


def test_the_exact_value_is_that_of_the_norm():
    mid = {
        name: exact_of(CellSpec.preset("mid", row_norm=name)) for name in ("sphere", "none", "scale", "layernorm", "row_max")
    }
    assert mid["sphere"] == (sphere_cv(8), "sphere of 8 dimensions")
    assert mid["layernorm"] == (sphere_cv(7), "sphere of 7 dimensions")
    assert mid["none"] == mid["scale"] == (bulk_cv(8), "Gaussian rows")
    assert mid["row_max"][0] is None
    assert exact_of(CellSpec.preset("high", row_norm="layernorm")) == (None, "degenerate")
    for D in (2, 3):
        for norm in ("sphere", "none"):
            assert exact_of(CellSpec.preset("low", D=D, row_norm=norm)) == (None, "degenerate")


def test_without_a_standard_error_nothing_is_decided():
    found = verdicts.of_run(report(axial_cv=cv(HIGH, None)))
    assert (found.flag, found.lower, found.upper) == ("undecided", None, None)
