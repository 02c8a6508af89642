"""Log lines where stderr is no terminal."""

import re
import time

import pytest

from registry.cli.terminal import log_lines
from registry.cli.terminal.log_lines import LogLines
from registry.cli.terminal.progress import TransferBar, working
from tests.support.cells import python

TRAINING = """
import sys, pytest
from registry.cli import main
from registry.cli.terminal import log_lines
from tests.support.viability import measure_little
measure_little(pytest.MonkeyPatch().setattr)
log_lines.INTERVAL = 0.05
sys.exit(main(sys.argv[1:]))
"""


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_line_has_the_time_the_subject_the_count_and_the_part():
    clock = Clock()
    log = LogLines("training low/a", "steps", clock=clock)
    clock.now += 95
    assert log.line() == "0:01:35 training low/a"
    log.show("loss 0.1234", 120, 2000)
    assert log.line() == "0:01:35 training low/a: 120 of 2000 steps, loss 0.1234"
    clock.now += 3600
    log.show("controls", 3, subject="validating low/a")
    assert log.line() == "1:01:35 validating low/a: 3 steps, controls"


def test_bytes_are_counted_in_megabytes():
    log = LogLines("transferring", "bytes", clock=Clock())
    log.show("", 12_300_000, 40_000_000)
    assert log.line() == "0:00:00 transferring: 12.3 of 40.0 MB"


def test_a_line_an_interval_until_the_work_is_done(monkeypatch):
    monkeypatch.setattr(log_lines, "INTERVAL", 0.01)
    lines = []
    with LogLines("composing 3 cells", write=lines.append):
        until = time.monotonic() + 10
        while len(lines) < 3 and time.monotonic() < until:
            time.sleep(0.001)
    ended = len(lines)
    time.sleep(0.05)
    assert len(lines) == ended >= 3
    assert set(lines) == {"0:00:00 composing 3 cells"}


def test_work_that_is_soon_done_says_nothing(capsys):
    with working("verifying"), TransferBar() as bar:
        bar.moved(1, 2)
    assert capsys.readouterr().err == ""


def test_a_hidden_transfer_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(log_lines, "INTERVAL", 0.001)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with TransferBar() as bar:
        bar.moved(1, 2)
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_training_in_a_pipe_says_how_far_it_is(tmp_path):
    words = ("train", "low/a", "--noise", "--steps", 3, "--batch", 4, "--rows", 12, "--hidden", 8, "--size", 32)
    run = python(TRAINING, *words, "--run", tmp_path / "run", "--out", tmp_path, timeout=120)
    lines = [line for line in run.stderr.splitlines() if re.match(r"0:0\d:\d\d training low/a", line)]
    assert lines, run.stderr
    assert all(re.fullmatch(r"0:0\d:\d\d training low/a(: \d+ of 3 steps, loss [\d.e-]+.*)?", line) for line in lines)
    assert "\x1b" not in run.stderr
