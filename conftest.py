"""Surroundings of all tests, the examples in docstrings among them."""

import os
from pathlib import Path

import pytest

# compiled once for all tests and the processes that they start, for every test has an empty home
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parent / ".pytest_cache"))


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's own cache, configuration or registry."""
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.delenv("BATTERIES_REGISTRY", raising=False)


@pytest.fixture(autouse=True)
def _own_folder(request, tmp_path_factory, monkeypatch):
    """Give each example an empty working directory: it writes there, as it would for its reader."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path_factory.mktemp("example"))
