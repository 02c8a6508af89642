"""Tables over reports: what stands in a row, what is an anomaly, and whether the rule of a group can fail."""

import csv
import json
import shutil

import pytest
from PIL import Image

from batteries.ablation import aggregate
from batteries.ablation import runs as runs_module
from batteries.ablation.aggregate import write_tables
from batteries.ablation.judged_runs import snapshot
from batteries.ablation.run_report import RunReport, path_of
from batteries.ablation.single_reading import reading_of
from batteries.cell.manifest import DegenerateFigure
from batteries.errors import ConflictError, FormatError, NotFoundError
from batteries.geometry import sphere_cv
from tests.batteries.ablation.test_verdicts import HIGH, cv
from tests.support.ablations import TINY, changed, filled, report, tiny

FILES = ("band_matrix.csv", "anomalies.csv", "group_summaries.csv", "uniformity_diagnostic.csv", "snapshot_meta.json")


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_every_run_is_a_row_and_the_same_reports_give_the_same_bytes(tmp_path):
    folder = filled(tmp_path / "a")
    names = [path.name for path in write_tables(snapshot(folder), folder)]
    assert names == list(FILES)
    before = {name: (folder / name).read_bytes() for name in FILES}
    write_tables(snapshot(folder), folder)
    assert before == {name: (folder / name).read_bytes() for name in FILES}
    matrix = rows(folder / "band_matrix.csv")
    assert [(row["group"], row["variant"], row["band"]) for row in matrix] == [
        *(("S", "zero", "high"), ("S", "one", "high"), ("N", "sphere", "high"), ("N", "none", "high")),
    ]
    found = report()
    assert float(matrix[0]["mse"]) == pytest.approx(found.measured.mse.value, rel=1e-5)
    assert float(matrix[0]["axial_cv_se"]) == pytest.approx(found.measured.axial_cv.standard_error, rel=1e-5)
    assert float(matrix[0]["exact_sphere"]) == pytest.approx(sphere_cv(4), rel=1e-5)
    assert float(matrix[0]["untrained_mse"]) == pytest.approx(found.untrained.mse.value, rel=1e-5)
    assert matrix[0]["computation"] == matrix[2]["computation"] != matrix[1]["computation"]
    meta = json.loads((folder / "snapshot_meta.json").read_text())
    assert (meta["runs"], meta["reports"], meta["computations"]) == (4, 4, 3)
    assert (meta["runs_of_the_source"], meta["reports_of_the_source"], meta["missing"]) == (2, 2, [])


def test_what_is_missing_is_said(tmp_path):
    found = snapshot(filled(tmp_path / "a", left_out=("S/one/high", "N/none/high")))
    meta = aggregate.snapshot_meta(found)
    assert (meta["reports"], meta["missing"]) == (2, ["S/one/high", "N/none/high"])
    assert [row["reports"] for row in aggregate.group_summaries(found)] == [1, 1]


def test_nothing_is_said_of_a_group_without_reports(tmp_path):
    found = snapshot(filled(tmp_path / "a", left_out=("N/sphere/high", "N/none/high")))
    row = aggregate.group_summaries(found)[1]
    assert (row["reports"], row["match_rate"], row["can_fail"]) == (0, None, None)


def test_a_report_that_was_copied_from_another_run_of_the_computation_has_its_place_for_a_name(tmp_path):
    folder = filled(tmp_path / "a")
    copied = (folder / "S" / "zero" / "high" / "final_report.json").read_bytes()
    (folder / "N" / "sphere" / "high" / "final_report.json").write_bytes(copied)
    found = snapshot(folder)
    assert [row["variant"] for row in aggregate.band_matrix(found)] == ["zero", "one", "sphere", "none"]
    assert found.missing == []


def test_reports_are_read_without_the_photographs_of_their_program(tmp_path):
    """Another may have written the program: its places, ``/**`` among them, are not read for a page."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.linear_gradient("L").save(pictures / "a.png")
    text = changed(b'noise = "batteries"', f'photos = ["{pictures.as_posix()}"]'.encode())
    folder = filled(tmp_path / "a", text)
    for run in tiny(text)[2]:
        path = path_of(folder, run.name)
        untrained = report().untrained.model_copy(update={"probe_digest": run.probe.digest})
        path.write_bytes(
            RunReport.model_validate_json(path.read_bytes(), strict=False)
            .model_copy(update={"data": run.source.facts, "untrained": untrained})
            .to_bytes()
        )
    runs_module._photographs.cache_clear()
    shutil.rmtree(pictures)
    assert snapshot(folder).missing == []
    (folder / "program.toml").write_bytes(text.replace(b"seed = 1", b"seed = 2"))
    with pytest.raises(ConflictError, match="RUN_CHANGED"):
        snapshot(folder)


def anomalies_of(tmp_path, **reports):
    rows = aggregate.anomalies(snapshot(filled(tmp_path / "a", **reports)))
    return {(row["group"], row["variant"], row["anomaly"]) for row in rows}


def test_anomalies_are_named(tmp_path):
    good = report(cv=cv(HIGH), axial_cv=cv(HIGH), cv_average=HIGH)
    flat = DegenerateFigure(degenerate="all simplices are flat")
    found = anomalies_of(
        tmp_path,
        S_zero=good,
        S_one=report(outcome="diverged"),
        N_sphere=report(cv=cv(HIGH), axial_cv=cv(HIGH), cv_average=0.3),
        N_none=report(cv=flat, axial_cv=flat, cv_average=None),
    )
    assert found == {
        ("S", "one", "diverged"),
        ("N", "sphere", "out of band"),
        ("N", "sphere", "verdicts disagree"),
        ("N", "sphere", "CV-EMA apart from CV"),
        ("N", "none", "out of band"),
        ("N", "none", "not on the attractor"),
    }


def test_a_published_figure_is_reproduced_or_not(tmp_path):
    law = reading_of(report().plan.spec)
    for value, reproduced in ((0.9, True), (0.95, True), (1.6, False)):
        good = report(cv=cv(value), axial_cv=cv(HIGH), cv_average=HIGH)
        found = snapshot(filled(tmp_path / str(value), S_zero=good))
        assert found.judged[0].z == pytest.approx((value - 0.9) / (law.deviation**2 + 0.001**2) ** 0.5)
        summary = aggregate.group_summaries(found)[0]
        assert (summary["published_figures"], summary["reproduced"]) == (1, int(reproduced))


def test_a_rule_that_no_untrained_cell_breaks_cannot_fail(tmp_path):
    untrained = report().untrained
    before = {name: untrained.model_copy(update={"cv": cv(value)}) for name, value in (("in", HIGH), ("out", 0.5))}
    kept, broken = (report().model_copy(update={"untrained": before[name]}) for name in ("in", "out"))
    found = snapshot(filled(tmp_path / "a", S_zero=kept, S_one=kept, N_sphere=kept, N_none=broken))
    assert [row["can_fail"] for row in aggregate.group_summaries(found)] == [False, True]
    assert [row["untrained_matched"] for row in aggregate.group_summaries(found)] == [2, 1]


def test_uniformity_has_the_exact_value_of_the_norm(tmp_path):
    found = {row["row_norm"]: row for row in aggregate.uniformity(snapshot(filled(tmp_path / "a")))}
    assert found["sphere"]["exact_of_norm"] == found["sphere"]["exact_sphere"]
    assert found["none"]["attractor_of_norm"] == "Gaussian rows"
    sphere, own = (found["none"]["axial_cv"] - found["none"][name] for name in ("exact_sphere", "exact_of_norm"))
    assert found["none"]["z_sphere"] / found["none"]["z_of_norm"] == pytest.approx(sphere / own)


def test_a_folder_that_is_none_and_reports_of_other_runs(tmp_path):
    with pytest.raises(NotFoundError, match="NO_RUNS"):
        snapshot(tmp_path)
    folder = filled(tmp_path / "a")
    (folder / "program.toml").write_bytes(changed(b"batch = 2", b"batch = 3"))
    with pytest.raises(ConflictError, match="RUN_CHANGED"):
        snapshot(folder)
    (folder / "program.toml").write_bytes(TINY)
    path = folder / "S" / "zero" / "high" / "final_report.json"
    whole = path.read_bytes()
    assert whole.count(b'"D":4') == 1
    path.write_bytes(whole.replace(b'"D":4', b'"D":8'))
    with pytest.raises(FormatError, match="REPORT") as caught:
        snapshot(folder)
    assert "S/zero/high" in str(caught.value)
    path.write_bytes(whole[:-100])
    with pytest.raises(FormatError, match="S/zero/high"):
        snapshot(folder)
