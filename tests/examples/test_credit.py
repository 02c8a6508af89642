"""The credit study: its jobs, its lines under a lock, its page from results made by hand, and a tiny run."""

import sys

import pytest

from composer import audit, credit, hosts
from tests.support.credit import batches, mlp
from tests.support.examples import example

study = example("credit")
jobs, runs, page, expected = (sys.modules[f"credit_{name}"] for name in ("jobs", "runs", "page", "expectations"))


def line(job, accuracy=0.5, growth=1.5, first=None, cosine=0.9, z=None):
    report = audit.audit(mlp(), batches(), baseline=audit.Baseline.of(mlp(), batches()))
    diagnostics = [
        one.model_copy(update={"value": growth, "fired": growth > 50}) if one.key == "a" else one for one in report.diagnostics
    ]
    report = report.model_copy(update={"diagnostics": tuple(diagnostics), "accuracy": accuracy, "accuracy_lower": accuracy})
    moments = tuple(jobs.Moment(epoch=e, accuracy=accuracy, growth=growth, gradient=0.1, stability=0.0) for e in (0, 100))
    null = {} if z is None else {"null_own": 0.1, "null_mean": 0.0, "null_deviation": 0.01, "null_z": z}
    first = first or dict.fromkeys("abcd")
    return jobs.Line(
        name=job.name, plan=job.digest, report=report, first=first, moments=moments, cosine=(cosine,) * 4, seconds=1.0, **null
    )


def reference():
    accuracies = {"frozen": 0.38, "bp": 0.54, "fa": 0.4, "dfa": 0.18, "dfa+0.0001": 0.2, "dfa+0.01": 0.26, "ep": 0.53}
    fired = {"a": 8, "b": 3, "c": None, "d": 0}
    made = {}
    for job in jobs.jobs():
        if job.set == "reference" and job.rule in accuracies:
            exploding = job.rule == "dfa"
            accuracy = accuracies[job.rule] + job.seed / 1000
            growth, first = (265.0, fired) if exploding else (1.5, None)
            z = {"dfa+0.01": 20.0, "dfa+0.0001": 1.0}.get(job.rule)
            made[job] = line(job, accuracy, growth, first, 0.15 if exploding else 0.9, z)
        elif job.set == "terminal norm" and job.rule == "dfa":
            made[job] = line(job, 0.2, 400.0, fired | {"b": None})
    return made


def test_every_run_has_one_name_and_a_baseline_before_it():
    every = jobs.jobs()
    names = [job.name for job in every]
    assert len(set(names)) == len(names) == len({job.digest for job in every})
    assert all(job.baseline in every for job in every)
    rules = [job.rule == "frozen" for job in every]
    assert rules == sorted(rules, reverse=True)
    assert {job.epochs for job in jobs.jobs(30, 1)} == {30}
    assert {job.seed for job in jobs.jobs(30, 1)} == {1}


def test_lines_are_merged_and_the_last_counts(tmp_path):
    path = tmp_path / "results" / "credit.jsonl"
    one, other = jobs.jobs()[:2]
    for job, accuracy in ((other, 0.1), (one, 0.2), (other, 0.3)):
        jobs.keep(path, line(job, accuracy))
    found = jobs.known(path, jobs.jobs())
    assert {job: one.report.accuracy for job, one in found.items()} == {one: 0.2, other: 0.3}
    assert len(path.read_bytes().splitlines()) == 2
    changed = line(one).model_copy(update={"plan": "0" * 64})
    jobs.keep(path, changed)
    assert list(jobs.known(path, jobs.jobs())) == [other]


def test_the_page_has_intervals_expectations_and_strategies(tmp_path):
    path = tmp_path / "credit.jsonl"
    found = reference()
    path.write_bytes(b"".join(one.to_bytes() for one in found.values()))
    target = tmp_path / "credit.md"
    target.write_text("# By hand\n\nConclusions stay.\n")
    page.write(path, target, 100)
    text = target.read_text()
    assert text.startswith("# By hand\n\nConclusions stay.\n")
    assert "0.543 (0.541 to 0.545)" in text
    assert "5 walked back by a" in text
    assert "yes" in text.split("DFA below the frozen baseline")[1].split("\n")[0]
    assert "1.5 to 265" in text  # the range of the first threshold
    assert (tmp_path / "credit-100.svg").read_text().count("<polyline") == 3 * 35


def test_a_page_shows_a_picture_only_where_it_draws_one(tmp_path):
    path, target = tmp_path / "credit.jsonl", tmp_path / "credit.md"
    path.write_bytes(b"".join(line(job).to_bytes() for job in jobs.jobs() if job.set == "tasks" and job.seed == 1))
    page.write(path, target, 100)
    assert "tasks 8 of 24" in target.read_text()
    assert ".svg" not in target.read_text()
    assert list(tmp_path.glob("*.svg")) == []


def test_expectations_are_met_missed_or_open():
    rows = {row[0]: row[2] for row in expected.expectations(reference())}
    assert rows["FA between DFA and BP"] == "yes"
    assert rows["DFA: (b) fires with a terminal LayerNorm and never without"] == "yes"
    assert rows["penalty 1e-2: own feedback more than 3 standard errors above fresh"] == "yes"
    worse = {job: (line(job, 0.6) if job.rule == "dfa" else one) for job, one in reference().items()}
    assert {row[0]: row[2] for row in expected.expectations(worse)}["FA between DFA and BP"] == "**no**"
    assert {row[2] for row in expected.expectations({})} == {"open"}


@pytest.mark.parametrize("host", ["mlp-32x2", "student", "vit", "cnn"])
def test_hosts_fit_their_task(host):
    task = credit.noise_task((1, 1))
    made = runs.host_of(host, task, 0)
    data = task.flat() if isinstance(made, hosts.ResidualMLP) else task
    assert made(data.train[0]).shape == (16, 16)


def test_a_tiny_run_is_repeatable(monkeypatch):
    monkeypatch.setattr(runs, "task_of", lambda name: credit.noise_task((20, 30)))
    frozen = jobs.Job("reference", "noise", "mlp-16x2", "frozen", 1, 2)
    baseline = runs.run(frozen, None).baseline
    job = jobs.Job("reference", "noise", "mlp-16x2", "dfa+0.01", 1, 2)
    one, again = (runs.run(job, baseline) for _ in range(2))
    assert one.model_copy(update={"seconds": 0.0}) == again.model_copy(update={"seconds": 0.0})
    assert one.report.baseline == baseline.accuracy
    assert [moment.epoch for moment in one.moments] == [0, 1, 2]
    assert one.initial == ()
    assert one.null_z is not None


def test_a_run_that_diverges_is_a_result(monkeypatch):
    task = credit.noise_task((20, 30))
    task.train[0][0, 0, 0, 0] = float("nan")
    monkeypatch.setattr(runs, "task_of", lambda name: task)
    found = runs.run(jobs.Job("reference", "noise", "mlp-16x2", "bp", 1, 1), None)
    assert (found.diverged, found.report) == ("epoch 1", None)
