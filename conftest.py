"""Surroundings of all tests, the examples in docstrings among them."""

import itertools
import os
import signal
import sys
from pathlib import Path

import pytest

# compiled once for all tests and the processes that they start, for every test has an empty home
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parent / ".pytest_cache"))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job: what tests start would be deaf too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _fresh(tmp_path_factory):
    """Make empty folders. ``mktemp`` reads the names of all it made before, which of thousands takes longer than most tests."""
    parent, numbers = tmp_path_factory.mktemp("fresh"), itertools.count()

    def made():
        folder = parent / str(next(numbers))
        folder.mkdir()
        return str(folder)

    return made


@pytest.fixture(autouse=True)
def _own_surroundings(_fresh, monkeypatch):
    """No test reads or writes the user's own cache, configuration or registry."""
    monkeypatch.setenv("BATTERIES_HOME", _fresh())
    monkeypatch.setenv("XDG_CONFIG_HOME", _fresh())
    monkeypatch.delenv("BATTERIES_REGISTRY", raising=False)


@pytest.fixture(autouse=True)
def _own_folder(request, _fresh, monkeypatch):
    """Give each example an empty working directory: it writes there, as it would for its reader."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(_fresh())


@pytest.fixture(autouse=True)
def _same_numbers():
    """Let a test that sets no seed draw the same numbers in every run, whichever tests ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
