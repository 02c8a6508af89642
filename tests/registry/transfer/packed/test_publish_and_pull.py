"""Models and maps in a registry: published and pulled as cells are, each under a kind of its own."""

from types import SimpleNamespace

import pytest
import torch

import composer
import registry
from batteries.errors import ConflictError, FormatError, InputError, IntegrityError, NotFoundError, PolicyError
from composer.artifact.kinds import FORMS
from registry.cli.terminal.completion import references
from registry.stores import settings
from registry.stores.directory import DirectoryStore
from registry.stores.memory import MemoryStore
from registry.stores.snapshot import open_snapshot
from registry.transfer.pull import pull_cells
from registry.transfer.pull_packed import form_of_file, read_packed
from registry.transfer.remarks import attest, yank
from registry.transfer.yanked_versions import YankedWarning
from tests.support.cells import attestation, publish, tiny, tree
from tests.support.models import cells, images
from tests.support.packed_kinds import found, packed_kind


@pytest.mark.slow
def test_an_artifact_is_published_and_pulled_as_it_was(kind, files, tmp_path):
    path = files / f"{kind.name}.safetensors"
    published = publish(path, tmp_path / "registry")
    assert (str(published.reference), published.number, published.new) == (f"{kind.path}@1.0.0", 1, True)
    assert not publish(str(path), tmp_path / "registry").new
    for pin in ("", "@1.0.0", "@^1", f"@sha256:{published.release.blob.sha256}"):
        assert kind.same(kind.first, registry.pull(f"{kind.path}{pin}", registry=tmp_path / "registry")[0])
    assert set(tree(tmp_path / "registry")) == {
        "blobs",
        f"blobs/{published.release.blob.sha256}",
        "index.json",
        "index.lock",
        kind.kind,
        kind.path,
        f"{kind.path}/1.0.0.json",
    }


@pytest.mark.slow
def test_a_pulled_model_is_what_its_lock_says(folder):
    registry.pull("model/trio", registry=folder)[0].container.verify()


def test_a_container_is_pulled_as_a_container(tmp_path):
    kind = packed_kind("model")
    kind.pack(kind.first.container, tmp_path / "trio.safetensors")
    publish(tmp_path / "trio.safetensors", tmp_path / "registry")
    pulled = registry.pull("model/trio", registry=tmp_path / "registry")[0]
    assert isinstance(pulled, composer.Container)
    assert (pulled.names, pulled.lock) == (kind.first.names, kind.first.lock)
    assert torch.equal(pulled(images()).recon, kind.first(images()).recon)
    pulled.verify()


def test_its_cells_need_not_be_there_and_the_manifest_says_so(files, tmp_path):
    publish(files / "trio.safetensors", tmp_path / "registry")
    assert open_snapshot(tmp_path / "registry").index.cells == {}
    assert found("model/trio", tmp_path / "registry").packed_manifest().weights == "included"


@pytest.mark.parametrize("store_of", [lambda tmp_path: tmp_path / "registry", lambda _: MemoryStore()])
def test_the_newest_version_is_meant(kind, files, tmp_path, store_of):
    store = store_of(tmp_path)
    for name in (f"{kind.name}-later", kind.name, kind.other):
        publish(files / f"{name}.safetensors", store)
    assert found(kind.path, store).version == "1.1.0"
    assert found(kind.path, store).packed_manifest().identity.description == "later"
    assert kind.same(registry.pull(kind.path, registry=store)[0], kind.values[f"{kind.name}-later"])
    assert kind.same(registry.pull(f"{kind.kind}/{kind.other}", registry=store)[0], kind.values[kind.other])
    yank(f"{kind.path}@1.1.0", "too late", store)
    assert found(kind.path, store).version == "1.0.0"
    assert found(f"{kind.path}@1.1.0", store).release.yanked == "too late"


def test_pulled_maps_are_used_by_their_cells_and_refused_by_changed_ones(folder):
    made, pulled = cells(), registry.pull("maps/five@1.0.0", registry=folder)[0]
    aligned = composer.compose(made, maps=pulled)(images())["photo"].aligned
    assert aligned.shape[-1] == pulled.width
    made["photo"] = cells(dict.fromkeys("abcdefg", made["photo"].spec))["g"]
    with pytest.raises(IntegrityError) as caught:
        composer.compose(made, maps=pulled)
    assert (caught.value.code, caught.value.where) == ("END_CHANGED", "photo")


def test_other_bytes_cannot_take_a_version(kind, files, tmp_path):
    publish(files / f"{kind.name}.safetensors", tmp_path / "registry")
    before = tree(tmp_path / "registry")
    kind.pack(kind.first, tmp_path / "again.safetensors", description="another")
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        publish(tmp_path / "again.safetensors", tmp_path / "registry")
    assert tree(tmp_path / "registry") == before


def test_an_alias_may_mean_any_kind(kind, folder):
    settings.config_file().parent.mkdir(parents=True, exist_ok=True)
    settings.config_file().write_text(f'registry = "{folder}"\n[aliases]\nbest = "{kind.path}@1.0.0"\n')
    assert kind.same(kind.first, registry.pull("best")[0])
    assert "best" in references(SimpleNamespace(params={}), "b")
    assert references(SimpleNamespace(params={}), f"{kind.kind}/") == sorted([kind.path, f"{kind.kind}/{kind.other}"])


def test_no_kind_is_taken_for_another(kind, folder, files):
    for attempt in (
        lambda: pull_cells("high/tiny", kind.path, registry=folder),
        lambda: registry.load(kind.path, registry=folder),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_code) == (kind.refusal, 2)
        assert "registry.pull(" in caught.value.remedy
    with pytest.raises(FormatError, match=kind.refusal):
        registry.load(files / f"{kind.name}.safetensors")
    lying = attestation(tiny()).model_copy(update={"reference": f"{kind.path}@1.0.0"})
    with pytest.raises(InputError, match=kind.refusal):
        attest(lying, folder)
    others = "tiny", "five" if kind.kind == "model" else "least", "none"
    absent = [(f"{kind.kind}/{name}", f"NO_{kind.code}") for name in others]
    for text, code in (*absent, (f"{kind.path}@2", "NO_VERSION")):
        with pytest.raises(NotFoundError, match=code):
            registry.pull(text, registry=folder)


def test_a_pull_of_all_kinds_is_in_the_order_asked(folder):
    moved, maps = [], packed_kind("maps")
    found = registry.pull(
        "maps/pair", "high/tiny", "model/least", "maps/five@1.0.0", registry=folder, progress=lambda *at: moved.append(at)
    )
    assert [type(one).__name__ for one in found] == ["Alignment", "Cell", "Wired", "Consensus"]
    assert found[1] == tiny()
    assert maps.same(maps.values["pair"], found[0])
    assert maps.same(maps.first, found[3])
    assert moved == sorted(moved)
    assert moved[0][0] == 0
    assert moved[-1][0] == moved[-1][1]
    assert {total for _, total in moved} == {moved[-1][1]}


def test_a_yanked_version_of_any_kind_is_warned_of(kind, folder):
    yank(f"{kind.path}@1.0.0", "wrong cells", folder)
    with pytest.warns(YankedWarning, match=rf"{kind.path}@1\.0\.0 is yanked") as warned:
        registry.pull("high/tiny", f"{kind.path}@1.0.0", registry=folder)
    assert [warning.filename for warning in warned] == [__file__]


def test_a_registry_that_is_not_written_to(kind, files, tmp_path):
    path = files / f"{kind.name}.safetensors"
    publish(path, tmp_path / "registry")
    for target in (DirectoryStore(tmp_path / "registry", writable=False), MemoryStore(writable=False)):
        with pytest.raises(PolicyError, match="READ_ONLY"):
            publish(path, target)


def test_the_kind_of_a_file(kind, files, tmp_path):
    assert form_of_file(files / f"{kind.name}.safetensors") is kind.form
    assert form_of_file(files / f"{kind.name}.json") is None
    assert form_of_file(tiny().write(tmp_path)) is None
    cells = {"least": 1, "pair": 2, "other": 3}[kind.other]
    assert read_packed(files / f"{kind.other}.safetensors", kind.form).manifest.cells == cells
    with pytest.raises(FormatError, match=r"SCHEMA|MAGIC|A_MODEL|MAPS"):
        read_packed(files / f"{kind.name}.safetensors", FORMS["maps" if kind.kind == "model" else "model"])
