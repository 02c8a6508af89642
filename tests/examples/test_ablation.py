"""The page of the published ablation: made of reports, with every figure that its source states."""

from batteries.ablation import snapshot
from batteries.cell.manifest import DegenerateFigure
from tests.batteries.ablation.test_verdicts import HIGH, cv
from tests.support.ablations import filled, report
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
    assert (
        "S/zero/high",
        "0.9",
        f"{HIGH:.4f} ± 0.0010",
        f"{HIGH:.4f}, sphere of 4 dimensions",
        f"reproduced, z {judged[0].z:+.1f}",
    ) in written
    assert ("S/one/high", "off", "on", "0.7533", f"{HIGH:.4f} ± 0.0010") in written
    assert next(row for row in written if row[0] == "S")[2:5] == ("2 of 2", "1 (50%)", "100%")
    assert next(row for row in written if row[0] == "N")[8] == "1"


def test_what_is_missing_and_what_contradicts_is_said(tmp_path):
    folder = filled(tmp_path / "a", left_out=("S/one/high",), S_zero=report(cv=cv(1.6)))
    found = page.report(snapshot(folder))
    assert f"contradicted, z {snapshot(folder).judged[0].z:+.1f}" in found
    assert "Runs not carried out yet, which snapshot_meta.json lists: 1." in found
