"""The number of threads: one, torch's, for the Python thread that asks; kept to by every command; and no bit depends on it."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import batteries
from batteries import CellSpec, InputError, NoiseSource, Plan, threads
from batteries.data.prefetch import ahead
from batteries.data.probes import Probe, probe
from batteries.engine.processors import quota
from batteries.engine.threads import MOST_THREADS
from batteries.model.patch_svae import arrays_of
from batteries.training.gradient import gradient
from registry.cli import run
from registry.cli.terminal import options
from tests.compatibility import refused, works

SPEC = CellSpec(V=12, D=4, patch_size=8, hidden=8)
COMPUTING = (
    *("adapt", "adopt", "align", "browse", "compare", "compose", "diagnose", "encode", "inspect"),
    *("publish", "reconstruct", "site", "train", "vae sample", "vae show", "vae train", "validate", "verify"),
)


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_a_new_thread(work=torch.get_num_threads):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@works("Threads", "`torch.set_num_threads` by the user", note="there is no second number")
def test_a_plain_call_stays_and_a_with_restores():
    with threads(1):
        assert torch.get_num_threads() == 1
        with threads(3):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    threads(1)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError, match="by zero"), threads(1):
        torch.set_num_threads(7 // (torch.get_num_threads() - 1))
    assert torch.get_num_threads() == 2


@works("Threads", "`batteries.threads` in several Python threads at once")
def test_each_python_thread_has_its_own():
    barrier = threading.Barrier(4)

    def user(mine):
        seen = [torch.get_num_threads()]
        for _ in range(5):
            barrier.wait()
            with threads(mine):
                barrier.wait()
                seen += [torch.get_num_threads() == mine, in_a_new_thread()]
        return [*seen, torch.get_num_threads()]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(user, (1, 3, 4, 5)))
    assert found == [[2, *([True, 2] * 5), 2]] * 4
    assert torch.get_num_threads() == in_a_new_thread() == 2


def test_a_thread_that_was_never_asked_keeps_what_it_sets():
    def user():
        threads(3)
        return torch.get_num_threads()

    assert in_a_new_thread(user) == 3
    assert in_a_new_thread() == 2


@refused("Threads", "a number of threads below 1, above 1024 or not whole", "THREADS")
@pytest.mark.parametrize("count", [0, -1, 1025, 10**30, 1.0, "2", None, True, float("nan"), [1]])
def test_no_number_of_threads(count):
    with pytest.raises(InputError) as caught:
        threads(count)
    assert caught.value.code == "THREADS"
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("command", COMPUTING)
@pytest.mark.parametrize("count", ["0", "-1", "1025", "x", "1.5", ""])
def test_a_command_refuses_it_before_anything_else(command, count, capsys):
    assert run([*command.split(), "--threads", count]) == 2
    assert "--threads" in capsys.readouterr().err


def test_every_command_that_loads_torch_has_the_option():
    frozen = json.loads((Path(__file__).parents[2] / "golden" / "options.json").read_text())
    assert tuple(name for name, given in frozen.items() if "--threads" in given) == COMPUTING
    assert options.MOST_THREADS == MOST_THREADS


REPORT = """
import contextlib, importlib, json, os, sys
from registry.cli import main

NAMES = "OMP_WAIT_POLICY", "OMP_NUM_THREADS"
found, before = [], {name: os.environ.get(name) for name in NAMES}

def report(*given, **more):
    import torch
    found.append([str(torch.get_num_threads()), *map(os.environ.get, NAMES)])
    raise SystemExit(0)

for module, name, arguments in json.loads(sys.argv[1]):  # each as the first of its process, but for modules that are loaded
    sys.argv = ["batteries", *arguments]
    place = importlib.import_module(module)
    was = getattr(place, name)
    setattr(place, name, report)
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):
        main()
    setattr(place, name, was)
    sys.modules["torch"].set_num_threads(5)
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
print(json.dumps(found))
"""
VAE_OPTIONS = ("--noise", "--steps", "1", "--bottleneck", "4", "--out", "pair.safetensors")
CALLS = {
    "adapt": ("composer", "adapt", ["low/johanna-64", "--task", "naming", "--name", "mine-64"]),
    "train": ("batteries", "train", ["high/mine-64", "--noise", "--steps", "1"]),
    "adopt": ("batteries", "adopt", ["{file}", "--name", "high/mine", "--input", "plain", "--noise"]),
    "validate": ("registry", "validate", ["low/fresnel-64"]),
    "compose": ("composer", "wire", ["low/fresnel-64"]),
    "encode": ("composer", "encode", ["low/fresnel-64", "{image}", "--out", "{image}.npz"]),
    "reconstruct": ("composer", "reconstruct", ["low/fresnel-64", "{image}", "--out", "{image}.grid.png"]),
    "align": ("registry.cli.align", "compared", ["low/fresnel-64", "low/johanna-64"]),
    "publish": ("registry.transfer.weight_checks", "replay", ["{file}", "--to", "nowhere"]),
    "browse": ("registry", "build_site", ["--no-open"]),
    "site": ("registry", "build_site", ["nowhere"]),
    "inspect": ("batteries.diagnostics", "inspect", ["low/fresnel-64"]),
    "compare": ("batteries.diagnostics", "inspect", ["low/fresnel-64", "low/johanna-64"]),
    "diagnose": ("batteries.diagnostics", "diagnose", ["low/fresnel-64"]),
    "vae train": ("composer.vae", "train", ["high/fresnel-64", "high/johanna-64", *VAE_OPTIONS]),
    "vae sample": ("registry", "pull", ["vae/pair", "--out", "samples"]),
    "vae show": ("registry", "pull", ["vae/pair"]),
    "verify": ("registry.cli.transfer", "verify_store", ["--all", "--replay"]),
}
IMAGE = Path(batteries.__file__).parent / "photographs" / "chelsea.png"
FILE = Path(__file__).parents[2] / "golden" / "format-1.0" / "tiny.safetensors"


def reported(*calls, **environment):
    """Threads, way to wait and OMP_NUM_THREADS where commands begin to compute, in a process that they share."""
    given = []
    for command, *more in calls:
        module, name, arguments = CALLS[command]
        words = (word.replace("{file}", str(FILE)).replace("{image}", str(IMAGE)) for word in arguments)
        given.append((module, name, [*command.split(), *words, *more]))
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "MKL_"))}
    found = subprocess.run(
        [sys.executable, "-c", REPORT, json.dumps(given)],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    answers = json.loads(found.stdout)
    assert len(answers) == len(calls), found.stderr
    return answers


@pytest.mark.slow
@works("Threads", "`--threads` of every command that computes")
def test_a_command_computes_on_so_many():
    found = dict(zip(COMPUTING, reported(*((command, "--threads", "3") for command in COMPUTING)), strict=True))
    assert {command: answer[:2] for command, answer in found.items()} == {command: ["3", "PASSIVE"] for command in COMPUTING}


@pytest.mark.slow
@works("Threads", "`OMP_NUM_THREADS` and `OMP_WAIT_POLICY` under a command", note="what the user set stands")
def test_what_the_user_set_stands():
    assert reported(["compose"], OMP_NUM_THREADS="1", OMP_WAIT_POLICY="ACTIVE") == [["1", "ACTIVE", "1"]]
    assert reported(["compose", "--threads", "2"], OMP_NUM_THREADS="1")[0][0] == "2"


@pytest.mark.slow
@works("Threads", "`taskset`", note="no more threads than processors that the process may run on")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_the_default_is_what_the_process_may_run_on():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); import batteries, torch; "
    code += "batteries.threads; print(torch.get_num_threads())"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_"))}
    assert subprocess.check_output([sys.executable, "-c", code], env=clean, text=True) == "1\n"


@pytest.mark.parametrize(
    ("line", "files", "wanted"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/seen/from/outside", {"cpu.max": "400000 100000"}, 4),
        ("4:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None),
        ("4:memory:/", {"memory/cpu.cfs_quota_us": "1", "memory/cpu.cfs_period_us": "1"}, None),
        ("0::/", {"cpu.max": "neither"}, None),
    ],
)
def test_the_quota_of_control_groups(tmp_path, line, files, wanted):
    (tmp_path / "cgroup").write_text(line + "\n")
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text + "\n")
    assert quota(tmp_path / "cgroup", tmp_path / "root") == wanted


@works("Threads", "`docker --cpus` and `CPUQuota=`", note="under a command; in Python, torch knows of no quota")
@pytest.mark.parametrize(("granted", "wanted"), [(1, "1"), (4, None), (10**6, None), (None, None)])
def test_a_quota_is_the_default_of_a_command(monkeypatch, granted, wanted):
    monkeypatch.setattr("batteries.engine.processors.quota", lambda: granted)
    monkeypatch.setattr("sys.argv", ["batteries", "--help"])
    monkeypatch.setattr("batteries.engine.processors.allowed", lambda: 4)
    monkeypatch.setattr("os.environ", {key: value for key, value in os.environ.items() if not key.startswith("OMP_")})
    assert run() == 0
    assert os.environ.get("OMP_NUM_THREADS") == wanted
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setattr("os.environ", {**os.environ, "OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "ACTIVE"})
    assert run() == 0
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == ("7", "ACTIVE")


@pytest.mark.slow
def test_in_python_the_environment_is_the_users():
    code = "import os; before = dict(os.environ); import batteries, composer, registry, registry.cli; batteries.train; "
    code += "batteries.threads(1); registry.cli.run(['--help']); assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_a_command_in_this_process_leaves_the_number_alone(capsys):
    with threads(2):
        assert run(["compose", "low/fresnel-64", "--threads", "1", "--json"]) == 0
        assert torch.get_num_threads() == in_a_new_thread() == 2
        assert run(["align", "low/fresnel-64", "--threads", "1"]) == 2  # too few cells, told while it holds
        assert torch.get_num_threads() == in_a_new_thread() == 2
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["verify", "--all"], ["list"]])
def test_torch_stays_out_of_what_needs_none(command):
    more = ["--threads", "2"] if command[0] == "verify" else []
    code = f"import sys; from registry.cli import run; assert run({command + more}) == 0; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# ---- what work makes of it -------------------------------------------------------------------------------------------


def images(batch, side=64):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spec", [SPEC, CellSpec.preset("low"), SPEC.model_copy(update={"row_norm": "scale"})])
@pytest.mark.parametrize("batch", [1, 20])
def test_no_bit_of_a_gradient_depends_on_the_number(spec, batch):
    model = batteries.untrained(spec, 0)
    found = []
    for count in (1, 2, 3, 8):
        with threads(count):
            found.append(gradient(model, images(batch)))
    for loss, gradients, M in found[1:]:
        assert loss == found[0][0]
        assert torch.equal(M, found[0][2])
        assert all(torch.equal(mine, first) for mine, first in zip(gradients, found[0][1], strict=True))


@pytest.mark.slow
def test_the_gradient_is_that_of_the_whole_batch():
    model = batteries.untrained(SPEC, 0)
    x = images(20)
    loss, gradients, M = gradient(model, x)
    out = model(x)
    whole = (out.recon - x).square().mean()
    assert loss == pytest.approx(whole.item(), rel=1e-6)
    assert torch.allclose(M, out.M[:1, 0], atol=1e-6)
    for mine, theirs in zip(gradients, torch.autograd.grad(whole, list(model.parameters())), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def small():
    whole = probe("noise16-64")
    return Probe("noise16-64", 1, "noise", whole.images[::8], whole.group[::8], whole.groups, whole.digest)


@pytest.mark.slow
@works("Threads", "training on 1, 2 and 3 threads", note="the same weights to the bit")
def test_a_run_is_the_same_on_any_number(small):
    plan = Plan(spec=SPEC, size=64, steps=4, batch=20, triage_step=100, reading_every=4)
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(arrays_of(batteries.train(plan, NoiseSource(), small).model))
            assert torch.get_num_threads() == count
            assert in_a_new_thread() == 2
    assert all(np.array_equal(one[name], found[0][name]) for one in found[1:] for name in one)


@pytest.mark.slow
@works("Threads", "`torch.autocast` around training", note="changes nothing")
def test_autocast_around_a_run_changes_nothing(small):
    plan = Plan(spec=SPEC, size=64, steps=2, batch=20, triage_step=100, reading_every=100)
    with threads(1), torch.autocast("cpu", torch.bfloat16):
        one = arrays_of(batteries.train(plan, NoiseSource(), small).model)
    several = arrays_of(batteries.train(plan, NoiseSource(), small).model)
    assert all(np.array_equal(one[name], several[name]) for name in one)


def test_batches_are_made_on_one_thread_of_torchs():
    assert list(ahead(lambda _: torch.get_num_threads(), 0, 3)) == [1, 1, 1]
    assert torch.get_num_threads() == in_a_new_thread() == 2


class Counts(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        with threads(3):
            inside = torch.get_num_threads()
        return torch.tensor([inside, torch.get_num_threads()])


@works("Threads", "workers of a DataLoader, by fork and by spawn", note="one thread each, as torch has it")
@pytest.mark.parametrize("way", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_of_a_data_loader(way):
    loader = torch.utils.data.DataLoader(Counts(), batch_size=2, num_workers=1, multiprocessing_context=way)
    assert torch.cat(list(loader)).tolist() == [[3, 1]] * 4


@cache
def given():
    return batteries.untrained(SPEC, 0), images(20)


def small_step():
    with threads(2):
        loss, _, _ = gradient(*given())
        return loss, torch.get_num_threads()


@pytest.mark.slow
@works("Threads", "a training step in a forked and in a spawned process", note="torch's own operators: one thread after a fork")
@pytest.mark.parametrize("way", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_another_process_makes_threads_of_its_own(way):
    here = small_step()
    with multiprocessing.get_context(way).Pool(1) as pool:
        assert pool.apply_async(small_step).get(60) == here
