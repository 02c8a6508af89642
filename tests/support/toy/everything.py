"""Everything that can be done with an artifact, done with a note: in a process whose table of kinds has a row for it."""

import contextlib
import io
import json

import pytest

import composer
import registry
from batteries.errors import BatteriesError
from registry.cli import main
from registry.stores.registry_card import registry_card
from registry.stores.snapshot import locate, open_snapshot
from tests.support.cells import publish, tiny
from tests.support.toy.form import Note

NOTE = Note("low ones are blurred", (0.5, -1.25, 3.0))
CELL = tiny()
LOCK = {CELL.name: {"cell": CELL.name, "version": "1.0.0", "sha256": CELL.digest, "tensors": CELL.manifest.file.tensor_digest}}
LABEL = composer.artifact.PackedLabel(name="blur", version="1.0.0", license="MIT", description="a remark")


def command(*words, code=0):
    """What a command prints, parsed where that is JSON."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        found = main([*map(str, words)])
    assert found == code, (words, found, out.getvalue())
    return json.loads(out.getvalue()) if "--json" in words else out.getvalue()


def refused(attempt, code):
    with pytest.raises(BatteriesError) as caught:
        attempt()
    assert caught.value.code == code, caught.value


def in_a_file(folder):
    path = folder / "blur.safetensors"
    facts = composer.save(NOTE, path, lock=LOCK)
    assert composer.load(path, seal=facts.seal) == NOTE
    assert (composer.read(path).words, composer.read(path).lock) == (NOTE.words, LOCK)
    manifest = composer.pack(NOTE, path, LABEL, lock=LOCK)
    assert (manifest.path, manifest.cells, manifest.length) == ("note/blur", 1, 3)
    refused(lambda: composer.save(NOTE, path), "LOCK")
    refused(lambda: composer.load(path, seal="0" * 64), "OTHER_SEAL")
    refused(lambda: registry.load(path), "A_NOTE")
    refused(lambda: composer.artifact.kinds.FORMS["maps"].load(path), "NOT_MAPS")
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    refused(lambda: composer.load(path), "BLOCK_DIGEST")
    composer.pack(NOTE, path, LABEL, lock=LOCK)
    return path


def in_a_registry(folder, path):
    home = folder / "registry"
    publish(CELL, home)
    assert command("publish", path, "--to", home, "--json")["release"]["summary"] == {"cells": 1, "length": 3, "license": "MIT"}
    index = open_snapshot(home).index
    assert (index.schema_version, list(index.notes), index.ADDED["notes"]) == ("1.3", ["note/blur"], "1.3")
    assert registry.pull("note/blur", "high/tiny", registry=home) == [NOTE, CELL]
    refused(lambda: registry.load("note/blur", registry=home), "A_NOTE")
    refused(lambda: registry.pull("note/none", registry=home), "NO_NOTE")
    for words in (("--notes",), ("note/*",)):
        (row,) = command("list", *words, "--registry", home, "--json")["notes"]
        assert (row["reference"], row["summary"]["length"]) == ("note/blur@1.0.0", 3)
    assert "length" in command("list", "--notes", "--registry", home)
    assert "| note | cells | licence | yanked |" in registry_card(index, "here")
    shown = command("show", "note/blur", "--registry", home, "--json")
    assert (shown["manifest"]["words"], shown["summary"]["cells"]) == (NOTE.words, 1)
    assert NOTE.words in command("show", "note/blur", "--registry", home)
    command("verify", "note/blur", "--registry", home)
    command("verify", "--all", "--registry", home)
    (pulled,) = command("pull", "note/blur", "--registry", home, "--out", folder / "out", "--json")["notes"]
    assert composer.load(pulled["path"]) == NOTE
    return home


def elsewhere(folder, home):
    found = command("mirror", home, folder / "mirror", "--json")
    assert (found["cells"], found["models"], found["maps"], found["notes"], found["copied"]) == (1, 0, 0, 1, 2)
    lock = registry.Lock.of(locate([registry.Reference.parse(text) for text in ("note/blur", "high/tiny")], folder / "mirror"))
    lock.write(folder / "cells.lock")
    answer = command("lock", "note/blur", "high/tiny", "--registry", folder / "mirror", "--out", folder / "b.lock", "--json")
    assert [row["path"] for row in answer["notes"]] == ["note/blur"]
    assert registry.Lock.read(folder / "cells.lock") == lock
    assert command("diff", folder / "cells.lock", folder / "b.lock", "--json") == {"changes": []}
    assert registry.pull_locked(lock) == [CELL, NOTE]
    assert registry.pull(lock.notes[0]) == [NOTE]
    (row,) = command("pull", "--locked", folder / "cells.lock", "--json")["notes"]
    assert row["reference"] == "note/blur@1.0.0"
    command("yank", "note/blur@1.0.0", "--reason", "no longer so", "--registry", home)
    assert "no longer so" in command("list", "--notes", "--registry", home)
    blob = next((home / "blobs").glob(f"{row['sha256']}*"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"\1")
    command("verify", "note/blur@1.0.0", "--registry", home, code=4)


def run(folder):
    elsewhere(folder, in_a_registry(folder, in_a_file(folder)))
