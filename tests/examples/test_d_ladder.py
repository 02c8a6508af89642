"""The ladder of widths: its table, its answer and its picture, from reports made by hand."""

from xml.etree import ElementTree

import pytest

from batteries.ablation import read_program, runs_of
from batteries.cell.manifest import CvFigure, DegenerateFigure
from batteries.geometry import sphere_cv
from tests.support.ablations import report
from tests.support.examples import example

ladder = example("d_ladder")
SVG = "{http://www.w3.org/2000/svg}"


def figure(D, factor):
    exact = sphere_cv(D)
    return CvFigure(
        value=factor * exact,
        standard_error=0.001,
        matrices=256,
        images=256,
        draws=200,
        seed=5,
        ratio=factor,
        on_attractor=True,
    )


def rung(D, *factors):
    runs = [run for run in runs_of(read_program("d-ladder")[0]) if run.plan.spec.D == D]
    reports = []
    for run, factor in zip(runs, factors, strict=True):
        cv = figure(D, factor) if D >= 4 else DegenerateFigure(degenerate="all simplices are flat")
        found = report(axial_cv=cv)
        before = found.untrained.model_copy(update={"axial_cv": cv})
        reports.append(found.model_copy(update={"plan": run.plan, "untrained": before}))
    return ladder.Rung(D, tuple(reports))


LADDER = [rung(3, 1, 1, 1), rung(16, 1.0, 1.02, 0.98), rung(24, 1.0, 1.01, 0.99), rung(32, 1.0, 1.0, 1.1)]


def test_a_rung_has_its_exact_value_and_spread():
    assert LADDER[1].row[:4] == ("16", "0.2030", "0.2030 ± 0.0041", "1.000 ± 0.020")
    assert LADDER[0].row[:4] == ("3", "-", "degenerate", "-")


def test_the_answer_follows_the_figures():
    said = ladder.answer(LADDER)
    assert "3 of 3 widths after training, 3 before" in said[0]
    assert "outside LOW's window (0.13 to 0.3)" in " ".join(ladder.answer([rung(32, 0.9, 0.9, 0.9)]))
    assert "a band names a width" in said[-1]
    off = ladder.answer([*LADDER[:3], rung(32, 1.4, 1.0, 1.0)])
    assert "2 of 3 widths" in off[0]
    assert "a band names a width" not in off[-1]


def test_bounds_of_a_ratio_are_over_seeds():
    low, high = ladder.interval(LADDER[1], LADDER[2])
    ratio = sphere_cv(16) / sphere_cv(24)
    assert low < ratio < high
    relative = (0.02**2 + 0.01**2) ** 0.5 / 3**0.5
    assert high / ratio - 1 == pytest.approx(4.3027 * relative, rel=0.01)


def test_the_picture_has_a_mark_for_every_run():
    root = ElementTree.fromstring(ladder.picture(LADDER))
    dots = [shape for shape in root.iter(f"{SVG}circle") if shape.get("fill") == ladder.COLOUR]
    assert len(dots) == 9 + 1  # the key's
