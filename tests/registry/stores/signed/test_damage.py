"""Damaged signed documents in a folder: found by fsck, and restored from the cache or another registry, if sound there."""

import shutil

import pytest

from registry.catalog import store_keys
from registry.catalog.release import Pin
from registry.stores.cache import Cache
from registry.stores.directory import DirectoryStore
from registry.stores.fsck import fsck
from registry.stores.signed.rotation import refresh, rotate
from registry.stores.snapshot import open_snapshot
from registry.stores.store import INDEX
from registry.transfer.mirror import mirror
from registry.transfer.verify import verify_store
from tests.support.cells import publish, tiny
from tests.support.signing import CELL, QUIETLY, signer, signing

pytestmark = QUIETLY


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "signed"
    publish(CELL, place, signing("A"))
    rotate(DirectoryStore(place), signing("A", "B"), add=[signer("B").public_key])
    open_snapshot(place)
    shutil.copytree(place, tmp_path / "copy")
    return place


def documents(folder):
    """The keys of the documents of keys, of the index's signature and of the release's."""
    pins = (Pin.of((folder / INDEX).read_bytes()), open_snapshot(folder).index.releases("high/tiny")["1.0.0"].manifest)
    return [store_keys.root(1), store_keys.root(2), *(store_keys.signature(pin.sha256) for pin in pins)]


DAMAGE = {"other bytes": b"{}\n", "cut off": b"", "too large": b"x" * 2**17, "gone": None}


def damage(path, how):
    path.unlink()
    if DAMAGE[how] is not None:
        path.write_bytes(DAMAGE[how])


def faults(folder, **options):
    found = fsck(folder, **options)
    return list(found.faults), list(found.repaired)


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("number", range(4))
def test_it_is_found_and_restored_from_another_registry(folder, tmp_path, number, how):
    key = documents(folder)[number]
    damage(folder / key, how)
    if (number, how) == (3, "gone"):
        assert faults(folder) == ([], [])  # a release needs no signature of its own
        return
    shutil.rmtree(Cache().blobs)
    assert faults(folder, source=tmp_path / "copy")[0] == [key]
    assert faults(folder, repair=True, source=tmp_path / "copy") == ([key], [key])
    assert all(finding.ok for finding in verify_store(DirectoryStore(folder, writable=False)))
    assert faults(folder) == ([], [])


@pytest.mark.parametrize("number", range(3))
def test_what_this_machine_accepted_before_is_restored_from_its_cache(folder, number):
    key = documents(folder)[number]
    damage(folder / key, "other bytes")
    assert faults(folder, repair=True) == ([key], [key])
    assert all(finding.ok for finding in verify_store(DirectoryStore(folder, writable=False)))


@pytest.mark.parametrize("number", range(3))
def test_the_documents_of_another_registry_are_not_taken(folder, tmp_path, number):
    publish(CELL, tmp_path / "other", signing("X"))
    key = documents(folder)[number]
    damage(folder / key, "other bytes")
    shutil.rmtree(Cache().blobs)
    assert faults(folder, repair=True, source=tmp_path / "other") == ([key], [])
    assert (folder / key).read_bytes() == DAMAGE["other bytes"]


def test_a_damaged_signature_of_a_release_gives_way_and_is_made_again(folder, tmp_path):
    key = documents(folder)[3]
    damage(folder / key, "other bytes")
    assert faults(folder, repair=True) == ([key], [key])
    assert mirror(folder, tmp_path / "mirror").copied == 1
    refresh(DirectoryStore(folder), signing("A"), releases=True)
    assert (folder / key).read_bytes() != DAMAGE["other bytes"]
    assert faults(folder) == ([], [])


def test_an_unsigned_registry_has_no_such_faults(tmp_path):
    publish(tiny(), tmp_path / "plain")
    assert faults(tmp_path / "plain") == ([], [])
