"""What every kernel keeps: torch's numbers, torch's way wherever it cannot be used, and an answer that nothing else moves."""

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from batteries.kernels import jit
from tests.support.kernel_cases import CASES, take_few

ROOT = Path(__file__).parents[2]
KERNELS = {id(case.kernels): case.kernels for case in CASES}.values()
COUNTS = (1, 2, 7, 16, 17, 61)  # about the eight and sixteen matrices that are solved together

sources = pytest.mark.skipif(not (ROOT / "batteries").is_dir(), reason="no sources beside the tests")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_kernel = pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: kernels.name)


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    take_few(monkeypatch.setattr)


@pytest.fixture
def used(monkeypatch):
    """Dispatchers that gave a kernel."""
    found, call = [], jit.Kernels.__call__

    def watched(kernels, *key):
        kernel = call(kernels, *key)
        if kernel is not None:
            found.append(kernels)
        return kernel

    monkeypatch.setattr(jit.Kernels, "__call__", watched)
    return found


@pytest.fixture
def afresh(monkeypatch):
    """Kernels are looked for again."""
    for kernels in KERNELS:
        monkeypatch.setattr(kernels, "_found", {})
    monkeypatch.setattr(jit, "_warned", set())


def equal(found, wanted):
    return all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def by_columns(tensor):
    """The same numbers, with strides the other way round."""
    axes = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(axes).contiguous().permute(axes)


# ---- the numbers -----------------------------------------------------------------------------------------------------


@every_case
def test_it_gives_torchs_numbers_at_any_size(used, case):
    pytest.importorskip("numba")
    for count in COUNTS:
        given = case.given(count, seed=count)
        used.clear()
        found = case.ask(*given)
        assert case.kernels in used
        case.near(found, given)


@every_case
def test_nothing_in_nothing_out(case):
    empty = tuple(x[:0] for x in case.given(1))
    case.near(case.ask(*empty), empty)


@every_case
def test_an_answer_is_its_own_in_any_company_and_on_any_number_of_threads(monkeypatch, case):
    pytest.importorskip("numba")  # to the bit, which torch does not promise
    given = case.given(61)
    wanted, threads = case.ask(*given), torch.get_num_threads()
    monkeypatch.setattr(jit, "THREAD_WORK", 1)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert equal(case.ask(*given), wanted)
    finally:
        torch.set_num_threads(threads)
    few = case.ask(*(x[7:12] for x in given))
    assert equal(few, [x.narrow(case.axis, 7, 5) for x in wanted])


@pytest.mark.slow
@every_case
def test_four_python_threads_at_once(case):
    given = [case.given(17, seed) for seed in range(4)]
    wanted = [case.ask(*each) for each in given]
    wrong = []

    def work(index):
        if not all(equal(case.ask(*given[index]), wanted[index]) for _ in range(3)):
            wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@every_case
def test_strides_do_not_matter_and_what_is_given_is_left_alone(case):
    pytest.importorskip("numba")
    given = case.given(7)
    before = [x.clone() for x in given]
    assert equal(case.ask(*map(by_columns, given)), case.ask(*given))
    assert equal(given, before)


# ---- torch's way -----------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.usefixtures("afresh")
def test_without_numba_it_is_torchs_and_nothing_is_said(monkeypatch, used, case):
    monkeypatch.setattr(jit, "_imported", lambda name: (None, ""))
    given = case.given(17)
    case.near(case.ask(*given), given)
    assert not used


@every_case
@pytest.mark.usefixtures("afresh")
def test_a_kernel_that_does_not_compile_is_reported_once(monkeypatch, used, case):
    pytest.importorskip("numba")

    def broken(*args):
        raise TypeError("no such instruction")

    monkeypatch.setattr(case.kernels, "_trial", broken)
    given = case.given(17)
    with pytest.warns(RuntimeWarning, match="no such instruction"):
        case.near(case.ask(*given), given)
    case.near(case.ask(*given), given)
    assert case.kernels not in used


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@every_case
def test_a_mode_that_watches_operators_sees_them(used, case):
    given = case.given(17)
    with Watching():
        found = case.ask(*given)
    assert not used
    case.near(found, given)


class Own(torch.Tensor):
    """A class that takes each operator itself."""

    @classmethod
    def __torch_dispatch__(cls, function, kinds, args=(), kwargs=None):
        raise AssertionError("it was only to be looked at")


@every_kernel
def test_the_route_is_chosen_by_what_the_tensors_are(monkeypatch, kernels):
    monkeypatch.undo()
    x = torch.zeros(3 * kernels.fewest, dtype=torch.float32 if torch.float32 in kernels._dtypes else torch.float64)
    assert kernels.serves(x, each=3)
    assert not kernels.serves(x[1:], each=3)
    for other in (x.to(torch.complex64), x.to(torch.int32), x.to("meta"), x.to_sparse(), torch.Tensor._make_subclass(Own, x)):
        assert not kernels.serves(other)
        assert not kernels.serves(x, other)
    wanted = x.clone().requires_grad_()
    assert kernels.serves(wanted) is not kernels._forward_only
    with torch.no_grad():
        assert kernels.serves(wanted)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not kernels.serves(x)


# ---- the house -------------------------------------------------------------------------------------------------------


def modules_of(pattern):
    """Modules of ours whose code has a call or a decorator of this name, and what strings the calls are given."""
    for package in ("batteries", "composer", "registry"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
            for node in ast.walk(ast.parse(path.read_text())):
                if any(ast.unparse(mark) == pattern for mark in getattr(node, "decorator_list", ())):
                    yield name, []
                elif isinstance(node, ast.Call) and ast.unparse(node.func) == pattern:
                    yield name, [given.value for given in node.args if isinstance(given, ast.Constant)]


@sources
@pytest.mark.slow
def test_every_kernel_is_in_the_table_and_has_a_dispatcher():
    written = {name for name, _ in modules_of("kernel")}
    asked = {module for _, given in modules_of("Kernels") for module in given}
    assert written == asked == {kernels.name for kernels in KERNELS}
    assert len(list(modules_of("Kernels"))) == len(KERNELS)


@sources
@pytest.mark.slow
def test_importing_who_asks_does_not_import_numba():
    names = sorted({name for name, _ in modules_of("Kernels")})
    code = f"import sys, {', '.join(names)}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


FOUND = """
import sys
from batteries.kernels import kernel_cache
missed, load = [], kernel_cache.KernelCache.load_overload

def watched(self, sig, target):
    code = load(self, sig, target)
    if code is None:
        missed.append((self._name, sig))
    return code

kernel_cache.KernelCache.load_overload = watched
from tests.support.kernel_cases import CASES, take_few
take_few(setattr)
for case in CASES:
    given = case.given(17)
    case.near(case.ask(*given), given)
sys.exit(f"compiled again: {missed}" if missed else 0)
"""


def run(code, **environment):
    path = {"PYTHONPATH": str(ROOT), **os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=path)


@pytest.mark.slow
def test_another_process_finds_the_code_of_every_kernel_on_disk():
    pytest.importorskip("numba")
    done = run(FOUND)
    if done.returncode:  # what this process has in memory may have been compiled into another test's folder
        done = run(FOUND)
    assert done.returncode == 0, done.stderr


SMALL = """
from batteries.kernels import float32_vectors
assert float32_vectors.WIDTH == 16
from tests.support.kernel_cases import CASES, take_few
take_few(setattr)
of_vectors = "batteries.jacobi", "composer.narrow_attention", "batteries.convolution", "composer.encoder_decoder"
for case in [next(case for case in CASES if case.kernels.name.replace(".kernels", "") == name) for name in of_vectors]:
    given = case.given(17)
    case.near(case.ask(*given), given)
    assert any(kernel is not None for kernel in case.kernels._found.values()), case.name
"""


@pytest.mark.slow
def test_on_a_processor_with_small_registers():
    """Vectors of float32 are narrower there, and every one is several registers. Code is kept by the name of the processor."""
    pytest.importorskip("numba")
    done = run(SMALL, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert done.returncode == 0, done.stderr


@pytest.mark.cuda
@every_case
def test_on_cuda_it_is_torchs(used, case):
    given = case.given(17)
    there = tuple(x.cuda() for x in given)
    if case.axis == 0:  # the others' weights stay where they are
        assert all(x.is_cuda for x in case.ask(*there))
    assert not case.kernels.serves(*there)
