import errno
import hashlib
import json
import os
import random
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

from batteries.cell import weights_file
from batteries.cell.cell import Cell
from batteries.cell.manifest import Manifest
from batteries.errors import BatteriesError, FormatError, IntegrityError, NotFoundError, PolicyError, StoreError
from batteries.io import canonical_json, filesystem
from batteries.io.canonical_json import dump, sha256
from batteries.io.operating_system import place
from batteries.io.verified import verify
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.reference import Reference
from registry.catalog.release import Pin, Release
from registry.stores.cache import Cache
from registry.stores.directory import DirectoryStore
from registry.stores.memory import MemoryStore
from registry.stores.settings import config_file, embedded, open_store
from registry.transfer.pull import pull
from registry.transfer.verify import verify_store
from tests.support.cells import litter, publish, python, tiny, tree


class Counted(MemoryStore):
    """A store that counts what is read, and lets a test damage it."""

    def __init__(self):
        super().__init__()
        self.reads = []

    def read(self, key, *, limit):
        if not key.startswith("signatures/"):  # which belongs to the index
            self.reads.append(key)
        return super().read(key, limit=limit)

    def damage(self, key, data):
        self._held[key] = data

    def lose(self, key):
        del self._held[key]


@pytest.fixture
def store():
    store = Counted()
    publish(tiny(), store)
    store.reads.clear()
    return store


BLOB = store_keys.blob(tiny().digest)
MANIFEST = store_keys.manifest("high/tiny", "1.0.0")


def test_cells_come_in_the_order_of_the_references(store):
    publish(tiny("other", seed=1), store)
    publish(tiny(version="1.1.0", seed=2), store)
    digest = tiny().digest
    cells = pull("high/other", "high/tiny", f"high/tiny@sha256:{digest}", Reference.parse("high/tiny@1.0.0"), registry=store)
    assert [(cell.name, cell.version) for cell in cells] == [
        ("high/other", "1.0.0"),
        ("high/tiny", "1.1.0"),
        ("high/tiny", "1.0.0"),
        ("high/tiny", "1.0.0"),
    ]
    assert pull(registry=store) == []


def test_weights_cannot_be_written_to(store):
    (cell,) = pull("high/tiny", registry=store)
    with pytest.raises(ValueError, match="read-only"):
        cell.weights["enc_in.weight"][0, 0] = 1.0


def test_an_unknown_cell_fetches_nothing(store):
    with pytest.raises(NotFoundError) as caught:
        pull("high/tiny", "high/tinny", registry=store)
    assert (caught.value.code, caught.value.exit_code) == ("NO_CELL", 3)
    assert "Did you mean high/tiny?" in str(caught.value)
    assert store.reads == []


# The cache.


def test_the_second_pull_reads_only_the_index(store):
    pull("high/tiny", registry=store)
    assert store.reads == [MANIFEST, BLOB]
    pull("high/tiny", registry=store)
    assert store.reads == [MANIFEST, BLOB]


def test_a_damaged_cache_is_set_aside_and_fetched_again_once(store):
    pull("high/tiny", registry=store)
    path = Cache().path(tiny().digest)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole + b"x", bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(damaged)
        store.reads.clear()
        assert pull("high/tiny", registry=store)[0].digest == tiny().digest
        assert store.reads == [BLOB]
        assert path.read_bytes() == whole
    assert len(list((Cache().folder / "damaged").iterdir())) == 4


def test_a_cache_and_a_store_damaged_together_are_an_error(store):
    pull("high/tiny", registry=store)
    path = Cache().path(tiny().digest)
    path.write_bytes(b"damaged")
    store.damage(BLOB, tiny(seed=1).to_bytes())
    with pytest.raises(IntegrityError, match="DIGEST_MISMATCH"):
        pull("high/tiny", registry=store)
    assert not path.exists()


def test_litter_of_killed_pulls_is_swept(store):
    left = Cache().path(f".{'a' * 64}.4194305.{place()}00000000.part")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    pull("high/tiny", registry=store)
    assert not left.exists()


def test_a_cache_on_a_disk_that_fails_is_a_typed_error(store):
    class Failing(filesystem.Disk):
        def open(self, path):
            raise OSError(errno.EIO, "no")

    with filesystem.use(Failing()), pytest.raises(StoreError) as caught:
        pull("high/tiny", registry=store)
    assert caught.value.exit_code == 8


def test_another_process_may_set_damage_aside_first(store, monkeypatch):
    pull("high/tiny", registry=store)
    path = Cache().path(tiny().digest)
    path.write_bytes(b"damaged")
    replace = Path.replace

    def late(self, target):
        self.unlink()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", late)
    assert pull("high/tiny", registry=store)[0].digest == tiny().digest
    assert sha256(path.read_bytes()) == tiny().digest


def test_damage_that_cannot_be_set_aside_is_not_returned(store):
    pull("high/tiny", registry=store)
    Cache().path(tiny().digest).write_bytes(b"damaged")
    (Cache().folder / "damaged").write_text("in the way")
    assert pull("high/tiny", registry=store)[0].digest == tiny().digest


# Damage on the way. Nothing damaged is returned or kept.


def refused(store, *, kind=(IntegrityError, FormatError)):
    with pytest.raises(kind) as caught:
        pull("high/tiny", registry=store)
    assert isinstance(caught.value, BatteriesError)
    return caught.value


@pytest.mark.slow
def test_every_flipped_byte_of_a_manifest(store):
    whole = store.read(MANIFEST, limit=10**6)
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        store.damage(MANIFEST, bytes(flipped))
        assert refused(store).code == "DIGEST_MISMATCH"
    assert list(Cache().folder.glob("blobs/*")) == []


@pytest.mark.slow
def test_flipped_bytes_of_the_weights(store):
    whole = store.read(BLOB, limit=10**6)
    positions = {*range(0, len(whole), 4), *range(16), len(whole) - 1}
    for position in positions:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        store.damage(BLOB, bytes(flipped))
        assert refused(store).code == "DIGEST_MISMATCH"
    assert [path.name for path in Cache().folder.glob("blobs/*")] == [sha256(store.read(MANIFEST, limit=10**6))]


@pytest.mark.parametrize("key", [BLOB, MANIFEST])
def test_short_long_and_missing_bytes(store, key):
    whole = store.read(key, limit=10**6)
    for data in (b"", whole[:-1], whole + b"\0", whole * 3):
        store.damage(key, data)
        error = refused(store, kind=IntegrityError)
        assert (error.code, error.exit_code) == ("SIZE_MISMATCH", 4)
    store.lose(key)
    assert refused(store, kind=IntegrityError).code == "MISSING"


# Forgeries: every digest is right, and the content is not.


def forged(*, blob=None, manifest=None, release=None) -> MemoryStore:
    """A registry whose index promises exactly these bytes."""
    cell = tiny()
    document = cell.manifest
    if blob is not None:
        file = document.file.model_copy(update={"size": len(blob), "sha256": sha256(blob)})
        document = document.model_copy(update={"file": file})
    blob = blob or cell.to_bytes()
    manifest = manifest or document.to_bytes()
    release = release or Release.of(document).model_copy(update={"manifest": Pin.of(manifest)})
    store = MemoryStore()
    store.put(store_keys.blob(sha256(blob)), blob)
    store.put(MANIFEST, manifest)
    store.swap_index(None, Index().with_release("high/tiny", "1.0.0", release).sealed())
    return store


def edited(**changes) -> bytes:
    return dump({**json.loads(tiny().manifest.to_bytes()), **changes})


def test_a_forgery_that_changes_nothing_is_pulled():
    assert pull("high/tiny", registry=forged())[0].digest == tiny().digest


def with_header(edit) -> bytes:
    """The cell's bytes with its header's text changed."""
    blob = tiny().to_bytes()
    size = struct.unpack("<Q", blob[:8])[0]
    header = edit(blob[8 : 8 + size].decode()).encode()
    return struct.pack("<Q", len(header)) + header + blob[8 + size :]


def twice(header: str) -> str:
    first = header[1:].split("},")[0] + "}"
    return "{" + first + "," + header[1:]


HOSTILE_BLOBS = {
    "a tensor given twice": (with_header(twice), FormatError, "DUPLICATE_KEY"),
    "another type": (with_header(lambda text: text.replace("F32", "I32", 1)), FormatError, "ST_DTYPE"),
    "metadata": (with_header(lambda text: '{"__metadata__":{"a":"b"},' + text[1:]), FormatError, "ST_NAME"),
    "a tensor name that is a path": (with_header(lambda text: text.replace("enc_in.", "../x/..", 1)), FormatError, "ST_NAME"),
    "a number that JSON does not have": (with_header(lambda text: text.replace("[0,", "[NaN,", 1)), FormatError, "NUMBER"),
    "a tail": (tiny().to_bytes() + b"\0" * 4, FormatError, "ST_TAIL"),
    "no header": (b"\xff" * 64, FormatError, "ST_HEADER"),
    "a pickle": (b"\x80\x04N.", FormatError, "ST_SHORT"),
}


@pytest.mark.parametrize("name", HOSTILE_BLOBS)
def test_hostile_weights(name):
    blob, kind, code = HOSTILE_BLOBS[name]
    assert refused(forged(blob=blob), kind=kind).code == code


def test_weights_that_are_not_finite():
    weights = {name: np.array(array) for name, array in tiny().weights.items()}
    for value in (np.nan, np.inf, -np.inf):
        weights["dec_out.bias"][0] = value
        error = refused(forged(blob=save(weights)), kind=PolicyError)
        assert (error.code, error.exit_code) == ("NON_FINITE", 6)


def test_other_weights_of_the_same_shape_under_the_same_tensor_digest():
    assert refused(forged(blob=tiny(seed=1).to_bytes()), kind=IntegrityError).code == "TENSOR_DIGEST"


HOSTILE_MANIFESTS = {
    "a key too many": (edited(extra=1), FormatError, "SCHEMA"),
    "a newer schema": (edited(schema_version="2.0"), FormatError, "SCHEMA_NEWER"),
    "a key twice": (
        tiny().manifest.to_bytes().replace(b'{"file"', b'{"own_probe":"x","file"', 1),
        FormatError,
        "DUPLICATE_KEY",
    ),
    "not a number": (tiny().manifest.to_bytes().replace(b'"mse":0.25', b'"mse":NaN', 1), FormatError, "NUMBER"),
    "out of range": (tiny().manifest.to_bytes().replace(b'"mse":0.25', b'"mse":1e999', 1), FormatError, "NUMBER"),
    "too deep": (b"[" * 50 + b"]" * 50, FormatError, "TOO_DEEP"),
    "not text": (b"\xff\xfe", FormatError, "JSON"),
    "another cell": (tiny("other").manifest.to_bytes(), IntegrityError, "WRONG_CELL"),
    "another band": (tiny(band="low").manifest.to_bytes(), IntegrityError, "WRONG_CELL"),
    "another version": (tiny(version="1.0.1").manifest.to_bytes(), IntegrityError, "WRONG_CELL"),
    "other weights": (tiny(seed=1).manifest.to_bytes(), IntegrityError, "WRONG_BLOB"),
    "other figures": (tiny(cv=0.93).manifest.to_bytes(), IntegrityError, "WRONG_SUMMARY"),
}


@pytest.mark.parametrize("name", HOSTILE_MANIFESTS)
def test_hostile_manifests(name):
    manifest, kind, code = HOSTILE_MANIFESTS[name]
    assert refused(forged(manifest=manifest), kind=kind).code == code


def test_random_edits_of_a_manifest_are_typed():
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    whole = tiny().manifest.to_bytes()
    for _ in range(500):
        data = bytearray(whole)
        at = chance.randrange(len(data))
        data[at : at + chance.randrange(6)] = chance.randbytes(chance.randrange(6))
        try:
            Manifest.from_bytes(bytes(data), where="test")
        except FormatError:
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}: {bytes(data)!r}") from error


# Which registry.


def test_the_registry_in_force(tmp_path, monkeypatch):
    for name in ("argument", "variable", "file", "named"):
        publish(tiny(name), tmp_path / name)
    config_file().parent.mkdir(parents=True)
    config_file().write_text(f"registry = '{tmp_path / 'file'}'\n[registries]\nlab = '{tmp_path / 'named'}'\n")
    assert open_store().url == str(tmp_path / "file")
    assert pull("high/file", "lab/high/named")[1].name == "high/named"
    monkeypatch.setenv("BATTERIES_REGISTRY", str(tmp_path / "variable"))
    assert pull("high/variable")[0].name == "high/variable"
    assert pull("high/argument", "lab/high/named", registry=tmp_path / "argument")[0].name == "high/argument"
    with pytest.raises(NotFoundError) as caught:
        pull("lap/high/named")
    assert caught.value.code == "NO_REGISTRY"


def test_the_embedded_registry_is_read_only():
    store = open_store()
    assert store.url == "embedded"
    assert store.path == embedded()
    with pytest.raises(PolicyError, match="READ_ONLY"):
        publish(tiny(), store)


def test_a_relative_path_in_the_file_starts_at_the_file(tmp_path):
    publish(tiny(), config_file().parent / "cells")
    config_file().write_text('registry = "cells"\n')
    assert pull("high/tiny")[0].digest == tiny().digest


@pytest.mark.parametrize("text", ["registry = ", 'registri = "x"', "registry = 5", '[registries]\nlab = ["x"]', "\udcff"])
def test_a_configuration_that_cannot_be_used(text):
    config_file().parent.mkdir(parents=True, exist_ok=True)
    config_file().write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FormatError) as caught:
        open_store()
    assert (caught.value.code, caught.value.exit_code) == ("CONFIG", 4)


@pytest.mark.parametrize(
    ("address", "code", "exit_code"),
    [
        ("~nobody-of-this-name/x", "BAD_PATH", 2),
        ("hf://owner", "BAD_REPOSITORY", 2),
        ("s3://bucket", "SCHEME", 2),
        ("{}/nowhere", "NO_REGISTRY", 3),
        ("a\0b", "BAD_PATH", 2),
    ],
)
def test_addresses_that_cannot_be_opened(address, code, exit_code, tmp_path):
    with pytest.raises(BatteriesError) as caught:
        open_store(address.format(tmp_path))
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)


def test_a_file_and_an_empty_folder_are_no_registry(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BatteriesError, match="NOT_A_FOLDER"):
        open_store(tmp_path / "file")
    with pytest.raises(NotFoundError, match="NO_INDEX"):
        pull("high/tiny", registry=tmp_path)


# Folders.


def test_a_pull_writes_nothing_into_the_registry(tmp_path):
    publish(tiny(), tmp_path)
    before = tree(tmp_path)
    pull("high/tiny", registry=tmp_path)
    assert all(finding.ok for finding in verify_store(DirectoryStore(tmp_path, writable=False)))
    assert tree(tmp_path) == before


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_killed_pulls_leave_a_cache_that_works(tmp_path):
    for n in range(20):
        publish(tiny(f"cell-{n}", seed=n), tmp_path / "registry")
    code = """
import os, random, signal, sys, time
from registry.transfer.pull import pull
chance = random.Random(int(sys.argv[2]))
names = [f"high/cell-{n}" for n in range(20)]
for _ in range(20):
    child = os.fork()
    if not child:
        pull(*names, registry=sys.argv[1])
        os._exit(0)
    time.sleep(chance.uniform(0.001, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
assert len(pull(*names, registry=sys.argv[1])) == 20
"""
    seed = random.randrange(10**6)
    run = python(code, tmp_path / "registry", seed)
    assert (run.returncode, run.stderr) == (0, ""), seed
    assert litter(Cache().folder) == [], seed
    assert not (Cache().folder / "damaged").exists()


@pytest.mark.slow
def test_no_torch_on_the_whole_path(tmp_path):
    code = """
import sys
import registry
from tests.support.cells import attestation, publish, tiny
publish(tiny(), sys.argv[1])
registry.attest(attestation(tiny()), sys.argv[1])
(cell,) = registry.pull("high/tiny", registry=sys.argv[1])
assert all(finding.ok for finding in registry.verify("high/tiny", registry=sys.argv[1]))
assert callable(registry.pull) and callable(registry.verify) and callable(registry.publish)
assert "torch" not in sys.modules
"""
    run = python(code, tmp_path)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.fixture
def hashed(monkeypatch):
    """The sizes of what went through SHA-256: documents and files whole, tensors one by one."""
    counts = {canonical_json: [], weights_file: []}

    class Counting:
        def __init__(self, module):
            self.counts = counts[module]

        def sha256(self, data=b""):
            made = hashlib.sha256(data)

            def update(part):
                self.counts.append(memoryview(part).nbytes)
                made.update(part)

            return SimpleNamespace(update=update, hexdigest=made.hexdigest)

    for module in counts:
        monkeypatch.setattr(module, "hashlib", Counting(module))
    return counts


@pytest.mark.parametrize("known", [False, True], ids=["transferred", "from the cache"])
def test_file_manifest_and_tensors_are_hashed_once_each(store, hashed, known):
    if known:
        pull("high/tiny", registry=store)
    for counts in hashed.values():
        counts.clear()
    (cell,) = pull("high/tiny", registry=store)
    assert hashed[canonical_json].count(cell.manifest.file.size) == 1
    assert hashed[canonical_json].count(len(cell.manifest.to_bytes())) == 1
    names = [len(f"\0{name}{list(array.shape)}\0") for name, array in cell.weights.items()]
    assert sum(hashed[weights_file]) == sum(array.nbytes for array in cell.weights.values()) + sum(names)


def test_verified_bytes_of_another_digest_are_refused(store):
    cell = tiny()
    other = b"other" + cell.to_bytes()
    with pytest.raises(IntegrityError, match="SIZE_MISMATCH"):
        Cell.from_bytes(verify(other, sha256=sha256(other), size=len(other), where="a test"), cell.manifest, where="a test")
    changed = cell.to_bytes()[:-1] + bytes([cell.to_bytes()[-1] ^ 1])
    with pytest.raises(IntegrityError, match="DIGEST_MISMATCH"):
        Cell.from_bytes(
            verify(changed, sha256=sha256(changed), size=len(changed), where="a test"), cell.manifest, where="a test"
        )
