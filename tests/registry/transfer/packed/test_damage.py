"""Bytes that are not the ones that were promised, in the cache, in a registry, and on disks that fail."""

import contextlib
import itertools
import os
import shutil

import pytest

import registry
from batteries.errors import BatteriesError, IntegrityError, StoreError
from batteries.io import filesystem
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.release import PackedRelease
from registry.stores.cache import Cache
from registry.stores.cache_cleanup import check, collect
from registry.stores.directory import DirectoryStore
from registry.stores.fsck import fsck
from registry.stores.memory import MemoryStore
from registry.transfer.mirror import mirror
from tests.support.cells import litter, publish
from tests.support.faulty_disk import ERRORS, UNREAD, FaultyDisk, HastyDisk
from tests.support.packed_kinds import blob_of, damage, found


@pytest.mark.slow
def test_a_damaged_file_in_the_cache_is_fetched_again(kind, folder):
    text = f"{kind.path}@1.0.0"
    path = Cache().path(found(text, folder).release.blob.sha256)
    for change in (lambda: damage(path), lambda: damage(path, 10), lambda: path.write_bytes(b"short"), lambda: path.unlink()):
        registry.pull(text, registry=folder)
        change()
        assert kind.same(kind.first, registry.pull(text, registry=folder)[0])
    assert len(list(Cache().aside.iterdir())) == 3


def test_what_is_in_use_outlives_its_file_in_the_cache(kind, folder):
    used = registry.pull(f"{kind.path}@1.0.0", registry=folder)[0]
    for path in Cache().blobs.iterdir():
        os.utime(path, (0, 0))
    assert collect(Cache(), max_size=0).removed >= 2
    assert not Cache().path(found(f"{kind.path}@1.0.0", folder).release.blob.sha256).exists()
    assert kind.same(kind.first, used)


def test_the_cache_keeps_what_was_just_used_and_finds_damage(kind, folder):
    text = f"{kind.kind}/{kind.other}"
    registry.pull(text, registry=folder)
    path = Cache().path(found(text, folder).release.blob.sha256)
    assert all(error is None for _, error in check(Cache()))
    damage(path)
    assert [name for name, error in check(Cache(), repair=True) if error is not None] == [path.name]
    assert kind.same(kind.values[kind.other], registry.pull(text, registry=folder)[0])
    assert collect(Cache(), max_size=0).removed == 0  # used within the hour


DAMAGES = {
    "a file": (lambda folder, path: damage(blob_of(folder, path)), "DIGEST_MISMATCH"),
    "no file": (lambda folder, path: blob_of(folder, path).unlink(), "MISSING"),
    "a manifest": (lambda folder, path: damage(folder / path / "1.1.0.json"), "DIGEST_MISMATCH"),
    "no manifest": (lambda folder, path: (folder / path / "1.1.0.json").unlink(), "MISSING"),
}


@pytest.mark.parametrize(("change", "code"), DAMAGES.values(), ids=DAMAGES)
def test_damage_in_a_registry_is_found_by_everybody(kind, files, change, code, tmp_path):
    folder = tmp_path / "registry"
    for name in (f"{kind.name}-later", kind.other):
        publish(files / f"{name}.safetensors", folder)
    mirror(folder, tmp_path / "mirror")
    shutil.rmtree(Cache().folder)
    change(folder, kind.path)
    with pytest.raises(IntegrityError) as caught:
        registry.pull(kind.path, registry=folder)
    assert caught.value.code == code
    for findings in (registry.verify(kind.path, registry=folder), registry.verify_store(DirectoryStore(folder))):
        assert {finding.error.code for finding in findings if finding.error} == {code}
        assert {finding.kind for finding in findings} <= {"index", "manifest", "blob"}
    assert {error.code for error in fsck(folder).faults.values()} == {code}
    assert fsck(folder, repair=True, source=tmp_path / "mirror").ok
    assert all(finding.ok for finding in registry.verify_store(DirectoryStore(folder)))
    registry.pull(kind.path, registry=folder)


def test_a_manifest_that_promises_another_artifact_is_refused(kind, files):
    """Signed into the index by somebody who does not keep his word."""
    manifest, data = kind.manifest(files), (files / f"{kind.name}.safetensors").read_bytes()
    lying = manifest.model_copy(update={"file": manifest.file.model_copy(update={"seal": "0" * 64})})
    release, other = PackedRelease.of(manifest), PackedRelease.of(kind.manifest(files, kind.other))
    for said, promised, path, code in (
        (lying, PackedRelease.of(lying), kind.path, "OTHER_SEAL"),
        (manifest, release.model_copy(update={"summary": other.summary}), kind.path, "WRONG_SUMMARY"),
        (manifest, release.model_copy(update={"blob": other.blob}), kind.path, "WRONG_BLOB"),
        (manifest, release, f"{kind.kind}/none", f"WRONG_{kind.code}"),
    ):
        store = MemoryStore()
        store.put(store_keys.blob(manifest.file.sha256), data)
        store.put(store_keys.manifest(path, "1.0.0"), said.to_bytes())
        store.swap_index(None, Index().with_release(path, "1.0.0", promised).sealed())
        with pytest.raises(IntegrityError, match=code):
            registry.pull(path, registry=store)
        assert code in {finding.error.code for finding in registry.verify(path, registry=store) if finding.error}


@pytest.mark.slow
def test_every_changed_byte_of_a_manifest_is_found(kind, folder):
    path = folder / kind.path / "1.0.0.json"
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        damage(path, place)
        with pytest.raises(BatteriesError, match="DIGEST_MISMATCH"):
            registry.pull(f"{kind.path}@1.0.0", registry=folder)
        path.write_bytes(data)


class Counting(filesystem.Disk):
    """A disk that counts the bytes that are read into memory."""

    def __init__(self):
        self.read_bytes = 0

    def read(self, descriptor, size):
        data = super().read(descriptor, size)
        self.read_bytes += len(data)
        return data


def test_what_is_in_the_cache_is_mapped_and_not_read(files, tmp_path):
    size = (files / "trio.safetensors").stat().st_size
    with filesystem.use(Counting()) as counting:
        publish(files / "trio.safetensors", tmp_path / "registry")
        publish(files / "trio.safetensors", tmp_path / "registry")
        assert counting.read_bytes < size / 2  # neither to look at it nor to compare it with what is there
        registry.pull("model/trio", registry=tmp_path / "registry")
        before = counting.read_bytes
        registry.pull("model/trio", registry=tmp_path / "registry")
        mirror(tmp_path / "registry", tmp_path / "mirror")
        check(Cache())
        assert counting.read_bytes - before < size / 2


ACTIONS = {
    "publish": lambda files, folder: publish(files / "trio.safetensors", folder),
    "pull": lambda files, folder: registry.pull("model/least", registry=folder)[0],
}


@pytest.mark.slow
@UNREAD
@pytest.mark.parametrize("action", ACTIONS)
def test_every_call_of_the_disk_fails_once(files, tmp_path, action, monkeypatch):
    """No damage, no foreign error, no litter, and the next try succeeds."""
    monkeypatch.setattr(filesystem, "current", HastyDisk())
    for nth in itertools.count():
        folder, faulty = tmp_path / str(nth), FaultyDisk(nth, ERRORS[nth % len(ERRORS)])
        monkeypatch.setenv("BATTERIES_HOME", str(folder / "home"))
        publish(files / "least.safetensors", folder / "registry")
        with contextlib.suppress(StoreError), filesystem.use(faulty):
            ACTIONS[action](files, folder / "registry")
        assert faulty.descriptors == set()
        assert all(finding.ok for finding in registry.verify_store(DirectoryStore(folder / "registry")))
        ACTIONS[action](files, folder / "registry")
        assert all(finding.ok for finding in registry.verify_store(DirectoryStore(folder / "registry")))
        Cache().sweep()
        assert litter(folder) == []
        if faulty.hit is None:
            break
    assert nth > 20
