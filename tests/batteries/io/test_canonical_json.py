"""Canonical JSON: one document, one sequence of bytes."""

import json
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batteries import Manifest
from batteries.errors import BatteriesError, FormatError
from batteries.io import canonical_json
from batteries.io.canonical_json import Document, GrownDocument, load_document
from batteries.io.texts.hostile_json import LARGE
from tests.support.cells import tiny
from tests.support.refusals import ATTACKS, in_a_process

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_a_round_trip_is_the_identity(value):
    data = canonical_json.dump(value)
    assert canonical_json.load(data, where="x", limit=2**20) == value
    assert canonical_json.dump(canonical_json.load(data, where="x", limit=2**20)) == data


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], "\ud800"])
def test_what_json_cannot_hold(value):
    with pytest.raises(FormatError, match="VALUE"):
        canonical_json.dump(value)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"a": 1, "a": 2}', "DUPLICATE_KEY"),
        (b"NaN", "NUMBER"),
        (b"[1e999]", "NUMBER"),
        (b"-Infinity", "NUMBER"),
        (b"[" * 17 + b"]" * 17, "TOO_DEEP"),
        (b"[" * 100_000, "TOO_DEEP"),
        (b"1" * 401, "NUMBER"),
        (b'{"a": 1', "JSON"),
        (b"\xff", "JSON"),
        (b"", "JSON"),
        (b" " * 2000, "TOO_LARGE"),
    ],
)
def test_what_pythons_reader_lets_through(data, code):
    limit = 1000 if code == "TOO_LARGE" else 2**20
    with pytest.raises(FormatError) as caught:
        canonical_json.load(data, where="somewhere", limit=limit)
    assert caught.value.code == code
    assert "somewhere" in str(caught.value)


def test_brackets_in_strings_are_not_nesting():
    assert canonical_json.load(json.dumps("[" * 50 + '\\"' + "{" * 50).encode(), where="x", limit=2**20).startswith("[")


MANIFEST = tiny().manifest


def changed(**fields):
    document = json.loads(MANIFEST.to_bytes())
    document.update(fields)
    return canonical_json.dump(document)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (changed(surprise=1), "SCHEMA", "surprise: Extra inputs"),
        (changed(schema_version="2.0"), "SCHEMA_NEWER", "Update svae-batteries"),
        (changed(own_probe="photos-64"), "SCHEMA", "not among the measured"),
        (changed(spec={"V": 5}), "SCHEMA", "spec.D: Field required"),
        (MANIFEST.to_bytes()[:-1], "NOT_CANONICAL", "canonical"),
        (b" " + MANIFEST.to_bytes(), "NOT_CANONICAL", "canonical"),
        (json.dumps(json.loads(MANIFEST.to_bytes())).encode(), "NOT_CANONICAL", "canonical"),
        (b"[]", "SCHEMA", "manifest"),
        (b"x" * 70_000, "TOO_LARGE", "65536"),
    ],
)
def test_a_manifest_that_is_not_one(data, code, words):
    with pytest.raises(FormatError) as caught:
        Manifest.from_bytes(data, where="m.json")
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_manifest_reads_back():
    assert Manifest.from_bytes(MANIFEST.to_bytes(), where="m") == MANIFEST


@given(st.integers(0, len(MANIFEST.to_bytes()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_an_error_or_another_manifest(at, change):
    data = bytearray(MANIFEST.to_bytes())
    data[at] ^= change
    try:
        found = Manifest.from_bytes(bytes(data), where="m")
    except BatteriesError:
        return
    assert found != MANIFEST
    assert found.to_bytes() == bytes(data)


class Grown(GrownDocument):
    ADDED = ("extra",)
    kept: int
    extra: int = 0


@pytest.mark.parametrize(("extra", "written"), [(0, {"kept": 1}), (2, {"kept": 1, "extra": 2})])
def test_a_field_added_later_is_left_out_at_its_default_and_may_be_excluded(extra, written):
    document = Grown(kept=1, extra=extra)
    assert document.model_dump() == written
    assert document.model_dump(exclude={"extra"}) == {"kept": 1}
    assert document.model_dump(include={"extra"}) == {name: value for name, value in written.items() if name == "extra"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("size", [2**19, 2**25 + 2**24])
def test_refusals_take_little_more_memory_than_the_text(name, size):
    found = in_a_process("JSON", name, size)
    assert found["code"] in {"TOO_LARGE", "TOO_DEEP", "SCHEMA", "JSON", "NUMBER", "NOT_CANONICAL", "DUPLICATE_KEY"}
    assert found["memory"] <= 4 * found["bytes"] + 2**26
    assert found["seconds"] < 20  # the figures are in docs/results/refusals.md


class Table(Document):
    SCHEMA_VERSION: ClassVar[str] = "1.0"
    schema_version: Literal["1.0"] = "1.0"
    rows: dict[str, dict[str, int]]
    last: tuple[int, ...] = ()


ROWS = {f"{i:06d}": {"a": i, "b": -i} for i in range(40_000)}


def test_a_large_document_is_read_as_a_small_one():
    table = Table(rows=ROWS)
    data = table.to_bytes()
    assert len(data) > LARGE
    assert load_document(Table, data, where="x", limit=2**26) == table


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ((b'"a":7,', b'"a":"7",'), "SCHEMA", "rows.000007.a"),
        ((b'"a":7,', b'"a":7,"c":1,'), "NOT_CANONICAL", ""),
        ((b'"a":7,', b'"a":7,"a":7,'), "NOT_CANONICAL", ""),
        ((b'{"last"', b'{"first":1,"last"'), "SCHEMA", "first"),
        ((b'"last":[]', b'"last":[1.5]'), "SCHEMA", "last.0"),
        ((b'"schema_version":"1.0"', b'"schema_version":"2.0"'), "SCHEMA_NEWER", "2.0"),
        ((b'}},"schema', b'},"schema'), "JSON", "document"),
        ((b"\n", b"\r\n"), "NOT_CANONICAL", "Windows"),
        ((b'"a":7,', b'\n<<<<<<< ours\n"a":7,'), "MERGE_CONFLICT", ""),
    ],
)
def test_what_a_large_document_may_not_be(change, code, words):
    data = Table(rows=ROWS).to_bytes()
    assert change[0] in data
    with pytest.raises(FormatError) as caught:
        load_document(Table, data.replace(*change, 1), where="x", limit=2**26)
    assert caught.value.code == code
    assert words in str(caught.value)
