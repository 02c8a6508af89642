"""Mirrors: everything that one registry promises, in another, verified; what was there stays."""

import pytest

import registry
from batteries.errors import ConflictError, IntegrityError
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.cli import main
from registry.stores.directory import DirectoryStore
from registry.stores.fsck import fsck
from registry.stores.memory import MemoryStore
from registry.stores.store import INDEX
from registry.transfer.mirror import mirror
from registry.transfer.remarks import attest, yank
from tests.support.cells import attestation, publish, tiny


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for cell in (tiny(), tiny(version="1.1.0", seed=1), tiny("other", seed=2)):
        publish(cell, folder)
    attest(attestation(tiny()), folder)
    yank("high/tiny@1.1.0", "wrong data", folder)
    return DirectoryStore(folder)


def contents(store):
    return store.read_many(dict.fromkeys(store.keys(), 2**20))


def index_of(store):
    return Index.from_bytes(store.read_index(), where=INDEX)


@pytest.mark.parametrize("make", [lambda path: DirectoryStore(path / "target"), lambda path: MemoryStore()])
def test_a_mirror_has_every_byte(source, tmp_path, make):
    target = make(tmp_path)
    found = mirror(source, target)
    assert (found.cells, found.copied, found.attestations, found.number) == (3, 3, 1, 1)
    assert target.keys() == source.keys()
    assert contents(target) == contents(source)
    assert (index_of(target).cells, index_of(target).attestations) == (index_of(source).cells, index_of(source).attestations)
    assert registry.verify_store(target)[0].error is None


def test_again_changes_nothing_and_more_adds_what_is_new(source):
    target = MemoryStore()
    mirror(source, target)
    before = target.read_index()
    assert (mirror(source, target).copied, target.read_index()) == (0, before)
    publish(tiny("mine", seed=3), target)
    publish(tiny("new", seed=4), source)
    assert mirror(source, target).copied == 1
    assert sorted(index_of(target).cells) == ["high/mine", "high/new", "high/other", "high/tiny"]


def test_a_conflict_is_found_before_a_byte_is_written(source):
    target = MemoryStore()
    publish(tiny("other", seed=9), target)
    before, held = target.read_index(), target.keys()
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        mirror(source, target)
    assert (target.read_index(), target.keys()) == (before, held)


def test_a_damaged_source_is_not_copied(source):
    path = source.path / store_keys.blob(tiny("other", seed=2).digest)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    target = MemoryStore()
    with pytest.raises(IntegrityError, match="DIGEST_MISMATCH"):
        mirror(source, target)
    assert target.read_index() is None


def verdicts(store):
    return {name: one.verdict for known in index_of(store).attestations.values() for name, one in known.items()}


def test_an_older_verdict_does_not_replace_a_newer_one(source):
    target = MemoryStore()
    mirror(source, target)
    attest(attestation(tiny(), verdict="walked back"), source)
    assert mirror(source, target).kept == 0
    assert verdicts(target) == {"quick-1": "walked back"}
    older = MemoryStore()
    publish(tiny(), older)
    attest(attestation(tiny()), older)
    found = mirror(older, target)
    assert (found.kept, verdicts(target)) == (0, {"quick-1": "walked back"})
    assert registry.verify_store(target)[-1].ok
    assert target.keys("attestations/") == source.keys("attestations/")  # no other one is brought along


def test_of_two_verdicts_of_one_revision_that_of_the_target_stays_and_is_said(source, capsys, tmp_path):
    target = tmp_path / "target"
    publish(tiny(), target)
    attest(attestation(tiny(), verdict="walked back"), target)
    found = mirror(source, target)
    assert (found.kept, verdicts(DirectoryStore(target))) == (1, {"quick-1": "walked back"})
    assert main(["mirror", str(source.path), str(target)]) == 0
    assert "neither known to be newer: 1 kept" in capsys.readouterr().err
    assert fsck(target).orphans == ()
