"""A registry only grows: one that goes back, changes its past or loses a version is refused and named."""

import shutil

import pytest

import registry
from batteries.errors import IntegrityError
from batteries.io.canonical_json import sha256
from registry.catalog.index import Index
from registry.stores.cache import Cache
from registry.stores.cache_cleanup import collect
from registry.stores.directory import DirectoryStore
from registry.stores.memory import MemoryStore
from registry.stores.rollback_guard import FOLDER, MAX_JUMP, MAX_NUMBER, Memory
from registry.stores.settings import embedded
from registry.stores.snapshot import Snapshot, open_snapshot
from registry.stores.store import INDEX
from registry.transfer.remarks import attest, yank
from tests.support.cells import attestation, publish, tiny


@pytest.fixture
def folder(tmp_path):
    publish(tiny(), tmp_path / "registry")
    open_snapshot(tmp_path / "registry")
    return tmp_path / "registry"


def refused(folder):
    with pytest.raises(IntegrityError) as caught:
        registry.pull("high/tiny", registry=folder)
    assert "seen" in caught.value.remedy or caught.value.code == "IMPLAUSIBLE_NUMBER"
    return caught.value.code


def test_a_registry_that_grows_is_read_again_and_again(folder):
    for cell in (tiny(version="1.1.0"), tiny("other")):
        publish(cell, folder)
        open_snapshot(folder)
    attest(attestation(tiny()), folder)
    yank("high/tiny@1.0.0", "better ones", folder)
    publish(tiny("third"), folder)
    assert registry.pull("high/tiny", registry=folder)[0].version == "1.1.0"


def test_an_older_index_is_refused(folder):
    old = (folder / INDEX).read_bytes()
    publish(tiny(version="1.1.0"), folder)
    open_snapshot(folder)
    (folder / INDEX).write_bytes(old)
    assert refused(folder) == "ROLLBACK"


class Overtaken(DirectoryStore):
    """A store whose index another process reads anew, after something happened, before this reading is accepted."""

    def __init__(self, path, then):
        super().__init__(path)
        self._then = then

    def read_index(self):
        data = super().read_index()
        self._then()
        open_snapshot(self.path)
        return data


def number_seen(folder):
    (note,) = Memory(Cache()).notes()
    return note.number


def test_a_reading_that_another_overtook_is_no_going_back(folder):
    slow = Snapshot.take(Overtaken(folder, lambda: publish(tiny(version="1.1.0"), folder)))
    assert slow.index.number == 1
    assert number_seen(folder) == 2
    with pytest.raises(IntegrityError, match="ROLLBACK"):
        Memory(Cache()).accept(slow.store, slow.index.sealed(), slow.index, Memory(Cache()).note(slow.store))


def test_a_first_reading_that_another_overtook_is_no_going_back(tmp_path):
    publish(tiny(), tmp_path / "other")
    slow = Snapshot.take(Overtaken(tmp_path / "other", lambda: publish(tiny(version="1.1.0"), tmp_path / "other")))
    assert slow.index.number == 1
    assert number_seen(tmp_path / "other") == 2


@pytest.mark.parametrize(("more", "code"), [(0, "REWRITTEN"), (4, "VERSION_MUTATED")])
def test_a_reading_of_another_history_than_the_one_that_overtook_it(folder, more, code):
    def rebuilt():
        shutil.rmtree(folder)
        for note in (Cache().folder / FOLDER).iterdir():
            note.unlink()
        publish(tiny(seed=9), folder)
        for n in range(more):
            publish(tiny(f"other{n}"), folder)

    with pytest.raises(IntegrityError) as caught:
        Snapshot.take(Overtaken(folder, rebuilt))
    assert caught.value.code == code


def test_a_damaged_note_blocks_nothing(folder):
    (path,) = (Cache().folder / FOLDER).iterdir()
    path.write_bytes(b"{}")
    assert Memory(Cache()).notes() == []
    assert not path.exists()
    path.write_bytes(b"{}")
    collect(Cache(), max_size=0)
    path.write_bytes(b"{}")
    open_snapshot(folder)
    assert number_seen(folder) == 1


def test_a_rebuilt_registry_is_refused_until_the_note_is_removed(folder):
    shutil.rmtree(folder)
    publish(tiny(seed=5), folder)
    assert refused(folder) == "REWRITTEN"
    with pytest.raises(IntegrityError) as caught:
        open_snapshot(folder)
    note = caught.value.remedy.split("remove ")[1].rstrip(".")
    DirectoryStore(note).path.unlink()
    assert registry.pull("high/tiny", registry=folder)[0].digest == tiny(seed=5).digest


def test_another_history_of_the_next_index_is_refused(folder):
    shutil.rmtree(folder)
    publish(tiny("other"), folder)
    publish(tiny(), folder)
    assert refused(folder) == "REWRITTEN"


def test_a_version_that_changed_or_went_away_is_refused(folder):
    for gone in (True, False):
        shutil.rmtree(folder)
        for n in range(4):
            publish(tiny(f"other{n}"), folder)
        if not gone:
            publish(tiny(seed=7), folder)
        assert refused(folder) == "VERSION_MUTATED"


def rewritten(folder, change, changes=3):
    """Another index in the place of the one there is, some changes later, so that no digest of its predecessor tells."""
    index = Index.from_bytes((folder / INDEX).read_bytes(), where="")
    later = change(index).model_copy(update={"number": index.number + changes})
    (folder / INDEX).write_bytes(later.sealed())


@pytest.mark.parametrize("left", [{}, {"high/other": 0}], ids=["no version", "another cell"])
def test_a_yanked_version_that_is_gone_is_refused_as_a_version(folder, left):
    yank("high/tiny@1.0.0", "wrong data", folder)
    open_snapshot(folder)

    def emptied(index):
        return index.model_copy(update={"cells": {path: dict(index["high/tiny"]) for path in left}})

    rewritten(folder, emptied, 3)
    assert refused(folder) == "VERSION_MUTATED"


@pytest.mark.parametrize("changes", [2, 3, 900])
@pytest.mark.parametrize("reason", [None, "another reason"])
def test_a_yank_that_is_gone_or_another_is_refused_over_any_number_of_changes(folder, changes, reason):
    yank("high/tiny@1.0.0", "wrong data", folder)
    open_snapshot(folder)

    def unyanked(index):
        release = index["high/tiny"]["1.0.0"].model_copy(update={"yanked": reason})
        return index.model_copy(update={"cells": {"high/tiny": {"1.0.0": release}}})

    rewritten(folder, unyanked, changes)
    assert refused(folder) == "YANK_REMOVED"


@pytest.mark.parametrize("changes", [2, 3, 900])
def test_a_verdict_that_is_gone_or_older_is_refused_over_any_number_of_changes(folder, changes):
    for seed in range(2):
        attest(attestation(tiny(), seed=seed), folder)
    index = open_snapshot(folder).index
    ((cell, known),) = index.attestations.items()
    assert known["quick-1"].revision == 1
    older = {cell: {"quick-1": known["quick-1"].model_copy(update={"revision": 0})}}
    for left in ({}, {cell: {}}, older):
        rewritten(folder, lambda index, left=left: index.model_copy(update={"attestations": left}), changes)
        assert refused(folder) == "VERDICT_REMOVED"
        (folder / INDEX).write_bytes(index.sealed())


def test_a_verdict_that_an_earlier_version_replaced_without_a_revision_is_no_loss(folder):
    attest(attestation(tiny()), folder)
    open_snapshot(folder)
    ((cell, known),) = open_snapshot(folder).index.attestations.items()
    other = {cell: {"quick-1": known["quick-1"].model_copy(update={"sha256": "f" * 64})}}
    rewritten(folder, lambda index: index.model_copy(update={"attestations": other}))
    assert open_snapshot(folder).index.number == 5


@pytest.mark.parametrize("changes", [MAX_JUMP + 60, 10**9])
def test_a_number_that_no_registry_reaches_is_refused_and_not_noted(folder, changes):
    true = (folder / INDEX).read_bytes()
    rewritten(folder, lambda index: index, changes)
    assert refused(folder) == "IMPLAUSIBLE_NUMBER"
    (folder / INDEX).write_bytes(true)
    assert open_snapshot(folder).index.number == number_seen(folder) == 1


def test_a_first_number_that_no_registry_reaches_is_refused(folder, elsewhere):
    elsewhere()
    rewritten(folder, lambda index: index, MAX_NUMBER)
    assert refused(folder) == "IMPLAUSIBLE_NUMBER"
    rewritten(folder, lambda index: index, -1)
    assert open_snapshot(folder).index.number == MAX_NUMBER


def test_the_embedded_registry_and_one_in_memory_may_go_back(folder, monkeypatch):
    monkeypatch.setattr("registry.stores.settings.embedded", lambda: folder)
    monkeypatch.setattr("registry.stores.snapshot.settings.embedded", lambda: folder)
    shutil.rmtree(folder)
    publish(tiny(seed=5), folder)
    assert registry.pull("high/tiny", registry=folder)[0].digest == tiny(seed=5).digest
    for seed in (1, 2):
        store = MemoryStore()
        publish(tiny(seed=seed), store)
        assert registry.pull("high/tiny", registry=store)[0].digest == tiny(seed=seed).digest
    assert embedded().is_dir()


def test_a_damaged_note_or_a_lost_index_costs_the_memory_only(folder, monkeypatch, tmp_path):
    home = tmp_path / "home"
    monkeypatch.setenv("BATTERIES_HOME", str(home))
    open_snapshot(folder)
    (note,) = (home / "seen").iterdir()
    note.write_bytes(b"{}")
    open_snapshot(folder)
    (note,) = (home / "seen").iterdir()
    (home / "blobs" / sha256((folder / INDEX).read_bytes())).unlink()
    publish(tiny("other"), folder)
    open_snapshot(folder)
    index = Index.from_bytes((folder / INDEX).read_bytes(), where="")
    assert index.number == 2
