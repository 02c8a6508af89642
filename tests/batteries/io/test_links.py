"""Symbolic links: followed where somebody named the path or its digest is known, refused where something is written."""

import os
import shutil
from pathlib import Path

import pytest

import batteries
import composer
import registry
from batteries import Cell, Manifest
from batteries.errors import BatteriesError, FormatError, InputError, IntegrityError, NotFoundError, PolicyError, StoreError
from batteries.io import atomic_files
from composer.wiring.composition import Composition
from registry.stores.cache import Cache
from registry.stores.directory import DirectoryStore
from registry.stores.fsck import fsck
from registry.stores.settings import config_file
from registry.stores.snapshot import locate
from registry.stores.store import INDEX
from registry.transfer.lockfile import Lock
from registry.transfer.verify import verify_store
from tests.compatibility import refused, works
from tests.support.cells import publish, tiny, tree


def linked_as_a_download(source, target):
    """The layout of a download cache of the Hub: a snapshot of relative links into a folder of blobs by digest."""
    blobs, snapshot = target / "blobs", target / "snapshots" / ("0" * 40)
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        link = snapshot / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    return snapshot


def linked_as_a_config_map(source, target):
    """A mounted ConfigMap: ``..data`` leads to a folder with a date, and every name leads through ``..data``."""
    target.mkdir()
    shutil.copytree(source, target / "..2026_11_28")
    (target / "..data").symlink_to("..2026_11_28")
    for path in source.iterdir():
        (target / path.name).symlink_to(f"..data/{path.name}")
    return target


def linked_by_file(source, target):
    """As DVC does it: links by absolute paths."""
    return shutil.copytree(source, target, copy_function=lambda path, link: Path(link).symlink_to(path))


def linked_by_folder(source, target):
    """As stow does it: whole folders are links."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).symlink_to(os.path.relpath(path, target))
    return target


def linked_whole(source, target):
    target.symlink_to(source)
    return target


LAYOUTS = [linked_as_a_download, linked_as_a_config_map, linked_by_file, linked_by_folder, linked_whole]


@pytest.fixture
def folder(tmp_path):
    for name in ("one", "two"):
        publish(tiny(name), tmp_path / "registry")
    return tmp_path / "registry"


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@works("Disks and systems", "a registry of symbolic links: a Hub snapshot, a ConfigMap, DVC, stow", note="read only")
def test_a_registry_of_links_is_read(folder, tmp_path, layout):
    links = layout(folder, tmp_path / "links")
    assert [cell.digest for cell in registry.pull("high/one", "high/two", registry=links)] == [tiny().digest] * 2
    store = DirectoryStore(links, writable=False)
    assert all(finding.ok for finding in verify_store(store))
    assert store.keys() == DirectoryStore(folder).keys()
    assert fsck(links).ok


@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=lambda layout: layout.__name__)
@refused("Disks and systems", "publishing into a registry of symbolic links", "SYMLINK")
def test_a_registry_of_links_is_not_written_to(folder, tmp_path, layout):
    links = layout(folder, tmp_path / "links")
    before = tree(tmp_path)
    with pytest.raises(FormatError, match="SYMLINK"):
        publish(tiny("three"), links)
    assert {name: data for name, data in tree(tmp_path).items() if "index.lock" not in name} == {
        name: data for name, data in before.items() if "index.lock" not in name
    }


@works("Disks and systems", "publishing to a folder that is reached through a symbolic link")
def test_a_folder_behind_a_link_is_written_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "to").symlink_to("real")
    publish(tiny(), tmp_path / "to")
    publish(tiny("two"), str(tmp_path / "to"))
    assert (tmp_path / "to").is_symlink()
    assert (tmp_path / "real" / INDEX).is_file()
    assert DirectoryStore(tmp_path / "to").url == str(tmp_path / "to")
    assert registry.pull("high/two", registry=tmp_path / "to")[0].name == "high/two"


def test_a_store_stays_with_the_folder_that_its_link_led_to(folder, tmp_path):
    (tmp_path / "current").symlink_to(folder)
    store = DirectoryStore(tmp_path / "current", writable=False)
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to(tmp_path)
    assert registry.pull("high/one", registry=store)[0].digest == tiny().digest


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@works("Disks and systems", "Cell.from_pretrained of a Hub snapshot folder of links; the files of hf_hub_download")
def test_a_cell_of_links_is_read(tmp_path, layout):
    cell = tiny()
    source = tmp_path / "repo"
    source.mkdir()
    (source / "model.safetensors").write_bytes(cell.to_bytes())
    (source / "manifest.json").write_bytes(cell.manifest.to_bytes())
    links = layout(source, tmp_path / "links")
    assert Cell.from_pretrained(links).digest == cell.digest
    assert Cell.read(links / "model.safetensors").digest == cell.digest
    assert registry.load(links / "model.safetensors").digest == cell.digest


def test_whatever_a_user_names_may_be_a_link(folder, tmp_path):
    def linked(path):
        link = tmp_path / "links" / path.name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
        return link

    cell = tiny()
    written = cell.write(tmp_path / "cells")
    link = linked(written)
    linked(written.with_suffix(".json"))
    assert Cell.read(link).digest == cell.digest
    publish(cell, tmp_path / "other")

    lock = Lock.of(locate([registry.Reference.parse("high/one")], folder))
    lock.write(tmp_path / "cells.lock")
    assert Lock.read(linked(tmp_path / "cells.lock")) == lock

    (tmp_path / "config.toml").write_text('[aliases]\nbest = "high/one"\n')
    config_file().parent.mkdir(parents=True)
    config_file().symlink_to(tmp_path / "config.toml")
    assert registry.pull("best", registry=folder)[0].name == "high/one"


def test_a_model_and_its_composition_may_be_links(tmp_path):
    model = composer.compose([tiny(), tiny("two", seed=1)])
    composition = Composition.from_toml('schema_version = "1.0"\noutput = "a"\n[cells]\na = "low/a"', where="x")
    composer.save(model, tmp_path / "model.safetensors")
    (tmp_path / "link.safetensors").symlink_to("model.safetensors")
    assert composer.load(tmp_path / "link.safetensors").lock == model.lock
    (tmp_path / "wiring.toml").write_text(composition.to_toml())
    (tmp_path / "link.toml").symlink_to("wiring.toml")
    assert Composition.read(tmp_path / "link.toml") == composition


@works("Disks and systems", "a folder of photographs with linked folders and files in it")
def test_photographs_behind_links_are_found_once(tmp_path):
    from PIL import Image

    album = tmp_path / "album"
    (album / "b").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b/c.png")):
        Image.new("RGB", (40, 40), (number * 90, 10, 20)).save(album / name)
    (album / "b" / "around").symlink_to(album)
    links = tmp_path / "links"
    links.mkdir()
    (links / "first").symlink_to(album)
    (links / "second").symlink_to(album)
    (links / "file.png").symlink_to(album / "a.png")
    (links / "nothing.png").symlink_to("missing")
    os.mkfifo(links / "pipe.png")
    found = batteries.read_photos(links)
    assert [str(name) for name in found.names] == ["file.png", "first/a.png", "first/b/c.png"]


BAD = {
    "dangling": (lambda link, place: link.symlink_to(place / "missing"), (NotFoundError, "NO_FILE")),
    "loop": (lambda link, place: link.symlink_to(link), (FormatError, "SYMLINK")),
    "two": (lambda link, place: (link.symlink_to(place / "b"), (place / "b").symlink_to(link)), (FormatError, "SYMLINK")),
    "pipe": (lambda link, place: (os.mkfifo(place / "pipe"), link.symlink_to(place / "pipe")), (FormatError, "NOT_A_FILE")),
    "zero": (lambda link, place: link.symlink_to("/dev/zero"), (FormatError, "NOT_A_FILE")),
    "null": (lambda link, place: link.symlink_to("/dev/null"), (FormatError, "NOT_A_FILE")),
    "folder": (lambda link, place: link.symlink_to(place), (StoreError, "DISK")),
}


@pytest.mark.parametrize("kind", BAD)
@refused("Disks and systems", "a link to nothing, to itself, to a pipe or a device", "NOT_A_FILE", note="or NO_FILE, SYMLINK")
def test_a_link_that_leads_to_no_file_is_a_typed_error(tmp_path, kind):
    make, (error, code) = BAD[kind]
    make(tmp_path / "a.safetensors", tmp_path)
    for read in (
        lambda path: atomic_files.read(path, limit=10, links=True),
        Cell.read,
        Lock.read,
        composer.load,
        composer.load,
        Composition.read,
    ):
        with pytest.raises(BatteriesError) as caught:
            read(tmp_path / "a.safetensors")
        assert (type(caught.value), caught.value.code) == (error, code) or kind == "folder"


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_link_in_a_registry_is_a_typed_error(folder, tmp_path, kind, elsewhere):
    for key in (f"blobs/{tiny().digest}", "high/one/1.0.0.json"):
        kept = (folder / key).read_bytes()
        (folder / key).unlink()
        place = tmp_path / key.replace("/", "-")
        place.mkdir()
        elsewhere()
        BAD[kind][0](folder / key, place)
        with pytest.raises(BatteriesError, match=r"MISSING|SYMLINK|DISK|NOT_A_FILE"):
            registry.pull("high/one", registry=DirectoryStore(folder, writable=False))
        (folder / key).unlink()
        (folder / key).write_bytes(kept)


def test_a_link_to_other_bytes_is_never_returned(folder, tmp_path):
    (tmp_path / "other").write_bytes(tiny(seed=3).to_bytes())
    (folder / "blobs" / tiny().digest).unlink()
    (folder / "blobs" / tiny().digest).symlink_to(tmp_path / "other")
    with pytest.raises(IntegrityError, match="DIGEST_MISMATCH"):
        registry.pull("high/one", registry=folder)


def test_folders_in_circles_end(folder):
    (folder / "high" / "around").symlink_to(folder / "high")
    (folder / "low").symlink_to(folder)
    assert len(DirectoryStore(folder, writable=False).keys("blobs")) == 1


@pytest.mark.parametrize("make", [lambda link: link.symlink_to("real"), os.mkfifo], ids=["link", "pipe"])
@refused("Disks and systems", "writing a file over a symbolic link, a pipe or a device", "NOT_A_FILE", note="or SYMLINK")
def test_what_is_no_file_is_not_replaced(tmp_path, make):
    make(tmp_path / "out.lock")
    before = os.lstat(tmp_path / "out.lock")
    with pytest.raises(FormatError, match=r"SYMLINK|NOT_A_FILE"):
        atomic_files.replace(tmp_path / "out.lock", b"x")
    assert os.lstat(tmp_path / "out.lock").st_ino == before.st_ino
    with pytest.raises(FormatError, match="NOT_A_FILE"):
        atomic_files.replace(Path(os.devnull), b"x")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("to", ["a file", "nothing"])
def test_a_lock_that_is_a_link_is_refused_and_its_target_kept(tmp_path, to):
    """A library of locks once emptied what a link in the place of its lock file led to."""
    target = tmp_path / "precious"
    if to == "a file":
        target.write_bytes(b"kept")
    (tmp_path / "x.lock").symlink_to(target)
    with pytest.raises(BatteriesError) as caught, atomic_files.lock(tmp_path / "x.lock", 1):
        pass
    assert "x.lock" in str(caught.value)
    assert (target.read_bytes() == b"kept") if to == "a file" else not target.exists()


def test_the_parents_of_what_is_written_may_be_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    assert tiny().write(tmp_path / "out" / "deep").is_file()
    (tmp_path / "nowhere").symlink_to("missing")
    with pytest.raises(StoreError, match="DISK"):
        tiny().write(tmp_path / "nowhere" / "deep")


def test_a_link_in_the_cache_is_put_aside(folder, tmp_path):
    registry.pull("high/one", registry=folder)
    path = Cache().path(tiny().digest)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert registry.pull("high/one", registry=folder)[0].digest == tiny().digest
    assert not path.is_symlink()


def test_errors_of_a_registry_that_is_a_bad_link(tmp_path):
    for name, target in (("dangling", "missing"), ("loop", "loop"), ("file", "/dev/null")):
        (tmp_path / name).symlink_to(target)
        for use in (lambda path: registry.pull("high/one", registry=path), lambda path: publish(tiny(), path)):
            with pytest.raises((InputError, NotFoundError, StoreError, PolicyError), match="NOT_A_FOLDER"):
                use(tmp_path / name)


def test_a_manifest_beside_is_read_as_the_links_are_named(tmp_path):
    written = tiny().write(tmp_path)
    (tmp_path / "x.safetensors").symlink_to(written.name)
    with pytest.raises(NotFoundError, match="NO_MANIFEST"):
        Cell.read(tmp_path / "x.safetensors")
    assert Manifest.from_bytes(written.with_suffix(".json").read_bytes(), where="x") == tiny().manifest
