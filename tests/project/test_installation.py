"""The installation without extras: nothing of ours needs them before it is asked for, or fails when it is looked at."""

import os
import subprocess
import sys
import tomllib

import pytest
import torch

from batteries import InputError
from batteries.kernels import jit
from batteries.training.tensorboard import Events
from tests.compatibility import refused, works
from tests.support.cells import ROOT

WITHOUT = """
import sys

MISSING = {"numba", "llvmlite", "matplotlib", "tensorboard", "scipy", "pyarrow", "pandas"}

class Without:  # as if not installed: an import raises ModuleNotFoundError, importlib.util.find_spec answers None
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""

LOOK = """
import importlib, inspect, pkgutil
import torch
import batteries, composer, registry

OURS = batteries, composer, registry

def asked(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return str(error)

def look(module):
    hasattr(module, "__wrapped__"), hasattr(module, "__warningregistry__"), dir(module), repr(module)
    inspect.getmembers(module)
    assert inspect.getmodule(module) is module and not hasattr(module, "no such name")

def look_at_all():
    names = [name for name in sys.modules if name.partition(".")[0] in {package.__name__ for package in OURS}]
    for name in names:
        look(sys.modules[name])
    return len(names)

[getattr(package, name) for package in OURS for name in package.__all__]
torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
look_at_all()
modules = [found.name for package in OURS for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
first = {name: asked(name) for name in modules}
assert first == {name: asked(name) for name in modules}
assert set(first.values()) <= {None, "No module named 'numba'", "No module named 'llvmlite'"}, first
assert first["batteries.kernels.spectral_gate"] and not first["batteries.model.spectral"]
assert not set(sys.modules) & {name for name, error in first.items() if error}
assert look_at_all() > 100
"""

OPTIMISER = """
import sys
import torch, batteries, composer, registry
[getattr(package, name) for package in (batteries, composer, registry) for name in package.__all__]
torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
sys.exit("numba" in sys.modules)
"""


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=170,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
@works("Installation", "no extras: every module, looked at twice", note="nothing raises")
def test_nothing_of_ours_raises_when_it_is_looked_at():
    done = run(WITHOUT + LOOK)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@works("Installation", "import and torch.optim.Adam, with numba installed", note="numba is not imported")
def test_an_import_and_an_optimiser_do_not_import_numba():
    pytest.importorskip("numba")
    done = run(OPTIMISER)
    assert done.returncode == 0, done.stderr


# ---- numba that is missing, broken, old or switched off --------------------------------------------------------------

WORKING = "__version__ = '0.68.1'\nclass config:\n    DISABLE_JIT = 0\n"
BROKEN = {
    "another numpy": "raise ImportError('Numba needs NumPy 2.1 or less. Got NumPy 9.9.')",
    "no llvmlite": "raise ModuleNotFoundError(\"No module named 'llvmlite'\", name='llvmlite')",
    "a library that is not there": "raise OSError('libllvmlite.so: cannot open shared object file')",
    "an extension of another Python": "raise SystemError('initialization of _dispatcher failed')",
    "half made": "raise AttributeError(\"module 'numpy' has no attribute 'bool'\")",
    "not Python": "def",
    "empty": "",
    "a version that is none": "__version__ = 'unknown'",
    "without what the kernels import": WORKING,
}


@pytest.fixture
def instead(monkeypatch, tmp_path):
    """Put a module of another source, or none, in the place of an installed one, for one test."""
    put_away = []

    def put(name, source, *users):
        put_away.extend((name, *users))
        for loaded in loaded_of(put_away):
            monkeypatch.delitem(sys.modules, loaded)
        if source is None:
            monkeypatch.setitem(sys.modules, name, None)
        else:
            (tmp_path / f"{name}.py").write_text(source)
            monkeypatch.syspath_prepend(tmp_path)

    yield put
    for loaded in loaded_of(put_away):  # what is put back is what was there before
        del sys.modules[loaded]


def loaded_of(names):
    return [loaded for loaded in sys.modules if any(f"{loaded}.".startswith(f"{name}.") for name in names)]


@pytest.fixture
def numba_of(instead, monkeypatch):
    """Put another numba in the place of the one that is installed, and forget what is known of that."""
    monkeypatch.setattr(jit, "_warned", set())
    forget()
    yield lambda source: instead(
        "numba", source, "llvmlite", "batteries.kernels.spectral_gate", "batteries.kernels.kernel_cache"
    )
    forget()


def forget():
    jit._numba.cache_clear()
    jit._imported.cache_clear()


def kernels():
    given = "batteries.kernels.spectral_gate", lambda module, D: module.kernels(D), lambda found, D: None
    return jit.Kernels(*given, dtypes=(torch.float64,))


@works("Installation", "no numba", note="torch's operators, without a word")
def test_without_numba_there_is_no_kernel_and_no_word(numba_of):
    numba_of(None)
    found = kernels()
    assert [found(4), found(4), kernels()(4)] == [None, None, None]


@pytest.mark.parametrize("kind", BROKEN)
@works("Installation", "a numba that does not import, or not what is needed", note="torch's operators, and one warning")
def test_a_broken_numba_is_reported_once(numba_of, kind):
    numba_of(BROKEN[kind])
    found = kernels()
    with pytest.warns(RuntimeWarning, match="using torch instead") as caught:
        assert [found(4), found(4), found(8), kernels()(4)] == [None] * 4
    assert len(caught) == 1


@works("Installation", "a numba older than the fast extra asks for", note="torch's operators, and one warning")
def test_an_old_numba_is_reported_with_the_remedy(numba_of):
    numba_of(WORKING.replace("0.68.1", "0.59.0rc1"))
    with pytest.warns(RuntimeWarning, match=r"numba 0\.59\.0rc1 is too old.*svae-batteries\[fast\]"):
        assert kernels()(4) is None


@works("Installation", "NUMBA_DISABLE_JIT=1", note="torch's operators, without a word")
def test_a_numba_that_is_switched_off_is_not_used(numba_of):
    numba_of(WORKING.replace("= 0\n", "= 1\n"))
    assert kernels()(4) is None


def test_a_warning_that_is_made_an_error_is_raised_once(numba_of):
    """Which is the user's choice; the answer is kept all the same."""
    numba_of(BROKEN["half made"])
    found = kernels()
    with pytest.raises(RuntimeWarning, match="using torch instead"):
        found(4)
    assert found(4) is None


def test_an_interruption_is_no_answer(monkeypatch):
    def interrupted(found, D):
        raise KeyboardInterrupt("in a trial")

    monkeypatch.setattr(jit, "_imported", lambda name: (torch, ""))
    found = jit.Kernels("torch", lambda module, D: module.eye(D), interrupted, dtypes=(torch.float64,))
    with pytest.raises(KeyboardInterrupt, match="in a trial"):
        found(4)
    monkeypatch.setattr(found, "_trial", lambda kernel, D: None)
    assert torch.equal(found(4), torch.eye(4))


def test_the_oldest_numba_is_that_of_the_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["fast"] == [f"numba>={jit.OLDEST[0]}.{jit.OLDEST[1]}"]


# ---- the other extras ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [None, "raise TypeError('Descriptors cannot be created directly.')", "", "def"])
@refused("Installation", "--events without a TensorBoard that works", "EXTRA")
def test_events_name_their_extra(instead, tmp_path, source):
    instead("tensorboard", source, "torch.utils.tensorboard")
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            Events(tmp_path / "events")
        assert (caught.value.code, caught.value.remedy) == ("EXTRA", "pip install 'svae-batteries[tensorboard]'")
