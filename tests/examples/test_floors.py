"""The page of floors, from tiny programs: whole, partial, without timings, and with a run that diverged."""

import math
import xml.etree.ElementTree as ET

import pytest

from batteries import ablation
from batteries.ablation.run_report import Timing, path_of
from batteries.cell.manifest import TrainingPoint
from tests.support.ablations import filled, report, tiny
from tests.support.examples import example, rows

floors = example("floors")
pytestmark = pytest.mark.usefixtures("few_matrices")

PROGRAM = b"""
name = "tiny"
title = "Tiny floors"
readings = 2
[base]
noise = "batteries"
batch = 2
steps = 4
[bands.high]
set = { V = 8, patch_size = 16, hidden = 8, smooth_width = 2 }
[[groups]]
id = "adam"
title = "Adam"
[groups.variants]
seed-0 = { seed = 0 }
seed-1 = { seed = 1 }
[[groups]]
id = "muon"
title = "Muon"
[groups.variants]
seed-0 = { optimiser = "muon", seed = 0 }
seed-1 = { optimiser = "muon", seed = 1 }
"""


def course(*errors, cv=0.92307):
    points = (TrainingPoint(step=2 * at, mse=mse, cv=cv, cv_standard_error=0.01) for at, mse in enumerate(errors, 1))
    return report().model_copy(update={"trajectory": tuple(points)})


@pytest.fixture
def folder(tmp_path):
    """Adam has errors of 0.5 and 0.25, Muon a tenth in twice the time and off the attractor; seeds differ by 1%."""
    reports = {}
    for variant, factor in (("seed-0", 1.0), ("seed-1", 1.01)):
        reports[f"adam_{variant}"] = course(0.5 * factor, 0.25 * factor)
        reports[f"muon_{variant}"] = course(0.05 * factor, 0.025 * factor, cv=2.0)
    found = filled(tmp_path / "floors", PROGRAM, **reports)
    for run in tiny(PROGRAM)[2]:
        step = 0.1 if run.group == "adam" else 0.2
        timing = Timing(seconds=1.0, step_seconds=step, peak_bytes=1)
        path_of(found, run.name).with_name("timing.json").write_bytes(timing.to_bytes())
    return found


def page_of(folder):
    page = folder.parent / "floors.md"
    assert floors.main(["--folder", str(folder), "--page", str(page)]) == 0
    return page.read_text()


def test_page_compares_at_equal_samples_and_seconds(folder):
    text = page_of(folder)
    assert "4 of 4 runs" in text
    made = {row[0]: row for row in rows(text)}
    untrained = report().untrained.mse.value
    assert made["Adam"][1:5] == ("2", "8", "0.4000 ± 0.0000", "0.2512 ± 0.0018")
    assert made["Adam"][5:8] == ("1.000 ± 0.000", "2 of 2", "0.2512 ± 0.0018")
    assert made["Muon"][3] == "0.8000 ± 0.0000"
    assert made["Muon"][6:8] == ("0 of 2", "0.02512 ± 0.00018")
    assert made["Muon"][8] == "0.05025 ± 0.00035"  # 0.4 seconds are 2 of its steps
    assert "HIGH after 8 samples, the lowest error is that of Muon, 0.02512 ± 0.00018; 0.1 (0.0" in text
    assert "HIGH after 0.4 seconds, the lowest error is that of Muon" in text
    assert "ends off the attractor: Muon." in text
    assert untrained > 0
    drawing = ET.fromstring((folder.parent / "floors.svg").read_text())
    assert len(drawing.findall(".//{*}polyline")) == 3 * 4


def test_error_between_readings_is_a_line_in_its_logarithm_from_the_untrained_cell():
    run = floors.Course((0.0, 4.0, 8.0), (1.0, 0.1, 0.01), (1.0, 1.0), 0.5)
    assert run.at(0) == 1
    assert run.at(2) == pytest.approx(math.sqrt(0.1))
    assert run.at(6) == pytest.approx(math.sqrt(0.001))
    assert (run.at(9), floors.seconds(run)) == (0.01, 4.0)


def test_ratio_has_student_s_interval():
    one, other = [1.0, math.e], [math.e**3, math.e**4]
    ratio, low, high = floors.compared(one, other)
    assert math.log(ratio) == pytest.approx(-3)
    assert math.log(high / ratio) == pytest.approx(4.3027 * math.sqrt(0.5), rel=1e-3)
    assert low * high == pytest.approx(ratio**2)
    assert floors.compared([1.0], [2.0, 3.0]) is None


def test_partial_results_make_a_page(folder):
    for run in ("muon/seed-0/high", "muon/seed-1/high"):
        path_of(folder, run).unlink()
    text = page_of(folder)
    assert "2 of 4 runs" in text
    assert "no other optimiser has a run yet" in text
    assert "carries out: 2." in text


def test_untimed_runs_have_no_seconds(folder):
    path_of(folder, "muon/seed-0/high").with_name("timing.json").unlink()
    text = page_of(folder)
    assert "3 of the runs are timed" in text
    assert {row[0]: row for row in rows(text)}["Adam"][8] == "-"
    assert "seconds, the lowest" not in text


def test_runs_that_diverged_are_counted_and_leave_the_others(folder, tmp_path):
    path = path_of(folder, "adam/seed-0/high")
    (run,) = [one for one in tiny(PROGRAM)[2] if one.name == "adam/seed-0/high"]
    names = {"group": run.group, "variant": run.variant, "band": run.band, "identity": run.identity, "plan": run.plan}
    path.write_bytes(report(outcome="diverged").model_copy(update=names).to_bytes())
    text = page_of(folder)
    assert "of which 1 diverged" in text
    assert {row[0]: row for row in rows(text)}["Adam"][1] == "1"
    assert "single runs have no interval" in text


def test_folder_without_a_report_or_a_program(tmp_path, capsys):
    text = page_of(filled(tmp_path / "none", PROGRAM, left_out={run.name for run in tiny(PROGRAM)[2]}))
    assert "No run has ended yet." in text
    with pytest.raises(SystemExit, match=r"^3$"):
        floors.main(["--folder", str(tmp_path / "nowhere")])
    assert "NO_RUNS" in capsys.readouterr().err


def test_shipped_program_is_that_of_the_page():
    program, _ = ablation.read_program("floors")
    assert len(program.groups) <= len(floors.COLOURS)
