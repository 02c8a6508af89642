"""Maps in a registry: published and pulled as cells and models are, under a kind of their own."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import composer
import registry
from batteries.errors import BatteriesError, ConflictError, FormatError, InputError, IntegrityError, NotFoundError, PolicyError
from batteries.io import canonical_json
from composer import MapsManifest, PackedLabel
from composer.artifact.kinds import FORMS
from composer.artifact.maps.document import SavedMaps
from registry.answers.maintenance import MAINTENANCE
from registry.answers.transfer import ANSWERS
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.reference import Reference
from registry.catalog.release import PackedRelease, Release
from registry.cli import main
from registry.cli.completion import references
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.cache_cleanup import check, collect
from registry.stores.directory import DirectoryStore
from registry.stores.fsck import fsck
from registry.stores.memory import MemoryStore
from registry.stores.registry_card import registry_card
from registry.stores.snapshot import locate, open_snapshot
from registry.stores.store import INDEX
from registry.transfer.lockfile import Lock, diff
from registry.transfer.mirror import mirror
from registry.transfer.publish import attest, publish, yank
from registry.transfer.pull import pull_cells
from registry.transfer.pull_packed import form_of_file, read_packed
from registry.transfer.yanked_versions import YankedWarning
from tests.support.cells import attestation, python, tiny, tree
from tests.support.commands import answered, run
from tests.support.hubserver import QUIET
from tests.support.maps import consensus, container, direct, document, resealed, same, with_document
from tests.support.models import cells, images, least

LABEL = PackedLabel(name="five", version="1.0.0", license="Apache-2.0", description="made by hand")


@pytest.fixture(scope="module")
def made():
    of = container()
    return SimpleNamespace(of=of, five=consensus(of), pair=direct(of, "noise", "low"))


@pytest.fixture(scope="module")
def packed(made, tmp_path_factory):
    """The files of two versions of a consensus, of one map between two cells, and of a model."""
    folder = tmp_path_factory.mktemp("packed")
    later = LABEL.model_copy(update={"version": "1.1.0", "description": "later"})
    composer.pack(made.five, folder / "five.safetensors", LABEL, lock=made.of.lock)
    composer.pack(made.five.of([0, 2, 3]), folder / "later.safetensors", later, lock=made.of.lock)
    composer.pack(made.pair, folder / "pair.safetensors", LABEL.model_copy(update={"name": "pair"}), lock=made.of.lock)
    composer.pack(least(), folder / "least.safetensors", LABEL.model_copy(update={"name": "least"}))
    return folder


@pytest.fixture
def folder(packed, tmp_path):
    """A registry of one cell, one model, two versions of a consensus, and a map between two cells."""
    folder = tmp_path / "registry"
    publish(tiny(), folder)
    for name in ("least", "five", "later", "pair"):
        publish(packed / f"{name}.safetensors", folder)
    return folder


@pytest.fixture
def mine(packed, tmp_path):
    """A file of maps and its manifest, to be damaged."""
    for name in ("five.safetensors", "five.json"):
        shutil.copy(packed / name, tmp_path / name)
    return tmp_path / "five.safetensors"


def manifest_of(packed, name="five"):
    return MapsManifest.from_bytes((packed / f"{name}.json").read_bytes(), where=name)


def found(text, where):
    (located,) = locate([Reference.parse(text)], where)
    return located


def damage(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


# Publishing and pulling.


def test_maps_are_published_and_pulled_as_they_were(made, packed, tmp_path):
    published = publish(packed / "five.safetensors", tmp_path / "registry")
    assert (str(published.reference), published.number, published.new) == ("maps/five@1.0.0", 1, True)
    assert not publish(str(packed / "five.safetensors"), tmp_path / "registry").new
    for text in ("maps/five", "maps/five@1.0.0", "maps/five@^1", f"maps/five@sha256:{published.release.blob.sha256}"):
        assert same(made.five, registry.pull(text, registry=tmp_path / "registry")[0])
    assert set(tree(tmp_path / "registry")) == {
        "blobs",
        f"blobs/{published.release.blob.sha256}",
        "index.json",
        "index.lock",
        "maps",
        "maps/five",
        "maps/five/1.0.0.json",
    }


@pytest.mark.parametrize("kind", [lambda tmp_path: tmp_path / "registry", lambda _: MemoryStore()])
def test_the_newest_version_is_meant(made, packed, tmp_path, kind):
    store = kind(tmp_path)
    for name in ("later", "five", "pair"):
        publish(packed / f"{name}.safetensors", store)
    assert found("maps/five", store).version == "1.1.0"
    assert found("maps/five", store).packed_manifest().identity.description == "later"
    assert same(registry.pull("maps/five", registry=store)[0], made.five.of([0, 2, 3]))
    assert same(registry.pull("maps/pair", registry=store)[0], made.pair)
    yank("maps/five@1.1.0", "too late", store)
    assert found("maps/five", store).version == "1.0.0"
    assert found("maps/five@1.1.0", store).release.yanked == "too late"


def test_pulled_maps_are_used_by_their_cells_and_refused_by_changed_ones(folder):
    made, pulled = cells(), registry.pull("maps/five@1.0.0", registry=folder)[0]
    aligned = composer.compose(made, maps=pulled)(images())["photo"].aligned
    assert aligned.shape[-1] == pulled.width
    made["photo"] = cells(dict.fromkeys("abcdefg", made["photo"].spec))["g"]
    with pytest.raises(IntegrityError) as caught:
        composer.compose(made, maps=pulled)
    assert (caught.value.code, caught.value.where) == ("END_CHANGED", "photo")


def test_other_bytes_cannot_take_a_version(made, packed, tmp_path):
    publish(packed / "five.safetensors", tmp_path / "registry")
    before = tree(tmp_path / "registry")
    again = LABEL.model_copy(update={"description": "another"})
    composer.pack(made.five, tmp_path / "five.safetensors", again, lock=made.of.lock)
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        publish(tmp_path / "five.safetensors", tmp_path / "registry")
    assert tree(tmp_path / "registry") == before


def test_an_alias_may_mean_maps(made, folder):
    settings.config_file().parent.mkdir(parents=True, exist_ok=True)
    settings.config_file().write_text(f'registry = "{folder}"\n[aliases]\nbest = "maps/five@1.0.0"\n')
    assert same(made.five, registry.pull("best")[0])
    assert references(SimpleNamespace(params={}), "maps/") == ["maps/five", "maps/pair"]


def test_no_kind_is_taken_for_another(folder, packed):
    for attempt in (
        lambda: pull_cells("high/tiny", "maps/five", registry=folder),
        lambda: registry.load("maps/five", registry=folder),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_code) == ("MAPS", 2)
        assert "registry.pull(" in caught.value.remedy
    with pytest.raises(FormatError, match="MAPS"):
        registry.load(packed / "five.safetensors")
    lying = attestation(tiny()).model_copy(update={"reference": "maps/five@1.0.0"})
    with pytest.raises(InputError, match="MAPS"):
        attest(lying, folder)
    for text, code in (("maps/six", "NO_MAPS"), ("maps/least", "NO_MAPS"), ("maps/five@2", "NO_VERSION")):
        with pytest.raises(NotFoundError, match=code):
            registry.pull(text, registry=folder)


def test_a_pull_of_all_kinds_is_in_the_order_asked(made, folder):
    moved = []
    found = registry.pull(
        "maps/pair", "high/tiny", "model/least", "maps/five@1.0.0", registry=folder, progress=lambda *at: moved.append(at)
    )
    assert [type(one).__name__ for one in found] == ["Alignment", "Cell", "Wired", "Consensus"]
    assert found[1] == tiny()
    assert same(made.pair, found[0])
    assert same(made.five, found[3])
    assert moved == sorted(moved)
    assert moved[0][0] == 0
    assert moved[-1][0] == moved[-1][1]
    assert {total for _, total in moved} == {moved[-1][1]}


def test_a_yanked_version_of_any_kind_is_warned_of(folder):
    yank("maps/five@1.0.0", "wrong cells", folder)
    with pytest.warns(YankedWarning, match=r"maps/five@1\.0\.0 is yanked") as warned:
        registry.pull("high/tiny", "maps/five@1.0.0", registry=folder)
    assert [warning.filename for warning in warned] == [__file__]


# What is not published.


def rewritten(change):
    """A change of the manifest beside a file."""

    def rewrite(path):
        beside = path.with_suffix(".json")
        value = json.loads(beside.read_bytes())
        change(value)
        beside.write_bytes(canonical_json.dump(value))

    return rewrite


def put(path, data):
    """Other bytes into a file of maps, and a manifest that says what they are."""
    said = document(data)
    path.write_bytes(data)
    file = {"size": len(data), "sha256": canonical_json.sha256(data), "seal": said["seal"]}
    rewritten(lambda manifest: manifest.update(file=file))(path)


def altered(change, *, reseal=True):
    """A change of the document in a file, sealed anew or not."""

    def alter(path):
        value = document(path.read_bytes())
        change(value)
        words = resealed(value) if reseal else canonical_json.dump(value).decode()
        put(path, with_document(path.read_bytes(), words))

    return alter


def other_end(value):
    value["maps"][0]["source"]["tensors"] = "0" * 64


def with_another_model(path):
    shutil.copy(path.with_suffix(".json"), path.with_name("x.json"))
    composer.pack(least(), path, LABEL)
    shutil.copy(path.with_name("x.json"), path.with_suffix(".json"))


BAD = {
    "no manifest": (lambda path: path.with_suffix(".json").unlink(), NotFoundError, "NO_MANIFEST", 3),
    "the manifest of a cell": (
        lambda path: path.with_suffix(".json").write_bytes(tiny().manifest.to_bytes()),
        FormatError,
        "SCHEMA",
        4,
    ),
    "the file of a model": (with_another_model, FormatError, "SCHEMA", 4),
    "a manifest of a newer schema": (rewritten(lambda v: v.update(schema_version="2.0")), FormatError, "SCHEMA_NEWER", 4),
    "a name that leaves its place": (rewritten(lambda v: v["identity"].update(name="../x")), FormatError, "SCHEMA", 4),
    "another seal": (rewritten(lambda v: v["file"].update(seal="0" * 64)), IntegrityError, "OTHER_SEAL", 4),
    "another digest": (rewritten(lambda v: v["file"].update(sha256="0" * 64)), IntegrityError, "WRONG_MAPS", 4),
    "another lock": (rewritten(lambda v: v.update(lock="0" * 64)), IntegrityError, "WRONG_MAPS", 4),
    "more cells": (rewritten(lambda v: v.update(cells=6)), IntegrityError, "WRONG_MAPS", 4),
    "other tokens": (rewritten(lambda v: v.update(tokens="S")), IntegrityError, "WRONG_MAPS", 4),
    "another probe": (rewritten(lambda v: v.update(probe="0" * 64)), IntegrityError, "WRONG_MAPS", 4),
    "a frame and a target": (rewritten(lambda v: v.update(target=v["sources"][0])), FormatError, "SCHEMA", 4),
    "a changed byte": (damage, IntegrityError, "BLOCK_DIGEST", 4),
    "a byte less": (lambda path: path.write_bytes(path.read_bytes()[:-1]), FormatError, "ST_TAIL", 4),
    "an end that was altered": (altered(other_end, reseal=False), IntegrityError, "SEAL", 4),
    "an end that was altered and sealed": (altered(other_end), IntegrityError, "WRONG_MAPS", 4),
    "a file of a newer schema": (altered(lambda v: v.update(schema_version="2.0")), FormatError, "SCHEMA_NEWER", 4),
    "a reflection that is none": (
        altered(lambda v: v["maps"][0].update(determinant=-v["maps"][0]["determinant"])),
        PolicyError,
        "NOT_A_ROTATION",
        6,
    ),
    "a map less": (altered(lambda v: v["maps"].pop()), FormatError, "SCHEMA", 4),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_right_is_not_published(mine, tmp_path, name, capsys):
    change, kind, code, exit_code = BAD[name]
    change(mine)
    with pytest.raises(kind) as caught:
        publish(mine, tmp_path / "registry")
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert main(["publish", str(mine), "--to", str(tmp_path / "registry")]) == exit_code
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "registry").exists()


def test_what_is_a_file_of_maps(packed):
    assert form_of_file(packed / "five.safetensors") is FORMS["maps"]
    assert form_of_file(packed / "five.json") is None
    assert read_packed(packed / "pair.safetensors", FORMS["maps"]).manifest.cells == 2
    with pytest.raises(FormatError, match="SCHEMA"):
        read_packed(packed / "least.safetensors", FORMS["maps"])


# The index and the lock: of the oldest schema that has what they hold.


def test_an_index_is_of_the_oldest_schema_that_has_its_tables(packed):
    cell, maps = Release.of(tiny().manifest), PackedRelease.of(manifest_of(packed))
    manifest = composer.ModelManifest.from_bytes((packed / "least.json").read_bytes(), where="least")
    plain = Index().with_release("high/tiny", "1.0.0", cell)
    model = plain.with_release("model/least", "1.0.0", PackedRelease.of(manifest))
    both, only = (index.with_release("maps/five", "1.0.0", maps) for index in (model, plain))
    assert [index.schema_version for index in (plain, model, both, only)] == ["1.0", "1.1", "1.2", "1.2"]
    assert [set(json.loads(index.to_bytes())) & {"models", "maps"} for index in (plain, model, both, only)] == [
        set(),
        {"models"},
        {"models", "maps"},
        {"maps"},
    ]
    for index in (plain, model, both, only):
        assert Index.from_bytes(index.sealed(), where="x") == index
    assert [path for path, _, _ in both.everything()] == ["high/tiny", "model/least", "maps/five"]
    assert plain.with_all(both).maps == both.maps
    assert both.with_all(only) is both
    assert isinstance(both.resolve(Reference.parse("maps/five"))[1], PackedRelease)
    with pytest.raises(NotFoundError) as caught:
        both.versions("maps/fiv")
    assert (caught.value.code, caught.value.remedy) == ("NO_MAPS", "Did you mean maps/five?")
    with pytest.raises(NotFoundError) as caught:
        plain.versions("maps/five")
    assert "batteries list --maps" in caught.value.remedy


BAD_INDEXES = {
    "maps in schema 1.1": lambda v: v.update(schema_version="1.1"),
    "maps in schema 1.0": lambda v: v.update(schema_version="1.0"),
    "schema 1.2 without maps": lambda v: v.pop("maps"),
    "an empty table": lambda v: v.update(models={}),
    "maps without a version": lambda v: v["maps"].update({"maps/none": {}}),
    "a cell among the maps": lambda v: v["maps"].update(v["cells"]),
    "maps among the models": lambda v: v.update(models=v["maps"]),
    "maps' release as a model's": lambda v: v.update(models={"model/x": v["maps"]["maps/five"]}),
    "a name that leaves its place": lambda v: v["maps"].update({"maps/..": v["maps"]["maps/five"]}),
    "maps of more than 64 MiB": lambda v: v["maps"]["maps/five"]["1.0.0"]["blob"].update(size=2**26 + 1),
    "a newer schema": lambda v: v.update(schema_version="2.0"),
    "an unknown minor": lambda v: v.update(schema_version="1.3"),
}


@pytest.mark.parametrize("name", BAD_INDEXES)
def test_an_index_that_cannot_be_is_refused(packed, name):
    index = Index().with_release("high/tiny", "1.0.0", Release.of(tiny().manifest))
    index = index.with_release("maps/five", "1.0.0", PackedRelease.of(manifest_of(packed)))
    value = json.loads(index.to_bytes())
    BAD_INDEXES[name](value)
    with pytest.raises(FormatError) as caught:
        Index.from_bytes(canonical_json.dump({**value, "sha256": canonical_json.sha256(canonical_json.dump(value))}), where="x")
    assert caught.value.code in {"SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL"}


def test_a_lock_names_maps_beside_the_others(made, folder):
    texts = ("maps/five@1.0.0", "high/tiny", "model/least", "maps/pair", "maps/five")
    lock = Lock.of(locate([Reference.parse(text) for text in texts], folder))
    assert (lock.schema_version, [str(one.reference) for one in lock.maps]) == (
        "1.2",
        ["maps/five@1.0.0", "maps/five@1.1.0", "maps/pair@1.0.0"],
    )
    assert Lock.from_bytes(lock.to_bytes(), where="") == lock
    (folder / INDEX).unlink()
    cell, _, *maps = registry.pull_locked(lock)
    assert cell.name == "high/tiny"
    assert same(made.pair, maps[2])
    assert same(made.five, registry.pull(lock.maps[0])[0])
    assert same(made.pair, registry.pull(lock.maps[2])[0])
    without = Lock(schema_version="1.1", cells=lock.cells, models=lock.models, indexes=lock.indexes)
    assert [(change.path, change.kind) for change in diff(lock, without)] == [
        ("maps/five", "removed"),
        ("maps/pair", "removed"),
    ]
    for change in (
        lambda v: v.update(schema_version="1.1"),
        lambda v: v["maps"].reverse(),
        lambda v: v["maps"][0].update(path="model/five"),
        lambda v: v["models"][0].update(path="maps/least"),
        lambda v: v.update(maps=[]),
    ):
        value = json.loads(lock.to_bytes())
        change(value)
        with pytest.raises(FormatError, match="SCHEMA"):
            Lock.from_bytes(canonical_json.dump(value), where="x")


def test_a_locked_pull_of_maps_that_changed_is_refused(made, packed, folder, tmp_path):
    """Whoever rewrites a registry gives other maps to those who choose by name, and an error to those who locked."""
    lock = Lock.of(locate([Reference.parse("maps/five@1.0.0")], folder))
    shutil.rmtree(Cache().folder)
    other = tmp_path / "other"
    composer.pack(made.five.of([1]), tmp_path / "five.safetensors", LABEL, lock=made.of.lock)
    publish(tmp_path / "five.safetensors", other)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    with pytest.raises(IntegrityError) as caught:
        registry.pull(lock.maps[0])
    assert caught.value.code in {"DIGEST_MISMATCH", "SIZE_MISMATCH", "MISSING"}
    lock.write(tmp_path / "maps.lock")
    assert main(["pull", "--locked", str(tmp_path / "maps.lock")]) == 4
    assert main(["pull", "maps/five", "--registry", str(other)]) == 0


# Bytes that are not the ones that were promised.


def test_a_damaged_file_in_the_cache_is_fetched_again(made, folder):
    path = Cache().path(found("maps/five@1.0.0", folder).release.blob.sha256)
    for change in (lambda: damage(path), lambda: damage(path, 10), lambda: path.write_bytes(b"short"), lambda: path.unlink()):
        registry.pull("maps/five@1.0.0", registry=folder)
        change()
        assert same(made.five, registry.pull("maps/five@1.0.0", registry=folder)[0])
    assert len(list(Cache().aside.iterdir())) == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: damage(folder / found("maps/five", folder).blob_key), "DIGEST_MISMATCH"),
        (lambda folder: (folder / found("maps/five", folder).blob_key).unlink(), "MISSING"),
        (lambda folder: damage(folder / "maps" / "five" / "1.1.0.json"), "DIGEST_MISMATCH"),
        (lambda folder: (folder / "maps" / "five" / "1.1.0.json").unlink(), "MISSING"),
    ],
)
def test_damage_in_a_registry_is_found_by_everybody(folder, change, code, tmp_path):
    mirror(folder, tmp_path / "mirror")
    shutil.rmtree(Cache().folder)
    change(folder)
    with pytest.raises(IntegrityError) as caught:
        registry.pull("maps/five", registry=folder)
    assert caught.value.code == code
    for findings in (registry.verify("maps/five", registry=folder), registry.verify_store(DirectoryStore(folder))):
        assert {finding.error.code for finding in findings if finding.error} == {code}
    assert {error.code for error in fsck(folder).faults.values()} == {code}
    assert fsck(folder, repair=True, source=tmp_path / "mirror").ok
    assert all(finding.ok for finding in registry.verify_store(DirectoryStore(folder)))
    registry.pull("maps/five", registry=folder)


def test_a_manifest_that_promises_other_maps_is_refused(packed):
    """Signed into the index by somebody who does not keep his word."""
    manifest, data = manifest_of(packed), (packed / "five.safetensors").read_bytes()
    lying = manifest.model_copy(update={"file": manifest.file.model_copy(update={"seal": "0" * 64})})
    release, other = PackedRelease.of(manifest), PackedRelease.of(manifest_of(packed, "pair"))
    for said, promised, path, code in (
        (lying, PackedRelease.of(lying), "maps/five", "OTHER_SEAL"),
        (manifest, release.model_copy(update={"summary": other.summary}), "maps/five", "WRONG_SUMMARY"),
        (manifest, release.model_copy(update={"blob": other.blob}), "maps/five", "WRONG_BLOB"),
        (manifest, release, "maps/six", "WRONG_MAPS"),
    ):
        store = MemoryStore()
        store.put(store_keys.blob(manifest.file.sha256), data)
        store.put(store_keys.manifest(path, "1.0.0"), said.to_bytes())
        store.swap_index(None, Index().with_release(path, "1.0.0", promised).sealed())
        with pytest.raises(IntegrityError, match=code):
            registry.pull(path, registry=store)
        assert code in {finding.error.code for finding in registry.verify(path, registry=store) if finding.error}


def test_nothing_else_leaves_a_pull(folder):
    """Every changed byte of a manifest in a registry is found."""
    path = folder / "maps" / "five" / "1.0.0.json"
    data = path.read_bytes()
    for place in range(0, len(data), 11):
        damage(path, place)
        with pytest.raises(BatteriesError, match="DIGEST_MISMATCH"):
            registry.pull("maps/five@1.0.0", registry=folder)
        path.write_bytes(data)


# Mirrors, memory, the cache.


def test_a_mirror_has_the_maps_too(folder, tmp_path):
    yank("maps/five@1.0.0", "old", folder)
    mirrored = mirror(folder, tmp_path / "mirror")
    assert (mirrored.cells, mirrored.models, mirrored.maps, mirrored.copied) == (1, 1, 3, 5)
    assert mirror(folder, tmp_path / "mirror").copied == 0
    first, second = (open_snapshot(place).index for place in (folder, tmp_path / "mirror"))
    assert (first.cells, first.models, first.maps) == (second.cells, second.models, second.maps)
    assert all(finding.ok for finding in registry.verify_store(DirectoryStore(tmp_path / "mirror")))


def test_maps_that_changed_or_went_away_are_refused(folder):
    open_snapshot(folder)
    shutil.rmtree(folder)
    for number in range(8):
        publish(tiny(f"cell-{number}"), folder)
    with pytest.raises(IntegrityError) as caught:
        open_snapshot(folder)
    assert caught.value.code == "VERSION_MUTATED"
    assert "maps/five@1.0.0" in caught.value.found


def test_the_cache_lets_maps_go_and_finds_damage(made, folder):
    pulled = registry.pull("maps/pair", registry=folder)[0]
    path = Cache().path(found("maps/pair", folder).release.blob.sha256)
    assert all(error is None for _, error in check(Cache()))
    damage(path)
    assert [name for name, error in check(Cache(), repair=True) if error is not None] == [path.name]
    registry.pull("maps/pair", registry=folder)
    assert collect(Cache(), max_size=0).removed == 0  # used within the hour
    assert same(pulled, made.pair)


# On the Hub.


@pytest.mark.filterwarnings(QUIET)
def test_maps_on_the_hub(made, packed, hub, elsewhere):
    publish(tiny(), "hf://me/cells")
    for name in ("five", "later", "pair"):
        publish(packed / f"{name}.safetensors", "hf://me/cells")
    elsewhere()
    hub.forget()
    assert same(made.five, registry.pull("maps/five@1.0.0", registry="hf://me/cells")[0])
    assert hub.asked["file"] <= 4  # the index, a manifest, a file; and one for where the file is kept
    card = registry_card(open_snapshot("hf://me/cells").index, "hf://me/cells")
    assert all(text in card for text in ("maps/five@1.1.0", "maps/pair@1.0.0", "2 x 2", "high/cell-3@1.0.0"))
    assert all(finding.ok for finding in registry.verify("maps/five", "maps/pair", registry="hf://me/cells"))
    hub.forget()
    assert same(made.five, registry.pull("maps/five@1.0.0", registry="hf://me/cells", mode="offline")[0])
    assert not hub.log


def test_a_card_without_maps_has_no_table_of_them(packed):
    index = Index().with_release("high/tiny", "1.0.0", Release.of(tiny().manifest))
    assert "maps" not in registry_card(index, "hf://me/cells").lower()
    index = Index().with_release("maps/five", "1.0.0", PackedRelease.of(manifest_of(packed)))
    assert "batteries pull maps/five" in registry_card(index, "hf://me/cells")
    assert "maps/five@1.0.0" in registry_card(index.with_yank("maps/five", "1.0.0", "no"), "hf://me/cells")


# The commands.


def test_maps_are_listed_where_they_are_asked_for(folder, capsys):
    listed = answered(capsys, ANSWERS["list"], "list", "--registry", folder)
    assert ([cell.reference for cell in listed.cells], listed.models, listed.maps) == (["high/tiny@1.0.0"], (), ())
    for words in (["--maps"], ["maps/*"]):
        listed = answered(capsys, ANSWERS["list"], "list", *words, "--registry", folder)
        assert (listed.cells, listed.models) == ((), ())
        assert [(one.reference, one.summary.target) for one in listed.maps] == [
            ("maps/five@1.1.0", "frame"),
            ("maps/pair@1.0.0", "high/cell-3@1.0.0"),
        ]
    assert len(answered(capsys, ANSWERS["list"], "list", "--maps", "--all", "--registry", folder).maps) == 3
    code, out, err = run(capsys, "list", "pai", "--maps", "--registry", folder)
    assert (code, "maps: 1 of 2" in err) == (0, True)
    assert all(text in out for text in ("maps/pair@1.0.0", "omega", "2 x 2"))
    for words in (["maps/*", "--where", "D == 4"], ["--maps", "--models"]):
        code, out, _ = run(capsys, "list", *words, "--registry", folder)
        assert (code, out) == (2, "")


def test_show_verify_pull(folder, capsys, tmp_path):
    shown = answered(capsys, ANSWERS["show-maps"], "show", "maps/five@1.0.0", "--registry", folder)
    assert (shown.reference, shown.manifest.frame.rows, len(shown.manifest.sources)) == ("maps/five@1.0.0", 32, 5)
    _, out, _ = run(capsys, "show", "maps/pair", "--registry", folder)
    assert all(text in out for text in ("maps/pair@1.0.0", "high/cell-0", "high/cell-3", shown.manifest.probe[:8]))
    verified = answered(capsys, ANSWERS["verify"], "verify", "maps/five", "high/tiny", "--registry", folder)
    assert [finding.kind for finding in verified.findings] == ["manifest", "blob"] * 2
    words = ["pull", "maps/five", "high/tiny", "model/least", "maps/pair", "--registry", folder, "--out", tmp_path / "out"]
    pulled = answered(capsys, ANSWERS["pull"], *words)
    assert [one.reference for one in (*pulled.cells, *pulled.models, *pulled.maps)] == [
        "high/tiny@1.0.0",
        "model/least@1.0.0",
        "maps/five@1.1.0",
        "maps/pair@1.0.0",
    ]
    path = tmp_path / "out" / "maps" / "five.safetensors"
    assert pulled.maps[0].path == str(path)
    composer.load(path)
    publish(path, tmp_path / "again")
    code, out, err = run(capsys, *words[:-2])
    assert (code, err.splitlines()[-1]) == (0, "fetched and verified: cells 1, models 1, maps 2")
    assert run(capsys, "pull", "maps/five@1.0.0", "maps/five", "--out", tmp_path / "x", "--registry", folder)[:2] == (2, "")


def test_lock_diff_mirror_yank_fsck(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    locked = answered(capsys, MAINTENANCE["lock"], "lock", "maps/five", "high/tiny", "--registry", folder)
    assert [one.path for one in (*locked.cells, *locked.maps)] == ["high/tiny", "maps/five"]
    pulled = answered(capsys, ANSWERS["pull"], "pull", "--locked", "cells.lock")
    assert [one.reference for one in pulled.maps] == ["maps/five@1.1.0"]
    answered(capsys, MAINTENANCE["lock"], "lock", "high/tiny", "--out", "less.lock", "--registry", folder)
    assert run(capsys, "diff", "less.lock", "cells.lock")[2] == "different: maps 1\n"
    assert answered(capsys, MAINTENANCE["mirror"], "mirror", folder, tmp_path / "mirror").maps == 3
    assert run(capsys, "yank", "maps/five@1.1.0", "--reason", "old", "--registry", folder)[0] == 0
    assert "yanked: old" in run(capsys, "show", "maps/five@1.1.0", "--registry", folder)[1]
    assert answered(capsys, MAINTENANCE["fsck"], "fsck", "--registry", folder).checked == 10


def test_published_by_the_command(packed, capsys, tmp_path):
    published = answered(capsys, ANSWERS["publish"], "publish", packed / "five.safetensors", "--to", tmp_path / "registry")
    assert (str(published.reference), published.release.summary.tokens) == ("maps/five@1.0.0", "omega")


@pytest.mark.slow
def test_no_command_takes_torch_for_maps(folder, packed, tmp_path):
    code = f"""
import sys
from registry.cli import main
for words in (["list", "--maps"], ["show", "maps/five"], ["pull", "maps/five"], ["verify", "--all"]):
    assert main([*words, "--registry", {str(folder)!r}]) == 0
assert main(["publish", {str(packed / "five.safetensors")!r}, "--to", {str(tmp_path / "new")!r}]) == 0
assert main(["mirror", {str(folder)!r}, {str(tmp_path / "mirror")!r}]) == 0
print("torch" in sys.modules)
"""
    done = python(code)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_a_file_of_maps_says_all_that_its_manifest_says(packed):
    said = composer.read(packed / "five.safetensors")
    assert isinstance(said, SavedMaps)
    assert manifest_of(packed).lock == canonical_json.sha256(canonical_json.dump(said.lock))
    assert Path(packed / "five.json").stat().st_size < 64 * 2**10
