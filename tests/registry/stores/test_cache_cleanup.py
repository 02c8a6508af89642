"""Upkeep: what the cache may lose, and putting right what is damaged."""

import os
import time

import pytest

import registry
from batteries.errors import ConflictError, FormatError, InputError, IntegrityError, NotFoundError
from batteries.io.operating_system import place
from registry.catalog.release import Pin
from registry.cli.maintenance import size_of
from registry.stores import cache_cleanup
from registry.stores.cache import Cache
from registry.stores.cache_cleanup import check, collect
from registry.stores.directory import GRACE, DirectoryStore
from registry.stores.fsck import fsck
from registry.stores.memory import MemoryStore
from tests.support.cells import publish, tiny

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def cache():
    """Four files of 1,000 bytes, used 40, 30, 20 and 0 days ago."""
    cache = Cache()
    for n, days in enumerate((40, 30, 20, 0)):
        data = bytes([n]) * 1000
        cache.keep(Pin.of(data).check(data, where="the test"))
        used = time.time() - days * DAY
        os.utime(cache.path(Pin.of(data).sha256), (used, used))
    return cache


@pytest.mark.parametrize("below", ["", "blobs", "../file/cache"], ids=["itself", "its blobs", "a folder above"])
@pytest.mark.parametrize("kind", ["file", "link to a file", "link to nothing"])
@pytest.mark.parametrize("act", [check, lambda cache: collect(cache, max_size=0)])
def test_a_cache_that_is_a_file_is_told(tmp_path, below, kind, act):
    cache = tmp_path / "cache"
    place = cache / below if not below.startswith("..") else cache
    place.parent.mkdir(exist_ok=True)
    target = tmp_path / "target"
    if kind != "link to nothing":
        target.write_text("mine")
    target.rename(place) if kind == "file" else place.symlink_to(target)
    with pytest.raises(InputError, match="not a folder") as caught:
        act(Cache(cache / "home" if below.startswith("..") else cache))
    assert caught.value.code == "NOT_A_FOLDER"
    assert kind == "link to nothing" or place.read_text() == "mine"


def test_blobs_behind_a_link_are_looked_at(cache, tmp_path):
    cache.blobs.rename(tmp_path / "elsewhere")
    cache.blobs.symlink_to(tmp_path / "elsewhere")
    assert len(check(cache)) == 4


def test_no_cache_yet_is_an_empty_one(tmp_path):
    assert check(Cache(tmp_path / "none")) == []
    assert collect(Cache(tmp_path / "none"), max_size=0).removed == 0


def held(cache):
    return sorted(path.read_bytes()[0] for path in cache.blobs.iterdir())


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"unused_days": 25}, [2, 3]),
        ({"max_size": 2500}, [2, 3]),
        ({"max_size": 1000}, [3]),
        ({"max_size": 0}, [3]),  # what was used within the hour stays
        ({"unused_days": 35, "max_size": 2000}, [2, 3]),
        ({"unused_days": 100}, [0, 1, 2, 3]),
        ({"max_size": 4000}, [0, 1, 2, 3]),
    ],
)
def test_the_longest_unused_go_first(cache, limits, left):
    found = collect(cache, **limits)
    assert held(cache) == left
    assert (found.kept, found.size, found.removed, found.freed) == (
        len(left),
        1000 * len(left),
        4 - len(left),
        4000 - 1000 * len(left),
    )


def test_indexes_that_were_seen_stay_and_what_went_is_fetched_again(tmp_path):
    publish(tiny(), tmp_path)
    registry.pull("high/tiny", registry=tmp_path)
    cache, old = Cache(), time.time() - 2 * HOUR
    assert len(list(cache.blobs.iterdir())) == 3  # index, manifest, weights
    for path in cache.blobs.iterdir():
        os.utime(path, (old, old))
    assert collect(cache, max_size=0).kept == 1
    assert registry.pull("high/tiny", registry=tmp_path)[0].digest == tiny().digest


def test_use_is_noted(cache):
    data = bytes(1000)
    assert cache.held(Pin.of(data)).data == data
    assert time.time() - cache.path(Pin.of(data).sha256).stat().st_mtime < HOUR


def test_damage_in_the_cache_is_named_and_moved_aside(cache):
    path = cache.path(Pin.of(bytes(1000)).sha256)
    path.write_bytes(b"x")
    litter = cache.blobs / f".{'a' * 64}.4194305.{place()}00000000.part"
    litter.write_bytes(b"half")
    assert [error.code for _, error in check(cache) if error] == ["DIGEST_MISMATCH"]
    assert path.exists()
    check(cache, repair=True)
    assert not path.exists()
    assert not litter.exists()
    assert [error for _, error in check(cache) if error] == []
    assert len(list(cache.aside.iterdir())) == 1


@pytest.fixture
def folder(tmp_path):
    for cell in (tiny(), tiny("other", seed=2)):
        publish(cell, tmp_path / "registry")
    return tmp_path / "registry"


def damage(path):
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


def test_a_registry_is_put_right_from_another(folder, tmp_path):
    other = MemoryStore()
    for cell in (tiny(), tiny("other", seed=2)):
        publish(cell, other)
    damage(folder / "blobs" / tiny().digest)
    (folder / "high" / "other" / "1.0.0.json").unlink()
    orphan = folder / "blobs" / ("f" * 64)
    orphan.write_bytes(b"left")
    found = fsck(folder)
    assert (len(found.faults), found.repaired, found.ok) == (2, (), False)
    assert found.orphans == (f"blobs/{'f' * 64}",)
    assert sorted(error.code for error in found.faults.values()) == ["MISSING", "SIZE_MISMATCH"]
    found = fsck(folder, repair=True, source=other)
    assert (len(found.faults), len(found.repaired), found.ok) == (2, 2, True)
    assert fsck(folder).faults == {}
    assert len(list((folder / "damaged").iterdir())) == 1
    assert {finding.error for finding in registry.verify_store(registry.DirectoryStore(folder))} == {None}


def test_an_orphan_blocks_its_version_until_it_is_set_aside(folder):
    """A publish that was killed before the index, and another cell for its version."""
    key, blob = "high/third/1.0.0.json", f"blobs/{tiny('third', seed=4).digest}"
    (folder / key).parent.mkdir()
    (folder / key).write_bytes(tiny("third", seed=3).manifest.to_bytes())
    with pytest.raises(ConflictError) as caught:
        publish(tiny("third", seed=4), folder)
    assert "an hour later" in caught.value.remedy
    assert fsck(folder, repair=True).orphans == (blob, key)  # as long as the publish may be going on
    for path in (key, blob):
        os.utime(folder / path, (time.time() - GRACE - 9,) * 2)
    assert fsck(folder).orphans
    found = fsck(folder, repair=True)
    assert (found.orphans, found.ok, {error.code for error in found.faults.values()}) == ((), True, {"ORPHAN"})
    publish(tiny("third", seed=4), folder)
    assert registry.pull("high/third", registry=folder)[0].digest == tiny("third", seed=4).digest


def killed_before_the_index(cell, folder):
    """The blob and the manifest of a publish that got no further."""
    store = DirectoryStore(folder)
    store.put(f"blobs/{cell.digest}", cell.to_bytes())
    store.put(f"{cell.name}/{cell.version}.json", cell.manifest.to_bytes())


def aged(folder):
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - GRACE - 9,) * 2)


@pytest.mark.parametrize("first", [True, False], ids=["of a new registry", "of another"])
def test_a_publish_that_was_killed_can_be_repeated_at_once_and_replaced_after_the_hour(tmp_path, first):
    if not first:
        publish(tiny("other"), tmp_path)
    killed_before_the_index(tiny(seed=3), tmp_path)
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        publish(tiny(seed=4), tmp_path)
    aged(tmp_path)
    killed_before_the_index(tiny(seed=3), tmp_path)  # repeated, and again about to be listed
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        publish(tiny(seed=4), tmp_path)
    aged(tmp_path)
    assert publish(tiny(seed=4), tmp_path).new
    assert registry.pull("high/tiny", registry=tmp_path)[0].digest == tiny(seed=4).digest
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    aged(tmp_path)
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):  # listed: never replaced
        publish(tiny(seed=3), tmp_path)
    assert fsck(tmp_path, repair=True).ok


def test_the_same_bytes_complete_a_publish_at_once(tmp_path):
    killed_before_the_index(tiny(seed=3), tmp_path)
    assert publish(tiny(seed=3), tmp_path).new
    assert fsck(tmp_path).orphans == ()


def test_a_file_that_goes_while_the_cache_is_checked_is_no_fault(cache, monkeypatch):
    files = cache_cleanup._files

    def and_then_gone(cache):
        found = files(cache)
        found[0].path.unlink()
        return found

    monkeypatch.setattr(cache_cleanup, "_files", and_then_gone)
    assert [error for _, error in check(cache, repair=True) if error] == []


def test_a_damaged_file_that_is_listed_nowhere_gives_way(folder):
    path = folder / "blobs" / tiny("third", seed=3).digest
    path.write_bytes(b"half of it")
    publish(tiny("third", seed=3), folder)
    assert registry.pull("high/third", registry=folder)[0].digest == tiny("third", seed=3).digest
    assert len(list((folder / "damaged").iterdir())) == 1


def test_a_registry_is_put_right_from_the_cache(folder):
    registry.pull("high/tiny", registry=folder)
    damage(folder / "blobs" / tiny().digest)
    damage(folder / "blobs" / tiny("other", seed=2).digest)
    found = fsck(folder, repair=True)
    assert found.repaired == (f"blobs/{tiny().digest}",)
    assert not found.ok


def test_a_registry_without_a_good_index_is_not_guessed_at(folder, tmp_path):
    damage(folder / "index.json")
    with pytest.raises((FormatError, IntegrityError), match="NOT_CANONICAL"):
        fsck(folder, repair=True)
    with pytest.raises(NotFoundError, match="NO_REGISTRY"):
        fsck(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "2XB", "-1", "1e9", "GB", "1.2345M", "2 GB"])
def test_what_is_no_size(text):
    with pytest.raises(InputError) as caught:
        size_of(text)
    assert caught.value.code == "SIZE"
