"""The page of the published ablation: made of reports, with every figure that its source states."""

import pytest

from batteries.ablation import snapshot
from batteries.ablation.single_reading import reading_of
from batteries.cell.manifest import DegenerateFigure
from batteries.cell.spec import CellSpec
from batteries.geometry.attractor import sphere_cv
from tests.batteries.ablation.test_verdicts import HIGH, cv
from tests.support.ablations import changed, filled, report
from tests.support.examples import example, rows

page = example("ablation")


def test_the_page_tells_groups_figures_and_disagreements(tmp_path):
    flat = DegenerateFigure(degenerate="all simplices are flat")
    good = report(cv=cv(HIGH), axial_cv=cv(HIGH), cv_average=HIGH)
    misfire = report(cv=cv(HIGH), axial_cv=cv(HIGH), cv_average=0.7533)
    folder = filled(tmp_path / "a", S_zero=good, S_one=misfire, N_none=report(cv=flat, axial_cv=flat, cv_average=None))
    judged = snapshot(folder).judged
    found = page.report(snapshot(folder))
    assert "2 of 2 reports of the source's runs, and 2 of our own groups" in found
    written = rows(found)
    untrained = judged[0].report.untrained.cv
    law = reading_of(judged[0].report.plan.spec)
    theirs = f"{0.9 / law.share / HIGH:.3f} ± {law.deviation / law.share / HIGH:.3f}"
    assert (
        "S/zero/high",
        "0.9",
        f"{HIGH:.4f} ± 0.0010",
        f"{HIGH:.4f}, sphere of 4 dimensions",
        theirs,
        f"1.000 ± {0.001 / HIGH:.3f}",
        f"{untrained.value / HIGH:.3f} ± {untrained.standard_error / HIGH:.3f}",
        f"reproduced, z {judged[0].z:+.1f}",
    ) in written
    assert ("S/one/high", "off", "on", "0.7533", f"{HIGH:.4f} ± 0.0010") in written
    assert next(row for row in written if row[0] == "S")[2:5] == ("2 of 2", "1 (50%)", "100%")
    assert next(row for row in written if row[0] == "N")[8] == "1"
    same = sum(one.trained.matched == one.untrained.matched for one in judged)
    assert 0 < same < 4  # the flat one has no band any more, nor the one that misfired
    assert f"In {same} of 4 runs the published verdict is that on the cell" in found


def test_what_is_missing_and_what_contradicts_is_said(tmp_path):
    folder = filled(tmp_path / "a", left_out=("S/one/high",), S_zero=report(cv=cv(1.6)))
    found = page.report(snapshot(folder))
    assert f"contradicted, z {snapshot(folder).judged[0].z:+.1f}" in found
    assert "Runs not carried out yet, which snapshot_meta.json lists: 1." in found


def test_an_average_that_left_its_band_is_compared_with_those_of_its_band(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MISFIRE", ("S/one/high", 0.7, 0.9))
    monkeypatch.setattr(page, "DRAWN_ANEW", ("S", "N"))
    usual, left, third = (report(cv=cv(HIGH), cv_average=average) for average in (0.9, 0.94, 0.92))
    reports = {"S_zero": usual, "S_one": left, "N_sphere": usual, "N_none": third}  # N_sphere is the computation of S_zero
    found = page.report(snapshot(filled(tmp_path / "a", **reports)))
    assert f"Here it is 0.9400 beside {HIGH:.4f}, and 3 HIGH runs of groups S and N" in found
    assert "0.920 ± 0.020 (standard deviation): contradicted, t -9.5 (2 degrees of freedom)" in found
    first = 0.99 ** (report().steps - 1)
    assert f"the first reading still weighs {first:.0%}" in found
    begun = float(found.split("begins at ")[1].split(" ")[0])
    assert begun * first + 0.9 * (1 - first) == pytest.approx(0.7, abs=0.01)
    few = page.report(snapshot(filled(tmp_path / "b", left_out=("N/none/high",), **reports)))
    assert "0.920 ± 0.028 (standard deviation): reproduced, t -6.4 (1 degrees of freedom)" in few  # two runs show little
    assert "Here it is" not in page.report(snapshot(filled(tmp_path / "c", left_out=("S/one/high",), **reports)))


def test_a_published_figure_of_flat_rows_is_compared_with_rounding_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MATRICES", 20)
    flat = DegenerateFigure(degenerate="all simplices are flat")
    one = report(cv=flat, axial_cv=flat, cv_average=None)
    summed = changed(b"zero = {}", b'zero = { set = { row_norm = "layernorm" } }')
    found = page.report(snapshot(filled(tmp_path / "a", summed, S_zero=one)))
    middle, deviation, kept = page.rounding(8, 4)
    assert f"of which {1 - kept:.0%} are negative and left out, have a CV of {middle:.2f} ± {deviation:.2f}" in found
    assert f"The published 0.9 is z {(0.9 - middle) / deviation:+.1f} from it" in found
    assert "hyperplane" not in page.report(
        snapshot(filled(tmp_path / "b", S_zero=one))
    )  # of another norm, it has another reason


def test_of_rows_in_a_hyperplane_half_the_determinants_are_negative_and_of_wider_ones_none():
    law = reading_of(CellSpec.preset("mid", row_norm="layernorm"))
    middle, deviation, kept = page.rounding(64, 8)
    assert kept == 1
    assert middle == pytest.approx(law.share * sphere_cv(7), rel=0.02)
    assert deviation == pytest.approx(law.deviation, rel=0.3)
    assert 0.3 < page.rounding(32, 4)[2] < 0.7
