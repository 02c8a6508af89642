import pytest

from batteries.io.canonical_json import sha256
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.stores.directory import DirectoryStore
from registry.stores.memory import MemoryStore
from registry.transfer.remarks import attest
from registry.transfer.verify import verify, verify_store
from tests.support.cells import attestation, publish, tiny


class Damageable(MemoryStore):
    def damage(self, key, position=0):
        held = bytearray(self._held[key])
        held[position] ^= 1
        self._held[key] = bytes(held)

    def lose(self, key):
        del self._held[key]

    def damage_index(self, position):
        held = bytearray(self._index)
        held[position] ^= 1
        self._index = bytes(held)


BLOB = store_keys.blob(tiny().digest)
MANIFEST = store_keys.manifest("high/tiny", "1.0.0")
ATTESTATION = store_keys.attestation(tiny().digest, sha256(attestation(tiny()).to_bytes()))


@pytest.fixture
def store():
    store = Damageable()
    publish(tiny(), store)
    publish(tiny("other", seed=1), store)
    attest(attestation(tiny()), store)
    return store


def faults(findings):
    return {finding.name: finding.error.code for finding in findings if not finding.ok}


def test_a_whole_store(store):
    findings = verify_store(store)
    assert faults(findings) == {}
    assert [finding.kind for finding in findings] == ["index", "manifest", "blob", "manifest", "blob", "attestation"]


def test_one_cell(store):
    findings = verify("high/tiny", registry=store)
    assert [(finding.kind, finding.name, finding.ok) for finding in findings] == [
        ("manifest", MANIFEST, True),
        ("blob", BLOB, True),
        ("attestation", ATTESTATION, True),
    ]


@pytest.mark.parametrize("key", [BLOB, MANIFEST, ATTESTATION])
def test_one_damaged_object_is_one_fault_and_the_others_are_checked(store, key):
    store.damage(key)
    assert faults(verify_store(store)) == {key: "DIGEST_MISMATCH"}
    assert len(verify_store(store)) == 6
    assert faults(verify("high/tiny", "high/other", registry=store)) == {key: "DIGEST_MISMATCH"}
    assert faults(verify("high/other", registry=store)) == {}


def test_every_fault_is_named(store):
    for key in (BLOB, MANIFEST, ATTESTATION):
        store.lose(key)
    assert faults(verify_store(store)) == {BLOB: "MISSING", MANIFEST: "MISSING", ATTESTATION: "MISSING"}


def test_a_damaged_index_is_the_only_thing_said(store):
    store.damage_index(40)
    (finding,) = verify_store(store)
    assert (finding.kind, finding.ok) == ("index", False)
    assert verify_store(MemoryStore())[0].error.code == "NO_INDEX"


def test_an_unknown_reference_does_not_stop_the_others(store):
    findings = verify("high/nothing", "not a reference", "high/tiny", registry=store)
    assert faults(findings) == {"high/nothing": "NO_CELL", "not a reference": "BAD_REFERENCE"}
    assert len(findings) == 5


def test_orphans_are_no_fault(store):
    store.put(store_keys.blob("a" * 64), b"nobody reads this")
    assert faults(verify_store(store)) == {}


def test_an_attestation_with_another_verdict_than_the_index_says(store):
    index = Index.from_bytes(store.read_index(), where="test")
    attested = index.attestations[tiny().digest]["quick-1"].model_copy(update={"verdict": "walked back"})
    store.swap_index(sha256(store.read_index()), index.with_attestation(tiny().digest, "quick-1", attested).sealed())
    assert faults(verify_store(store)) == {ATTESTATION: "WRONG_ATTESTATION"}


def test_a_link_in_a_folder_is_a_fault_where_it_may_be_written_or_leads_to_other_bytes(tmp_path):
    publish(tiny(), tmp_path / "registry")
    manifest = tmp_path / "registry" / MANIFEST
    manifest.rename(tmp_path / "elsewhere")
    manifest.symlink_to(tmp_path / "elsewhere")
    only_read = DirectoryStore(tmp_path / "registry", writable=False)
    assert faults(verify_store(only_read)) == {}
    assert faults(verify_store(DirectoryStore(tmp_path / "registry"))) == {MANIFEST: "SYMLINK"}
    data = (tmp_path / "elsewhere").read_bytes()
    (tmp_path / "elsewhere").write_bytes(data[:-2] + b" }")
    assert faults(verify_store(only_read)) == {MANIFEST: "DIGEST_MISMATCH"}
    (tmp_path / "elsewhere").unlink()
    assert faults(verify_store(only_read)) == {MANIFEST: "MISSING"}


@pytest.mark.slow
def test_a_flipped_bit_in_any_file_of_a_folder_is_found(tmp_path):
    publish(tiny(), tmp_path)
    attest(attestation(tiny()), tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "index.lock"]:
        whole = path.read_bytes()
        for position in range(0, len(whole), 97):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
            found = faults(verify_store(DirectoryStore(tmp_path, writable=False)))
            assert list(found) == [path.relative_to(tmp_path).as_posix()], (path, position)
        path.write_bytes(whole)
    assert faults(verify_store(DirectoryStore(tmp_path))) == {}
