"""A signal ends the program within about a second, whatever it waits for: real processes, real signals."""

import os
import pty
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from batteries.engine.daemon_threads import side_by_side
from batteries.io import atomic_files
from registry.cli.terminal.interruption import exit_code
from registry.stores.directory import LOCK
from tests.compatibility import works
from tests.support import signals
from tests.support.cells import ROOT, litter, publish, tiny
from tests.support.soak import many

PROGRAM = "import sys; from batteries_entry import main; sys.exit(main())"
SOON = 2.5  # seconds, of which the program takes one on a machine that does other things too
AT_A_LOCK = """
import sys
from pathlib import Path
from batteries.io import filesystem
lock = filesystem.Disk.lock
def waiting(self, path, seconds):
    path.with_name("waiting").touch()
    return lock(self, path, seconds)
filesystem.Disk.lock = waiting
"""


class Slow:
    """A server that never finishes an answer.

    Attributes:
        asked: Set once somebody waits.
    """

    def __init__(self, manner):
        self.asked = threading.Event()
        self._manner = manner
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._socket.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection:
            if self._manner != "no handshake":
                connection.recv(65536)
            if self._manner == "asks to wait":
                connection.sendall(b"HTTP/1.1 429 Later\r\nRetry-After: 15\r\nContent-Length: 0\r\n\r\n")
            if self._manner == "drips":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            self.asked.set()
            try:
                for _ in range(600):
                    time.sleep(0.05)
                    if self._manner == "drips":
                        connection.sendall(b"x" * 200)
            except OSError:
                return


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*arguments, program=PROGRAM, **environment):
        changes = {"BATTERIES_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", **environment}
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ended(process, number, tmp_path):
    """Send a signal, and look at how the process ends."""
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    before = time.monotonic()
    out, err = process.communicate(timeout=20)
    seconds = time.monotonic() - before
    assert process.returncode == exit_code(number)
    assert "Traceback" not in err
    assert out == ""
    assert litter(tmp_path) == []
    assert seconds < SOON
    return err


def until(true, seconds=30):
    """Wait."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manner", "number"),
    [
        ("silent", signal.SIGINT),
        ("drips", signal.SIGINT),
        ("asks to wait", signal.SIGTERM),
        ("no handshake", signal.SIGTERM),
        ("silent", signal.SIGHUP),
    ],
)
@works("Disks and systems", "Ctrl-C, SIGTERM and SIGHUP while a server is silent, drips, or asks to wait")
def test_a_transfer_is_interrupted(start, tmp_path, manner, number):
    slow = Slow(manner)
    scheme = "https" if manner == "no handshake" else "http"
    process = start("pull", "low/x", "--registry", "hf://a/b", HF_ENDPOINT=f"{scheme}://127.0.0.1:{slow.port}")
    assert slow.asked.wait(30)
    time.sleep(0.1)
    ended(process, number, tmp_path)
    slow.close()


@pytest.mark.slow
@works("Disks and systems", "Ctrl-C, SIGTERM and SIGHUP while another process holds the lock of a registry")
def test_a_wait_for_a_lock_is_interrupted(start, tmp_path):
    publish(tiny(), tmp_path / "registry")
    with atomic_files.lock(tmp_path / "registry" / LOCK, 1):
        arguments = ("yank", "high/tiny@1.0.0", "--reason", "x", "--registry", tmp_path / "registry")
        process = start(*arguments, program=AT_A_LOCK + PROGRAM)
        until(lambda: (tmp_path / "registry" / "waiting").exists() or process.poll() is not None)
        ended(process, signal.SIGINT, tmp_path)


@pytest.mark.slow
@works("Disks and systems", "Ctrl-C and SIGTERM while torch computes")
def test_a_training_is_interrupted(start, tmp_path):
    events = tmp_path / "events"
    arguments = ("train", "low/x", "--noise", "--steps", "100000", "--run", tmp_path / "run", "--events", events)
    process = start(*arguments)
    until(lambda: events.exists() or process.poll() is not None)
    time.sleep(1)
    ended(process, signal.SIGTERM, tmp_path)


HANGS = """
import hashlib, signal, sys, threading, time
from registry.cli import program
from registry.cli.terminal import interruption
interruption.install()
threading.Thread(target=lambda: time.sleep(60)).start()  # not a daemon: the interpreter would wait for it
def work(arguments=None):
    print("at work", file=sys.stderr, flush=True)
    {work}
    return 0
program.run = work
from batteries_entry import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "work",
    ["time.sleep(60)", "hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**8)", "threading.Event().wait(60)"],
    ids=["thread left", "in C", "waiting"],
)
@pytest.mark.slow
def test_what_cannot_be_interrupted_is_ended(work):
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS.format(work=work)], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr.readline() == "at work\n"
    process.send_signal(signal.SIGTERM)
    before = time.monotonic()
    process.communicate(timeout=20)
    assert time.monotonic() - before < SOON
    assert process.returncode == 143


@pytest.mark.slow
def test_what_nohup_ignores_stays_ignored(start, tmp_path):
    slow = Slow("silent")
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", PROGRAM, "list", "--registry", "hf://a/b"],
        cwd=ROOT,
        env={**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{slow.port}", "BATTERIES_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert slow.asked.wait(30)
    process.send_signal(signal.SIGHUP)
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    slow.close()


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_is_no_traceback(tmp_path):
    """The terminal sends the signal itself, as a user's Ctrl-C does."""
    slow = Slow("silent")
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{slow.port}", "BATTERIES_HOME": str(tmp_path)}
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, "list", "--registry", "hf://a/b"])
    assert slow.asked.wait(30)
    time.sleep(0.1)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert b"Traceback" not in os.read(terminal, 10000)
    os.close(terminal)
    slow.close()


def test_jobs_side_by_side_end_in_order_of_need():
    assert dict(side_by_side([lambda n=n: n * n for n in range(50)], 8)) == {n: n * n for n in range(50)}
    assert list(side_by_side([], 8)) == []


def test_an_error_of_a_job_waits_for_those_under_way_and_begins_no_other():
    begun, ended = [], []

    def job(number):
        begun.append(number)
        if number == 0:
            raise ValueError("no")
        time.sleep(0.1)
        ended.append(number)

    with pytest.raises(ValueError, match="no"):
        list(side_by_side([lambda n=n: job(n) for n in range(100)], 4))
    assert sorted(begun[1:]) == sorted(ended)
    assert len(begun) < 20


def test_whoever_is_interrupted_waits_for_no_job():
    release = threading.Event()
    found = side_by_side([lambda: 1, *[lambda: release.wait(30)] * 7], 8)
    assert next(found) == (0, 1)
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt, match="by hand"):
        found.throw(KeyboardInterrupt("by hand"))
    assert time.monotonic() - before < 1
    release.set()


def test_without_threads_the_jobs_are_done_all_the_same(monkeypatch):
    def fail(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert dict(side_by_side([lambda: 1, lambda: 2], 8)) == {0: 1, 1: 2}


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 2], ids=["before the command", "after it"])
def test_a_signal_while_handlers_are_set_is_one_line(call):
    program = f"""
import batteries_entry as entry
calls = []
def interrupted():
    calls.append(1)
    if len(calls) == {call}:
        raise KeyboardInterrupt
entry._leave_at_once_on_signals = interrupted
entry._run = lambda: 0
entry.main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@works(
    "Disks and systems",
    "Ctrl-C and SIGTERM at any moment from the start on, imports included: the exit code and one line",
    note="while Python itself starts, which takes some hundredths of a second, Ctrl-C may be its traceback",
)
def test_a_signal_at_any_moment_is_one_line(tmp_path, number):
    known = {"exit code and one line", "finished before", signals.BY_THE_SYSTEM, signals.BY_PYTHON}
    draw = random.Random(number)
    for _ in range(many(6, 200)):
        words, delay = draw.choice(signals.COMMANDS), draw.uniform(0.05, 2)
        code, lines, *_ = signals.signalled(words, number, delay, tmp_path)
        assert signals.outcome(number, code, lines) in known, (words, delay, lines)
