"""The commands of custody, as somebody types them: lock, diff, mirror, yank, gc, fsck, and pull by a lock."""

import json

import pytest

from batteries import Cell
from registry.answers.maintenance import MAINTENANCE
from registry.cli import main
from tests.support.cells import publish, tiny, tree


@pytest.fixture
def folder(tmp_path):
    for cell in (tiny(), tiny(version="1.1.0", seed=1), tiny("other", seed=2)):
        publish(cell, tmp_path / "registry")
    return tmp_path / "registry"


@pytest.fixture
def told(capsys):
    """What a command printed on standard output, and its exit code on the way."""

    def run(*arguments, code=0):
        assert main([str(argument) for argument in arguments]) == code
        found = capsys.readouterr()
        run.words = found.err
        return found.out

    return run


def answer(told, *arguments, code=0):
    """What a command answers under --json, which its schema must describe to the letter."""
    out = told(*arguments, "--json", code=code)
    found = MAINTENANCE[arguments[0]].model_validate_json(out)
    assert json.loads(out) == found.model_dump(mode="json")
    return found


@pytest.mark.slow
def test_lock_pull_by_it_and_compare(folder, told, tmp_path):
    first, second = tmp_path / "first.lock", tmp_path / "second.lock"
    assert told("lock", "high/tiny@~1.0", "--registry", folder, "--out", first).split() == [
        "high/tiny@1.0.0",
        f"sha256:{tiny().digest}",
    ]
    assert len(answer(told, "lock", "high/tiny", "high/other", "--registry", folder, "--out", second).cells) == 2
    told("pull", "--locked", first, "--out", tmp_path / "out")
    assert Cell.read(tmp_path / "out" / "high" / "tiny.safetensors").version == "1.0.0"
    kinds = [line.split("\t")[0] for line in told("diff", first, second).splitlines()]
    assert kinds == ["added", "changed"]
    assert [change.kind for change in answer(told, "diff", second, first).changes] == ["removed", "changed"]


@pytest.mark.slow
def test_a_mirror_answers_for_its_source(folder, told, tmp_path):
    assert answer(told, "mirror", folder, tmp_path / "b").copied == 3
    assert "versions: 3, copied: 0" in (told("mirror", folder, tmp_path / "b") and told.words)
    assert "faults: 0" in (told("verify", "--all", "--registry", tmp_path / "b") and told.words)


@pytest.mark.slow
def test_a_yanked_version_is_not_chosen_any_more(folder, told):
    assert answer(told, "yank", "high/tiny@1.1.0", "--reason", "wrong data", "--registry", folder).new
    assert not answer(told, "yank", "high/tiny@1.1.0", "--reason", "wrong data", "--registry", folder).new
    assert told("pull", "high/tiny", "--registry", folder).startswith("high/tiny@1.0.0\t")
    assert told("pull", "high/tiny@1.1.0", "--registry", folder).startswith("high/tiny@1.1.0\t")


@pytest.mark.slow
def test_the_cache_is_checked_and_collected(folder, told):
    told("pull", "high/tiny", "high/other", "--registry", folder)
    found = answer(told, "fsck")
    assert (found.ok, found.checked, found.faults) == (True, 5, ())
    assert answer(told, "gc", "--max-size", "1k").kept == 5  # all of it was used just now
    assert answer(told, "gc", "--unused", "3").removed == 0


@pytest.mark.slow
def test_nothing_to_do_is_said(folder, told, tmp_path):
    lock = tmp_path / "cells.lock"
    told("lock", "high/tiny", "--registry", folder, "--out", lock)
    assert (told("diff", lock, lock), told.words) == ("", "no change\n")
    assert (told("list", "zz", "--registry", folder), told.words) == (
        "",
        f"cells: 0 of 2 in {folder}; none matches zz; not signed\n",
    )
    assert told("list", "high/*", "--where", "D == 5", "--registry", folder) == ""
    assert told.words.endswith("; none matches high/* where D == 5; not signed\n")
    assert (told("list", "--models", "--registry", folder), told.words) == (
        "",
        f"models: 0 of 0 in {folder}; the registry has none; not signed\n",
    )
    told("pull", "high/tiny", "--registry", folder)
    assert told("fsck") == ""
    assert told.words.startswith("no faults; files checked: ")
    assert told("gc", "--unused", "3") == "0 files removed\t0 bytes freed\n"
    assert told.words.startswith("nothing to remove: the cache holds ")
    told("mirror", folder, tmp_path / "b")
    told("mirror", folder, tmp_path / "b")
    assert told.words == "no version to copy; versions: 3, copied: 0; attestations: 0; not signed\n"


@pytest.mark.slow
def test_a_damaged_registry_is_named_and_put_right(folder, told, tmp_path):
    told("mirror", folder, tmp_path / "b")
    damaged = folder / "blobs" / tiny().digest
    before = tree(folder)
    damaged.chmod(0o644)
    damaged.write_bytes(b"x")
    found = answer(told, "fsck", "--registry", folder, code=4)
    assert [(fault.name, fault.error.code) for fault in found.faults] == [(f"blobs/{tiny().digest}", "SIZE_MISMATCH")]
    found = answer(told, "fsck", "--registry", folder, "--repair", "--from", tmp_path / "b")
    assert (found.ok, found.faults[0].repaired) == (True, True)
    after = {name: data for name, data in tree(folder).items() if not name.startswith("damaged")}
    assert after == before


@pytest.mark.parametrize(
    ("command", "code", "name"),
    [
        (("lock", "high/none"), 3, "NO_CELL"),
        (("pull",), 2, "USAGE"),
        (("pull", "high/tiny", "--locked", "x"), 2, "USAGE"),
        (("pull", "--locked", "nowhere.lock"), 3, "NO_FILE"),
        (("pull", "high/tiny", "--mode", "sometimes"), 2, "MODE"),
        (("yank", "high/tiny", "--reason", "x"), 2, "NO_VERSION"),
        (("yank", "high/tiny@9.0.0", "--reason", "x"), 3, "NO_VERSION"),
        (("yank", "high/tiny@1.0.0", "--reason", ""), 2, "REASON"),
        (("gc",), 2, "USAGE"),
        (("gc", "--max-size", "much"), 2, "SIZE"),
        (("fsck", "--from", "b"), 2, "USAGE"),
    ],
)
def test_what_cannot_be_done_is_named(folder, told, command, code, name):
    registry = () if command[0] in {"gc", "fsck"} or "--locked" in command else ("--registry", folder)
    out = told(*command, *registry, "--json", code=code)
    assert json.loads(out)["error"]["code"] == name
