"""Driving a program: each computation once, whoever drives; nothing finished is lost, and the same reports in the end."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from batteries.ablation import driver, run_report
from batteries.ablation.driver import without_report
from batteries.ablation.judged_runs import snapshot
from batteries.ablation.run_report import Timing, path_of
from batteries.engine.tasks import Outcome
from batteries.errors import BatteriesError, ConflictError, FormatError, StoreError
from batteries.io import filesystem
from batteries.io.file_lock import lock
from tests.support.ablations import TINY, changed, report, tiny
from tests.support.faulty_disk import FaultyDisk, HastyDisk

NAMES = ["S/zero/high", "S/one/high", "N/sphere/high", "N/none/high"]


@pytest.fixture
def here(monkeypatch):
    """Make the tasks in this process, of reports made before, and return what was made."""
    made = []

    def one(run, folder):
        made.append(run.name)
        names = {"group": run.group, "variant": run.variant, "identity": run.identity, "plan": run.plan}
        return report().model_copy(update=names), Timing(seconds=1.0, step_seconds=0.1, peak_bytes=1)

    monkeypatch.setattr(driver, "carry_out_run", one)
    return made


def run(tasks):
    """An engine in this process."""
    for task in tasks:
        try:
            yield Outcome(task, task.call(*task.arguments))
        except BatteriesError as error:
            yield Outcome(task, error=error)


carry_out = partial(driver.carry_out, run=run)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("final_report.json")}


def test_runs_that_differ_in_name_alone_are_one_computation(here, tmp_path):
    program, text, runs = tiny()
    shown = []
    found = carry_out(program, text, runs, tmp_path / "a", shown=lambda progress: shown.append(progress.done))
    assert (found.runs, found.done, found.failed) == (4, 4, {})
    assert here == ["S/zero/high", "S/one/high", "N/none/high"]
    assert shown[0] == 0
    assert shown[-1] == 4
    for name in NAMES:
        kept = run_report.read(path_of(tmp_path / "a", name))
        assert kept.name == name
        assert f"batteries train high/{name.replace('/', '-').lower()} " in kept.command
    assert (tmp_path / "a" / "program.toml").read_bytes() == text
    carry_out(program, text, runs, tmp_path / "a")
    assert len(here) == 3


def test_a_part_of_a_program_takes_reports_of_another_part(here, tmp_path):
    program, text, runs = tiny()
    carry_out(program, text, [run for run in runs if run.group == "S"], tmp_path)
    assert {run.name for run in without_report(program, runs, tmp_path)} == {"N/none/high"}
    carry_out(program, text, [run for run in runs if run.group == "N"], tmp_path)
    assert here == ["S/zero/high", "S/one/high", "N/none/high"]
    assert len(files(tmp_path)) == 4


def test_a_run_that_fails_is_left_for_the_next_time(here, tmp_path, monkeypatch):
    program, text, runs = tiny()
    good, failing = driver.carry_out_run, {"S/one/high"}

    def one(run, folder):
        if run.name in failing:
            raise StoreError("no space", code="NO_SPACE")
        return good(run, folder)

    monkeypatch.setattr(driver, "carry_out_run", one)
    found = carry_out(program, text, runs, tmp_path)
    assert found.done == 3
    assert {name: error.code for name, error in found.failed.items()} == {"S/one/high": "NO_SPACE"}
    failing.clear()
    assert carry_out(program, text, runs, tmp_path).done == 4


def test_what_another_driver_holds_is_waited_for_and_not_carried_out(here, tmp_path, monkeypatch):
    program, text, runs = tiny()
    held = tmp_path / ".locks" / f"{runs[1].identity}.lock"
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        assert here == ["S/zero/high", "N/none/high"]
        names = {"variant": "one", "identity": runs[1].identity, "plan": runs[1].plan}
        path = path_of(tmp_path, runs[1].name)
        path.parent.mkdir(parents=True)
        path.write_bytes(report().model_copy(update=names).to_bytes())  # the other one ends

    monkeypatch.setattr(driver.time, "sleep", sleep)
    with lock(held, 0):
        found = carry_out(program, text, runs, tmp_path)
    assert (found.done, waits) == (4, [driver.POLL])
    assert here == ["S/zero/high", "N/none/high"]


def test_other_programs_and_damaged_reports_are_refused_before_any_work(here, tmp_path):
    program, text, runs = tiny()
    carry_out(program, text, runs, tmp_path)
    other, words, theirs = tiny(changed(b'name = "tiny"', b'name = "other"'))
    for refused in (lambda: carry_out(other, words, theirs, tmp_path), lambda: without_report(other, theirs, tmp_path)):
        with pytest.raises(ConflictError, match="OTHER_PROGRAM"):
            refused()
    longer, words, theirs = tiny(changed(b"steps = 4", b"steps = 5"))
    for refused in (lambda: carry_out(longer, words, theirs, tmp_path), lambda: without_report(longer, theirs, tmp_path)):
        with pytest.raises(ConflictError, match="RUN_CHANGED"):
            refused()
    assert (tmp_path / "program.toml").read_bytes() == text
    path = path_of(tmp_path, "S/one/high")
    path.write_bytes(b"{}")
    with pytest.raises(FormatError, match="SCHEMA"):
        carry_out(program, text, runs, tmp_path)
    assert len(here) == 3


def test_workers_end_before_their_claims_when_a_report_cannot_be_written(here, tmp_path, monkeypatch):
    program, text, runs = tiny()
    ended = []

    def two_at_a_time(tasks):
        first, second = itertools.islice(tasks, 2)
        try:
            yield Outcome(first, first.call(*first.arguments))
        finally:
            with pytest.raises(StoreError, match="LOCK_TIMEOUT"), lock(tmp_path / ".locks" / f"{second.name}.lock", 0):
                pass
            ended.append(second.name)

    def full(*given):
        raise StoreError("no space", code="NO_SPACE")

    monkeypatch.setattr(driver._Missing, "finish", full)
    with pytest.raises(StoreError, match="NO_SPACE"):
        driver.carry_out(program, text, runs, tmp_path, run=two_at_a_time)
    assert ended == [runs[1].identity]


def test_a_worker_with_another_working_directory_finds_the_folder(here, tmp_path, monkeypatch):
    program, text, runs = tiny()
    monkeypatch.chdir(tmp_path)
    places = []

    def noted(tasks):
        for task in tasks:
            places.append(task.arguments[1])
            yield Outcome(task, task.call(*task.arguments))

    driver.carry_out(program, text, runs, Path("ablation"), run=noted)
    assert all(place.is_absolute() for place in places)
    assert len(places) == 3


def test_a_folder_that_cannot_be_looked_into_is_typed(here, tmp_path, monkeypatch):
    program, text, runs = tiny()

    def refused(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    for look in (
        lambda: carry_out(program, text, runs, tmp_path),
        lambda: without_report(program, runs, tmp_path),
        lambda: snapshot(tmp_path),
    ):
        with pytest.raises(StoreError, match="DISK"):
            look()


def test_a_program_that_grew_keeps_its_reports(here, tmp_path):
    program, text, runs = tiny()
    carry_out(program, text, runs, tmp_path)
    grown, words, more = tiny(changed(b"one = { seed = 1 }", b"one = { seed = 1 }\ntwo = { seed = 2 }"))
    assert carry_out(grown, words, more, tmp_path).done == 5
    assert here[3:] == ["S/two/high"]
    assert (tmp_path / "program.toml").read_bytes() == words


@pytest.mark.slow
def test_a_full_disk_at_any_write_is_typed_and_loses_nothing(here, tmp_path):
    program, text, runs = tiny()
    for nth in itertools.count(1):
        folder, faulty = tmp_path / str(nth), FaultyDisk(nth, errno.ENOSPC, lasting=True)
        with filesystem.use(faulty):
            try:
                carry_out(program, text, runs, folder)
            except StoreError:  # any other error fails the test
                pass
            else:
                break
        before = files(folder)
        with filesystem.use(HastyDisk()):
            assert carry_out(program, text, runs, folder).done == 4
        assert before.items() <= files(folder).items()
    assert nth > 20


COMMAND = "import sys; from registry.cli import main; sys.exit(main(sys.argv[1:]))"


def ablate(program, folder, **options):
    words = [sys.executable, "-c", COMMAND, "ablate", str(program), "--out", str(folder), "--workers", "1"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.slow
def test_two_drivers_share_a_folder_and_a_killed_one_loses_nothing(tmp_path):
    """Three real drivers, one killed once it has a report, then two at a time: a run begins twice only if it was killed."""
    pytest.importorskip("tensorboard")
    (tmp_path / "tiny.toml").write_bytes(TINY)
    folder = tmp_path / "shared"
    first = ablate(tmp_path / "tiny.toml", folder, start_new_session=True)
    while not files(folder) and first.poll() is None:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    kept = files(folder)
    assert kept
    for two in [ablate(tmp_path / "tiny.toml", folder) for _ in range(2)]:
        out, err = two.communicate(timeout=300)
        assert two.returncode == 0, err
        assert "4 of 4 runs" in out
    assert kept.items() <= files(folder).items()
    begun = {path.parent.parent.relative_to(folder).as_posix() for path in folder.rglob("events.*")}
    assert len(begun) == 3
    twice = [path for path in folder.rglob("events") if len(list(path.iterdir())) > 1]
    assert len(twice) <= 1
    assert not list(folder.rglob("checkpoint.safetensors"))
    assert {json.loads(path.read_bytes())["peak_bytes"] > 0 for path in folder.rglob("timing.json")} == {True}
    whole = ablate(tmp_path / "tiny.toml", tmp_path / "whole")
    _, err = whole.communicate(timeout=300)
    assert whole.returncode == 0, err
    assert files(tmp_path / "whole") == files(folder)
