"""Maps that are not right are not published."""

import shutil

import pytest

from batteries.errors import FormatError, IntegrityError, NotFoundError, PolicyError
from batteries.io import canonical_json
from registry.cli import main
from tests.support.cells import publish, tiny
from tests.support.maps import document, resealed, with_document
from tests.support.models import least
from tests.support.packed_kinds import damage, packed_kind, rewritten


@pytest.fixture
def mine(files, tmp_path):
    """A file of maps and its manifest, to be damaged."""
    for name in ("five.safetensors", "five.json"):
        shutil.copy(files / name, tmp_path / name)
    return tmp_path / "five.safetensors"


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
    packed_kind("model").pack(least(), path)
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
