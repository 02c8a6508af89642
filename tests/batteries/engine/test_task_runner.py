"""Tasks in processes: outcomes as they end, one failure at a time, nothing lost and no process left behind."""

import ast
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

import batteries
from batteries import errors
from batteries.engine import tasks as engine_tasks
from batteries.engine.engine_address import EngineAddress
from batteries.engine.task_runner import granted, run
from batteries.engine.tasks import Task, answered, attempted
from batteries.errors import BatteriesError, ConflictError, InputError, UnknownKeyError
from tests.support import tasks
from tests.support.processes import gone

ROOT = Path(__file__).parents[3]
LIMIT = 10  # seconds within which processes end


def children():
    """Processes that this one started."""
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@pytest.fixture(autouse=True)
def _no_process_left():
    before = children()
    yield
    assert gone(children() - before, LIMIT)


def script(tmp_path, text, *arguments):
    """Start a program of its own."""
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, path, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def marks(folder, count):
    """Wait for marks of tasks, and return their processes."""
    return [*tasks.left(folder, "nap*", count, LIMIT).values()]


def test_outcomes_arrive_as_they_end():
    first, second, third = run(
        [Task("long", tasks.nap, (1.0,)), Task("a", tasks.square, (2,)), Task("b", tasks.square, (3,))], workers=2
    )
    assert (first.task.name, first.value, second.value, third.task.name) == ("a", 4, 9, "long")
    assert (first.error, first.attempts, first.result()) == (None, 1, 4)


def test_a_worker_is_used_for_many_tasks_and_no_more_are_started_than_allowed():
    pids = {outcome.value for outcome in run((Task(str(n), tasks.nap, (0.05,)) for n in range(8)), workers=2)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_tasks_are_drawn_as_workers_are_free():
    drawn = []

    def draw():
        for number in range(1000):
            drawn.append(number)
            yield Task(str(number), tasks.square, (number,))

    with closing(run(draw(), workers=2)) as outcomes:
        assert next(outcomes).error is None
    assert len(drawn) <= 5


@pytest.mark.slow
def test_a_task_has_one_thread_and_no_input_whatever_the_last_one_did():
    found = [outcome.result() for outcome in run([Task(str(n), tasks.surroundings) for n in range(2)], workers=1)]
    assert [row[:3] for row in found] == [(1, "1", "")] * 2
    assert found[0][3] == found[1][3]


def test_output_of_tasks_is_on_stderr(tmp_path):
    program = """
        from batteries.engine.task_runner import run
        from batteries.engine.tasks import Task
        from tests.support import tasks

        print([outcome.error for outcome in run([Task("a", tasks.prints)], workers=1)])
    """
    out, said = script(tmp_path, program).communicate(timeout=LIMIT)
    assert (out, said) == ("[None]\n", "from a task\nfrom its descriptor\n")


@pytest.mark.parametrize(
    ("call", "arguments", "kind", "code", "found"),
    [
        (tasks.raises, (ZeroDivisionError("by zero"),), BatteriesError, "TASK_FAILED", "ZeroDivisionError: by zero"),
        (tasks.refuses, (), InputError, "WRONG", (1, 2)),
        (tasks.misses, (), UnknownKeyError, "NO_CHECK", "b"),
        (tasks.leaves, (3,), BatteriesError, "TASK_FAILED", "SystemExit: 3"),
        (tasks.interrupts, (), BatteriesError, "TASK_FAILED", "KeyboardInterrupt"),
        (tasks.locked, (), BatteriesError, "TASK_FAILED", "TypeError: cannot pickle '_thread.lock' object"),
        (tasks.unreadable, (), BatteriesError, "TASK_FAILED", "ValueError: unreadable"),
        (tasks.square, (threading.Lock(),), BatteriesError, "TASK_FAILED", "TypeError: cannot pickle '_thread.lock' object"),
        (tasks.square, ("two",), BatteriesError, "TASK_FAILED", None),
        (tasks.killed, (), BatteriesError, "WORKER_LOST", "a process ended by SIGKILL"),
        (tasks.killed_while_it_answers, (), BatteriesError, "WORKER_LOST", "a process ended by SIGKILL"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_poisoned_task_fails_alone_and_typed(call, arguments, kind, code, found):
    poisoned = Task("poisoned", call, arguments)
    others = [Task(str(number), tasks.square, (number,)) for number in range(3)]
    by_name = {outcome.task.name: outcome for outcome in run([others[0], poisoned, *others[1:]], workers=2, retries=1)}
    outcome = by_name.pop("poisoned")
    assert (type(outcome.error), outcome.error.code, outcome.value) == (kind, code, None)
    assert found is None or outcome.error.found == found
    assert outcome.attempts == (2 if code == "WORKER_LOST" else 1)
    assert {name: other.result() for name, other in by_name.items()} == {"0": 0, "1": 1, "2": 4}
    with pytest.raises(kind) as raised:
        outcome.result()
    assert raised.value.code == code


def test_a_failure_brings_its_traceback():
    (outcome,) = run([Task("a", tasks.raises, (ZeroDivisionError("by zero"),))], workers=1)
    (note,) = outcome.error.__notes__
    assert "in raises" in note
    assert "raise error" in note


def test_an_error_with_a_value_that_cannot_be_pickled_keeps_its_words():
    (outcome,) = run([Task("a", tasks.refuses_with_a_lock)], workers=1)
    assert outcome.error.code == "WRONG"
    assert outcome.error.found.startswith("<unlocked _thread.lock")


ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BatteriesError)]


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_keeps_its_fields_in_a_pickle(kind, protocol):
    error = kind("fault", code="C", expected=1, found=(2, Path("a")), where="w", remedy="r", retryable=True)
    error.add_note("note")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert (type(again), vars(again), str(again), again.args) == (kind, vars(error), str(error), error.args)
    assert again.exit_code == error.exit_code


def test_the_task_of_a_lost_worker_runs_again(tmp_path):
    (outcome,) = run([Task("a", tasks.killed_at_first, (tmp_path,))], workers=2)
    assert (outcome.value, outcome.attempts) == ("second", 2)


def test_a_worker_that_is_killed_costs_its_own_task_alone(tmp_path):
    naps = [Task(f"nap{n}", tasks.marked_nap, (tmp_path, f"nap{n}", 0.7)) for n in range(2)]
    with closing(run(naps, workers=2, retries=0)) as outcomes:
        found = {}
        victim = threading.Thread(target=lambda: os.kill(marks(tmp_path, 2)[0], signal.SIGKILL))
        victim.start()
        found = sorted(outcome.error.code if outcome.error else "done" for outcome in outcomes)
        victim.join()
    assert found == ["WORKER_LOST", "done"]


def test_a_worker_that_is_killed_in_the_middle_of_its_answer_costs_its_own_task_alone(tmp_path):
    quick, long = Task("quick", tasks.square, (2,)), Task("long", tasks.nap, (1.0,))
    with closing(run([quick, Task("nap", tasks.marked_answer, (tmp_path, "nap", 10**8)), long], workers=2)) as outcomes:
        assert next(outcomes).task is quick
        (sender,) = marks(tmp_path, 1)
        time.sleep(0.5)  # it waits for this process to read
        os.kill(sender, signal.SIGKILL)
        found = {outcome.task.name: (outcome.attempts, outcome.error) for outcome in outcomes}
    assert found == {"nap": (2, None), "long": (1, None)}


def test_an_idle_worker_that_is_killed_costs_nothing():
    with closing(run((Task(str(n), tasks.nap, (0.05 if n else 0.3,)) for n in range(6)), workers=2)) as outcomes:
        idle = next(outcomes).value
        os.kill(idle, signal.SIGKILL)
        assert [outcome.error for outcome in outcomes if outcome.attempts > 2] == []


@pytest.mark.parametrize("end", ["close", "throw", "stop"])
def test_an_early_end_leaves_no_process(tmp_path, end):
    stop = threading.Event()
    quick, naps = (
        Task("quick", tasks.square, (2,)),
        [Task(f"nap{n}", tasks.marked_nap, (tmp_path, f"nap{n}", 60)) for n in range(2)],
    )
    outcomes = run([quick, *naps], workers=3, stop=stop)
    assert next(outcomes).value == 4
    pids = marks(tmp_path, 2)
    if end == "close":
        outcomes.close()
    elif end == "throw":
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            outcomes.throw(KeyboardInterrupt("Ctrl-C"))
    else:
        stop.set()
        assert list(outcomes) == []
    assert gone(pids, LIMIT)


def test_an_exception_in_the_caller_leaves_no_process(tmp_path):
    def call():
        for outcome in run(
            [Task("quick", tasks.square, (2,)), Task("nap", tasks.marked_nap, (tmp_path, "nap", 60))], workers=2
        ):
            marks(tmp_path, 1)
            raise ZeroDivisionError(outcome.value)

    with pytest.raises(ZeroDivisionError, match="4"):
        call()
    assert gone(marks(tmp_path, 1), LIMIT)


def test_a_command_line_of_any_length_and_modules_beside_it_are_no_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*sys.argv, *["x" * 50] * 8000])  # more than the system takes as one argument, or a pipe
    monkeypatch.chdir(tmp_path)
    for name in ("json", "signal", "sys", "multiprocessing"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError")
    (outcome,) = run([Task("square", tasks.square, (3,))], workers=1)
    assert (outcome.value, outcome.attempts) == (9, 1)


DRIVER = """
    import sys
    from pathlib import Path
    from batteries.engine.task_runner import run
    from batteries.engine.tasks import Task
    from tests.support import tasks

    folder = Path(sys.argv[1])
    quick = [Task(f"quick{n}", tasks.square, (n,)) for n in range(5)]
    naps = [Task(f"nap{n}", tasks.marked_nap, (folder, f"nap{n}", 60)) for n in range(2)]
    for outcome in run([*quick, *naps], workers=2):
        (folder / outcome.task.name).write_text(str(outcome.value))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_is_ended_loses_nothing_finished_and_leaves_no_worker(tmp_path, number):
    with script(tmp_path, DRIVER, tmp_path) as driver:
        workers = marks(tmp_path, 2)
        finished = tasks.left(tmp_path, "quick*", 5, LIMIT)
        driver.send_signal(number)
        driver.communicate(timeout=LIMIT)
    assert driver.returncode == -number
    assert gone(workers, LIMIT)
    assert finished == {f"quick{n}": n * n for n in range(5)}


PROGRAM = """
    from operator import neg
    from batteries.engine.task_runner import run
    from batteries.engine.tasks import Task

    def double(number):
        return 2 * number

    def work():
        print(sorted(outcome.result() for outcome in run([Task(str(n), double, (n,)) for n in range(2)], workers=2)))

"""


def test_functions_of_a_program_need_its_guard(tmp_path):
    guarded, bare = "if __name__ == '__main__':\n        work()", "work()"
    out, said = script(tmp_path, f"{PROGRAM}    {guarded}\n").communicate(timeout=LIMIT)
    assert (out, said) == ("[0, 2]\n", "")
    out, said = script(tmp_path, f"{PROGRAM}    {bare}\n").communicate(timeout=LIMIT)
    assert out == ""
    assert "program runs tasks when it is loaded" in said
    assert "[MAIN_GUARD]" in said


def test_a_program_without_a_guard_may_run_functions_of_modules(tmp_path):
    program = PROGRAM.replace("double, (n", "neg, (n") + "    work()\n"
    out, said = script(tmp_path, program).communicate(timeout=LIMIT)
    assert (out, said) == ("[-1, 0]\n", "")


def test_a_prompt_runs_functions_of_modules_and_names_its_own_as_the_fault():
    lines = """
        from batteries.engine.task_runner import run
        from batteries.engine.tasks import Task
        from operator import neg
        def own(number): return number
        tasks = [Task("a", neg, (1,)), Task("b", own, (1,))]
        print(sorted(str(o.error.code if o.error else o.value) for o in run(tasks, workers=1)))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(lines)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ast.literal_eval(ran.stdout) == ["-1", "NO_PROGRAM"]


def test_a_module_that_is_run_is_loaded_by_its_name(tmp_path):
    (tmp_path / "own_program.py").write_text(textwrap.dedent(PROGRAM) + "if __name__ == '__main__':\n    work()\n")
    ran = subprocess.run([sys.executable, "-m", "own_program"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "[0, 2]\n"


def test_a_worker_of_another_version_ends_the_run(monkeypatch):
    monkeypatch.setattr("batteries.engine.worker_processes.__version__", "9.9.9")
    with pytest.raises(InputError) as raised:
        list(run([Task("a", tasks.square, (2,))], workers=1))
    assert (raised.value.code, raised.value.expected, raised.value.found) == ("ENGINE_VERSION", "9.9.9", batteries.__version__)


def test_a_system_that_starts_no_process_is_named(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(BatteriesError) as raised:
        list(run([Task("a", tasks.square, (2,))], workers=1))
    assert (raised.value.code, raised.value.retryable) == ("WORKER_START", True)


def test_what_drawing_a_task_raises_comes_after_the_outcomes_that_were_there():
    def draw():
        yield Task("a", tasks.square, (2,))
        raise ZeroDivisionError("by zero")

    outcomes = run(draw(), workers=1)
    assert next(outcomes).value == 4
    with pytest.raises(ZeroDivisionError, match="by zero"):
        next(outcomes)


def test_two_tasks_of_one_name_are_refused():
    with pytest.raises(ConflictError, match="TWICE"):
        list(run([Task("a", tasks.square, (2,))] * 2, workers=2))


def test_processes_keep_no_gpus():
    with pytest.raises(InputError, match="ENGINE"):
        list(run([Task("a", tasks.square, (2,), gpus=0.5)], workers=1))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"engine": "threads"}, "ENGINE"),
        ({"workers": 0}, "WORKERS"),
        ({"workers": True}, "WORKERS"),
        ({"workers": 10**6}, "WORKERS"),
        ({"retries": -1}, "RETRIES"),
        ({"retries": 1.0}, "RETRIES"),
    ],
)
def test_what_cannot_run_is_refused_at_once(given, code):
    with pytest.raises(InputError) as raised:
        run([], **given)
    assert raised.value.code == code


def test_no_tasks_have_no_outcomes_and_start_no_process():
    before = children()
    assert list(run([])) == []
    assert children() == before


def test_workers_default_to_what_is_granted(monkeypatch):
    monkeypatch.setattr("batteries.engine.processors.allowed", lambda: 8)
    monkeypatch.setattr("batteries.engine.processors.quota", lambda: None)
    assert granted() == 8
    monkeypatch.setattr("batteries.engine.processors.quota", lambda: 3)
    assert granted() == 3


@pytest.mark.parametrize(
    ("text", "kind", "cluster"),
    [
        ("processes", "processes", None),
        ("ray", "ray", None),
        ("ray:auto", "ray", "auto"),
        ("ray:10.0.0.1:6379", "ray", "10.0.0.1:6379"),
        ("ray://head.example:10001", "ray", "ray://head.example:10001"),
        ("ray://[::1]:10001", "ray", "ray://[::1]:10001"),
    ],
)
def test_an_address_is_parsed(text, kind, cluster):
    assert EngineAddress.parse(text) == EngineAddress(kind, cluster)


@pytest.mark.parametrize(
    "text",
    ["", "Ray", "processes:2", "ray:", "ray:/", "ray://", "ray:head", "ray://head", "ray://head:0", "ray://head:65536",
     "ray://head:1:2", "ray://:1", "ray://a b:1", "ray://head:10001\n", "ray:http://a:1", "dask", None, 3],
)  # fmt: skip
def test_another_address_is_refused(text):
    with pytest.raises(InputError, match="ENGINE"):
        EngineAddress.parse(text)


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError) as raised:
        run([], engine="ray")
    assert (raised.value.code, raised.value.remedy) == ("EXTRA", "pip install 'svae-batteries[cluster]'")


def test_no_command_imports_ray():
    code = "import sys, json, registry.cli.program, batteries.engine.task_runner; print(json.dumps('ray' in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) is False


def test_an_answer_is_an_error_where_the_driver_cannot_read_it():
    value, error = answered(attempted(batteries.__version__, pickle.dumps((tasks.unreadable, ()))))
    assert (value, error.code) == (None, "TASK_FAILED")
    assert engine_tasks.OF_THE_RUN.isdisjoint({error.code})
