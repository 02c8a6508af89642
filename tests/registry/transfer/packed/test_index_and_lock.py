"""Tables of every kind in an index and in a lock: of the oldest schema that has what they hold."""

import json
import shutil

import pytest

import registry
from batteries.errors import ConflictError, FormatError, IntegrityError, NotFoundError
from batteries.io import canonical_json
from registry.catalog.index import Index
from registry.catalog.reference import Reference
from registry.catalog.release import PackedRelease, Release
from registry.cli import main
from registry.stores.cache import Cache
from registry.stores.snapshot import locate
from registry.stores.store import INDEX
from registry.transfer.lockfile import Lock, diff
from tests.support.cells import ROOT, publish, tiny
from tests.support.packed_kinds import packed_kind

CELL = Release.of(tiny().manifest)


def test_an_index_without_models_is_one_of_schema_one(files):
    shipped = (ROOT / "manifests" / INDEX).read_bytes()
    index = Index.from_bytes(shipped, where="shipped")
    assert (index.schema_version, index.models) == ("1.0", {})
    assert index.sealed() == shipped
    release = PackedRelease.of(packed_kind("model").manifest(files))
    grown = index.with_release("model/trio", "1.0.0", release)
    assert (grown.schema_version, grown.previous) == ("1.1", canonical_json.sha256(shipped))
    assert Index.from_bytes(grown.sealed(), where="grown") == grown
    assert grown.cells == index.cells
    assert grown.with_release("model/trio", "1.0.0", release) is grown
    assert grown.with_all(index) is grown
    assert index.with_all(grown).models == grown.models
    assert [path for path, _, _ in grown.everything()][-1] == "model/trio"


def test_an_index_is_of_the_oldest_schema_that_has_its_tables(files):
    maps, model = (PackedRelease.of(packed_kind(kind).manifest(files)) for kind in ("maps", "model"))
    plain = Index().with_release("high/tiny", "1.0.0", CELL)
    models = plain.with_release("model/trio", "1.0.0", model)
    both, only = (index.with_release("maps/five", "1.0.0", maps) for index in (models, plain))
    assert [index.schema_version for index in (plain, models, both, only)] == ["1.0", "1.1", "1.2", "1.2"]
    assert [set(json.loads(index.to_bytes())) & {"models", "maps"} for index in (plain, models, both, only)] == [
        set(),
        {"models"},
        {"models", "maps"},
        {"maps"},
    ]
    for index in (plain, models, both, only):
        assert Index.from_bytes(index.sealed(), where="x") == index
    assert [path for path, _, _ in both.everything()] == ["high/tiny", "model/trio", "maps/five"]
    assert plain.with_all(both).maps == both.maps
    assert both.with_all(only) is both


def reindexed(index, change):
    """Bytes of an index that was changed, with the digest of what it says then."""
    value = json.loads(index.to_bytes())
    change(value)
    return canonical_json.dump({**value, "sha256": canonical_json.sha256(canonical_json.dump(value))})


BAD_INDEXES = {
    ("model", "models in schema 1.0"): lambda v: v.update(schema_version="1.0"),
    ("model", "schema 1.1 without models"): lambda v: v.pop("models"),
    ("model", "an empty table"): lambda v: v.update(models={}),
    ("model", "an empty table in schema 1.0"): lambda v: v.update(models={}, schema_version="1.0"),
    ("model", "a model without a version"): lambda v: v["models"].update({"model/none": {}}),
    ("model", "a cell among the models"): lambda v: v["models"].update(v["cells"]),
    ("model", "a model among the cells"): lambda v: v["cells"].update(v["models"]),
    ("model", "a model's release as a cell's"): lambda v: v["cells"].update({"high/x": v["models"]["model/trio"]}),
    ("model", "a name that leaves its place"): lambda v: v["models"].update({"model/..": v["models"]["model/trio"]}),
    ("model", "a manifest too large"): lambda v: v["models"]["model/trio"]["1.0.0"]["manifest"].update(size=2**16 + 1),
    ("model", "a model of more than 4 GiB"): lambda v: v["models"]["model/trio"]["1.0.0"]["blob"].update(size=2**32 + 1),
    ("model", "a cell of more than 128 MiB"): lambda v: v["cells"]["high/tiny"]["1.0.0"]["blob"].update(size=2**27 + 1),
    ("model", "a newer schema"): lambda v: v.update(schema_version="2.0"),
    ("model", "an unknown minor"): lambda v: v.update(schema_version="1.2"),
    ("maps", "maps in schema 1.1"): lambda v: v.update(schema_version="1.1"),
    ("maps", "maps in schema 1.0"): lambda v: v.update(schema_version="1.0"),
    ("maps", "schema 1.2 without maps"): lambda v: v.pop("maps"),
    ("maps", "an empty table"): lambda v: v.update(models={}),
    ("maps", "maps without a version"): lambda v: v["maps"].update({"maps/none": {}}),
    ("maps", "a cell among the maps"): lambda v: v["maps"].update(v["cells"]),
    ("maps", "maps among the models"): lambda v: v.update(models=v["maps"]),
    ("maps", "maps' release as a model's"): lambda v: v.update(models={"model/x": v["maps"]["maps/five"]}),
    ("maps", "a name that leaves its place"): lambda v: v["maps"].update({"maps/..": v["maps"]["maps/five"]}),
    ("maps", "maps of more than 64 MiB"): lambda v: v["maps"]["maps/five"]["1.0.0"]["blob"].update(size=2**26 + 1),
    ("maps", "a newer schema"): lambda v: v.update(schema_version="2.0"),
    ("maps", "an unknown minor"): lambda v: v.update(schema_version="1.3"),
}


@pytest.mark.parametrize(("name", "what"), BAD_INDEXES)
def test_an_index_that_cannot_be_is_refused(files, name, what):
    kind = packed_kind(name)
    index = Index().with_release("high/tiny", "1.0.0", CELL)
    index = index.with_release(kind.path, "1.0.0", PackedRelease.of(kind.manifest(files)))
    assert Index.from_bytes(reindexed(index, lambda v: None), where="x") == index
    with pytest.raises(FormatError) as caught:
        Index.from_bytes(reindexed(index, BAD_INDEXES[name, what]), where="x")
    assert caught.value.code in {"SCHEMA", "SCHEMA_NEWER", "NOT_CANONICAL"}


def test_a_table_of_each_kind(kind, files):
    release, path = PackedRelease.of(kind.manifest(files)), f"{kind.kind}/tiny"
    plain = Index().with_release("high/tiny", "1.0.0", CELL)
    index = plain.with_release(path, "1.0.0", release)
    assert (index.versions(path), index.versions("high/tiny")) == (["1.0.0"], ["1.0.0"])
    assert isinstance(index.resolve(Reference.parse(path))[1], PackedRelease)
    with pytest.raises(NotFoundError) as caught:
        index.versions(f"{kind.kind}/tny")
    assert (caught.value.code, caught.value.remedy) == (f"NO_{kind.code}", f"Did you mean {path}?")
    with pytest.raises(NotFoundError) as caught:
        plain.versions(path)
    assert f"batteries list --{kind.form.kind.plural}" in caught.value.remedy
    with pytest.raises(ConflictError, match="VERSION_EXISTS"):
        index.with_release(path, "1.0.0", PackedRelease.of(kind.manifest(files, kind.other)))
    yanked = index.with_yank(path, "1.0.0", "wrong")
    assert yanked.newest(path) is None
    assert index.with_all(yanked).table(kind.form.kind.plural) == yanked.table(kind.form.kind.plural)


@pytest.mark.slow
def test_a_lock_names_artifacts_beside_cells(kind, folder):
    texts = (f"{kind.path}@1.0.0", "high/tiny", f"{kind.kind}/{kind.other}", kind.path)
    lock, table = Lock.of(locate([Reference.parse(text) for text in texts], folder)), kind.form.kind.plural
    rows = lock.table(table)
    names = [f"{kind.path}@1.0.0", f"{kind.path}@1.1.0", f"{kind.kind}/{kind.other}@1.0.0"]
    assert (lock.schema_version, [str(one.reference) for one in rows]) == (kind.schema, sorted(names))
    assert Lock.from_bytes(lock.to_bytes(), where="") == lock
    (folder / INDEX).unlink()
    cell, *packed = registry.pull_locked(lock)
    assert cell.name == "high/tiny"
    for row, value in zip(rows, packed, strict=True):
        wanted = kind.values[kind.other if row.path.endswith(kind.other) else kind.name + "-later" * (row.version == "1.1.0")]
        assert kind.same(wanted, value)
        assert kind.same(wanted, registry.pull(row)[0])
    only = Lock(schema_version="1.0", cells=lock.cells, indexes=lock.indexes)
    assert table not in json.loads(only.to_bytes())
    removed = sorted({row.path for row in rows})
    assert [(change.path, change.kind) for change in diff(lock, only)] == [(path, "removed") for path in removed]
    for change in (
        lambda v: v.update(schema_version="1.0"),
        lambda v: v[table].reverse(),
        lambda v: v[table][0].update(path="high/tiny"),
        lambda v: v[table][0].update(path="model/five" if kind.kind == "maps" else "maps/trio"),
        lambda v: v["cells"][0].update(path=f"{kind.kind}/tiny"),
        lambda v: v.update({table: []}),
    ):
        value = json.loads(lock.to_bytes())
        change(value)
        with pytest.raises(FormatError, match="SCHEMA"):
            Lock.from_bytes(canonical_json.dump(value), where="x")


def test_a_lock_of_all_kinds_without_one_of_them(folder):
    texts = ("maps/five@1.0.0", "high/tiny", "model/least", "maps/pair")
    lock = Lock.of(locate([Reference.parse(text) for text in texts], folder))
    without = Lock(schema_version="1.1", cells=lock.cells, models=lock.models, indexes=lock.indexes)
    assert [(change.path, change.kind) for change in diff(lock, without)] == [
        ("maps/five", "removed"),
        ("maps/pair", "removed"),
    ]
    for change in (lambda v: v.update(schema_version="1.1"), lambda v: v["models"][0].update(path="maps/least")):
        value = json.loads(lock.to_bytes())
        change(value)
        with pytest.raises(FormatError, match="SCHEMA"):
            Lock.from_bytes(canonical_json.dump(value), where="x")


@pytest.mark.slow
def test_a_locked_pull_of_what_changed_is_refused(kind, folder, tmp_path):
    """Whoever rewrites a registry gives other bytes to those who choose by name, and an error to those who locked."""
    lock = Lock.of(locate([Reference.parse(f"{kind.path}@1.0.0")], folder))
    shutil.rmtree(Cache().folder)
    other = tmp_path / "other"
    kind.pack(kind.values[kind.other], tmp_path / "other.safetensors")
    publish(tmp_path / "other.safetensors", other)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    with pytest.raises(IntegrityError) as caught:
        registry.pull(lock.table(kind.form.kind.plural)[0])
    assert caught.value.code in {"DIGEST_MISMATCH", "SIZE_MISMATCH", "MISSING"}
    lock.write(tmp_path / "some.lock")
    assert main(["pull", "--locked", str(tmp_path / "some.lock")]) == 4
    assert main(["pull", kind.path, "--registry", str(other)]) == 0
