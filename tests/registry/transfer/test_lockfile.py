"""Lock files: what was locked is what is pulled, from wherever the bytes are."""

import json

import pytest

import registry
from batteries.errors import FormatError, InputError, IntegrityError, NotFoundError
from registry.catalog.reference import Reference
from registry.stores.directory import DirectoryStore
from registry.stores.snapshot import locate
from registry.transfer.lockfile import Lock, diff
from registry.transfer.mirror import mirror
from tests.support.cells import publish, tiny, tree


@pytest.fixture
def folder(tmp_path):
    for cell in (tiny(), tiny(version="1.1.0", seed=1), tiny("other", seed=2)):
        publish(cell, tmp_path / "registry")
    return tmp_path / "registry"


def lock_of(*references, folder):
    return Lock.of(locate([Reference.parse(text) for text in references], folder))


def test_a_lock_names_every_digest_and_reads_back_to_its_own_bytes(folder, tmp_path):
    lock = lock_of("high/tiny@1.0.0", "high/other", "high/tiny@^1", "high/other@1.0.0", folder=folder)
    assert [str(cell.reference) for cell in lock.cells] == ["high/other@1.0.0", "high/tiny@1.0.0", "high/tiny@1.1.0"]
    assert [cell.blob.sha256 for cell in lock.cells[1:]] == [tiny().digest, tiny(version="1.1.0", seed=1).digest]
    assert [index.number for index in lock.indexes] == [3]
    lock.write(tmp_path / "cells.lock")
    assert Lock.read(tmp_path / "cells.lock") == lock
    assert Lock.from_bytes(lock.to_bytes(), where="").to_bytes() == lock.to_bytes()


def test_a_locked_pull_reads_no_index(folder):
    lock = lock_of("high/tiny@1.0.0", "high/other", folder=folder)
    (folder / "index.json").unlink()
    cells = registry.pull_locked(lock)
    assert [cell.name for cell in cells] == ["high/other", "high/tiny"]
    assert [(cell.origin.source, cell.origin.index_number) for cell in cells] == [(str(folder), None)] * 2


@pytest.mark.slow
def test_folder_mirror_and_cache_give_the_same_tree(folder, tmp_path, monkeypatch):
    lock = lock_of("high/tiny", "high/other", folder=folder)
    mirror(folder, tmp_path / "mirror")
    trees = []
    for name, source in (("a", None), ("b", tmp_path / "mirror"), ("c", DirectoryStore(tmp_path / "mirror"))):
        monkeypatch.setenv("BATTERIES_HOME", str(tmp_path / f"home-{name}"))
        for cell in registry.pull_locked(lock, registry=source):
            cell.write(tmp_path / name / cell.manifest.identity.band)
        trees.append(tree(tmp_path / name))
    assert trees[0] == trees[1] == trees[2]
    assert len([path for path, data in trees[0].items() if data is not None]) == 4


def test_other_bytes_under_a_locked_digest_are_refused(folder, tmp_path):
    lock = lock_of("high/tiny@1.0.0", folder=folder)
    publish(tiny(seed=9), tmp_path / "other")
    with pytest.raises(IntegrityError) as caught:
        registry.pull_locked(lock, registry=tmp_path / "other")
    assert caught.value.code in {"MISSING", "SIZE_MISMATCH", "DIGEST_MISMATCH"}


def test_one_version_with_two_contents_cannot_be_locked(folder, tmp_path):
    publish(tiny(seed=9), tmp_path / "b")
    found = [located for place in (folder, tmp_path / "b") for located in locate([Reference.parse("high/tiny@1.0.0")], place)]
    with pytest.raises(InputError) as caught:
        Lock.of(found)
    assert caught.value.code == "AMBIGUOUS_SOURCE"


def test_the_difference_of_two_locks(folder):
    first = lock_of("high/tiny@1.0.0", folder=folder)
    second = lock_of("high/tiny@1.1.0", "high/other", folder=folder)
    assert [(change.path, change.kind) for change in diff(first, second)] == [("high/other", "added"), ("high/tiny", "changed")]
    assert [change.kind for change in diff(second, first)] == ["removed", "changed"]
    assert diff(first, first) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(cells=[]),
        lambda v: v["cells"].reverse(),
        lambda v: v["cells"].append(v["cells"][0]),
        lambda v: v["cells"][0].update(path="../x"),
        lambda v: v["cells"][0]["blob"].update(sha256="A" * 64),
        lambda v: v.update(extra=1),
        lambda v: v.update(schema_version="2.0"),
    ],
)
def test_a_lock_that_is_none_is_refused(folder, change):
    value = json.loads(lock_of("high/tiny", "high/other", folder=folder).to_bytes())
    change(value)
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(FormatError, match="SCHEMA"):
        Lock.from_bytes(data, where="x")


def test_no_lock_file(tmp_path):
    with pytest.raises(NotFoundError, match="NO_FILE"):
        Lock.read(tmp_path / "cells.lock")
