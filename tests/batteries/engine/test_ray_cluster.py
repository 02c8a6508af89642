"""Tasks on a real Ray of this machine: the same contract as processes, a killed worker, a killed driver, several addresses."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import batteries
from batteries import ablation
from batteries.engine.task_runner import in_this_process, run
from batteries.engine.tasks import Task
from batteries.errors import BatteriesError, InputError, TransportError
from tests.support import tasks
from tests.support.ablations import tiny as tiny_ablation
from tests.support.cells import from_model, tiny
from tests.support.commands import run as command
from tests.support.engine_cells import named_verdict
from tests.support.processes import gone
from tests.support.viability import SPEC

ray = pytest.importorskip("ray")
ROOT = Path(__file__).parents[3]
LIMIT = 30  # seconds within which Ray starts, and its processes end
pytestmark = [
    pytest.mark.slow,
    # Ray closes the files of its logs when the program ends, and the streams of processes that it started even later
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    """One Ray of two processors, which this program has joined: runs use it and leave it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler)


def marks(folder, count):
    """Wait for marks of tasks, and return their processes."""
    return [*tasks.left(folder, "nap*", count, LIMIT).values()]


def test_tasks_fail_alone_and_typed_and_the_others_are_done():
    rows = [
        Task("a", tasks.square, (2,)),
        Task("poisoned", tasks.raises, (ZeroDivisionError("by zero"),)),
        Task("refused", tasks.refuses),
        Task("own", lambda: len("abc")),
        Task("leaves", tasks.leaves, (3,)),
        Task("unread", tasks.unreadable),
        Task("threads", tasks.surroundings),
    ]
    found = {outcome.task.name: outcome for outcome in run(rows, engine="ray")}
    assert (found["a"].value, found["own"].value, found["threads"].value[:3]) == (4, 3, (1, "1", ""))
    codes = {name: found[name].error.code for name in ("poisoned", "refused", "leaves", "unread")}
    assert codes == {"poisoned": "TASK_FAILED", "refused": "WRONG", "leaves": "TASK_FAILED", "unread": "TASK_FAILED"}
    assert "in raises" in found["poisoned"].error.__notes__[0]
    assert (type(found["refused"].error), found["refused"].error.found) == (InputError, (1, 2))
    assert ray.is_initialized()


def test_the_task_of_a_killed_worker_runs_again_and_one_that_kills_every_worker_is_given_up(tmp_path):
    rows = [Task("again", tasks.killed_at_first, (tmp_path,)), Task("never", tasks.killed), Task("a", tasks.square, (2,))]
    found = {outcome.task.name: outcome for outcome in run(rows, engine="ray:auto", workers=2, retries=1)}
    assert (found["again"].value, found["again"].attempts, found["a"].value) == ("second", 2, 4)
    assert (type(found["never"].error), found["never"].error.code, found["never"].attempts) == (
        BatteriesError,
        "WORKER_LOST",
        2,
    )


def test_a_worker_that_is_killed_from_outside_is_replaced(tmp_path):
    def kill():
        os.kill(marks(tmp_path, 2)[0], signal.SIGKILL)

    naps = [Task(f"nap{n}", tasks.marked_nap, (tmp_path, f"nap{n}", 1.0)) for n in range(2)]
    victim = threading.Thread(target=kill)
    victim.start()
    found = sorted((outcome.value, outcome.attempts) for outcome in run(naps, engine="ray", workers=2))
    victim.join()
    assert [name for name, _ in found] == ["nap0", "nap1"]
    assert sorted(attempts for _, attempts in found) == [1, 2]


def test_an_early_end_cancels_what_runs(tmp_path):
    rows = [Task("quick", tasks.square, (2,)), Task("nap", tasks.marked_nap, (tmp_path, "nap", 60))]
    with closing(run(rows, engine="ray", workers=2)) as outcomes:
        assert next(outcomes).value == 4
        pids = marks(tmp_path, 1)
    assert gone(pids, LIMIT)


def test_a_worker_of_another_version_ends_the_run(monkeypatch):
    monkeypatch.setattr("batteries.engine.ray_cluster.__version__", "9.9.9")
    with pytest.raises(InputError) as raised:
        list(run([Task("a", tasks.square, (2,))], engine="ray"))
    assert (raised.value.code, raised.value.expected, raised.value.found) == ("ENGINE_VERSION", "9.9.9", batteries.__version__)


def test_another_cluster_than_the_one_that_is_joined_is_refused():
    with pytest.raises(InputError, match="ENGINE"):
        list(run([Task("a", tasks.square, (2,))], engine="ray://127.0.0.1:10001"))


def test_a_name_that_no_host_can_have_is_unreachable(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(TransportError, match="ENGINE_UNREACHABLE"):
        list(run([Task("a", tasks.square, (2,))], engine=f"ray://{'a' * 100}:10001"))


@pytest.mark.parametrize("scheme", ["ray:", "ray://"])
def test_a_cluster_that_does_not_answer_is_unreachable(monkeypatch, scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(TransportError, match="ENGINE_UNREACHABLE"):
        list(run([Task("a", tasks.square, (2,))], engine=f"{scheme}127.0.0.1:{port}"))


@pytest.mark.usefixtures("few_matrices")
def test_a_command_on_ray_writes_the_file_of_one_thread_and_answers_alone_on_stdout(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("registry.validate", named_verdict)
    cells = [tiny("good").write(tmp_path), tiny("killer").write(tmp_path)]
    code, out, _ = command(capsys, "validate", *cells, "--engine", "ray", "--workers", "2", "--json")
    assert code == 1
    answer = json.loads(out)
    assert [row["verdict"] for row in answer["reports"]] == ["viable"]
    assert [row["error"]["code"] for row in answer["failures"]] == ["WORKER_LOST"]
    cell = from_model(SPEC, 0, "a").write(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "image.png")
    words = ["encode", cell, tmp_path / "image.png", "--tokens", "omega,M"]
    assert command(capsys, *words, "--threads", "1", "--out", tmp_path / "here.npz")[0] == 0
    assert command(capsys, *words, "--engine", "ray", "--out", tmp_path / "there.npz")[0] == 0
    assert (tmp_path / "here.npz").read_bytes() == (tmp_path / "there.npz").read_bytes()


DRIVER = """
import os, signal, sys
from pathlib import Path
from batteries import ablation
from batteries.engine.task_runner import in_this_process, run
from batteries.engine.tasks import Task
from tests.support import tasks
from tests.support.ablations import tiny as tiny_ablation

folder = Path(sys.argv[1])
before = signal.getsignal(signal.SIGTERM)
work = [*(Task(f"quick{n}", tasks.square, (n,)) for n in range(3)), Task("nap", tasks.marked_nap, (folder, "nap", 60))]
for outcome in run(work, engine="ray", workers=2):
    assert signal.getsignal(signal.SIGTERM) is before
    (folder / outcome.task.name).write_text(str(outcome.value))
"""
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # for a minute they ask the cluster that is gone; then they end


def started_by(pid):
    """Processes that a process started, and those that they started, but for Ray's agents."""
    below = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            below.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += below.get(one, [])
    return [one for one in found[1:] if not Path(f"/proc/{one}/cmdline").read_text().startswith(AGENTS)]


def busy_workers():
    """Processes of Ray that work on a task; an idle one says so in its title."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            title = path.read_bytes()
            if title.startswith(b"ray::") and not title.startswith((b"ray::IDLE", b"ray::Dashboard", b"ray::Runtime")):
                yield int(path.parent.name)


def test_an_ablation_on_ray_has_the_same_reports_with_a_worker_killed_in_the_middle(tmp_path):
    program, text, runs = tiny_ablation()
    killed = []

    def kill_one():
        end = time.monotonic() + LIMIT
        while not killed and time.monotonic() < end:
            for pid in busy_workers():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = ablation.carry_out(program, text, runs, tmp_path / "ray", run=partial(run, engine="ray", workers=2))
    killer.join()
    assert len(killed) == 1
    assert (found.done, found.failed) == (4, {})
    with batteries.threads(1):
        ablation.carry_out(program, text, runs, tmp_path / "here", run=in_this_process)
    there, here = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("final_report.json")}
        for folder in (tmp_path / "ray", tmp_path / "here")
    )
    assert len(there) == 4
    assert there == here


def test_a_killed_driver_loses_nothing_finished_and_takes_its_cluster_with_it(tmp_path):
    with subprocess.Popen([sys.executable, "-W", "error", "-c", DRIVER, tmp_path], cwd=ROOT) as driver:
        (worker,) = marks(tmp_path, 1)
        finished = tasks.left(tmp_path, "quick*", 3, LIMIT)
        started = started_by(driver.pid)
        driver.kill()
    assert worker in started
    assert len(started) > 3
    assert gone(started, LIMIT)
    assert finished == {"quick0": 0, "quick1": 1, "quick2": 4}
