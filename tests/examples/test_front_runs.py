"""Runs of the front: their store, the command, and tiny runs with real content figures."""

import shutil
import sys

import numpy as np
import pytest

import batteries
from batteries.errors import ConflictError, FormatError, NotFoundError, PolicyError
from batteries.model.patch_svae import arrays_of
from batteries.packaging.package import UNTRAINED_SEED
from registry.viability.readouts import read_outs
from registry.viability.tasks import own_tasks
from tests.support.front import CONTENT, content, front, jobs, named, put, result, training


def test_a_finished_run_is_read_and_one_of_another_plan_is_not(store, monkeypatch):
    monkeypatch.setattr(front.batteries, "train", lambda *_, **__: pytest.fail("trained again"))
    job, other = jobs.JOBS[:2]
    put(store, {job: result(job)})
    assert front.run(job, store) == result(job)
    store.kept.unlink()
    put(store, {job: result(job, plan="0" * 64), other: result(job)})
    assert store.read(job) is store.read(other) is None
    store.path(job).write_bytes(result(job).to_bytes()[:-20])
    with pytest.raises(FormatError, match="JSON"):
        store.read(job)


def test_kept_results_outlast_the_runs_and_own_files_come_first(store, tmp_path, some, monkeypatch):
    monkeypatch.setattr(front.batteries, "train", lambda *_, **__: pytest.fail("trained again"))
    put(store, some)
    front.write_report(store, tmp_path / "front.md")
    text, lines = (tmp_path / "front.md").read_bytes(), store.kept.read_bytes()
    assert lines == b"".join(some[job].to_bytes() for job in jobs.JOBS if job in some)
    shutil.rmtree(store.folder)
    assert store.all() == some
    assert [front.run(job, store) for job in some] == [*some.values()]
    newer, added = next(iter(some)), named("mid-photos-adam-0.01-2")
    front.write_report(store, tmp_path / "front.md")
    assert ((tmp_path / "front.md").read_bytes(), store.kept.read_bytes()) == (text, lines)
    put(store, {newer: result(newer, (1.0, 0.1)), added: result(added)})
    assert store.all() == some | {newer: result(newer, (1.0, 0.1)), added: result(added)}
    front.write_report(store, tmp_path / "front.md")
    assert len(store.kept.read_bytes().splitlines()) == len(some) + 1


def test_kept_lines_of_other_plans_are_ignored_and_damaged_ones_refused(store):
    job, other = jobs.JOBS[:2]
    store.keep({job: result(job, plan="0" * 64), other: result(other)})
    assert store.all() == {other: result(other)}
    assert store.read(job) is None
    store.kept.write_bytes(store.kept.read_bytes()[:-20])
    with pytest.raises(FormatError, match="JSON"):
        store.all()


def test_the_outcome_of_a_run_is_kept_and_other_errors_leave_none(store, monkeypatch):
    job = jobs.JOBS[0]

    def ends_with(error):
        def train(*_, folder, **__):
            assert folder == store.folder / job.name
            raise error

        monkeypatch.setattr(front.batteries, "train", train)

    for error in (ConflictError("another run", code="RUN_CHANGED"), PolicyError("refused", code="OTHER")):
        ends_with(error)
        with pytest.raises(type(error), match=error.code):
            front.run(job, store)
        assert store.all() == {}
    ends_with(PolicyError("training diverged", code="DIVERGED", where="step 312"))
    known = batteries.NoiseSource().facts.digest
    assert front.run(job, store) == store.read(job) == result(job, diverged="step 312", data=known)


def test_steps_are_timed_without_readings(monkeypatch):
    times = iter([10.0, 11.0, 13.0, 20.0, 21.5])
    monkeypatch.setattr(training.time, "process_time", lambda: next(times))
    clock = training.Clock()
    clock.stepped(1, 0.5)
    clock.stepped(2, 0.5)
    clock.stepped(3, 0.5)
    clock.read(None)
    clock.stepped(4, 0.5)
    assert clock.seconds == [1.0, 2.0, 1.5]


def test_photographs_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(front, "_held_at", lambda place: "mate" not in place.parts)
    with pytest.raises(
        NotFoundError, match=r"no photographs to train on in /usr/share/backgrounds/mate/nature:.*NO_PHOTOGRAPHS"
    ) as raised:
        front.source_of.__wrapped__("photos")
    assert "Debian packages mate-backgrounds" in raised.value.remedy


def test_a_place_holds_photographs(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "none").mkdir()
    assert front._held_at(tmp_path)
    assert front._held_at(tmp_path / "[a-b].jpg")
    assert not any(
        map(front._held_at, (tmp_path / "none", tmp_path / "*.png", tmp_path / "missing" / "*.jpg", tmp_path / "missing"))
    )


TINY = batteries.CellSpec.preset("high", patch_size=8, hidden=16, smooth_width=4)


def tiny_plan(job):
    settings = {"steps": 4, "batch": 4, "reading_every": 2, "checkpoint_every": 2, "optimiser": job.setting.optimiser}
    return batteries.Plan(spec=TINY, size=64, rate=job.setting.rate, seed=job.seed, **settings)


@pytest.fixture
def tiny(monkeypatch):
    """Runs of four steps of a tiny cell, and few images for the read-outs."""
    monkeypatch.setattr(jobs.Job, "plan", property(tiny_plan))
    monkeypatch.setattr(content, "PROTOCOL", content.PROTOCOL.model_copy(update={"name": "mine-1", "train": 64, "test": 32}))


@pytest.mark.slow
def test_a_run_resumes_and_its_content_is_that_of_its_weights(store, tiny):
    first, second = named("high-noise-muon-0.04-1"), named("high-noise-muon-0.04-2")
    probe, source = batteries.probe("noise16-64"), batteries.NoiseSource()
    batteries.train(second.plan, source, probe, folder=store.folder / second.name, until=2)
    whole = batteries.train(second.plan, source, probe)
    found = [front.run(job, store) for job in (second, first)]
    assert found == [store.read(second).model_copy(update={"shares": ()}), store.read(first)]
    assert found[0].trajectory == tuple(whole.trajectory)
    assert all(one.step_seconds > 0 for one in found)

    own, S = found[0].content, whole.model.tokens(probe.images).S.detach().numpy().reshape(-1, TINY.D).astype(float)
    assert own.spread == pytest.approx((S.std(axis=0) / S.mean(axis=0)).mean(), rel=1e-4)
    (task,) = own_tasks(batteries.probe("noise16-64"), content.PROTOCOL, 0)
    rows, omega = read_outs(whole.model, task, "cell")
    assert own.losses == training.Losses(M=rows.loss, omega=omega.loss)
    nulls = [read_outs(batteries.untrained(TINY, UNTRAINED_SEED + seed).eval(), task, "untrained") for seed in range(2)]
    assert own.untrained == training.Losses(
        **{one[0].reads: np.mean([figure.loss for figure in one]) for one in zip(*nulls, strict=True)}
    )
    assert found[1].content.untrained == own.untrained

    weights = content._final_weights(second, store.folder / second.name / content.CHECKPOINT)
    assert all(np.array_equal(weights[name], array) for name, array in arrays_of(whole.model).items())
    (share,) = store.read(second).shares  # its partner came last
    assert (share.source, store.read(first).shares) == (1, ())
    assert share.worth == own.worth


@pytest.mark.slow
def test_swaps_take_final_weights_only(store, tiny, tmp_path):
    first, second = named("high-noise-adam-0.01-1"), named("high-noise-adam-0.01-2")
    put(store, {job: result(job, (1.0, 0.5)) for job in (first, second)})
    probe, source = batteries.probe("noise16-64"), batteries.NoiseSource()
    for job, until in ((first, 4), (second, 2)):
        batteries.train(job.plan, source, probe, folder=store.folder / job.name, until=until)
    content.add_shares(first.setting, store)
    assert store.read(second).shares == ()
    batteries.train(second.plan, source, probe, folder=store.folder / second.name)
    front.write_report(store, tmp_path / "front.md")  # makes the missing one
    assert [share.source for share in store.read(second).shares] == [1]
    assert b'"source":1' in store.kept.read_bytes()


def test_the_command_line_of_the_front(store, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["front.py", "--folder", str(store.folder), *arguments])
        front.main()
        return capsys.readouterr().out.splitlines()

    assert run("--jobs") == [job.command for job in jobs.JOBS]
    monkeypatch.setattr(front, "run", lambda job, store: result(job, content=CONTENT))
    assert run("--only", "low-noise-adam-0.001-2") == ["low-noise-adam-0.001-2: MSE 0.5, CV / exact 1.040, worth of omega 1.5"]
    monkeypatch.setattr(front, "PAGE", tmp_path / "front.md")
    assert run("--report") == [f"written: {tmp_path / 'front.md'}; missing: {', '.join(jobs.NAMED)}"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "front.md",
        "front.svg",
        "front-samples.svg",
        "front.jsonl",
        ".front.jsonl.lock",
    }
    assert len(run()) == 109
    for wrong in ("low-noise-adam-0.002-1", "open-noise-adam-0.001-1", "low", "low-noise-adam-1e-3-1"):
        with pytest.raises(SystemExit, match=r"^2$"):
            run("--only", wrong)
        assert f"no such run: {wrong}" in capsys.readouterr().err


def test_an_error_of_a_run_ends_the_command(store, monkeypatch, capsys):
    def refuse(job, store):
        raise NotFoundError("no photographs to train on", code="NO_PHOTOGRAPHS", remedy="Install them.")

    monkeypatch.setattr(front, "run", refuse)
    monkeypatch.setattr(sys, "argv", ["front.py", "--folder", str(store.folder), "--only", "low-photos-adam-0.001-1"])
    with pytest.raises(SystemExit, match=r"^3$"):
        front.main()
    assert capsys.readouterr().err == "no photographs to train on [NO_PHOTOGRAPHS]\n  Install them.\n"
