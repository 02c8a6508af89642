"""Composed models in a registry: published and pulled as cells are, under a kind of their own."""

import contextlib
import itertools
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import composer
import registry
from batteries.errors import (
    BatteriesError,
    ConflictError,
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    PolicyError,
    StoreError,
)
from batteries.io import canonical_json, filesystem
from composer.artifact.kinds import FORMS
from composer.artifact.manifest import PackedLabel
from composer.artifact.model.manifest import ModelManifest
from registry.answers.composition import COMPOSING
from registry.answers.maintenance import CUSTODY
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
from registry.transfer.pull_packed import fetch_packed, form_of_file, read_packed
from registry.transfer.wanted import Wanted
from tests.support.cells import ROOT, attestation, from_model, litter, python, tiny, tree
from tests.support.commands import answered, run
from tests.support.faulty_disk import ERRORS, FaultyDisk, HastyDisk
from tests.support.hubserver import QUIET
from tests.support.models import SPECS, document, forged, forgeries, framed, images, least, model, same, sealed, with_document

LABEL = PackedLabel(name="trio", version="1.0.0", license="Apache-2.0", description="made by hand")


@pytest.fixture(scope="module")
def made():
    return model()


@pytest.fixture(scope="module")
def packed(made, tmp_path_factory):
    """The files of two versions of a model, and of another one."""
    folder = tmp_path_factory.mktemp("packed")
    composer.pack(made, folder / "trio.safetensors", LABEL)
    composer.pack(made, folder / "later.safetensors", LABEL.model_copy(update={"version": "1.1.0", "description": "later"}))
    composer.pack(least(), folder / "least.safetensors", LABEL.model_copy(update={"name": "least"}))
    return folder


@pytest.fixture
def folder(packed, tmp_path):
    """A registry of one cell, and of two versions of one model."""
    folder = tmp_path / "registry"
    publish(tiny(), folder)
    publish(packed / "trio.safetensors", folder)
    publish(packed / "later.safetensors", folder)
    return folder


@pytest.fixture
def mine(packed, tmp_path):
    """A model's file and manifest, to be damaged."""
    for name in ("trio.safetensors", "trio.json"):
        shutil.copy(packed / name, tmp_path / name)
    return tmp_path / "trio.safetensors"


def manifest_of(packed, name="trio"):
    return ModelManifest.from_bytes((packed / f"{name}.json").read_bytes(), where=name)


def found(text, where):
    (located,) = locate([Reference.parse(text)], where)
    return located


def blob_of(where, text="model/trio"):
    return Path(where) / found(text, where).blob_key


def damage(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


# Publishing and pulling.


def test_a_model_is_published_and_pulled_as_it_was(made, packed, tmp_path):
    published = publish(packed / "trio.safetensors", tmp_path / "registry")
    assert (str(published.reference), published.number, published.new) == ("model/trio@1.0.0", 1, True)
    assert not publish(str(packed / "trio.safetensors"), tmp_path / "registry").new
    for text in ("model/trio", "model/trio@1.0.0", "model/trio@^1", f"model/trio@sha256:{published.release.blob.sha256}"):
        pulled = registry.pull(text, registry=tmp_path / "registry")[0]
        assert same(made, pulled, images())
    pulled.container.verify()
    assert set(tree(tmp_path / "registry")) == {
        "blobs",
        f"blobs/{published.release.blob.sha256}",
        "index.json",
        "index.lock",
        "model",
        "model/trio",
        "model/trio/1.0.0.json",
    }


def test_a_container_is_pulled_as_a_container(made, tmp_path):
    composer.pack(made.container, tmp_path / "trio.safetensors", LABEL)
    publish(tmp_path / "trio.safetensors", tmp_path / "registry")
    pulled = registry.pull("model/trio", registry=tmp_path / "registry")[0]
    assert isinstance(pulled, composer.Container)
    assert (pulled.names, pulled.lock) == (made.names, made.lock)
    assert torch.equal(pulled(images()).recon, made(images()).recon)
    pulled.verify()


def test_its_cells_need_not_be_there_and_the_manifest_says_so(packed, tmp_path):
    publish(packed / "trio.safetensors", tmp_path / "registry")
    snapshot = open_snapshot(tmp_path / "registry")
    assert snapshot.index.cells == {}
    assert found("model/trio", tmp_path / "registry").packed_manifest().weights == "included"


@pytest.mark.parametrize("kind", [lambda tmp_path: tmp_path / "registry", lambda _: MemoryStore()])
def test_the_newest_version_is_meant(packed, tmp_path, kind):
    store = kind(tmp_path)
    for name in ("later", "trio"):
        publish(packed / f"{name}.safetensors", store)
    located = found("model/trio", store)
    assert located.version == "1.1.0"
    assert located.packed_manifest().identity.description == "later"
    registry.pull("model/trio", registry=store)
    yank("model/trio@1.1.0", "too late", store)
    assert found("model/trio", store).version == "1.0.0"
    assert found("model/trio@1.1.0", store).release.yanked == "too late"


def test_other_bytes_cannot_take_a_version(made, packed, tmp_path):
    publish(packed / "trio.safetensors", tmp_path / "registry")
    before = tree(tmp_path / "registry")
    composer.pack(made, tmp_path / "trio.safetensors", LABEL.model_copy(update={"description": "another"}))
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        publish(tmp_path / "trio.safetensors", tmp_path / "registry")
    assert tree(tmp_path / "registry") == before


def test_an_alias_may_mean_a_model(made, folder):
    settings.config_file().parent.mkdir(parents=True, exist_ok=True)
    settings.config_file().write_text(f'registry = "{folder}"\n[aliases]\nbest = "model/trio@^1"\n')
    assert same(made, registry.pull("best")[0], images())
    assert "best" in references(SimpleNamespace(params={}), "b")
    assert references(SimpleNamespace(params={}), "mod") == ["model/trio"]


def test_a_cell_is_no_model_and_a_model_no_cell(folder, packed):
    for attempt, code in (
        (lambda: pull_cells("high/tiny", "model/trio", registry=folder), "A_MODEL"),
        (lambda: registry.load("model/trio", registry=folder), "A_MODEL"),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_code) == (code, 2)
        assert "registry.pull" in caught.value.remedy
    with pytest.raises(FormatError, match="A_MODEL"):
        registry.load(packed / "trio.safetensors")
    lying = attestation(tiny()).model_copy(update={"reference": "model/trio@1.0.0"})
    with pytest.raises(InputError, match="A_MODEL"):
        attest(lying, folder)
    for text, code in (("model/duo", "NO_MODEL"), ("model/tiny", "NO_MODEL"), ("model/trio@2", "NO_VERSION")):
        with pytest.raises(NotFoundError, match=code):
            registry.pull(text, registry=folder)


# What is not published.


def rewritten(change):
    """A change of the manifest beside a file."""

    def rewrite(path):
        beside = path.with_suffix(".json")
        value = json.loads(beside.read_bytes())
        change(value)
        beside.write_bytes(canonical_json.dump(value))

    return rewrite


def with_large_weights(path):
    """Sealed and described well, and no cell was ever trained to that."""
    big = least()
    stack = big.container.groups[0].stack
    stack.enc_in__weight.data[:] = 1e6
    lock = big.container.lock["only"]
    lock["tensors"] = big.container._tensor_digest("only")
    composer.pack(big, path, LABEL)


def with_a_nan(path):
    data = bytearray(path.read_bytes())
    opened = FORMS["model"].open(bytes(data), where="x")
    start = len(data) - len(opened.data)
    data[start : start + 8] = b"\xff" * 8
    value = document(bytes(data))
    value["blocks"] = [canonical_json.sha256(bytes(data[start:]))]
    header = (
        data[8:start]
        .rstrip()
        .replace(json.dumps(sealed(document(path.read_bytes()))).encode(), json.dumps(sealed(value)).encode())
    )
    path.write_bytes(framed(bytes(header), bytes(data[start:])))
    facts = {"sha256": canonical_json.sha256(path.read_bytes()), "seal": json.loads(sealed(value))["seal"]}
    rewritten(lambda manifest: manifest["file"].update(facts))(path)


def put(path, data):
    """Other bytes into a model's file, and a manifest that says what they are."""
    said = document(data)
    lock = {cell.pop("name"): {key: cell[key] for key in ("cell", "version", "sha256", "tensors")} for cell in said["cells"]}
    file = {"size": len(data), "sha256": canonical_json.sha256(data), "seal": said["seal"]}
    path.write_bytes(data)
    rewritten(lambda manifest: manifest.update(file=file, lock=canonical_json.sha256(canonical_json.dump(lock))))(path)


def with_a_false_lock(path):
    """A cell that names another one, as if it were that."""
    first, *others = composer.read(path).cells
    other = first.model_copy(update={"cell": "low/fresnel-256", "version": "2.0.0", "sha256": "a" * 64, "tensors": "b" * 64})
    put(path, forged(path.read_bytes(), cells=(other, *others)))


def of_a_newer_schema(path):
    data = path.read_bytes()
    put(path, with_document(data, sealed({**document(data), "schema_version": "2.0"})))


def with_forgery(name):
    return lambda path: put(path, forgeries(path.read_bytes())[name])


BAD = {
    "no manifest": (lambda path: path.with_suffix(".json").unlink(), NotFoundError, "NO_MANIFEST", 3),
    "no file": (lambda path: path.unlink(), NotFoundError, "NO_FILE", 3),
    "the manifest of a cell": (
        lambda path: path.with_suffix(".json").write_bytes(tiny().manifest.to_bytes()),
        FormatError,
        "SCHEMA",
        4,
    ),
    "a manifest that is not canonical": (
        lambda path: path.with_suffix(".json").write_bytes(path.with_suffix(".json").read_bytes() + b"\n"),
        FormatError,
        "NOT_CANONICAL",
        4,
    ),
    "a manifest of a newer schema": (rewritten(lambda v: v.update(schema_version="2.0")), FormatError, "SCHEMA_NEWER", 4),
    "a manifest too large": (
        lambda path: path.with_suffix(".json").write_bytes(b" " * (64 * 2**10 + 1)),
        FormatError,
        "TOO_LARGE",
        4,
    ),
    "a name that leaves its place": (rewritten(lambda v: v["identity"].update(name="../x")), FormatError, "SCHEMA", 4),
    "a version that is none": (rewritten(lambda v: v["identity"].update(version="1")), FormatError, "SCHEMA", 4),
    "another seal": (rewritten(lambda v: v["file"].update(seal="0" * 64)), IntegrityError, "OTHER_SEAL", 4),
    "another digest": (rewritten(lambda v: v["file"].update(sha256="0" * 64)), IntegrityError, "WRONG_MODEL", 4),
    "another size": (rewritten(lambda v: v["file"].update(size=1)), IntegrityError, "WRONG_MODEL", 4),
    "another lock": (rewritten(lambda v: v.update(lock="0" * 64)), IntegrityError, "WRONG_MODEL", 4),
    "more cells": (rewritten(lambda v: v.update(cells=6)), IntegrityError, "WRONG_MODEL", 4),
    "more parameters": (rewritten(lambda v: v.update(parameters=1)), IntegrityError, "WRONG_MODEL", 4),
    "another output": (rewritten(lambda v: v.update(output="swap")), IntegrityError, "WRONG_MODEL", 4),
    "a node less": (rewritten(lambda v: v["nodes"].pop()), IntegrityError, "WRONG_MODEL", 4),
    "another input scale": (rewritten(lambda v: v["input"].update(mean=[1.0, 0.0, 0.0])), IntegrityError, "WRONG_MODEL", 4),
    "a changed byte": (damage, IntegrityError, "BLOCK_DIGEST", 4),
    "a changed byte of the document": (lambda path: damage(path, 200), BatteriesError, None, 4),
    "a byte less": (lambda path: path.write_bytes(path.read_bytes()[:-1]), FormatError, "ST_TAIL", 4),
    "a file that starts otherwise": (lambda path: damage(path, 12), FormatError, None, 4),
    "a link": (lambda path: path.rename(path.with_name("x")).rename(path.with_name("y")), NotFoundError, "NO_FILE", 3),
    "weights out of all proportion": (with_large_weights, PolicyError, "OUT_OF_RANGE", 6),
    "numbers that are none": (with_a_nan, PolicyError, "NON_FINITE", 6),
    "cells that are not those of the lock": (with_a_false_lock, IntegrityError, "TENSOR_DIGEST", 4),
    "a file of a newer schema": (of_a_newer_schema, FormatError, "SCHEMA_NEWER", 4),
    "a frame that is too narrow": (with_forgery("a frame narrower than its cells"), FormatError, "SCHEMA", 4),
    "a relay of another width": (with_forgery("a relay of another width"), FormatError, "SCHEMA", 4),
    "a router of another shape": (with_forgery("a router of another shape"), FormatError, "SCHEMA", 4),
    "a relay between unequal cells": (with_forgery("a relay between unequal cells"), FormatError, "WIRING", 4),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_right_is_not_published(mine, tmp_path, name, capsys):
    change, kind, code, exit_code = BAD[name]
    change(mine)
    with pytest.raises(kind) as caught:
        publish(mine, tmp_path / "registry")
    assert caught.value.exit_code == exit_code
    assert code in (None, caught.value.code)
    assert not (tmp_path / "registry").exists()
    assert main(["publish", str(mine), "--to", str(tmp_path / "registry")]) == exit_code
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "registry").exists()


def test_a_registry_that_is_not_written_to(mine, tmp_path):
    publish(mine, tmp_path / "registry")
    for target in (DirectoryStore(tmp_path / "registry", writable=False), MemoryStore(writable=False)):
        with pytest.raises(PolicyError, match="READ_ONLY"):
            publish(mine, target)


def test_what_is_a_models_file(packed, tmp_path):
    assert form_of_file(packed / "trio.safetensors") is FORMS["model"]
    assert form_of_file(packed / "trio.json") is None
    assert form_of_file(tiny().write(tmp_path)) is None
    assert read_packed(packed / "least.safetensors", FORMS["model"]).manifest.cells == 1


# The index: schema 1.0 as long as there are no models.


def test_an_index_without_models_is_one_of_schema_one(packed):
    shipped = (ROOT / "manifests" / INDEX).read_bytes()
    index = Index.from_bytes(shipped, where="shipped")
    assert (index.schema_version, index.models) == ("1.0", {})
    assert index.sealed() == shipped
    release = PackedRelease.of(manifest_of(packed))
    grown = index.with_release("model/trio", "1.0.0", release)
    assert (grown.schema_version, grown.previous) == ("1.1", canonical_json.sha256(shipped))
    assert Index.from_bytes(grown.sealed(), where="grown") == grown
    assert grown.cells == index.cells
    assert grown.with_release("model/trio", "1.0.0", release) is grown
    assert grown.with_all(index) is grown
    assert index.with_all(grown).models == grown.models
    assert [path for path, _, _ in grown.everything()][-1] == "model/trio"


def reindexed(change):
    def write(index):
        value = json.loads(index.to_bytes())
        change(value)
        return canonical_json.dump({**value, "sha256": canonical_json.sha256(canonical_json.dump(value))})

    return write


BAD_INDEXES = {
    "models in schema 1.0": lambda v: v.update(schema_version="1.0"),
    "schema 1.1 without models": lambda v: v.pop("models"),
    "an empty table": lambda v: v.update(models={}),
    "an empty table in schema 1.0": lambda v: v.update(models={}, schema_version="1.0"),
    "a model without a version": lambda v: v["models"].update({"model/none": {}}),
    "a cell among the models": lambda v: v["models"].update(v["cells"]),
    "a model among the cells": lambda v: v["cells"].update(v["models"]),
    "a model's release as a cell's": lambda v: v["cells"].update({"high/x": v["models"]["model/trio"]}),
    "a name that leaves its place": lambda v: v["models"].update({"model/..": v["models"]["model/trio"]}),
    "a manifest of more than 64 KiB": lambda v: v["models"]["model/trio"]["1.0.0"]["manifest"].update(size=2**16 + 1),
    "a model of more than 4 GiB": lambda v: v["models"]["model/trio"]["1.0.0"]["blob"].update(size=2**32 + 1),
    "a cell of more than 128 MiB": lambda v: v["cells"]["high/tiny"]["1.0.0"]["blob"].update(size=2**27 + 1),
    "a newer schema": lambda v: v.update(schema_version="2.0"),
    "an unknown minor": lambda v: v.update(schema_version="1.2"),
}


@pytest.mark.parametrize("name", BAD_INDEXES)
def test_an_index_that_cannot_be_is_refused(packed, name):
    index = Index().with_release("high/tiny", "1.0.0", Release.of(tiny().manifest))
    index = index.with_release("model/trio", "1.0.0", PackedRelease.of(manifest_of(packed)))
    assert Index.from_bytes(reindexed(lambda v: None)(index), where="x") == index
    with pytest.raises(FormatError) as caught:
        Index.from_bytes(reindexed(BAD_INDEXES[name])(index), where="x")
    assert caught.value.code in {"SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL"}


def test_a_table_of_each_kind(packed):
    release = PackedRelease.of(manifest_of(packed))
    index = Index().with_release("model/tiny", "1.0.0", release).with_release("high/tiny", "1.0.0", Release.of(tiny().manifest))
    assert (index.versions("model/tiny"), index.versions("high/tiny")) == (["1.0.0"], ["1.0.0"])
    assert isinstance(index.resolve(Reference.parse("model/tiny"))[1], PackedRelease)
    with pytest.raises(NotFoundError) as caught:
        index.versions("model/tny")
    assert (caught.value.code, caught.value.remedy) == ("NO_MODEL", "Did you mean model/tiny?")
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        index.with_release("model/tiny", "1.0.0", PackedRelease.of(manifest_of(packed, "least")))
    yanked = index.with_yank("model/tiny", "1.0.0", "wrong")
    assert yanked.newest("model/tiny") is None
    assert index.with_all(yanked).models == yanked.models


# Bytes that are not the ones that were promised.


def test_a_damaged_file_in_the_cache_is_fetched_again(made, folder):
    located = found("model/trio", folder)
    path = Cache().path(located.release.blob.sha256)
    for change in (lambda: damage(path), lambda: damage(path, 10), lambda: path.write_bytes(b"short"), lambda: path.unlink()):
        registry.pull("model/trio", registry=folder)
        change()
        assert same(made, registry.pull("model/trio", registry=folder)[0], images(2))
    assert len(list(Cache().aside.iterdir())) == 3


def promised(path):
    """A store whose index promises a model's file, whatever is in it."""
    manifest = ModelManifest.from_bytes(path.with_suffix(".json").read_bytes(), where=path)
    store = MemoryStore()
    store.put(store_keys.blob(manifest.file.sha256), path.read_bytes())
    store.put(store_keys.manifest("model/trio", "1.0.0"), manifest.to_bytes())
    store.swap_index(None, Index().with_release("model/trio", "1.0.0", PackedRelease.of(manifest)).sealed())
    return store


@pytest.mark.parametrize(
    ("change", "code"), [(of_a_newer_schema, "SCHEMA_NEWER"), (with_forgery("a router of another shape"), "SCHEMA")]
)
def test_a_file_that_is_refused_and_undamaged_is_neither_moved_nor_fetched_again(mine, change, code, monkeypatch):
    change(mine)
    store, asked = promised(mine), []
    read = store.read
    monkeypatch.setattr(store, "read", lambda key, *, limit: asked.append(key) or read(key, limit=limit))
    blob = canonical_json.sha256(mine.read_bytes())
    for _ in range(3):
        with pytest.raises(FormatError) as caught:
            registry.pull("model/trio", registry=store)
        assert caught.value.code == code
    assert Cache().path(blob).read_bytes() == mine.read_bytes()
    assert not Cache().aside.exists()
    assert asked.count(store_keys.blob(blob)) == 1
    damage(Cache().path(blob))
    with pytest.raises(FormatError, match=code):
        registry.pull("model/trio", registry=store)
    assert len(list(Cache().aside.iterdir())) == 1


def test_a_model_that_lies_about_its_cells_is_found_without_loading_it(mine):
    with_a_false_lock(mine)
    store = promised(mine)
    (_, finding) = registry.verify("model/trio", registry=store)
    wanted = [Wanted.of(located) for located in locate([Reference.parse("model/trio")], store)]
    for _ in range(2):
        with pytest.raises(IntegrityError) as caught:
            fetch_packed(wanted)
        assert caught.value.code == finding.error.code == "TENSOR_DIGEST"
        assert caught.value.found == "noise"
    assert not Cache().aside.exists()
    with pytest.raises(IntegrityError, match="noise"):
        registry.pull("model/trio", registry=store)[0].container.verify()


def test_a_model_in_use_outlives_its_file_in_the_cache(made, folder):
    used = registry.pull("model/trio", registry=folder)[0]
    for path in Cache().blobs.iterdir():
        os.utime(path, (0, 0))
    assert collect(Cache(), max_size=0).removed >= 2
    assert not Cache().path(found("model/trio", folder).release.blob.sha256).exists()
    assert same(made, used, images())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: damage(blob_of(folder)), "DIGEST_MISMATCH"),
        (lambda folder: blob_of(folder).unlink(), "MISSING"),
        (lambda folder: damage(folder / "model" / "trio" / "1.1.0.json"), "DIGEST_MISMATCH"),
        (lambda folder: (folder / "model" / "trio" / "1.1.0.json").unlink(), "MISSING"),
    ],
)
def test_damage_in_a_registry_is_found_by_everybody(folder, change, code, tmp_path):
    mirror(folder, tmp_path / "mirror")
    shutil.rmtree(Cache().folder)
    change(folder)
    with pytest.raises(IntegrityError) as caught:
        registry.pull("model/trio", registry=folder)
    assert caught.value.code == code
    for findings in (registry.verify("model/trio", registry=folder), registry.verify_store(DirectoryStore(folder))):
        assert {finding.error.code for finding in findings if finding.error} == {code}
        assert {finding.kind for finding in findings} <= {"index", "manifest", "blob"}
    assert {error.code for error in fsck(folder).faults.values()} == {code}
    assert fsck(folder, repair=True, source=tmp_path / "mirror").ok
    assert all(finding.ok for finding in registry.verify_store(DirectoryStore(folder)))
    registry.pull("model/trio", registry=folder)


def test_a_manifest_that_promises_another_model_is_refused(made, packed, tmp_path):
    """Signed into the index by somebody who does not keep his word."""
    data = (packed / "trio.safetensors").read_bytes()
    manifest = manifest_of(packed)
    lying = manifest.model_copy(update={"file": manifest.file.model_copy(update={"seal": "0" * 64})})
    store = MemoryStore()
    store.put(store_keys.blob(manifest.file.sha256), data)
    store.put(store_keys.manifest("model/trio", "1.0.0"), lying.to_bytes())
    store.swap_index(None, Index().with_release("model/trio", "1.0.0", PackedRelease.of(lying)).sealed())
    with pytest.raises(IntegrityError, match="OTHER_SEAL"):
        registry.pull("model/trio", registry=store)
    (_, blob) = registry.verify("model/trio", registry=store)
    assert blob.error.code == "OTHER_SEAL"
    other = PackedRelease.of(manifest_of(packed, "least"))
    for wrong, code in (
        (PackedRelease.of(manifest).model_copy(update={"summary": other.summary}), "WRONG_SUMMARY"),
        (PackedRelease.of(manifest).model_copy(update={"blob": other.blob}), "WRONG_BLOB"),
    ):
        store = MemoryStore()
        store.put(store_keys.manifest("model/trio", "1.0.0"), manifest.to_bytes())
        store.swap_index(None, Index().with_release("model/trio", "1.0.0", wrong).sealed())
        with pytest.raises(IntegrityError, match=code):
            registry.pull("model/trio", registry=store)
    store = MemoryStore()
    store.put(store_keys.manifest("model/duo", "1.0.0"), manifest.to_bytes())
    store.swap_index(None, Index().with_release("model/duo", "1.0.0", PackedRelease.of(manifest)).sealed())
    with pytest.raises(IntegrityError, match="WRONG_MODEL"):
        registry.pull("model/duo", registry=store)


class Counting(filesystem.Disk):
    """A disk that counts the bytes that are read into memory."""

    def __init__(self):
        self.read_bytes = 0

    def read(self, descriptor, size):
        data = super().read(descriptor, size)
        self.read_bytes += len(data)
        return data


def test_what_is_in_the_cache_is_mapped_and_not_read(packed, tmp_path):
    size = (packed / "trio.safetensors").stat().st_size
    with filesystem.use(Counting()) as counting:
        publish(packed / "trio.safetensors", tmp_path / "registry")
        publish(packed / "trio.safetensors", tmp_path / "registry")
        assert counting.read_bytes < size / 2  # neither to look at it nor to compare it with what is there
        registry.pull("model/trio", registry=tmp_path / "registry")
        before = counting.read_bytes
        registry.pull("model/trio", registry=tmp_path / "registry")
        mirror(tmp_path / "registry", tmp_path / "mirror")
        check(Cache())
        assert counting.read_bytes - before < size / 2


# Locks, mirrors, memory.


def test_a_lock_names_models_beside_cells(made, folder, tmp_path):
    lock = Lock.of(locate([Reference.parse(text) for text in ("model/trio@1.0.0", "high/tiny", "model/trio")], folder))
    assert (lock.schema_version, [str(one.reference) for one in lock.models]) == (
        "1.1",
        ["model/trio@1.0.0", "model/trio@1.1.0"],
    )
    assert Lock.from_bytes(lock.to_bytes(), where="") == lock
    (folder / INDEX).unlink()
    cell, first, _ = registry.pull_locked(lock)
    assert cell.name == "high/tiny"
    assert same(made, first, images())
    assert same(made, registry.pull(lock.models[0])[0], images())
    only = Lock(schema_version="1.0", cells=lock.cells, indexes=lock.indexes)
    assert "models" not in json.loads(only.to_bytes())
    assert [(change.path, change.kind) for change in diff(lock, only)] == [("model/trio", "removed")]
    for change in (
        lambda v: v.update(schema_version="1.0"),
        lambda v: v["models"].reverse(),
        lambda v: v["models"][0].update(path="high/tiny"),
        lambda v: v["cells"][0].update(path="model/tiny"),
        lambda v: v.update(models=[]),
    ):
        value = json.loads(lock.to_bytes())
        change(value)
        with pytest.raises(FormatError, match="SCHEMA"):
            Lock.from_bytes(canonical_json.dump(value), where="x")


def test_a_mirror_has_the_models_too(folder, tmp_path):
    yank("model/trio@1.0.0", "old", folder)
    mirrored = mirror(folder, tmp_path / "mirror")
    assert (mirrored.cells, mirrored.models, mirrored.copied) == (1, 2, 3)
    assert mirror(folder, tmp_path / "mirror").copied == 0
    first, second = (open_snapshot(place).index for place in (folder, tmp_path / "mirror"))
    assert (first.cells, first.models) == (second.cells, second.models)
    assert all(finding.ok for finding in registry.verify_store(DirectoryStore(tmp_path / "mirror")))


def test_a_model_that_changed_or_went_away_is_refused(folder, tmp_path, packed):
    open_snapshot(folder)
    shutil.rmtree(folder)
    publish(tiny(), folder)
    for number in range(4):
        publish(tiny(f"cell-{number}"), folder)
    with pytest.raises(IntegrityError) as caught:
        open_snapshot(folder)
    assert caught.value.code == "VERSION_MUTATED"
    assert "model/trio@1.0.0" in caught.value.found


# On the Hub.


@pytest.mark.filterwarnings(QUIET)
def test_models_on_the_hub(made, packed, hub, elsewhere):
    for cell in (tiny(), tiny("other", seed=1)):
        publish(cell, "hf://me/models")
    publish(packed / "trio.safetensors", "hf://me/models")
    publish(packed / "later.safetensors", "hf://me/models")
    elsewhere()
    hub.forget()
    assert same(made, registry.pull("model/trio@1.0.0", registry="hf://me/models")[0], images())
    assert hub.asked["file"] <= 4  # the index, a manifest, a file; and one for where the file is kept
    index = open_snapshot("hf://me/models").index
    assert "model/trio@1.1.0" in registry_card(index, "hf://me/models")
    assert all(finding.ok for finding in registry.verify("model/trio", registry="hf://me/models"))
    hub.forget()
    assert same(made, registry.pull("model/trio@1.0.0", registry="hf://me/models", mode="offline")[0], images(2))
    assert not hub.log


def test_a_card_without_models_has_no_table_of_them(packed):
    index = Index().with_release("high/tiny", "1.0.0", Release.of(tiny().manifest))
    assert "model" not in registry_card(index, "hf://me/cells").lower()
    index = Index().with_release("model/trio", "1.0.0", PackedRelease.of(manifest_of(packed)))
    assert "batteries pull model/trio" in registry_card(index, "hf://me/cells")
    assert "model/trio@1.0.0" in registry_card(index.with_yank("model/trio", "1.0.0", "no"), "hf://me/cells")


# The commands.


@pytest.mark.slow
def test_cells_are_listed_as_ever_and_models_where_they_are_asked_for(folder, capsys):
    listed = answered(capsys, ANSWERS["list"], "list", "--registry", folder)
    assert ([cell.reference for cell in listed.cells], listed.models) == (["high/tiny@1.0.0"], ())
    for words in (["--models"], ["model/*"], ["tri", "--models"], ["model/trio"]):
        listed = answered(capsys, ANSWERS["list"], "list", *words, "--registry", folder)
        assert (listed.cells, [one.reference for one in listed.models]) == ((), ["model/trio@1.1.0"])
    assert len(answered(capsys, ANSWERS["list"], "list", "--models", "--all", "--registry", folder).models) == 2
    code, out, err = run(capsys, "list", "--models", "--registry", folder)
    assert code == 0
    assert "model/trio@1.1.0" in out
    assert "models: 1 of 1" in err
    code, _, err = run(capsys, "list", "model/*", "--where", "D == 4", "--registry", folder)
    assert (code, "condition on another kind than cells" in err) == (2, True)


def test_show_verify_pull(folder, capsys, tmp_path):
    shown = answered(capsys, ANSWERS["show-model"], "show", "model/trio", "--registry", folder)
    assert (shown.reference, shown.manifest.identity.description) == ("model/trio@1.1.0", "later")
    assert "by.router" in run(capsys, "show", "model/trio", "--registry", folder)[1]
    verified = answered(capsys, ANSWERS["verify"], "verify", "model/trio", "high/tiny", "--registry", folder)
    assert [finding.kind for finding in verified.findings] == ["manifest", "blob"] * 2
    pulled = answered(
        capsys, ANSWERS["pull"], "pull", "model/trio", "high/tiny", "--registry", folder, "--out", tmp_path / "out"
    )
    assert [one.reference for one in (*pulled.cells, *pulled.models)] == ["high/tiny@1.0.0", "model/trio@1.1.0"]
    path = tmp_path / "out" / "model" / "trio.safetensors"
    assert pulled.models[0].path == str(path)
    composer.load(path)
    publish(path, tmp_path / "again")
    code, out, _ = run(capsys, "pull", "model/trio@1.0.0", "model/trio", "--out", tmp_path / "x", "--registry", folder)
    assert (code, out) == (2, "")


def test_lock_mirror_yank_diff_fsck(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    locked = answered(capsys, CUSTODY["lock"], "lock", "model/trio", "high/tiny", "--registry", folder)
    assert [one.path for one in (*locked.cells, *locked.models)] == ["high/tiny", "model/trio"]
    pulled = answered(capsys, ANSWERS["pull"], "pull", "--locked", "cells.lock")
    assert [one.reference for one in pulled.models] == ["model/trio@1.1.0"]
    answered(capsys, CUSTODY["lock"], "lock", "high/tiny", "--out", "less.lock", "--registry", folder)
    assert run(capsys, "diff", "less.lock", "cells.lock")[2] == "cells that differ: 0, models: 1\n"
    assert answered(capsys, CUSTODY["mirror"], "mirror", folder, tmp_path / "mirror").models == 2
    assert run(capsys, "yank", "model/trio@1.1.0", "--reason", "old", "--registry", folder)[0] == 0
    assert answered(capsys, CUSTODY["fsck"], "fsck", "--registry", folder).checked == 5


def test_published_by_the_command(packed, capsys, tmp_path):
    published = answered(capsys, ANSWERS["publish"], "publish", packed / "trio.safetensors", "--to", tmp_path / "registry")
    assert (published.reference, published.release.summary.cells) == ("model/trio@1.0.0", 5)


@pytest.mark.slow
def test_no_command_but_compose_takes_torch(folder, packed, tmp_path):
    code = f"""
import sys
from registry.cli import main
for words in (
    ["list", "--models"], ["show", "model/trio"], ["pull", "model/trio"], ["verify", "--all"], ["compose", "--help"]
):
    try:
        assert main([*words, *(["--registry", {str(folder)!r}] if "--help" not in words else [])]) == 0
    except SystemExit as end:
        assert end.code == 0
assert main(["publish", {str(packed / "trio.safetensors")!r}, "--to", {str(tmp_path / "new")!r}]) == 0
assert main(["mirror", {str(folder)!r}, {str(tmp_path / "mirror")!r}]) == 0
print("torch" in sys.modules)
"""
    done = python(code)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


# batteries compose.

FILE = """
schema_version = "1.0"
output = "all"
[cells]
noise = "lab/high/noise@^1"
low = "high/low"
[nodes.swap]
kind = "relay"
source = "noise"
target = "low"
[nodes.all]
kind = "parallel"
of = ["swap", "low"]
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A registry of two cells under a name, and a folder with a composition to work in."""
    for seed, name in enumerate(("noise", "low")):
        publish(from_model(SPECS[name], seed, name), tmp_path / "lab")
    settings.config_file().parent.mkdir(parents=True, exist_ok=True)
    settings.config_file().write_text(f'registry = "{tmp_path / "lab"}"\n[registries]\nlab = "{tmp_path / "lab"}"\n')
    work = tmp_path / "work"
    work.mkdir()
    (work / "pair.toml").write_text(FILE)
    monkeypatch.chdir(work)
    return work


def test_a_file_is_composed_written_drawn_and_published(lab, capsys, tmp_path):
    words = ["compose", "pair.toml", "--out", "pair.safetensors", "--graph", "pair.svg", "--description", "a pair"]
    answer = answered(capsys, COMPOSING["compose"], *words)
    assert ([cell.cell for cell in answer.cells], answer.output, answer.output_kind) == (["noise", "low"], "all", "parallel")
    assert answer.manifest == ModelManifest.from_bytes((lab / "pair.json").read_bytes(), where="pair")
    assert answer.manifest.identity == PackedLabel(name="pair", version="1.0.0", license="Apache-2.0", description="a pair")
    assert (answer.path, answer.graph) == ("pair.safetensors", "pair.svg")
    assert (lab / "pair.svg").read_text().startswith("<svg")
    assert run(capsys, "publish", "pair.safetensors", "--to", tmp_path / "lab")[0] == 0
    pulled = registry.pull("model/pair")[0]
    assert pulled.composition == composer.Composition.read("pair.toml")
    with torch.no_grad():
        assert pulled(images()).output["swap"].recon.shape == (8, 3, 16, 16)


def test_references_alone_are_put_side_by_side(lab, capsys):
    words = ["--out", "two.safetensors", "--name", "both", "--version", "0.2.0", "--license", "MIT"]
    answer = answered(capsys, COMPOSING["compose"], "compose", "high/low@1.0.0", "lab/high/noise", *words)
    assert [cell.cell for cell in answer.cells] == ["high/low", "high/noise"]
    assert (answer.manifest.path, answer.manifest.identity.version, answer.manifest.identity.license) == (
        "model/both",
        "0.2.0",
        "MIT",
    )
    loaded = composer.load("two.safetensors")
    assert dict(loaded.composition.cells) == {"high/low": "high/low@1.0.0", "high/noise": "lab/high/noise"}
    code, out, err = run(capsys, "compose", "high/low", "high/noise")
    assert (code, "high/noise@1.0.0" in out, err) == (0, True, "")
    assert sorted(path.name for path in lab.iterdir()) == ["pair.toml", "two.json", "two.safetensors"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "nothing to compose"),
        (["pair.toml", "high/low"], 2, "one .toml file, or references"),
        (["none.toml"], 3, "no such file"),
        (["broken.toml"], 4, "not TOML"),
        (["circle.toml"], 6, "in a circle"),
        (["high/low", "high/low@1.0.0"], 6, "a cell given twice"),
        (["high/none"], 3, "no such cell"),
        (["model/pair"], 2, "registry.pull("),
        (["low"], 3, "no such alias"),
        (["high/low", "--name", "x"], 2, "--out"),
        (["high/low", "--out", "model.pt"], 2, ".safetensors"),
        (["high/low", "--out", "Model.safetensors"], 2, "name: "),
        (["high/low", "--out", "x.safetensors", "--name", "../x"], 2, "name: "),
        (["high/low", "--out", "x.safetensors", "--version", "1"], 2, "version: "),
        (["high/low", "--out", "x.safetensors", "--description", "x" * 2001], 2, "description: "),
        (["high/low", "--out", "pair.toml/x.safetensors"], 8, "the disk refused"),
        (["high/low", "--graph", "pair.toml/x.svg"], 8, "the disk refused"),
        (["high/low", "--probe", "cats"], 2, "photos-64"),
        (["wiring.toml"], 6, "is coarser than that of"),
    ],
)
def test_what_cannot_be_composed(lab, capsys, words, code, says):
    (lab / "broken.toml").write_text("[cells")
    circle = FILE.replace('of = ["swap", "low"]', 'of = ["swap", "all"]')
    (lab / "circle.toml").write_text(circle)
    turned = FILE.replace('source = "noise"\ntarget = "low"', 'source = "low"\ntarget = "noise"')
    (lab / "wiring.toml").write_text(turned.replace('of = ["swap", "low"]', 'of = ["swap"]'))
    before = tree(lab)
    found, out, err = run(capsys, "compose", *words)
    assert (found, out) == (code, "")
    assert says in err
    assert tree(lab) == before


def test_every_error_of_compose_is_one_object(lab, capsys):
    code, out, _ = run(capsys, "compose", "none.toml", "--json")
    assert code == 3
    ANSWERS["error"].model_validate_json(out)


def test_nothing_else_leaves_a_pull(folder):
    """Every changed byte of a small model's manifest in a registry is found."""
    path = folder / "model" / "trio" / "1.0.0.json"
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        damage(path, place)
        with pytest.raises(BatteriesError, match="DIGEST_MISMATCH"):
            registry.pull("model/trio@1.0.0", registry=folder)
        path.write_bytes(data)


# Disks that fail.


ACTIONS = {
    "publish": lambda packed, folder: publish(packed / "trio.safetensors", folder),
    "pull": lambda packed, folder: registry.pull("model/least", registry=folder)[0],
}


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_every_call_of_the_disk_fails_once(packed, tmp_path, action, monkeypatch):
    """No damage, no foreign error, no litter, and the next try succeeds."""
    monkeypatch.setattr(filesystem, "current", HastyDisk())
    for nth in itertools.count():
        folder, faulty = tmp_path / str(nth), FaultyDisk(nth, ERRORS[nth % len(ERRORS)])
        monkeypatch.setenv("BATTERIES_HOME", str(folder / "home"))
        publish(packed / "least.safetensors", folder / "registry")
        with contextlib.suppress(StoreError), filesystem.use(faulty):
            ACTIONS[action](packed, folder / "registry")
        assert faulty.descriptors == set()
        assert all(finding.ok for finding in registry.verify_store(DirectoryStore(folder / "registry")))
        ACTIONS[action](packed, folder / "registry")
        assert all(finding.ok for finding in registry.verify_store(DirectoryStore(folder / "registry")))
        Cache().sweep()
        assert litter(folder) == []
        if faulty.hit is None:
            break
    assert nth > 20
