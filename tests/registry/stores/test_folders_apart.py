"""Parts of a registry or a cache on their own file system, or behind a symbolic link: they work, or are refused by name."""

import errno
import os
import shutil
import subprocess

import pytest

import registry
from batteries.errors import FormatError, StoreError
from batteries.io import atomic_files, filesystem
from registry.stores.cache import Cache
from registry.stores.cache_cleanup import check, collect
from registry.stores.directory import DirectoryStore
from registry.stores.fsck import fsck
from tests.support.cells import litter, publish, tiny
from tests.support.faulty_disk import HastyDisk


class TwoFileSystems(HastyDisk):
    """A disk on which some folders are mounts: nothing is linked or renamed into or out of them."""

    def __init__(self, *mounts):
        self._mounts = mounts

    def _place(self, path):
        return next((mount for mount in self._mounts if mount == path or mount in path.parents), None)

    def _refuse(self, source, target):
        if self._place(source) != self._place(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def link(self, source, target):
        self._refuse(source, target)
        super().link(source, target)

    def replace(self, source, target):
        self._refuse(source, target)
        super().replace(source, target)


@pytest.fixture
def mounted():
    """Mount a file system in memory at a folder, if this user may."""
    places = []

    def mount(folder):
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no permission to mount")
        places.append(folder)

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1])


def used_up(folder, tmp_path):
    """Everything that writes to a registry or to the cache, with a damaged file in each."""
    home = Cache().folder
    for version in ("1.0.0", "1.1.0"):
        assert publish(tiny(version=version), folder).new
    blob, key = folder / "blobs" / tiny().digest, f"blobs/{tiny().digest}"
    registry.pull("high/tiny@1.0.0", registry=folder)
    spoil(home / "blobs" / tiny().digest)
    assert registry.pull("high/tiny@1.0.0", registry=folder)[0].digest == tiny().digest
    spoil(blob)
    assert fsck(folder, repair=True).repaired == (key,)
    spoil(blob)
    publish(tiny(), folder)  # a damaged file gives way
    assert registry.mirror(folder, tmp_path / "mirror").copied == 2
    spoil(home / "blobs" / tiny().digest)
    assert [error.code for _, error in check(Cache(), repair=True) if error] == ["DIGEST_MISMATCH"]
    assert collect(Cache(), max_size=0).kept
    assert fsck(folder).ok
    assert {finding.error for finding in registry.verify_store(DirectoryStore(folder))} == {None}
    assert litter(folder) == litter(home) == []


def test_blobs_on_another_file_system(tmp_path):
    folder, home = tmp_path / "registry", Cache().folder
    with filesystem.use(TwoFileSystems(folder / "blobs", home / "blobs")):
        used_up(folder, tmp_path)
    assert len(list((folder / "blobs").glob("*.damaged"))) == 2
    assert len(list((home / "blobs").glob("*.damaged"))) == 2


@pytest.mark.parametrize("part", ["blobs", "high", "high/tiny", "damaged"])
def test_a_part_of_a_registry_on_a_mount(tmp_path, mounted, part):
    mounted(tmp_path / "registry" / part)
    mounted(Cache().folder / "blobs")
    used_up(tmp_path / "registry", tmp_path)


def test_a_move_to_another_file_system_has_an_error_of_its_own(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "mount").mkdir()
    with filesystem.use(TwoFileSystems(tmp_path / "mount")), pytest.raises(StoreError, match="TWO_FILE_SYSTEMS"):
        atomic_files.move(tmp_path / "a", tmp_path / "mount" / "a")
    assert (tmp_path / "a").read_bytes() == b"x"


# ---- symbolic links --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for cell in (tiny(), tiny("other", seed=2)):
        publish(cell, tmp_path / "registry")
    return tmp_path / "registry"


def linked(path):
    """Put a folder elsewhere, and a link in its place."""
    away = path.with_name(f"{path.name}-away")
    path.rename(away)
    path.symlink_to(away)
    return away


@pytest.mark.parametrize("part", ["blobs", "high", "high/tiny"])
def test_a_registry_with_a_linked_folder_is_read_and_not_written_to(folder, tmp_path, part):
    away = linked(folder / part)
    before = sorted(away.rglob("*"))
    assert registry.pull("high/tiny", registry=folder)[0].digest == tiny().digest
    assert fsck(folder).ok
    assert registry.mirror(folder, tmp_path / "mirror").copied == 2
    with pytest.raises(FormatError, match="SYMLINK"):
        publish(tiny(version="2.0.0"), folder)
    assert sorted(away.rglob("*")) == before


@pytest.mark.parametrize("part", ["blobs", "high", "high/tiny", "damaged"])
def test_a_repair_below_a_link_is_refused_before_anything_is_moved(folder, part):
    registry.pull("high/tiny", "high/other", registry=folder)
    (folder / "damaged").mkdir()
    spoil(folder / "blobs" / tiny().digest)
    spoil(folder / "high" / "tiny" / "1.0.0.json")
    away = linked(folder / part)
    before = {path: path.is_file() and path.read_bytes() for path in (*folder.rglob("*"), *away.rglob("*"))}
    with pytest.raises(FormatError, match="SYMLINK"):
        fsck(folder, repair=True)
    assert {path: path.is_file() and path.read_bytes() for path in (*folder.rglob("*"), *away.rglob("*"))} == before


def test_a_cache_whose_blobs_are_behind_a_link_is_used(folder):
    home = Cache().folder
    registry.pull("high/tiny", registry=folder)
    away = linked(home / "blobs")
    spoil(away / tiny().digest)
    assert registry.pull("high/tiny", registry=folder)[0].digest == tiny().digest
    assert (away / tiny().digest).read_bytes() == tiny().to_bytes()
    assert collect(Cache(), max_size=0).kept
    assert [error for _, error in check(Cache()) if error] == []


def test_no_damaged_file_of_a_cache_leaves_it_through_a_link(folder, tmp_path):
    registry.pull("high/tiny", registry=folder)
    (tmp_path / "away").mkdir()
    (Cache().folder / "damaged").symlink_to(tmp_path / "away")
    spoil(Cache().path(tiny().digest))
    with pytest.raises(FormatError, match="SYMLINK"):
        registry.pull("high/tiny", registry=folder)
    assert list((tmp_path / "away").iterdir()) == []
