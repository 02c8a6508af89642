"""The page of an ablation: whole, alone, escaped, no wider than a phone, and with every run, verdict and figure in it."""

import re

import pytest

from batteries.ablation.judged_runs import snapshot
from batteries.cell.manifest import DegenerateFigure
from registry.reports.ablation_page import snapshot_page as page
from tests.batteries.ablation.test_verdicts import HIGH, cv
from tests.registry.reports.test_viability_page import (
    HOSTILE,
    PHONE,
    framed_title,
    needs_chromium,
    read,
    refuse_outside,
    words_of,
)
from tests.support.ablations import changed, filled, report


def flat():
    return DegenerateFigure(degenerate="all simplices are flat")


def hostile(folder):
    words = HOSTILE.replace("\\", "\\\\").replace('"', '\\"').encode()
    return filled(folder, changed(b'title = "Tiny"', b'title = "' + words + b'"').replace(b"A <b>note</b>.", words))


CASES = {
    "whole": filled,
    "in part": lambda folder: filled(folder, left_out=("S/zero/high", "N/none/high")),
    "nothing yet": lambda folder: filled(folder, left_out=("S/zero/high", "S/one/high", "N/sphere/high", "N/none/high")),
    "diverged and flat": lambda folder: filled(
        folder, S_one=report(outcome="diverged"), N_none=report(cv=flat(), axial_cv=flat(), cv_average=None)
    ),
    "far off": lambda folder: filled(folder, N_none=report(axial_cv=cv(9.0))),
    "hostile": hostile,
}


@pytest.mark.parametrize("name", CASES)
def test_a_page_is_whole_and_stands_alone(name, tmp_path):
    found = snapshot(CASES[name](tmp_path / "a"))
    html = page(found)
    reader = read(html)
    refuse_outside(html)
    assert {key for _, attributes in reader.started for key in attributes}.isdisjoint({"onload", "style"})
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html)
    assert page(found) == html
    for one in found.judged:
        assert one.report.name in html


def test_verdicts_figures_and_choices_are_told(tmp_path):
    good = report(cv=cv(HIGH), axial_cv=cv(HIGH), cv_average=HIGH)
    off = report(cv=cv(1.28), axial_cv=cv(1.28), cv_average=1.28)
    words = words_of(page(snapshot(filled(tmp_path / "a", S_zero=good, N_none=off))))
    for told in (
        "4 of 4 runs",
        "2 of 2 of the source; the others are ours",
        "reproduced, z +0.2",
        "rows as they are",
        "(ours)",
    ):
        assert told in words
    assert "verdicts disagree" in words
    assert "Every cell of this group matches its band before training" in words


def test_the_matrix_has_a_square_for_every_run(tmp_path):
    html = page(snapshot(filled(tmp_path / "a", S_zero=report(axial_cv=cv(HIGH)), N_none=report(axial_cv=cv(1.5)))))
    squares = dict(re.findall(r'<g class="\w+"><title>(\w+/\w+/\w+): ([^<]*)</title>', html))
    assert squares["S/zero/high"] == "1.00, on"
    assert squares["N/none/high"] == "1.63, off"
    assert len(squares) == 4


@needs_chromium
@pytest.mark.parametrize("name", ["whole", "hostile"])
def test_no_page_is_wider_than_a_phone(name, tmp_path):
    html = page(snapshot(CASES[name](tmp_path / "a")))
    assert framed_title(tmp_path, html) == f"{PHONE[0]} of {PHONE[0]}"
