"""Every byte of a small cell, its manifest, its attestation and its index, flipped: a typed error or the right bytes."""

import random
from pathlib import Path

import pytest

from batteries.errors import BatteriesError, FormatError, IntegrityError
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.stores.cache import Cache
from registry.stores.directory import DirectoryStore
from registry.stores.memory import MemoryStore
from registry.stores.store import INDEX
from registry.transfer.pull import pull
from registry.transfer.remarks import attest
from registry.transfer.verify import verify_store
from tests.support.cells import DAMAGED, attestation, publish, tiny, tree
from tests.support.soak import many

CELL = tiny()
ATTESTATION = attestation(CELL)
OBJECTS = {
    "blob": store_keys.blob(CELL.digest),
    "manifest": store_keys.manifest(CELL.name, CELL.version),
    "attestation": store_keys.attestation(CELL.digest, ATTESTATION.digest),
    "index": INDEX,
}
TIMES = many(1, 3)  # other bytes in the place of each


class Damaged(MemoryStore):
    """A store in which a test may change what it likes."""

    def __init__(self):
        super().__init__()
        publish(CELL, self)
        attest(ATTESTATION, self)

    def get(self, key):
        return self._index if key == INDEX else self._held[key]

    def set(self, key, data):
        if key == INDEX:
            self._index = data
        else:
            self._held[key] = data


def flips(data, key, *, every=1):
    """(position, the bytes with that one flipped), ``TIMES`` for each position."""
    rng = random.Random(key)
    for at in range(0, len(data), every):
        for change in rng.sample(range(1, 256), TIMES):
            yield at, data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]


def forget():
    """A cache in which nothing is. No test needs the folders gone."""
    for path in Cache().blobs.glob("*"):
        path.unlink()


def test_the_objects_are_all_there_is():
    store = Damaged()
    assert [*store.keys(), INDEX] == [*sorted(set(OBJECTS.values()) - {INDEX}), INDEX]
    assert all(finding.ok for finding in verify_store(store))


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTS)
def test_verify_names_every_flip(kind):
    store, key = Damaged(), OBJECTS[kind]
    for at, damaged in flips(store.get(key), key):
        store.set(key, damaged)
        faults = [finding for finding in verify_store(store) if not finding.ok]
        assert [(fault.kind, fault.name) for fault in faults] == [(kind, key)], f"byte {at} of {key}"
        assert isinstance(faults[0].error, FormatError | IntegrityError)


# a pull costs more than reading: in a short run every second byte of a manifest, which has no part that is read unlike another
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "every"), [("blob", 1), ("manifest", many(2, 1)), ("index", 1)])
def test_a_cold_pull_refuses_every_flip(kind, every):
    store, key = Damaged(), OBJECTS[kind]
    for at, damaged in flips(store.get(key), key, every=every):
        store.set(key, damaged)
        if kind == "manifest":
            forget()
        with pytest.raises((FormatError, IntegrityError), match=f"{DAMAGED}|DIGEST_MISMATCH"):
            pull(CELL.name, registry=store)
        kept = {path.name for path in Cache().blobs.glob("*")}
        assert CELL.digest not in kept, f"byte {at} of {key}"


def test_a_pull_is_right_beside_a_damaged_attestation():
    store, key = Damaged(), OBJECTS["attestation"]
    for _, damaged in flips(store.get(key), key, every=many(100, 1)):
        store.set(key, damaged)
        assert right(pull(CELL.name, registry=store))


def right(cells):
    (cell,) = cells
    return (cell.to_bytes(), cell.manifest.to_bytes()) == (CELL.to_bytes(), CELL.manifest.to_bytes())


def test_an_attestation_that_is_read_is_the_one_that_was_written():
    whole = ATTESTATION.to_bytes()
    for at, damaged in flips(whole, "attestation"):
        try:
            found = type(ATTESTATION).from_bytes(damaged, where="an attestation")
        except BatteriesError:
            continue  # the others are well-formed, and refused by the digest in the index (above)
        assert found.to_bytes() == damaged != whole, f"byte {at}"


def test_no_flip_of_an_index_is_another_index():
    whole = Damaged().get(INDEX)
    for _, damaged in flips(whole, INDEX):
        with pytest.raises((FormatError, IntegrityError), match=DAMAGED):
            Index.from_bytes(damaged, where=INDEX)


@pytest.mark.slow
@pytest.mark.parametrize("kind", OBJECTS)
def test_flips_in_a_folder(kind, tmp_path):
    store = DirectoryStore(tmp_path)
    publish(CELL, store)
    attest(ATTESTATION, store)
    path = tmp_path / OBJECTS[kind]
    whole = path.read_bytes()
    path.chmod(0o644)
    for at, damaged in flips(whole, OBJECTS[kind], every=many(16, 1)):
        path.write_bytes(damaged)
        faults = [finding for finding in verify_store(DirectoryStore(tmp_path, writable=False)) if not finding.ok]
        assert [fault.kind for fault in faults] == [kind], f"byte {at}"
    path.write_bytes(whole)
    assert all(finding.ok for finding in verify_store(store))


@pytest.mark.slow
@pytest.mark.parametrize("digest", [CELL.digest, OBJECTS["manifest"]])
def test_flips_in_the_cache_are_set_aside_and_fetched_again(digest):
    store = Damaged()
    pull(CELL.name, registry=store)
    cache = Cache()
    paths = {path.read_bytes(): path for path in cache.blobs.glob("*")}
    path = paths[CELL.to_bytes() if digest == CELL.digest else CELL.manifest.to_bytes()]
    whole, times = path.read_bytes(), 0
    before = tree(cache.blobs)
    for _, damaged in flips(whole, digest, every=many(32, 1)):
        put(path, damaged)
        assert right(pull(CELL.name, registry=store))
        times += 1
    assert tree(cache.blobs) == before
    assert len(list(cache.aside.iterdir())) == times


def put(path: Path, data: bytes) -> None:
    path.unlink()  # it may be read-only
    path.write_bytes(data)
