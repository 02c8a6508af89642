"""Results of examples that several sessions write at once: none is lost, and each is there once its run has ended."""

import dataclasses
import subprocess
import sys

import pytest

from batteries.errors import StoreError
from batteries.io.file_lock import lock
from tests.support.examples import EXAMPLES, example

distillation, readouts = example("distillation"), example("readouts")
jobs, kept_lines = sys.modules["readouts_jobs"], sys.modules["kept_lines"]

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import kept_lines
for count in range(40):
    kept_lines.merge(Path(sys.argv[2]), lambda before: before + f"{sys.argv[3]} {count}\\n".encode())
"""


def test_processes_that_write_at_once_lose_no_line(tmp_path):
    path = tmp_path / "lines.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(EXAMPLES), str(path), name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = kept_lines.read(path).decode().splitlines()
    assert sorted(lines) == sorted(f"{name} {count}" for name in "ab" for count in range(40))


def test_a_writer_that_waits_too_long_is_a_typed_error(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_lines, "PATIENCE", 0.05)
    with lock(tmp_path / ".lines.jsonl.lock", 0), pytest.raises(StoreError, match="LOCK_TIMEOUT"):
        kept_lines.merge(tmp_path / "lines.jsonl", lambda before: before + b"1\n")
    assert kept_lines.read(tmp_path / "lines.jsonl") == b""


def taught(**changes):
    fields = {"band": "low", "share": 0.5, "seed": 0, "teacher": "a" * 64, "mse": (0.5, 0.25), "axial_cv": 1.0}
    return distillation.Taught(**fields | changes)


def test_runs_of_two_sessions_are_merged_by_identity_and_sorted(tmp_path):
    path = tmp_path / "distillation.jsonl"
    first, second = taught(seed=1), taught()
    for one in (first, second, dataclasses.replace(first, mse=(0.4,))):
        distillation.keep(one, path)
    assert distillation.known(path) == [second, taught(seed=1, mse=(0.4,))]
    earlier = taught(teacher="b" * 64)
    distillation.keep(earlier, path)
    assert earlier in distillation.known(path)


def result(job, **fields):
    own = {"name": job.name, "plan": job.plan_digest, "data": "0" * 64, "trajectory": (), "parameters": 1}
    return jobs.Result(**own | fields)


def test_a_result_is_kept_as_its_run_ends_and_another_session_s_stays(tmp_path):
    here, there = (jobs.Store(tmp_path / name, tmp_path / "readouts.jsonl") for name in ("here", "there"))
    one, other = jobs.JOBS[:2]
    before = here.all()
    here.write(one, result(one))
    there.write(other, result(other, diverged="step 3"))
    assert before == {}
    assert here.read(other) == result(other, diverged="step 3")
    here.keep({one: result(one)})
    assert there.all() == {one: result(one), other: result(other, diverged="step 3")}


def test_a_run_writes_its_line_before_the_report(tmp_path, monkeypatch):
    store, job = jobs.Store(tmp_path / "runs", tmp_path / "readouts.jsonl"), jobs.JOBS[3]
    monkeypatch.setattr(readouts, "_trained", lambda job, folder: result(job))
    readouts.run(job, store)
    assert store.kept.read_bytes() == result(job).to_bytes()
