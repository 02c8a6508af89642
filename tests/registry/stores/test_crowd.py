"""Many processes at once: one transfer a blob, one winner a version, and nothing corrupt where locks do nothing."""

import subprocess
import sys
from collections import Counter

import pytest

import registry
from registry.catalog.index import Index
from registry.catalog.release import Release
from registry.catalog.store_keys import blob, manifest
from registry.stores.memory import MemoryStore
from registry.transfer.mirror import mirror
from tests.support import crowd_worker
from tests.support.cells import ROOT, tiny
from tests.support.hubserver import QUIET, serving
from tests.support.soak import many

pytestmark = pytest.mark.filterwarnings(QUIET)

CELLS = many(100, 500)
PULLERS = many(16, 64)


@pytest.fixture(scope="module")
def cells():
    return {f"high/cell-{n}": tiny(f"cell-{n}", seed=n) for n in range(CELLS)}


@pytest.fixture
def served(cells):
    """A Hub that has them all, in one commit."""
    store = MemoryStore()
    for cell in cells.values():
        store.put(blob(cell.digest), cell.to_bytes())
        store.put(manifest(cell.name, cell.version), cell.manifest.to_bytes())
    releases = {name: {cell.version: Release.of(cell.manifest)} for name, cell in cells.items()}
    store.swap_index(None, Index(number=1, cells=releases).sealed())
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        for name, value in surroundings(hub).items():
            patch.setenv(name, value)
        mirror(store, "hf://lab/cells")
        hub.forget()
        yield hub


def surroundings(hub, home=None):
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token} | ({} if home is None else {"BATTERIES_HOME": str(home)})


@pytest.mark.slow
@pytest.mark.parametrize("locked", [True, False], ids=["locks", "no locks"])
def test_of_many_who_pull_the_same_cells_one_transfers_each(cells, served, tmp_path, locked):
    names = sorted(cells)
    task = (names, "hf://lab/cells", surroundings(served, tmp_path / "home"), locked)
    found = crowd_worker.start(crowd_worker.pull, [task] * (PULLERS if locked else 8))
    assert {str(one) for one in found} == {str([cells[name].digest for name in names])}
    transfers = Counter(line[1] for line in served.log if "/blobs/" in line[1])
    assert len(transfers) == len(names)
    assert not locked or max(transfers.values()) == 1


@pytest.mark.slow
def test_of_many_publishers_of_a_version_one_wins_and_every_acknowledged_version_is_readable(tmp_path):
    folder, shared = tmp_path / "registry", [(f"name-{n}", "1.0.0") for n in range(5)]
    tasks = [
        (shared[n % 5 :] + shared[: n % 5] + [(f"name-{n % 5}", f"1.{n}.1")], n, str(folder), {"BATTERIES_HOME": str(tmp_path)})
        for n in range(16)
    ]
    outcomes = crowd_worker.start(crowd_worker.publish, tasks)
    for version in shared:
        assert Counter(outcome[version] for outcome in outcomes) == {"new": 1, "VERSION_EXISTS": 15}
    won = {version: n for n, outcome in enumerate(outcomes) for version, word in outcome.items() if word == "new"}
    assert len(won) == 5 + 16
    for (name, version), seed in won.items():
        (cell,) = registry.pull(f"high/{name}@{version}", registry=folder)
        assert cell.digest == tiny(name, version, seed=seed).digest
    assert {finding.error for finding in registry.verify_store(registry.open_store(folder))} == {None}
    assert Index.from_bytes((folder / "index.json").read_bytes(), where="").number == len(won)


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["apart"], ["signed"]], ids=["one namespace", "namespaces of their own", "signed"])
def test_eight_processes_of_one_cache_and_one_registry(how):
    """In a process of its own, which has no threads when it forks."""
    words = ["-m", "tests.support.crowd", str(many(8, 120)), *how]
    ended = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if ended.returncode == 77:
        pytest.skip("no permission to make namespaces")
    assert ended.returncode == 0, ended.stderr
