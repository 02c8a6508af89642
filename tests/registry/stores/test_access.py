"""Caches and registries that other users can write to, and the permissions of what is written, whatever the umask."""

import os
import stat

import pytest

import composer
import registry
from batteries.errors import IntegrityError, PolicyError, StoreWarning, TransportError
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, sha256
from batteries.io.home import private_folder
from batteries.kept_documents import KeptDocuments
from registry.stores.cache import Cache
from registry.stores.hub import HubStore
from registry.stores.rollback_guard import FOLDER, Memory
from registry.stores.settings import open_store
from registry.stores.snapshot import open_snapshot
from registry.transfer.pull_packed import fetch_packed
from registry.transfer.wanted import wanted_of
from tests.support.cells import publish, tiny
from tests.support.hubserver import QUIET

pytestmark = pytest.mark.filterwarnings(QUIET)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
OPEN = [pytest.param(lambda path: path.chmod(path.stat().st_mode | 0o022), id="open to others")]
FOREIGN = [*OPEN, pytest.param(lambda path: os.chown(path, 12345, 12345), id="of another user", marks=as_root)]


def modes(folder):
    """Permissions of a folder and of all below it, by path."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


@pytest.fixture(params=[0o000, 0o077, 0o027], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


# ---- permissions -----------------------------------------------------------------------------------------------------


def test_a_new_registry_and_a_new_cache_follow_the_umask_and_are_closed_to_foreign_writes(tmp_path, monkeypatch, umask):
    monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / "home"))
    publish(tiny(), tmp_path / "registry")
    registry.pull("high/tiny", registry=tmp_path / "registry")
    for place in (tmp_path / "registry", tmp_path / "home"):
        for path, mode in modes(place).items():
            own = (0o755 if (place / path).is_dir() else 0o644) & ~umask
            private = path.startswith(FOLDER)
            assert mode == (own & 0o700 if private else own), path


@pytest.mark.parametrize("top", [0o755, 0o2775, 0o750, 0o700], ids=oct)
def test_what_is_added_is_as_open_as_the_registry(tmp_path, umask, top):
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry").chmod(top)
    publish(tiny(), tmp_path / "registry")
    for path, mode in modes(tmp_path / "registry").items():
        assert mode == (top if (tmp_path / "registry" / path).is_dir() else top & 0o644), path


def test_outputs_of_a_user_follow_the_umask(tmp_path, umask):
    atomic_files.replace(tmp_path / "new" / "file", b"x")
    assert modes(tmp_path / "new") == {".": 0o755 & ~umask, "file": 0o644 & ~umask}


# ---- what other users wrote ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    publish(tiny(), tmp_path / "registry")
    open_snapshot(tmp_path / "registry")
    return tmp_path / "registry"


@pytest.mark.parametrize("spoil", FOREIGN)
@pytest.mark.parametrize("what", ["note", "folder of notes"])
def test_a_note_that_another_user_could_have_written_is_ignored_by_name(folder, spoil, what):
    (path,) = (Cache().folder / FOLDER).iterdir()
    spoil(path if what == "note" else path.parent)
    with pytest.warns(StoreWarning, match="FOREIGN_NOTE"):
        assert Memory(Cache()).note(str(folder)) is None
    assert Memory(Cache()).notes() == []


def test_an_open_folder_of_notes_is_closed_by_the_next_note(folder):
    (path,) = (Cache().folder / FOLDER).iterdir()
    path.parent.chmod(0o777)
    path.chmod(0o666)
    with pytest.warns(StoreWarning, match="FOREIGN_NOTE"):
        open_snapshot(folder)
    assert set(modes(path.parent).values()) == {0o700, 0o600}
    assert Memory(Cache()).note(str(folder)).number == 1


@pytest.mark.parametrize("spoil", FOREIGN)
def test_a_forged_note_does_not_choose_the_index(hub, spoil):
    publish(tiny(), HubStore("hf://owner/cells"))
    open_snapshot("hf://owner/cells")
    (path,) = (Cache().folder / FOLDER).iterdir()
    spoil(path)
    with pytest.warns(StoreWarning, match="FOREIGN_NOTE"), pytest.raises(TransportError, match="OFFLINE"):
        open_snapshot("hf://owner/cells", mode="offline")


def test_a_note_under_the_name_of_another_registry_is_none(folder, tmp_path):
    publish(tiny(seed=3), tmp_path / "other")
    (path,) = (Cache().folder / FOLDER).iterdir()
    other = path.with_name(f"{sha256(os.fsencode(tmp_path / 'other'))}.json")
    path.rename(other)
    assert Memory(Cache()).note(str(tmp_path / "other")) is None
    open_snapshot(tmp_path / "other")


def test_two_hubs_have_two_notes(hub, monkeypatch):
    publish(tiny(), HubStore("hf://owner/cells"))
    open_snapshot("hf://owner/cells")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TransportError, match="OFFLINE"):
        open_snapshot("hf://owner/cells", mode="offline")
    assert HubStore("hf://owner/cells").endpoint == "http://127.0.0.1:9"


class Figure(Document):
    value: int


@pytest.mark.parametrize("spoil", FOREIGN)
@pytest.mark.parametrize("what", ["document", "folder"])
def test_a_kept_document_that_another_user_could_have_written_is_made_again(tmp_path, spoil, what):
    kept = KeptDocuments(tmp_path / "kept")
    assert kept.recall(Figure, {"of": 1}, lambda: Figure(value=1)).value == 1
    assert kept.recall(Figure, {"of": 1}, lambda: Figure(value=2)).value == 1
    (path,) = (tmp_path / "kept").iterdir()
    spoil(path if what == "document" else path.parent)
    assert kept.recall(Figure, {"of": 1}, lambda: Figure(value=3)).value == 3


@pytest.mark.parametrize("spoil", FOREIGN)
def test_a_folder_of_pages_that_another_user_could_have_written_is_refused(spoil):
    spoil(private_folder("sites", "one"))
    with pytest.raises(PolicyError, match="FOREIGN_FOLDER"):
        private_folder("sites", "one")


@pytest.mark.parametrize("spoil", FOREIGN)
def test_a_file_that_another_user_can_change_is_copied_not_mapped(tmp_path, spoil):
    path = tmp_path / "file"
    path.write_bytes(b"verified")
    spoil(path)
    data = atomic_files.mapped(path, limit=100)
    with path.open("r+b") as file:
        file.write(b"changed!")
    assert bytes(data) == b"verified"


def test_a_forged_blob_that_cannot_be_moved_is_not_used(folder, monkeypatch):
    registry.pull("high/tiny", registry=folder)
    path = Cache().path(tiny().digest)
    path.write_bytes(bytes(len(path.read_bytes())))
    monkeypatch.setattr(Cache, "put_aside", lambda self, path: None)  # a folder of another user
    assert registry.pull("high/tiny", registry=folder)[0].digest == tiny().digest
    (cell,) = open_snapshot(folder).index.releases("high/tiny").values()
    store = open_store(folder)
    assert Cache().file(store, f"blobs/{tiny().digest}", cell.blob).parent == folder / "blobs"


def test_a_file_that_changed_after_it_was_pulled_is_not_written(folder, tmp_path):
    label = composer.artifact.PackedLabel(name="one", version="1.0.0", license="Apache-2.0", description="A test.")
    composer.pack(composer.compose(registry.load("high/tiny", registry=folder)), tmp_path / "one.safetensors", label)
    registry.publish(tmp_path / "one.safetensors", folder)
    (pulled,) = fetch_packed(wanted_of([registry.Reference.parse("model/one")], folder))
    data = bytearray(pulled.path.read_bytes())
    data[-1] ^= 1
    pulled.path.write_bytes(data)
    with pytest.raises(IntegrityError, match="DIGEST_MISMATCH"):
        pulled.write(tmp_path / "out")
    assert not (tmp_path / "out").exists()
