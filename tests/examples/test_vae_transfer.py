"""The examples of battery VAEs: their pages from results made by hand, and tiny runs."""

import sys

import pytest

from composer.vae import VaePlan
from tests.support import vaes
from tests.support.examples import example

transfer = example("vae_transfer")
jobs, page = (sys.modules[name] for name in ("vae_transfer_jobs", "vae_transfer_page"))
held = example("vae_discipline")
held_jobs, held_page = (sys.modules[name] for name in ("vae_discipline_jobs", "vae_discipline_page"))


def result(job, errors, seconds=None, samples=(0, 8, 16)):
    return jobs.Result(
        name=job.name,
        plan=job.plan_digest,
        data="0" * 64,
        trajectory=(),
        parameters=1000,
        samples=samples,
        errors=errors,
        seconds=seconds or tuple(map(float, samples)),
    )


def test_a_run_reaches_an_error_where_its_logarithm_does():
    job = jobs.JOBS[0]
    one = result(job, (1.0, 0.01, 0.001))
    assert page.reached(one, 0.1, one.samples, 16) == pytest.approx(4 / 16)
    assert page.reached(one, 0.01, one.samples, 16) == 8 / 16
    assert page.reached(one, 2.0, one.samples, 16) == 0.0
    assert page.reached(one, 1e-4, one.samples, 16) is None


def test_the_page_compares_with_the_random_start_by_seed(tmp_path):
    store = jobs.Store(tmp_path / "runs", tmp_path / "kept.jsonl")
    for seed in jobs.SEEDS:
        random = jobs.Job("text", "random", seed)
        store.write(random, result(random, (1.0, 0.6, 0.1 * seed)))
        for arm, last in (("implanted", 0.05 * seed), ("shuffled", 0.2 * seed)):
            job = jobs.Job("text", arm, seed)
            store.write(job, result(job, (2.0, 1.5, last)))
    path = tmp_path / "page.md"
    missing = transfer.write_report(store, path)
    assert len(missing) == len(jobs.JOBS) - 15
    text = path.read_text()
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    found = {row[0]: row for row in rows if row[2] == "5"}
    assert found["implanted"][5] == "0.5 (0.5 to 0.5)"
    assert found["shuffled"][5:7] == ["2 (2 to 2)", "-"]
    assert found["random"][6] == "1.000 (1.000)"
    assert "text, shuffled: within a third of the samples in 0 of 5 seeds" in text
    transfer.write_report(store, path)
    assert path.read_text() == text


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["implanted", "random", "single"])
def test_a_tiny_run_is_kept(tmp_path, monkeypatch, arm):
    monkeypatch.setattr(
        jobs.Job, "plan", property(lambda job: VaePlan(steps=2, size=16, batch=1, reading_every=10, seed=job.seed))
    )
    monkeypatch.setattr(transfer, "READ_AT", (0, 1, 2))
    monkeypatch.setattr(transfer.registry, "pull", lambda *names: list(vaes.cells().values()))
    monkeypatch.setattr(transfer, "BOTTLENECK", 4)
    store = jobs.Store(tmp_path / "runs", tmp_path / "kept.jsonl")
    job = jobs.Job("text", arm, 1)
    found = transfer.run(job, store)
    first = transfer.IMAGES if arm == "implanted" else 0
    assert found.samples == (first, first + 1, first + 2)
    assert all(error > 0 for error in found.errors)
    assert found.seconds == tuple(sorted(found.seconds))
    monkeypatch.setattr(transfer, "_vae", lambda job: pytest.fail("done again"))
    assert transfer.run(job, store) == found


@pytest.mark.slow
def test_a_tiny_run_of_the_discipline_is_kept_and_reported(tmp_path, monkeypatch):
    plan = VaePlan(steps=2, size=16, batch=1, reading_every=1)
    monkeypatch.setattr(held_jobs.Job, "plan", property(lambda job: plan))
    monkeypatch.setattr(held.registry, "pull", lambda *names: list(vaes.cells().values()))
    monkeypatch.setattr(held, "BOTTLENECK", 4)
    store = held_jobs.Store(tmp_path / "runs", tmp_path / "kept.jsonl")
    found = held.run(held_jobs.JOBS[0], store)
    assert ([one.step for one in found.readings], found.finite_samples) == ([0, 1, 2], True)
    missing = held.write_report(store, tmp_path / "page.md")
    assert len(missing) == len(held_jobs.JOBS) - 1
    text = (tmp_path / "page.md").read_text()
    assert "1 of 1" in text
    assert "of 3" in text
    low, high = held_page.extremes(found)
    assert low <= high
