import gc
import importlib
import re

import pytest

MEASURES = re.compile(
    r"\b(adopt|attest|measure\w*|mirror|package|publish|train|yank)\("
)  # takes a second or more in an example


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="the first case of every test that is not marked slow")


def pytest_collection_modifyitems(config, items):
    """With ``--quick``, the first case of each test that is not marked ``slow``. Tests marked ``cuda`` need a GPU."""
    if config.getoption("quick"):
        fast = [item for item in items if not _is_slow(item)]
        first = {item.nodeid.partition("[")[0]: item for item in reversed(fast)}
        left = {*items} - {*first.values()}
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = [item for item in items if item not in left]
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if marked:  # only then is torch asked
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no GPU"))


def pytest_collection_finish():
    """Keep the collector off the modules and the thousands of tests, which it would walk again and again for nothing."""
    gc.collect()
    gc.freeze()


def _is_slow(item):
    """An example cannot be marked, and is slow if it measures a cell."""
    if isinstance(item, pytest.DoctestItem):
        return any(MEASURES.search(example.source) for example in item.dtest.examples)
    return item.get_closest_marker("slow") is not None


@pytest.fixture(scope="module")
def few_matrices():
    """A CV of 32 matrices, and linear codes of few patches, for tests that compare readings or ask what follows from one.

    256 matrices and 24,000 patches take most of their time.
    """
    measure, package = (importlib.import_module(f"batteries.{name}") for name in ("measurement.measure", "packaging.package"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measure, "MATRICES", 32)
        patched.setattr(package, "BASELINE_PATCHES", 2000)
        yield 32


@pytest.fixture
def few(monkeypatch):
    """Measure on one image of a group, and little of it."""
    from tests.support.viability import measure_little

    measure_little(monkeypatch.setattr)


@pytest.fixture(scope="module")
def few_in_module():
    """As :func:`few`, for cells that the tests of a module share."""
    from tests.support.viability import measure_little

    with pytest.MonkeyPatch.context() as patched:
        measure_little(patched.setattr)
        yield


@pytest.fixture(scope="module")
def frozen_heap():
    """For tests that ask for an answer at once: keep the collector off what earlier tests left, up to a second of work."""
    gc.freeze()


@pytest.fixture
def hub(monkeypatch):
    """A Hub that this process takes for the Hub, and a user who may write."""
    from tests.support.hubserver import serving

    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        yield hub


@pytest.fixture
def by_hand(monkeypatch):
    """Let ``publish`` take cells made by hand, whose figures nothing measured."""
    monkeypatch.setattr("registry.transfer.publish.refuse_false_figures", lambda cell: None)


@pytest.fixture
def elsewhere(monkeypatch, tmp_path_factory):
    """Go to another machine: nothing in the cache, nothing seen before."""
    return lambda: monkeypatch.setenv("BATTERIES_HOME", str(tmp_path_factory.mktemp("home")))
