"""The example of adaptation: which runs are missing, what counts as known, and what the page says of planted runs."""

import dataclasses
import json

import pytest

from tests.support.examples import example

adaptation = example("adaptation")
page = example("adaptation_page")

SCORES = {"frozen": 0.5, "raw": 0.7, "held": 0.69, "reconstruction": 0.68, "cv": 0.7, "anchor": 0.6, "all": 0.6}


def run(wanted, **changes):
    """A planted run: a raw cell forgets, a held one does not."""
    digest = {name: adaptation.registry.load(name).digest for name in adaptation.CELLS}[wanted.cell]
    lost = wanted.arm in ("raw", "cv")
    found = adaptation.Ran(
        **dataclasses.asdict(wanted),
        plan=wanted.plan,
        digest=digest,
        score=SCORES[wanted.arm] + 0.01 * wanted.seed,
        score_error=0.01,
        content=-0.2 if lost else 0.97,
        axial_cv=(1.0, 0.99, 1.01),
        rank=(1.0, 0.99, 1.01),
        holds=not lost,
        weight_change=0.02,
        dose=0.25,
        backoffs=0,
        steps=250,
        seconds=20.0,
    )
    return dataclasses.replace(found, **changes)


@pytest.fixture(scope="module")
def runs():
    return [run(one) for one in adaptation.everything() if one.cell == "low/johanna-64" and one.task == "naming"]


def test_a_frozen_cell_is_run_once_for_all_optimisers():
    everything = adaptation.everything()
    assert len(everything) == len(set(everything)) == 4 * 5 * (2 * (1 + 6 * 2) + 3)
    few = adaptation.chosen("low/johanna-64/naming", 1, ["frozen", "raw"], ["muon"])
    assert {(one.arm, one.optimiser) for one in few} == {("frozen", "adam"), ("raw", "muon")}


def test_strong_denoising_is_a_task_of_its_own():
    tasks = {one.task: one for one in adaptation.everything() if (one.arm, one.seed) == ("raw", 0)}
    assert {name: one.size.sigma for name, one in tasks.items()} == {"naming": 0.25, "denoising": 0.25, "strong denoising": 1.0}
    assert len({one.plan for one in tasks.values() if one.task != "naming"}) == 2
    assert len({one.name for one in adaptation.everything()}) == len(adaptation.everything())


def test_only_runs_of_this_plan_and_cell_are_known(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "KNOWN", tmp_path / "known.jsonl")
    assert adaptation.known() == []
    adaptation.keep([*runs[:2], run(runs[2].wanted, plan="0" * 16), run(runs[3].wanted, digest="0" * 64)])
    assert len((tmp_path / "known.jsonl").read_text().splitlines()) == 4
    assert sorted(one.arm for one in adaptation.known()) == sorted(one.arm for one in runs[:2])
    monkeypatch.setattr(adaptation, "STEPS", 10)
    assert adaptation.known() == []
    assert json.loads((tmp_path / "known.jsonl").read_text().splitlines()[0])["cell"] == "low/johanna-64"


def test_the_page_counts_seeds_that_have_the_gain_and_hold(runs):
    found = page.report(runs, 520)
    assert "5 of 5 seeds have at least 90% of the raw gain, hold, and keep 0.95 (wanted: 4 of 5)" in found
    worse = [dataclasses.replace(one, score=0.55) if (one.arm, one.seed) == ("held", 3) else one for one in runs]
    forgetful = [dataclasses.replace(one, content=0.9) if (one.arm, one.seed) == ("held", 2) else one for one in worse]
    assert "3 of 5 seeds" in page.report(forgetful, 520)
    assert page.gains(runs, "raw", "adam") == pytest.approx(dict.fromkeys(range(5), 0.2))
    assert "| raw " in found
    assert page.picture(runs).startswith("<svg")


def test_a_share_of_no_gain_is_not_counted(runs):
    idle = [
        dataclasses.replace(one, score=0.5 + 0.01 * one.seed - 0.003 * (one.seed % 2)) if one.arm == "raw" else one
        for one in runs
    ]
    found = page.report(idle, 520)
    assert "adam: the raw gradient gains its host nothing; 5 of 5 held cells hold, and keep 0.95; gain 0.190" in found
    assert "of the raw gain" not in found.partition("## What follows")[2]
