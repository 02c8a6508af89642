"""Artifacts by pattern, by condition, and by a name that is not quite theirs: in Python and on the command line."""

import pytest

import composer
import registry
from batteries.errors import BatteriesError, InputError, NotFoundError
from composer.artifact import PackedLabel
from registry.answers.maintenance import LockAnswer
from registry.answers.transfer import Listed, Pulled, Shown, VerifyAnswer
from registry.catalog.reference import NamePattern, Reference
from registry.stores import settings
from registry.transfer.remarks import attest, yank
from tests.support.cells import attestation, filled, publish, tiny
from tests.support.commands import answered, run
from tests.support.maps import consensus, container


@pytest.fixture
def store():
    some = [tiny("one"), tiny("one", "1.1.0", seed=1), tiny("one", "2.0.0-rc.1", seed=2), tiny("two", seed=3)]
    found = filled(*some, tiny("one", band="low", cv=0.2, seed=4), tiny("gone", seed=5))
    attest(attestation(some[1]), found)
    yank("high/gone@1.0.0", "wrong data", found)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for cell in (tiny("one"), tiny("two", seed=1), tiny("one", band="low", cv=0.2, seed=2)):
        publish(cell, tmp_path / "there")
    monkeypatch.setenv("BATTERIES_REGISTRY", str(tmp_path / "there"))
    return tmp_path / "there"


def names(found):
    return [f"{cell.name}@{cell.version}" for cell in found]


PATTERNS = {
    "high/*": ["high/one@1.1.0", "high/two@1.0.0"],
    "*": ["high/one@1.1.0", "high/two@1.0.0", "low/one@1.0.0"],
    "*/one": ["high/one@1.1.0", "low/one@1.0.0"],
    "high/?ne": ["high/one@1.1.0"],
    "high/[t]*": ["high/two@1.0.0"],
    "*/one@<1.1": ["high/one@1.0.0", "low/one@1.0.0"],
    "high/*@1.0.0": ["high/one@1.0.0", "high/two@1.0.0"],
    "high/*@>=2.0.0-rc.1": ["high/one@2.0.0-rc.1"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_pulls_the_newest_of_every_match_sorted_and_nothing_yanked(store, pattern):
    assert names(registry.pull(pattern, registry=store)) == PATTERNS[pattern]
    assert str(NamePattern.parse(pattern)) == pattern


def test_with_a_pattern_everything_comes_once_and_without_one_as_often_as_it_is_named(store):
    assert names(registry.pull("*/one", "high/*", registry=store)) == ["high/one@1.1.0", "low/one@1.0.0", "high/two@1.0.0"]
    assert names(registry.pull("high/two", "high/*", registry=store)) == ["high/two@1.0.0", "high/one@1.1.0"]
    assert names(registry.pull("high/two", "high/two", registry=store)) == ["high/two@1.0.0"] * 2


def test_a_pattern_of_a_registry_that_has_a_name(folder, tmp_path):
    path = settings.config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[registries]\nlab = "{folder}"\n')
    found = registry.find("two")
    assert names(registry.pull("lab/high/*", registry=filled(tiny("other")))) == ["high/one@1.0.0", "high/two@1.0.0"]
    assert [str(one.reference) for one in found] == ["high/two@1.0.0"]


NO_MATCH = {
    "high/onne*": ("NO_CELL", "Did you mean high/one?"),
    "zzz*": ("NO_CELL", "`batteries list` shows the cells there are."),
    "tw*": ("NO_CELL", r"Did you mean \*/tw\*\?"),
    "high/go*": ("NO_CELL", "Names that match: high/gone. Patterns choose no prereleases and no yanked versions"),
    "high/gone*@1.0.0": ("NO_CELL", "no yanked versions"),
    "high/*@^7": ("NO_CELL", "Names that match: high/gone, high/one, high/two"),
    "model/*": ("NO_MODEL", "`batteries list --models`"),
}


@pytest.mark.parametrize("pattern", NO_MATCH)
def test_a_pattern_without_a_match_is_not_found(store, pattern):
    code, words = NO_MATCH[pattern]
    with pytest.raises(NotFoundError, match=words) as caught:
        registry.pull(pattern, registry=store)
    assert (caught.value.code, caught.value.exit_code) == (code, 3)
    (finding,) = registry.verify(pattern, registry=store)
    assert finding.kind == "reference"
    assert finding.error.code == code


@pytest.mark.parametrize("bad", ["a/b/low/*", "l*b/low/one", "low/*@sha256:" + "0" * 64, "low/*@", "low/*@newest", "A b/low/*"])
def test_what_is_no_pattern_is_no_reference_either(store, bad):
    with pytest.raises(InputError, match="in a reference") as caught:
        registry.pull(bad, registry=store)
    assert caught.value.code == "BAD_REFERENCE"


def test_find_shows_what_list_shows(store):
    found = registry.find(registry=store)
    assert [str(one.reference) for one in found] == ["high/gone@1.0.0", "high/one@1.1.0", "high/two@1.0.0", "low/one@1.0.0"]
    assert found == registry.find("*", registry=store)
    assert [one.version for one in registry.find("/one", registry=store)] == ["1.1.0", "1.0.0"]
    assert registry.find("nothing", registry=store) == registry.find("model/*", registry=store) == []


def test_find_with_a_condition(store):
    assert [str(one.reference) for one in registry.find("high/*", "viable", registry=store)] == ["high/one@1.1.0"]
    assert [one.reference.name for one in registry.find(where="band == 'low' and D == 16", registry=store)] == ["one"]
    with pytest.raises(InputError, match="invalid condition on cells"):
        registry.find(where="vible", registry=store)
    with pytest.raises(InputError, match="condition on another kind"):
        registry.find("model/*", where="viable", registry=store)


def test_what_was_found_is_pulled_from_where_it_was_found(store):
    found = registry.find("high/*", "not yanked", registry=store)
    assert names(registry.pull(found)) == names(registry.pull(*found)) == ["high/one@1.1.0", "high/two@1.0.0"]
    assert registry.load(found[0]).version == "1.1.0"
    assert all(finding.ok for finding in registry.verify(found))


@pytest.mark.slow
def test_other_kinds(store, tmp_path):
    of = container()
    label = PackedLabel(name="five", version="1.0.0", license="Apache-2.0", description="")
    composer.pack(consensus(of), tmp_path / "five.safetensors", label, lock=of.lock)
    registry.publish(tmp_path / "five.safetensors", store)
    assert [one.reference.kind.name for one in registry.find("maps/*", registry=store)] == ["maps"]
    assert len(registry.pull("maps/*", registry=store)) == 1
    assert names(registry.pull("*", registry=store)) == PATTERNS["*"]


def test_load_takes_a_pattern_of_one(store):
    assert registry.load("low/*", registry=store).name == "low/one"
    with pytest.raises(InputError, match="not a single cell: expected a reference, got 2 of the pattern high"):
        registry.load("high/*", registry=store)


NEAR = {
    "one": "unknown name: expected band/name, got one .*\n  Did you mean high/one or low/one?",
    "onne": "unknown name: expected band/name, got onne .*\n  Did you mean high/one or low/one?",
    "high/onne": "no such cell: got high/onne .*\n  Did you mean high/one",
    "hihg/one": "invalid band in a reference.*\n  Did you mean high?",
    "high/one@1.0.1": "no such version.*\n  Did you mean 1.0.0",
    "zzzzzz": "unknown alias",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", NEAR)
def test_a_name_that_is_nearly_right_is_told_in_python_and_on_the_command_line(folder, capsys, text):
    for ask in (registry.pull, registry.load, lambda text: registry.pull(text, registry=str(folder))):
        with pytest.raises(BatteriesError, match=NEAR[text]):
            ask(text)
    for command in ("show", "pull", "verify", "lock", "compose", "align"):
        code, _, err = run(capsys, command, text, *(["high/two"] if command == "align" else []))
        assert code in (2, 3), command
        assert NEAR[text].partition(" .*")[0].partition(".*")[0] in err, command


def test_an_alias_that_is_nearer_goes_before_the_names(folder):
    path = settings.config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('[aliases]\nones = "high/one"\n')
    with pytest.raises(NotFoundError, match=r"Did you mean ones\?"):
        registry.pull("oness")
    assert registry.load("ones").name == "high/one"
    with pytest.raises(NotFoundError, match=r"Did you mean high/one or low/one\?"):
        registry.pull("one")


def test_a_registry_that_cannot_be_read_does_not_hide_that_a_name_is_unknown(tmp_path):
    with pytest.raises(NotFoundError, match="unknown alias"):
        registry.pull("one", registry=tmp_path / "nowhere")


@pytest.mark.slow
def test_commands_take_patterns(folder, capsys):
    pulled = answered(capsys, Pulled, "pull", "*/one")
    assert [row.reference for row in pulled.cells] == ["high/one@1.0.0", "low/one@1.0.0"]
    assert answered(capsys, Shown, "show", "low/*").reference == "low/one@1.0.0"
    assert len(answered(capsys, LockAnswer, "lock", "high/*", "--out", folder / "cells.lock").cells) == 2
    assert {finding.kind for finding in answered(capsys, VerifyAnswer, "verify", "high/*").findings} == {"manifest", "blob"}
    assert [row.reference for row in answered(capsys, Listed, "list", "high/*").cells] == ["high/one@1.0.0", "high/two@1.0.0"]


def test_show_takes_one(folder, capsys):
    code, _, err = run(capsys, "show", "high/*")
    assert (code, "more than one match in high/*: expected a pattern with one, got high/one, high/two" in err) == (2, True)


@pytest.mark.parametrize("command", ["pull", "lock", "verify", "validate", "compose", "align", "show"])
def test_every_command_says_that_nothing_matches(folder, capsys, command):
    code, _, err = run(capsys, command, "high/tow*")
    assert code == 3
    assert "no cell matches the pattern: got high/tow* [NO_CELL]\n  Did you mean high/two" in err


def test_a_pattern_reads_each_index_once(store, monkeypatch):
    read, count = store.read_index, []
    monkeypatch.setattr(store, "read_index", lambda: count.append(1) or read())
    registry.pull("high/*", "low/*", "high/one", registry=store)
    assert len(count) == 1


def test_patterns_are_equal_by_what_they_say():
    assert NamePattern.parse("low/*@^1") == NamePattern.parse("low/*@^1") != NamePattern.parse("low/*")
    assert NamePattern.parse("low/*@>=1, <2").range == Reference.parse("low/a@>=1,<2").range
