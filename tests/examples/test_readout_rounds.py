"""The example of the read-out rounds: its jobs, its page from results made by hand, and runs that end or diverge."""

import dataclasses
import sys

import pytest
import torch

import batteries
from batteries import CellSpec, Plan
from batteries.model.patch_svae import untrained
from tests.support.examples import example, rows

rounds = example("readout_rounds")
jobs, page = (sys.modules[name] for name in ("readout_rounds_jobs", "readout_rounds_page"))
NAMED = {job.name: job for job in jobs.JOBS}


@pytest.fixture
def store(tmp_path):
    return jobs.Store(tmp_path / "runs", tmp_path / "results" / "readout-rounds.jsonl")


def figures(mse, **changes):
    own = {"M_ratio": 1.0, "received_ratio": 0.9, "magnitude_received": 0.5, "magnitude": 0.25, "contrasted": 1.0}
    return jobs.Figures(mse=mse, **own | changes)


def result(name, mse=None, steps=1200, largest=2.0, **changes):
    """A result that diverged without an error."""
    return jobs.Result(
        name=name,
        plan=NAMED[name].plan_digest,
        data="0" * 64,
        trajectory=(),
        diverged=None if mse else f"step {steps}",
        steps=steps,
        largest=largest,
        largest_at=steps - 1,
        untrained=figures(1.9, **changes),
        trained=figures(mse, **changes) if mse else None,
    )


def written(store, tmp_path, *results):
    for one in results:
        store.write(NAMED[one.name], one)
    path = tmp_path / "page.md"
    missing = rounds.write_report(store, path)
    return path, missing, rows(path.read_text())


def test_the_rounds_are_the_published_ones():
    plans = {job.run.variant: job.run.plan for job in jobs.JOBS if job.run.group == "rounds" and job.run.band == "seed-1"}
    assert len({job.plan_digest for job in jobs.JOBS}) == len(NAMED) == len(jobs.JOBS)
    assert {plan.spec.D for plan in plans.values()} == {16}
    read_outs = {variant: plan.spec.readout for variant, plan in plans.items()}
    assert list(read_outs.items())[:4] == [
        ("plain", "narrow"),
        ("norm", "narrow_norm"),
        ("sphere", "narrow_sphere"),
        ("discipline", "narrow_sphere"),
    ]
    assert [variant for variant, plan in plans.items() if plan.adaptive_clip] == ["plain"]
    fourth = plans["discipline"]
    assert (fourth.hand, fourth.boost_at(0), fourth.boost_at(fourth.steps - 1)) == ("penalty", 20, 10)
    assert plans["fixed"].fixed_readout
    assert all(plan.clip == 1 and plan.seed == 1 and plan.steps >= 1200 for plan in plans.values())
    assert NAMED["sgd-plain-seed-0"].command == "python examples/readout_rounds.py --only sgd-plain-seed-0"


@pytest.mark.slow
def test_the_page_has_first_nans_beside_the_published_outcomes(store, tmp_path):
    path, missing, found = written(
        store,
        tmp_path,
        result("rounds-plain-seed-0", steps=899, largest=3e11),
        result("rounds-plain-seed-1", 1.5),
        result("rounds-sphere-seed-0", 2e11, magnitude_received=None),
        result("rounds-sphere-seed-1", 1.0, magnitude_received=None),
        result("sgd-plain-seed-0", steps=55, largest=2e3),
    )
    assert len(missing) == len(jobs.JOBS) - 5
    assert f"Missing, {len(missing)} of {len(jobs.JOBS)}: rounds-plain-seed-2, " in path.read_text()
    plain = next(row for row in found if row[0] == "plain")
    assert plain[1:6] == ("nan near step 899", "899, none", "1 of 2", "3e+11 at 898", "1.5000")
    sphere = next(row for row in found if row[0] == "sphere")
    assert sphere[2:4] == ("none, none", "1 of 2")
    clipped = next(row for row in found if row[:2] == ("0.3", "plain"))
    assert clipped[2:5] == ("max(error, 1)", "55", "2e+03 at 54")
    magnitudes = [row for row in found if row[0] == "sphere"][-1]
    assert magnitudes[1:3] == ("constant", "0.250 ± 0.000 (0.250 ± 0.000)")
    assert next(row for row in found if row[0] == "norm")[2:5] == ("-", "-", "-")


@pytest.mark.slow
def test_conclusions_by_hand_stay_and_the_page_is_the_same_again(store, tmp_path):
    (tmp_path / "page.md").write_text("# By hand\n\nConclusions stay.\n")
    path, *_ = written(store, tmp_path, result("rounds-plain-seed-0", 1.5))
    first = path.read_text()
    assert first.startswith("# By hand\n\nConclusions stay.\n")
    rounds.write_report(store, path)
    assert path.read_text() == first


def tiny(**changes):
    """A job of the program with a plan of two steps on small images."""
    run = NAMED["rounds-sphere-seed-0"].run
    spec = CellSpec(V=8, D=4, patch_size=16, hidden=8, readout="narrow_sphere")
    made = dataclasses.replace(run)
    small = batteries.probe("noise16p-64")
    values = {"size": 32, "steps": 2, "batch": 2, "reading_every": 2, "triage_step": 3}
    made.__dict__["plan"] = Plan(**{"spec": spec, **values, **changes})
    made.__dict__["probe"] = dataclasses.replace(small, images=small.images[::4], group=small.group[::4])
    return jobs.Job(made)


@pytest.mark.slow
def test_a_run_is_trained_and_measured_before_and_after():
    found = jobs.carry_out(tiny())
    assert (found.diverged, found.steps) == (None, 2)
    assert found.trained != found.untrained
    assert found.trained.magnitude_received is None
    assert found.trained.M_ratio == pytest.approx(1, abs=0.5)
    assert found.trajectory[-1].mse == pytest.approx(found.trained.mse, rel=0.5)  # of all images, and of every fourth
    assert found.largest >= found.trained.mse / 100
    assert found.largest_at in (1, 2)


@pytest.mark.slow
def test_a_divergence_is_a_result_with_its_step():
    found = jobs.carry_out(tiny(optimiser="sgd", rate=1e8, adaptive_clip=True, steps=50, reading_every=50))
    assert found.trained is None
    assert found.trajectory == ()
    assert found.diverged == f"step {found.steps}"
    assert found.steps < 50
    assert found.untrained.mse > 0


@pytest.mark.slow
@pytest.mark.parametrize(("readout", "constant"), [("narrow", False), ("narrow_sphere", True), ("svd", False)])
def test_magnitude_is_a_correlation_of_sizes(readout, constant):
    probe = batteries.probe("noise16p-64")
    few = dataclasses.replace(probe, images=probe.images[::2], group=probe.group[::2])
    spec = CellSpec(V=8, D=4, patch_size=16, hidden=8, row_norm="none", readout=readout)
    found = jobs.figures(untrained(spec, 0).eval(), few)
    assert (found.magnitude_received is None) == constant
    if not constant:  # rows without a norm grow with the image
        assert found.magnitude_received > 0.5


def test_a_correlation_of_what_is_constant_is_none():
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(x, dim=1)
    assert jobs._correlation(x, 3 * x) == pytest.approx(1)
    assert jobs._correlation(x, unit) is None
    assert jobs._correlation(x, unit / x.norm(dim=1, keepdim=True)) == pytest.approx(-1)
