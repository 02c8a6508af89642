"""The example of readouts: its jobs, its page from results made by hand, and a tiny run that is resumed."""

import sys

import pytest

import batteries
from batteries.cell.manifest import TrainingPoint
from batteries.errors import FormatError
from batteries.geometry import attractor
from tests.support.examples import example

readouts = example("readouts")
jobs, page, training = (sys.modules[name] for name in ("readouts_jobs", "readouts_page", "run_training"))


@pytest.fixture
def store(tmp_path):
    return jobs.Store(tmp_path / "runs", tmp_path / "results" / "readouts.jsonl")


def result(job, error=0.5, ratio=1.0, loss=0.4, seconds=0.05, **fields):
    cv = ratio * attractor.sphere_cv(job.plan.spec.D)
    own = {
        "name": job.name,
        "plan": job.plan_digest,
        "data": "0" * 64,
        "parameters": job.plan.spec.parameters,
        "trajectory": (TrainingPoint(step=jobs.STEPS, mse=error, cv=cv, cv_standard_error=0.002),),
        "step_seconds": seconds,
        "losses": training.Losses(M=loss, omega=0.8),
        "untrained": training.Losses(M=0.5, omega=0.8),
    }
    return jobs.Result(**own | fields)


def named(name):
    return jobs.NAMED[name]


def test_there_is_a_job_for_every_band_readout_and_seed():
    assert len(jobs.JOBS) == len(jobs.NAMED) == len({job.plan_digest for job in jobs.JOBS}) == 45
    job = named("high-linear-3")
    assert job.command == "python examples/readouts.py --only high-linear-3"
    assert (job.plan.spec.readout, job.plan.spec.parameters, job.plan.batch) == ("linear", 57215, 16)
    assert (job.plan.optimiser, job.plan.seed, job.plan.steps, job.plan.rate) == ("muon", 3, 600, 0.02)


def test_the_page_has_ratios_paired_by_seed_and_says_what_they_mean(store, tmp_path):
    for seed in jobs.SEEDS:
        for readout, error in (("svd", 0.04), ("linear", 0.02), ("none", 0.04 + 0.01 * (-1) ** seed)):
            job = named(f"high-{readout}-{seed}")
            store.write(job, result(job, error * seed, loss=0.3 if readout == "svd" else 0.4, ratio=1.3))
    path = tmp_path / "readouts.md"
    path.write_text("# By hand\n\nConclusions stay.\n")
    missing = readouts.write_report(store, path)
    text = path.read_text()
    assert text.startswith("# By hand\n\nConclusions stay.\n")
    assert len(missing) == 30
    assert "Missing, 30 of 45: low-svd-1, low-linear-1" in text
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    (linear,) = [row for row in rows if row[0] == "linear" and row[1] == "57,215"]
    assert linear[2:6] == ["5", "0.06000 ± 0.03162", "1.300 ± 0.000", "0 of 5"]
    answers = {row[1]: row[2:] for row in rows if row[0] == "high"}
    assert answers["linear"][:2] == ["2 (2 to 2): hurts", "0.75 (0.75 to 0.75): helps"]
    assert answers["linear"][3] == "1 (1 to 1): neither"
    assert answers["none"][0].endswith("neither")
    assert [row[2:] for row in rows if row[0] == "low"] == [["-"] * 4] * 2
    readouts.write_report(store, path)
    assert path.read_text() == text


def test_kept_lines_outlast_the_runs_and_other_plans_are_ignored(store):
    job, other = jobs.JOBS[:2]
    store.keep({job: result(job, plan="0" * 64), other: result(other)})
    assert store.all() == {other: result(other)}
    store.kept.write_bytes(store.kept.read_bytes()[:-20])
    with pytest.raises(FormatError, match="JSON"):
        store.all()


def test_the_command_line(store, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["readouts.py", "--folder", str(store.folder), *arguments])
        readouts.main()
        return capsys.readouterr().out.splitlines()

    assert run("--jobs") == [job.command for job in jobs.JOBS]
    monkeypatch.setattr(readouts, "run", lambda job, store: result(job))
    said = "high-none-2: MSE 0.5, CV / exact 1.000, losses over untrained: M 0.800, omega 1.000"
    assert run("--only", "high-none-2") == [said]
    monkeypatch.setattr(readouts, "PAGE", tmp_path / "readouts.md")
    assert run("--report") == [f"written: {tmp_path / 'readouts.md'}; missing: {', '.join(jobs.NAMED)}"]
    assert len(run()) == 46
    with pytest.raises(SystemExit, match=r"^2$"):
        run("--only", "high-qr-1")
    assert "no such run: high-qr-1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_resumed_and_read_out(store, monkeypatch):
    spec = batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4, readout="linear")
    plan = batteries.Plan(spec=spec, size=64, steps=4, batch=4, reading_every=2, checkpoint_every=2, optimiser="muon")
    monkeypatch.setattr(jobs.Job, "plan", property(lambda job: plan))
    monkeypatch.setattr(readouts, "PROTOCOL", page.PROTOCOL.model_copy(update={"train": 64, "test": 32}))
    job = named("high-linear-1")
    batteries.train(plan, batteries.NoiseSource(), "noise16-64", folder=store.folder / job.name, until=2)
    found = readouts.run(job, store)
    assert found == store.read(job)
    assert [point.step for point in found.trajectory] == [2, 4]
    assert found.losses != found.untrained
    assert min(found.step_seconds, found.losses.M, found.losses.omega, found.untrained.omega) > 0
    monkeypatch.setattr(batteries, "train", lambda *_, **__: pytest.fail("trained again"))
    assert readouts.run(job, store) == found
