"""A lock pins the keys of the registries that it names, and how far they had come."""

import pytest

import registry
from batteries.errors import IntegrityError, PolicyError
from registry.catalog.reference import Reference
from registry.stores.settings import open_store
from registry.stores.signed.rotation import rotate
from registry.stores.signed.trust_guard import SignerWarning
from registry.stores.snapshot import locate
from registry.transfer.lockfile import Lock
from tests.support.cells import publish, tiny
from tests.support.signing import (
    CELL,
    INDEX,
    PLACES,
    QUIETLY,
    fill,
    forged_release,
    key,
    made,
    pin,
    root_of,
    signed,
    signer,
    signing,
    without,
)

pytestmark = [PLACES, *QUIETLY]


@pytest.fixture
def place(request, tmp_path):
    return made(request, tmp_path)


def locked(place, tmp_path):
    """A lock as another machine reads it."""
    path = tmp_path / "cells.lock"
    Lock.of(locate([Reference.parse("high/tiny@1.0.0")], place.address)).write(path)
    return Lock.read(path)


def refused(lock):
    with pytest.raises(IntegrityError) as caught:
        registry.pull_locked(lock)
    return caught.value.code


def test_a_lock_has_the_keys_and_a_lock_of_an_unsigned_registry_none(place, tmp_path, elsewhere):
    publish(CELL, place.address)
    assert "signed_by" not in locked(place, tmp_path).to_bytes().decode()
    elsewhere()
    place.write(without(place, ""))
    fill(place, "A")
    lock = locked(place, tmp_path)
    assert lock.indexes[0].signed_by == (key("A"),)
    elsewhere()
    assert registry.pull_locked(lock)[0].digest == CELL.digest


def test_an_older_index_is_refused_by_a_reader_who_has_only_the_lock(place, tmp_path, elsewhere):
    fill(place, "A")
    old = place.files()
    publish(tiny("other"), place.address, signing("A"))
    lock = locked(place, tmp_path)
    place.write({INDEX: old[INDEX]})
    elsewhere()
    assert refused(lock) == "ROLLBACK"


def test_an_older_index_of_an_unsigned_registry_too(place, tmp_path, elsewhere):
    publish(CELL, place.address)
    old = place.files()
    publish(tiny("other"), place.address)
    lock = locked(place, tmp_path)
    place.write({INDEX: old[INDEX]})
    elsewhere()
    assert refused(lock) == "ROLLBACK"


def test_an_index_by_other_keys_and_one_by_none_are_refused(place, tmp_path, elsewhere):
    fill(place, "A")
    lock = locked(place, tmp_path)
    files = forged_release(place)
    place.write(files)
    elsewhere()
    assert refused(lock) == "UNSIGNED"
    place.write(signed(files[INDEX], "X") | root_of("X"))
    assert refused(lock) == "WRONG_SIGNER"


def test_keys_that_followed_are_taken(place, tmp_path, elsewhere):
    fill(place, "A")
    lock = locked(place, tmp_path)
    store = open_store(place.address, writable=True)
    rotate(store, signing("A", "B"), add=[signer("B").public_key], remove=[key("A")])
    elsewhere()
    assert registry.pull_locked(lock)[0].digest == CELL.digest


def test_another_registry_in_place_of_the_lock_s_own_has_an_index_of_its_own(place, tmp_path, elsewhere):
    fill(place, "A")
    lock = locked(place, tmp_path)
    publish(CELL, tmp_path / "copy")
    elsewhere()
    assert registry.pull_locked(lock, registry=tmp_path / "copy")[0].digest == CELL.digest


def test_a_lock_outlives_the_signature_unless_the_key_is_pinned(place, tmp_path, elsewhere):
    fill(place, "A")
    lock = locked(place, tmp_path)
    place.write(signed(place.files()[INDEX], "A", days=-1))
    elsewhere()
    with pytest.warns(SignerWarning, match="SIGNATURE_EXPIRED"):
        assert registry.pull_locked(lock)[0].digest == CELL.digest
    elsewhere()
    pin(place.address, "A")
    with pytest.raises(PolicyError, match="SIGNATURE_EXPIRED"):
        registry.pull_locked(lock)


def test_a_lock_of_another_key_changes_nothing_of_what_was_seen_before(place, tmp_path, elsewhere):
    fill(place, "A")
    true = place.files()
    files = forged_release(place)
    place.write(files | signed(files[INDEX], "X") | root_of("X"))
    lock = locked(place, tmp_path)
    place.write(dict.fromkeys(place.files()) | true)
    elsewhere()
    locate([Reference.parse("high/tiny@1.0.0")], place.address)
    place.write(files | signed(files[INDEX], "X") | root_of("X"))
    for _ in range(2):
        assert refused(lock) == "WRONG_SIGNER"
    place.write(dict.fromkeys(place.files()) | true)
    assert refused(lock) in ("WRONG_SIGNER", "ROLLBACK")  # it names another key than that which signs
    assert locate([Reference.parse("high/tiny")], place.address)[0].version == "1.1.0"
