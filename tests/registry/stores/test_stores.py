"""The contract of every store. A new kind of store joins by one line in KINDS."""

import errno
import os
import threading

import pytest

from batteries.errors import ConflictError, FormatError, InputError, NotFoundError, PolicyError, StoreError
from batteries.io import atomic_files, filesystem
from batteries.io.canonical_json import sha256
from batteries.io.operating_system import place
from registry.stores.directory import LOCK, DirectoryStore
from registry.stores.memory import MemoryStore
from tests.support.cells import litter, tree
from tests.support.hubserver import hub

BLOB = "blobs/" + "a" * 64
MANIFEST = "low/x/1.0.0.json"
MODEL = "model/x/1.0.0.json"
ATTESTATION = f"attestations/{'b' * 64}/{'c' * 64}.json"
SIGNATURE = f"signatures/{'d' * 64}.json"
ROOT = "trust/1.root.json"
BAD_KEYS = [
    "",
    "/",
    "index.json",
    "index.lock",
    "..",
    "../x",
    "low/../1.0.0.json",
    "low/x/../../../etc/passwd",
    "/etc/passwd",
    "low/x/1.0.0",
    "low/x/1.0.json",
    "low/x/1.0.0.JSON",
    "low/nul/1.0.0.json",
    "blue/x/1.0.0.json",
    "low//1.0.0.json",
    "low/x/y/1.0.0.json",
    "models/x/1.0.0.json",
    "model/1.0.0.json",
    "model/../x/1.0.0.json",
    "blobs/" + "A" * 64,
    "blobs/" + "a" * 63,
    "blobs/" + "a" * 64 + ".json",
    "blobs/" + "a" * 64 + "\n",
    "blobs\\" + "a" * 64,
    f"attestations/{'b' * 64}/{'c' * 64}",
    f"attestations/../{'c' * 64}.json",
    "low/x\x00/1.0.0.json",
    "signatures/" + "d" * 64,
    "signatures/" + "d" * 63 + ".json",
    f"signatures/x/{'d' * 64}.json",
    "trust/0.root.json",
    "trust/01.root.json",
    "trust/1.json",
    "trust/root.json",
    "trust/../1.root.json",
    "trust/1234567.root.json",
]


def directory(tmp_path):
    return DirectoryStore(tmp_path / "registry")


def memory(tmp_path):
    return MemoryStore()


def read_only(store):
    """The same bytes, not to be written."""
    if isinstance(store, DirectoryStore):
        return DirectoryStore(store.path, writable=False)
    store.writable = False
    return store


KINDS = [directory, memory, hub]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def store(request, tmp_path):
    return request.param(tmp_path)


def test_what_was_put_is_read(store):
    for key in (BLOB, MANIFEST, MODEL, ATTESTATION, SIGNATURE, ROOT):
        store.put(key, key.encode())
        assert store.read(key, limit=1000) == key.encode()
    assert isinstance(store.url, str)


def test_nothing_there(store):
    with pytest.raises(NotFoundError) as caught:
        store.read(BLOB, limit=10)
    assert caught.value.code == "NO_FILE"
    assert store.keys() == []
    assert store.read_index() is None


def test_the_limit_is_exact(store):
    store.put(BLOB, b"12345")
    assert store.read(BLOB, limit=5) == b"12345"
    with pytest.raises(FormatError) as caught:
        store.read(BLOB, limit=4)
    assert caught.value.code == "TOO_LARGE"


def test_keys_are_sorted_and_chosen_by_prefix(store):
    for key in ("low/y/1.0.0.json", MANIFEST, "high/x/1.0.0.json", ATTESTATION, BLOB):
        store.put(key, b"x")
    store.swap_index(None, b"index")
    assert store.keys() == sorted([ATTESTATION, BLOB, "high/x/1.0.0.json", MANIFEST, "low/y/1.0.0.json"])
    assert store.keys("low/") == [MANIFEST, "low/y/1.0.0.json"]
    assert store.keys("low/x") == [MANIFEST]
    assert store.keys("mid/") == []
    store.put(MODEL, b"x")
    assert store.keys("model/") == [MODEL]


def test_memory_that_is_not_bytes_is_put_as_well(store):
    """A large file is mapped, and its map is put."""
    data = memoryview(bytearray(b"12345"))
    for _ in range(2):
        store.put(BLOB, data)
    assert store.read(BLOB, limit=5) == b"12345"
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        store.put(BLOB, memoryview(b"12346"))


def test_the_same_bytes_again_are_a_success_and_others_a_conflict(store):
    store.put(MANIFEST, b"one")
    store.put(MANIFEST, b"one")
    for other in (b"two", b"", b"one and more"):
        with pytest.raises(ConflictError) as caught:
            store.put(MANIFEST, other)
        assert (caught.value.code, caught.value.exit_code) == ("VERSION_EXISTS", 6)
    assert store.read(MANIFEST, limit=10) == b"one"


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_bad_key_reaches_nothing(store, key, tmp_path):
    for attempt in (lambda: store.read(key, limit=10), lambda: store.put(key, b"x")):
        with pytest.raises(InputError) as caught:
            attempt()
        assert caught.value.code == "BAD_KEY"
    assert store.keys() == []
    assert tree(tmp_path) == {}


def test_the_index_is_swapped_by_comparison(store):
    store.swap_index(None, b"one")
    assert store.read_index() == b"one"
    store.swap_index(sha256(b"one"), b"two")
    for expected in (None, sha256(b"one"), sha256(b"three")):
        with pytest.raises(ConflictError) as caught:
            store.swap_index(expected, b"four")
        assert caught.value.code == "INDEX_MOVED"
        assert caught.value.retryable
    assert store.read_index() == b"two"


def test_a_first_index_is_not_swapped_in_for_another(store):
    with pytest.raises(ConflictError, match="INDEX_MOVED"):
        store.swap_index(sha256(b"one"), b"two")
    assert store.read_index() is None


def test_a_read_only_store_refuses_every_write(store):
    store.put(BLOB, b"x")
    store.swap_index(None, b"one")
    store = read_only(store)
    for attempt in (lambda: store.put(BLOB, b"x"), lambda: store.put(MANIFEST, b"x"), lambda: store.swap_index(None, b"x")):
        with pytest.raises(PolicyError) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_code) == ("READ_ONLY", 6)
    assert store.keys() == [BLOB]
    assert store.read_index() == b"one"


def test_of_many_writers_of_one_key_one_wins(store):
    outcomes = together([lambda n=n: store.put(MANIFEST, b"%d" % n) for n in range(8)])
    winners = [n for n, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert store.read(MANIFEST, limit=10) == b"%d" % winners[0]


def test_of_many_swaps_from_one_index_one_wins(store):
    store.swap_index(None, b"start")
    outcomes = together([lambda n=n: store.swap_index(sha256(b"start"), b"%d" % n) for n in range(8)])
    winners = [n for n, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert {outcome.code for outcome in outcomes if outcome} == {"INDEX_MOVED"}
    assert store.read_index() == b"%d" % winners[0]


def together(attempts):
    """Run every attempt in a thread of its own; the error of each, or None."""
    outcomes = [None] * len(attempts)
    barrier = threading.Barrier(len(attempts))

    def work(n):
        barrier.wait()
        try:
            attempts[n]()
        except ConflictError as error:
            outcomes[n] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(attempts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


# What only a folder can do wrong.


def test_reading_a_folder_creates_nothing(tmp_path):
    store = DirectoryStore(tmp_path / "registry")
    assert store.read_index() is None
    assert store.keys() == []
    assert tree(tmp_path) == {}
    store.put(MANIFEST, b"x")
    store.swap_index(None, b"index")
    before = tree(tmp_path)
    reader = DirectoryStore(store.path, writable=False)
    reader.read_index()
    reader.read(MANIFEST, limit=10)
    reader.keys()
    assert tree(tmp_path) == before


def test_the_layout_is_the_published_one(tmp_path):
    store = directory(tmp_path)
    for key in (BLOB, MANIFEST, ATTESTATION):
        store.put(key, b"x")
    store.swap_index(None, b"index")
    assert {name for name, data in tree(store.path).items() if data is not None} == {
        "index.json",
        "index.lock",
        BLOB,
        MANIFEST,
        ATTESTATION,
    }


def test_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    (outside / "x" / "1.0.0.json").write_bytes(b"secret")
    store = directory(tmp_path)
    (store.path / "high").mkdir(parents=True)
    (store.path / "low").symlink_to(outside)
    (store.path / "high" / "x").symlink_to(outside / "x")
    (store.path / "mid" / "x").mkdir(parents=True)
    (store.path / "mid" / "x" / "1.0.0.json").symlink_to(outside / "x" / "1.0.0.json")
    for band in ("low", "high", "mid"):
        with pytest.raises(FormatError) as caught:
            store.read(f"{band}/x/1.0.0.json", limit=100)
        assert caught.value.code == "SYMLINK"
    for band in ("low", "high"):
        with pytest.raises(FormatError, match="SYMLINK"):
            store.put(f"{band}/x/2.0.0.json", b"x")
    assert [path.name for path in (outside / "x").iterdir()] == ["1.0.0.json"]


def test_files_that_are_no_keys_are_passed_over(tmp_path):
    store = directory(tmp_path)
    store.put(MANIFEST, b"x")
    (store.path / "low" / "x" / "notes.txt").write_text("x")
    (store.path / "README.md").write_text("x")
    assert store.keys() == [MANIFEST]


def test_a_stuck_lock_is_a_typed_error(tmp_path):
    store = DirectoryStore(tmp_path, lock_seconds=0.1)
    with atomic_files.lock(tmp_path / LOCK, 1), pytest.raises(StoreError) as caught:
        store.swap_index(None, b"index")
    assert (caught.value.code, caught.value.exit_code, caught.value.retryable) == ("LOCK_TIMEOUT", 8, True)
    assert store.read_index() is None
    store.swap_index(None, b"index")
    assert (tmp_path / LOCK).exists()


def test_a_folder_that_is_none_is_a_typed_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = DirectoryStore(tmp_path / "file")
    for attempt in (lambda: store.put(BLOB, b"x"), lambda: store.swap_index(None, b"x"), lambda: store.read(BLOB, limit=1)):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_code) == ("DISK", 8)


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "NO_SPACE"), (errno.EIO, "DISK"), (errno.EROFS, "DISK")])
def test_a_lock_that_cannot_be_made_is_a_typed_error(tmp_path, number, code):
    class Failing(filesystem.Disk):
        def lock(self, path, seconds):
            raise OSError(number, "no")

    with filesystem.use(Failing()), pytest.raises(StoreError) as caught:
        directory(tmp_path).swap_index(None, b"index")
    assert caught.value.code == code


def test_a_folder_that_cannot_be_listed_is_a_typed_error(tmp_path, monkeypatch):
    store = directory(tmp_path)
    store.put(BLOB, b"x")

    def fail(*_):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(StoreError, match="DISK"):
        store.keys()


def test_litter_of_the_dead_is_swept_by_the_next_writer(tmp_path):
    store = directory(tmp_path)
    store.put(BLOB, b"x")
    left = [
        store.path / f".index.json.4194305.{place()}00000000.part",
        store.path / "blobs" / f".{'a' * 64}.4194305.{place()}00000000.part",
    ]
    for path in left:
        path.write_bytes(b"half")
    DirectoryStore(store.path, writable=False)
    assert len(litter(tmp_path)) == 2
    DirectoryStore(store.path)
    assert litter(tmp_path) == []
    assert store.keys() == [BLOB]


def test_a_disk_that_fails_when_a_store_is_opened_is_a_typed_error(tmp_path):
    class Failing(filesystem.Disk):
        def lstat(self, path):
            raise OSError(errno.EIO, "no")

        scan = lstat

    with filesystem.use(Failing()):
        for attempt in (lambda: DirectoryStore(tmp_path), lambda: DirectoryStore(tmp_path, writable=False).keys()):
            with pytest.raises(StoreError, match="DISK"):
                attempt()
