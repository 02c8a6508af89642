"""What stands in the place of a file: called by its name wherever a file is read."""

import gzip
import zipfile

import pytest

import batteries
import composer
from batteries import Cell
from batteries.errors import BatteriesError, FormatError, IntegrityError, NotFoundError, TransportError
from batteries.io import atomic_files
from batteries.io.home import home
from batteries.packaging import foreign_checkpoint
from registry import DirectoryStore, pull, verify_store
from registry.cli import main
from registry.stores.fsck import fsck
from registry.transfer.lockfile import Lock
from tests.compatibility import refused
from tests.support.cells import publish, tiny
from tests.support.hubserver import QUIET

pytestmark = pytest.mark.filterwarnings(QUIET)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
POINTERS = {
    "LFS_POINTER": LFS,
    "XET_POINTER": b"# xet version 0\nfilesize = 10\nhash = 'ab'\n",
    "ANNEX_POINTER": b"/annex/objects/SHA256E-s12--" + b"a" * 64 + b".json\n",
    "HTML_PAGE": b"\n<!DOCTYPE html>\n<html><title>Log in</title></html>\n",
}
PAGES = (b"<html>", b"<HTML lang=en>", b'<?xml version="1.0"?>\n<html>', b"\xef\xbb\xbf<!doctype html>", b"<!-- x --><html>")


@pytest.fixture
def folder(tmp_path):
    publish(tiny(), tmp_path / "registry")
    return tmp_path / "registry"


def put(path, data):
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


def code_of(act, *kinds):
    with pytest.raises(kinds or FormatError) as caught:
        act()
    assert caught.value.exit_code in (2, 3, 4, 5)
    return caught.value.code


@refused("Hub and locks", "A Git LFS pointer in the place of a file", "LFS_POINTER", note="every reader; names `git lfs pull`")
@pytest.mark.parametrize("code", POINTERS)
def test_every_reader_calls_a_pointer_so(tmp_path, code):
    data = POINTERS[code]
    pointer = put(tmp_path / "tiny.safetensors", data)
    readers = {
        "cell": lambda: Cell.read(pointer),
        "model": lambda: composer.load(pointer),
        "model's manifest": lambda: composer.read(pointer),
        "maps": lambda: composer.load(pointer),
        "maps' manifest": lambda: composer.read(pointer),
        "adopt": lambda: foreign_checkpoint.read(pointer),
        "adopt .pt": lambda: foreign_checkpoint.read(put(tmp_path / "x.pt", data)),
        "publish": lambda: publish(pointer, tmp_path / "target"),
        "lock": lambda: Lock.read(put(tmp_path / "cells.lock", data)),
        "composition": lambda: composer.Composition.read(put(tmp_path / "x.toml", data)),
        "a cell's folder": lambda: Cell.from_pretrained(tmp_path),
    }
    put(tmp_path / "manifest.json", data)
    assert {name: code_of(act) for name, act in readers.items()} == dict.fromkeys(readers, code)
    tiny().write(tmp_path / "cell")
    put(tmp_path / "cell" / "tiny.json", data)
    assert code_of(lambda: Cell.read(tmp_path / "cell" / "tiny.safetensors")) == code


@pytest.mark.parametrize("code", POINTERS)
@pytest.mark.parametrize("name", ["index", "manifest", "blob"])
def test_a_registry_in_a_checkout_without_its_files(folder, elsewhere, capsys, code, name):
    path = {
        "index": folder / "index.json",
        "manifest": folder / "high" / "tiny" / "1.0.0.json",
        "blob": folder / "blobs" / tiny().digest,
    }[name]
    put(path, POINTERS[code])
    elsewhere()
    assert code_of(lambda: pull("high/tiny", registry=folder)) == code
    assert main(["pull", "high/tiny", "--registry", str(folder)]) == 4
    assert POINTERS_REMEDY[code] in capsys.readouterr().err
    assert code in {found.error.code for found in verify_store(DirectoryStore(folder, writable=False)) if found.error}
    if name != "index":
        assert [error.code for error in fsck(folder).faults.values()] == [code]


POINTERS_REMEDY = {
    "LFS_POINTER": "git lfs pull",
    "XET_POINTER": "git xet",
    "ANNEX_POINTER": "git annex get",
    "HTML_PAGE": "fetch the file again",
}


def test_a_pointer_in_the_cache_is_fetched_again(folder, elsewhere):
    elsewhere()
    pull("high/tiny", registry=folder)
    put(home() / "blobs" / tiny().digest, LFS)
    assert pull("high/tiny", registry=folder)[0].digest == tiny().digest


@pytest.mark.parametrize("code", POINTERS)
@pytest.mark.parametrize("name", ["index.json", "high/tiny/1.0.0.json", f"blobs/{tiny().digest}"])
def test_over_http(hub, elsewhere, code, name):
    publish(tiny(), "hf://local/cells")
    hub.write("local/cells", {name: POINTERS[code], "manifests.jsonl": None})
    elsewhere()
    assert code_of(lambda: pull("high/tiny", registry="hf://local/cells")) == code
    if name == "index.json":
        hub.write("local/tiny", {"manifest.json": POINTERS[code]})
        assert code_of(lambda: Cell.from_pretrained("local/tiny")) == code


def test_a_page_in_the_place_of_an_answer_of_the_hub(hub, elsewhere):
    publish(tiny(), "hf://local/cells")
    elsewhere()
    hub.faults.add(headers={"Content-Type": "text/html; charset=utf-8"})
    assert code_of(lambda: pull("high/tiny", registry="hf://local/cells"), TransportError) == "HTML_PAGE"


@pytest.mark.parametrize("page", PAGES)
def test_pages_begin_in_many_ways(tmp_path, page):
    assert code_of(lambda: Cell.read(put(tmp_path / "a.safetensors", page))) == "HTML_PAGE"
    long = page + b" " * 10**6  # larger than what was promised
    assert code_of(lambda: atomic_files.read(put(tmp_path / "a", long), limit=1000)) == "HTML_PAGE"
    assert code_of(lambda: atomic_files.mapped(put(tmp_path / "a", long), limit=1000)) == "HTML_PAGE"


@refused("Hub and locks", "A link of git-annex to what is not fetched", "ANNEX_POINTER")
def test_a_link_of_annex(tmp_path):
    (tmp_path / "tiny.safetensors").symlink_to(".git/annex/objects/aa/bb/SHA256E-s12--ab/SHA256E-s12--ab")
    for act in (
        lambda: atomic_files.read(tmp_path / "tiny.safetensors", limit=10),
        lambda: Cell.read(tmp_path / "tiny.safetensors"),
    ):
        assert code_of(act) == "ANNEX_POINTER"
    (tmp_path / "other").symlink_to("nowhere")
    assert code_of(lambda: atomic_files.read(tmp_path / "other", limit=10), BatteriesError) != "ANNEX_POINTER"


@pytest.mark.parametrize("code", [*POINTERS, "COMPRESSED"])
def test_photographs_that_are_pointers(tmp_path, code):
    data = gzip.compress(b"x" * 100) if code == "COMPRESSED" else POINTERS[code]
    put(tmp_path / "a.png", data)
    words = {"COMPRESSED": "gzip", "LFS_POINTER": "git lfs pull", "HTML_PAGE": "HTML"}.get(code, "pointer")
    with pytest.raises(NotFoundError, match=words):
        batteries.read_photos(tmp_path)


@refused("Hub and locks", "A gzip, zip, xz or bzip2 of a file", "COMPRESSED")
def test_a_compressed_file_is_called_so(tmp_path):
    cell = tiny()
    path = cell.write(tmp_path)
    packed = gzip.compress(path.read_bytes())
    assert code_of(lambda: Cell.read(put(path, packed))) == "COMPRESSED"
    assert code_of(lambda: composer.load(path)) == "COMPRESSED"
    assert code_of(lambda: foreign_checkpoint.read(path)) == "COMPRESSED"
    put(path, cell.to_bytes())
    put(path.with_suffix(".json"), gzip.compress(cell.manifest.to_bytes()))
    assert code_of(lambda: Cell.read(path)) == "COMPRESSED"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "x")
    (tmp_path / "a.zip").replace(tmp_path / "cells.lock")
    assert code_of(lambda: Lock.read(tmp_path / "cells.lock")) == "COMPRESSED"


def test_an_empty_file_is_called_so(tmp_path):
    path = tiny().write(tmp_path)
    put(path.with_suffix(".json"), b"")
    with pytest.raises(FormatError, match="an empty file"):
        Cell.read(path)
    put(path, b"")
    with pytest.raises((FormatError, IntegrityError), match=r"got 0|empty file"):
        Cell.read(path)


def test_no_start_of_a_file_takes_long(tmp_path):
    for start in (b"<!---->" * 80, b" " * 600, b"<?xml " * 100, b"<!-- " * 120, b"../" * 200):
        assert atomic_files.read(put(tmp_path / "a", start), limit=1000) == start


def test_a_file_that_only_speaks_of_pointers_is_itself(tmp_path):
    description = "version https://git-lfs.github.com/spec/v1 <html>"
    cell = tiny(description=description)
    assert Cell.read(cell.write(tmp_path)).manifest.identity.description == description


@refused("Hub and locks", "Line endings that git converted", "NOT_CANONICAL", note="names `* -text` for .gitattributes")
def test_line_endings_of_another_system_are_said_to_be(folder, elsewhere):
    path = folder / "high" / "tiny" / "1.0.0.json"
    elsewhere()
    right = path.read_bytes()
    put(path, right.replace(b"\n", b"\r\n"))
    with pytest.raises(IntegrityError, match="gitattributes"):
        pull("high/tiny", registry=folder)
    put(path, right)
    index = folder / "index.json"
    put(index, index.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(FormatError, match="gitattributes"):
        pull("high/tiny", registry=folder)


@refused("Hub and locks", "Marks of a merge in a JSON file", "MERGE_CONFLICT")
def test_two_sides_of_a_merge_are_said_to_be(folder):
    index = folder / "index.json"
    line = index.read_bytes()
    put(index, b"<<<<<<< HEAD\n" + line + b"=======\n" + line + b">>>>>>> other\n")
    assert code_of(lambda: pull("high/tiny", registry=folder)) == "MERGE_CONFLICT"
