"""Models that are not right: not published, and not loaded where somebody published them all the same."""

import json
import shutil

import pytest

import composer
import registry
from batteries.errors import BatteriesError, FormatError, IntegrityError, NotFoundError, PolicyError
from batteries.io import canonical_json
from composer.artifact.kinds import FORMS
from composer.artifact.model.manifest import ModelManifest
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.reference import Reference
from registry.catalog.release import PackedRelease
from registry.cli import main
from registry.stores.cache import Cache
from registry.stores.memory import MemoryStore
from registry.stores.snapshot import locate
from registry.transfer.pull_packed import fetch_packed
from registry.transfer.wanted import Wanted
from tests.support.cells import publish, tiny
from tests.support.models import document, forged, forgeries, framed, least, sealed, with_document
from tests.support.packed_kinds import damage, packed_kind, rewritten


@pytest.fixture
def mine(files, tmp_path):
    """A model's file and manifest, to be damaged."""
    for name in ("trio.safetensors", "trio.json"):
        shutil.copy(files / name, tmp_path / name)
    return tmp_path / "trio.safetensors"


def with_large_weights(path):
    """Sealed and described well, and no cell was ever trained to that."""
    big = least()
    stack = big.container.groups[0].stack
    stack.enc_in__weight.data[:] = 1e6
    lock = big.container.lock["only"]
    lock["tensors"] = big.container._tensor_digest("only")
    packed_kind("model").pack(big, path)


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


def test_a_model_that_lies_about_its_cells_is_refused_by_every_reader(mine):
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
    with pytest.raises(IntegrityError, match="TENSOR_DIGEST"):
        registry.pull("model/trio", registry=store)


def test_a_manifest_of_another_lock_is_refused_when_it_is_pulled(mine):
    value = json.loads(mine.with_suffix(".json").read_text())
    value["lock"] = "0" * 64
    mine.with_suffix(".json").write_bytes(canonical_json.dump(value))
    with pytest.raises(IntegrityError, match="OTHER_LOCK"):
        registry.pull("model/trio", registry=promised(mine))
