import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from batteries.cell.cell import Cell
from batteries.errors import BatteriesError, ConflictError, FormatError, InputError, IntegrityError, NotFoundError, PolicyError
from batteries.io.canonical_json import sha256
from registry.catalog.index import Index
from registry.catalog.release import Release
from registry.cli.program import main
from registry.stores.directory import DirectoryStore
from registry.stores.memory import MemoryStore
from registry.stores.signed.changes import change_index
from registry.transfer.publish import publish_all
from registry.transfer.pull import pull
from registry.transfer.remarks import attest
from registry.transfer.verify import verify_store
from tests.support.cells import ROOT, attestation, litter, measured, publish, python, tiny, tree


def index_of(store) -> Index:
    data = store.read_index()
    return Index() if data is None else Index.from_bytes(data, where="test")


def test_what_was_published_is_pulled():
    store = MemoryStore()
    published = publish(tiny(), store)
    assert (str(published.reference), published.number, published.new) == ("high/tiny@1.0.0", 1, True)
    (cell,) = pull("high/tiny", registry=store)
    assert cell.manifest == tiny().manifest
    assert cell.to_bytes() == tiny().to_bytes()


def test_a_folder_is_made_where_there_is_none(tmp_path):
    publish(tiny(), tmp_path / "a" / "registry")
    assert pull("high/tiny", registry=str(tmp_path / "a" / "registry"))[0].digest == tiny().digest


def test_the_same_bytes_again_are_a_success():
    store = MemoryStore()
    publish(tiny(), store)
    before = store.read_index()
    again = publish(tiny(), store)
    assert (again.number, again.new) == (1, False)
    assert store.read_index() == before


@pytest.mark.parametrize("other", [tiny(seed=1), tiny(description="other")], ids=["weights", "manifest"])
def test_other_bytes_under_a_version_are_a_conflict(other):
    store = MemoryStore()
    publish(tiny(), store)
    before = store.read_index()
    with pytest.raises(ConflictError) as caught:
        publish(other, store)
    assert (caught.value.code, caught.value.exit_code) == ("VERSION_EXISTS", 6)
    assert store.read_index() == before


@pytest.mark.usefixtures("by_hand")
def test_several_are_one_release():
    store = MemoryStore()
    cells = [tiny("a"), tiny("b", seed=1), tiny("b", "1.1.0", seed=2)]
    published = publish_all(cells, store)
    assert [(str(one.reference), one.number, one.new) for one in published] == [
        ("high/a@1.0.0", 1, True),
        ("high/b@1.0.0", 1, True),
        ("high/b@1.1.0", 1, True),
    ]
    again = publish_all([*cells, tiny("c", seed=3)], store)
    assert [one.new for one in again] == [False, False, False, True]
    assert index_of(store).number == 2


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize(
    ("more", "code"), [(tiny(seed=9), "VERSION_EXISTS"), (tiny("a"), "TWICE"), (tiny("low", band="low"), "BAND_DENIED")]
)
def test_a_release_with_a_fault_lists_nothing(more, code):
    store = MemoryStore()
    publish(tiny(), store)
    with pytest.raises(BatteriesError, match=code):
        publish_all([tiny("a"), more], store, progress=pytest.fail)  # none is measured
    assert [path for path, _, _ in index_of(store).everything()] == ["high/tiny"]


def test_an_empty_release_is_refused():
    with pytest.raises(InputError, match="CELL"):
        publish_all([], MemoryStore())


# Refusals. None of them leaves a byte.


def typed_band(cv, band, recorded):
    cell = tiny(band=band)
    own = measured(cv, recorded)
    return Cell(cell.weights, cell.manifest.model_copy(update={"measured": {"noise16-64": own}}))


@pytest.mark.parametrize(
    ("cv", "claimed", "recorded", "expected"),
    [
        (0.2, "high", "high", "off"),
        (0.2, "high", "low", "off"),
        (0.92, "low", "low", "off"),
        (0.92, "high", "low", "high"),
        (0.92, "high", None, "high"),
        (0.6, "high", "high", "off"),
        (0.92, "off", "off", "high"),
        (None, "high", None, "no band"),
        (None, "high", "high", "no band"),
    ],
)
def test_a_band_that_the_cv_denies(cv, claimed, recorded, expected):
    store = MemoryStore()
    with pytest.raises(PolicyError) as caught:
        publish(typed_band(cv, claimed, recorded), store)
    assert (caught.value.code, caught.value.exit_code) == ("BAND_DENIED", 6)
    assert str(caught.value.expected).startswith(expected)
    assert str(caught.value.found).startswith(claimed)
    assert store.keys() == []
    assert store.read_index() is None


def test_the_band_is_that_of_the_axial_cv_where_there_is_one():
    cell = typed_band(0.6, "high", "high")
    own = cell.manifest.own.model_copy(update={"axial_cv": measured(0.92, "high").cv})
    right = Cell(cell.weights, cell.manifest.model_copy(update={"measured": {"noise16-64": own}}))
    assert publish(right, MemoryStore()).release.summary.axial_cv == 0.92
    own = own.model_copy(update={"cv": own.axial_cv, "axial_cv": own.cv})
    with pytest.raises(PolicyError, match="BAND_DENIED"):
        publish(Cell(cell.weights, cell.manifest.model_copy(update={"measured": {"noise16-64": own}})), MemoryStore())


def test_a_cell_off_its_band_is_published_as_such():
    published = publish(typed_band(0.6, "off", "off"), MemoryStore())
    assert str(published.reference) == "off/tiny@1.0.0"


def test_values_that_are_not_finite():
    store = MemoryStore()
    cell = tiny()
    weights = {name: np.array(array) for name, array in cell.weights.items()}
    weights["enc_in.weight"][0, 0] = np.nan
    with pytest.raises(PolicyError, match="NON_FINITE"):
        publish(Cell(weights, cell.manifest), store)
    assert store.keys() == []


def test_weights_that_are_not_the_ones_of_the_manifest():
    store = MemoryStore()
    with pytest.raises(IntegrityError) as caught:
        publish(Cell(tiny(seed=1).weights, tiny().manifest), store)
    assert caught.value.code == "DIGEST_MISMATCH"
    assert store.keys() == []


def test_a_manifest_that_no_reader_would_take():
    store = MemoryStore()
    cell = tiny()
    identity = cell.manifest.identity.model_copy(update={"description": "x" * 3000})
    with pytest.raises(FormatError, match="SCHEMA"):
        publish(Cell(cell.weights, cell.manifest.model_copy(update={"identity": identity})), store)
    assert store.keys() == []


def test_a_version_that_a_reference_cannot_name():
    with pytest.raises(ValueError, match="lower case"):
        tiny(version="1.0.0-RC.1")


def test_no_target_and_a_read_only_one(tmp_path):
    with pytest.raises(InputError) as caught:
        publish(tiny(), None)
    assert (caught.value.code, caught.value.exit_code) == ("NO_TARGET", 2)
    with pytest.raises(InputError, match="SCHEME"):
        publish(tiny(), "ftp://somewhere")
    with pytest.raises(PolicyError, match="READ_ONLY"):
        publish(tiny(), DirectoryStore(tmp_path / "x", writable=False))
    assert tree(tmp_path) == {}


# Attestations.


def test_an_attestation_is_listed_beside_its_cell():
    store = MemoryStore()
    cell = tiny()
    publish(cell, store)
    attest(attestation(cell), store)
    assert index_of(store).attestations[cell.digest]["quick-1"].verdict == "viable"
    index = attest(attestation(cell).to_bytes(), store)
    assert index.number == 2
    attest(attestation(cell, verdict="walked back", seed=1), store)
    assert index_of(store).attestations[cell.digest]["quick-1"].verdict == "walked back"
    assert all(finding.ok for finding in verify_store(store))


def test_attestations_of_nothing_are_refused():
    store = MemoryStore()
    with pytest.raises(NotFoundError, match="NO_INDEX"):
        attest(attestation(tiny()), store)
    publish(tiny(seed=1), store)
    with pytest.raises(IntegrityError, match="WRONG_CELL"):
        attest(attestation(tiny()), store)
    with pytest.raises(FormatError, match="SCHEMA"):
        attest(b"{}\n", store)
    assert not [key for key in store.keys() if key.startswith("attestations/")]  # noqa: SIM118


# Other publishers.


class Contended(MemoryStore):
    """A store whose index somebody else changes right before the first ``times`` swaps."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def swap_index(self, expected, data):
        if self.times:
            self.times -= 1
            n, present = self.times, self.read_index()
            other, cell = index_of(self), tiny(f"other-{n}", seed=n)
            other = other.with_release(cell.name, cell.version, Release.of(cell.manifest))
            super().swap_index(present and sha256(present), other.sealed())
        super().swap_index(expected, data)


def test_a_lost_race_is_run_again_on_top_of_the_winner():
    store = Contended(3)
    assert publish(tiny(), store).number == 4
    assert set(index_of(store).cells) == {"high/tiny", "high/other-0", "high/other-1", "high/other-2"}


def test_an_index_that_never_rests_is_a_typed_error(monkeypatch):
    monkeypatch.setattr(sys.modules["registry.stores.signed.changes"], "ATTEMPTS", 5)
    with pytest.raises(ConflictError) as caught:
        publish(tiny(), Contended(10))
    assert caught.value.code == "INDEX_MOVED"
    assert caught.value.retryable


def test_nothing_to_change_writes_nothing(tmp_path):
    store = DirectoryStore(tmp_path)
    publish(tiny(), store)
    before = tree(tmp_path)
    index, made = change_index(store, lambda index: index)
    assert (index.number, made) == (1, False)
    assert tree(tmp_path) == before


PUBLISH = """
import sys
from tests.support.cells import publish, tiny
for n in range(int(sys.argv[3])):
    published = publish(tiny(sys.argv[2], f"1.0.{n}", seed=n), sys.argv[1])
    print(published.release.manifest.sha256, published.release.blob.sha256)
assert "torch" not in sys.modules
"""


@pytest.mark.slow
def test_every_process_writes_the_same_bytes(tmp_path):
    runs = [python(PUBLISH, tmp_path / seed, "tiny", 1, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    assert [run.stderr for run in runs] == ["", ""]
    assert runs[0].stdout == runs[1].stdout
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


@pytest.mark.slow
def test_two_processes_publish_to_one_folder(tmp_path):
    command = [sys.executable, "-c", PUBLISH, str(tmp_path)]
    running = [
        subprocess.Popen([*command, name, "8"], cwd=ROOT, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL)
        for name in ("a", "b")
    ]
    for process in running:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    index = index_of(DirectoryStore(tmp_path))
    assert {path: len(versions) for path, versions in index.cells.items()} == {"high/a": 8, "high/b": 8}
    assert index.number == 16
    assert all(finding.ok for finding in verify_store(DirectoryStore(tmp_path)))
    assert litter(tmp_path) == []


KILL = """
import os, random, signal, sys, time
from tests.support.cells import publish, tiny
folder, kills, chance = sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3]))
acknowledged = []
for n in range(kills):
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        k = 0
        while True:
            version = f"{n}.{k}.0"
            publish(tiny("tiny", version, seed=k), folder)
            os.write(theirs, f"{version}\\n".encode())
            k += 1
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        if n % 2:  # every other one lives to publish something first
            acknowledged.append(pipe.readline().strip())
        time.sleep(chance.uniform(0.002, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged += [line.strip() for line in pipe]
print("\\n".join(acknowledged))
"""


@pytest.mark.slow
def test_kills_lose_nothing_that_was_acknowledged(tmp_path):
    seed = random.randrange(10**6)
    run = python(KILL, tmp_path, 20, seed)
    assert run.stderr == "", seed
    acknowledged = run.stdout.split()
    assert len(acknowledged) >= 10, seed
    store = DirectoryStore(tmp_path)
    assert litter(tmp_path) == [], seed
    assert set(acknowledged) <= set(index_of(store).cells["high/tiny"]), seed
    assert [finding for finding in verify_store(store) if not finding.ok] == [], seed
    publish(tiny("after"), store)
    assert pull("high/after", registry=store)[0].digest == tiny().digest


# A full disk.

BY_HAND = "from registry.transfer import publish; publish.refuse_false_figures = lambda cell: None;"
CLI = "import sys; from registry.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_a_typed_error(tmp_path):
    folder = tmp_path / "registry"
    path = tiny(seed=1, version="2.0.0").write(tmp_path / "cells")
    publish(tiny(), folder)
    before = tree(folder)
    limited = BY_HAND + "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300));" + CLI
    run = python(limited, "publish", path, "--to", folder, "--json")
    assert run.returncode == 8, run.stderr
    assert json.loads(run.stdout)["error"]["code"] == "NO_SPACE"
    assert tree(folder) == before


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of a few pages."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("by_hand")
def test_a_full_disk_leaves_the_registry_as_it_was(small_disk, tmp_path, capsys):
    folder = small_disk / "registry"
    path = tiny(seed=1, version="2.0.0").write(tmp_path / "cells")
    publish(tiny(), folder)
    before = (folder / "index.json").read_bytes()
    codes = []
    for free in range(4):  # no page for the weights; none for the manifest; none for the index; enough
        filler = small_disk / "filler"
        filler.write_bytes(b"x" * os.statvfs(small_disk).f_bsize * (os.statvfs(small_disk).f_bfree - free))
        codes.append(main(["publish", str(path), "--to", str(folder), "--json"]))
        filler.unlink()
        out = capsys.readouterr().out
        assert litter(folder) == []
        assert all(finding.ok for finding in verify_store(DirectoryStore(folder)))
        if codes[-1]:
            assert json.loads(out)["error"]["code"] == "NO_SPACE"
            assert (folder / "index.json").read_bytes() == before
    assert codes[0] == 8
    assert set(codes) == {0, 8}
    publish(Cell.read(path), folder)
    assert set(index_of(DirectoryStore(folder)).cells["high/tiny"]) == {"1.0.0", "2.0.0"}
