"""A file of maps that is not what was saved is refused."""

import random

import numpy as np
import pytest

from batteries import Cell
from batteries.errors import FormatError, InputError, IntegrityError, NotFoundError, PolicyError
from batteries.io import canonical_json
from composer import load, read, save
from composer.artifact.kinds import FORMS
from composer.artifact.maps.manifest import MAPS
from tests.support.cells import tiny
from tests.support.maps import direct, document, forged, resealed, with_document
from tests.support.models import framed, least


def refused(data, kind=(FormatError, IntegrityError)):
    """The code of the error that a file gives."""
    with pytest.raises(kind) as caught:
        FORMS["maps"].open(data, where="test")
    return caught.value.code


def flipped(data, place, bit):
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


@pytest.mark.slow
def test_every_changed_byte_is_found(path, little):
    codes = {refused(flipped(little, place, place % 8)) for place in range(len(little))}
    assert {"SEAL", "ST_NOT_CANONICAL", "ST_HEADER", "JSON", "SCHEMA", "NOT_MAPS", "BLOCK_DIGEST"} <= codes
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(500):
        refused(flipped(whole, draw.randrange(len(whole)), draw.randrange(8)))


def test_a_file_that_is_shorter_or_longer_is_found(little):
    for size in range(len(little)):
        refused(little[:size])
    for more in (b"\0", little):
        assert refused(little + more) == "ST_TAIL"


def changed(path, value):
    """A change of one field of a document; the path is of keys and places."""

    def change(document):
        *within, last = path
        for key in within:
            document = document[key]
        document[last] = value(document[last]) if callable(value) else value

    return change


HOSTILE = {
    "no map": (changed(("maps",), []), "SCHEMA"),
    "a map less": (lambda d: d["maps"].pop(), "SCHEMA"),
    "a cell twice": (changed(("maps", 1, "source", "name"), "noise"), "SCHEMA"),
    "a name that leaves its place": (changed(("maps", 1, "source", "name"), "../x"), "SCHEMA"),
    "a score less": (lambda d: d["scores"].pop(), "SCHEMA"),
    "no score": (changed(("scores",), []), None),
    "a map of another width": (changed(("maps", 0, "shape"), [4, 4]), "SCHEMA"),
    "a map of no width": (changed(("maps", 0, "shape"), [0, 8]), "SCHEMA"),
    "a map beyond all memory": (changed(("maps", 0, "shape"), [2**40, 2**40]), "SCHEMA"),
    "nothing but padding": (changed(("maps", 0, "padded"), [8, 0]), "SCHEMA"),
    "padding of less than nothing": (changed(("maps", 0, "padded"), [-1, 0]), "SCHEMA"),
    "padding of the frame": (changed(("maps", 0, "padded"), [4, 1]), "SCHEMA"),
    "a map that projects into the frame": (changed(("maps", 0, "determinant"), 0), "SCHEMA"),
    "a determinant of two": (changed(("maps", 0, "determinant"), 2), "SCHEMA"),
    "a determinant of the other sign": (changed(("maps", 0, "determinant"), lambda sign: -sign), "NOT_A_ROTATION"),
    "a scale below nothing": (changed(("maps", 0, "scale"), -1.0), "SCHEMA"),
    "a scale that is no number": (changed(("maps", 0, "scale"), "1"), "SCHEMA"),
    "a residual below nothing": (changed(("maps", 0, "residual"), -0.1), "SCHEMA"),
    "more rows than there are": (changed(("maps", 0, "paired"), 33), "SCHEMA"),
    "one row": (changed(("maps", 0, "paired"), 1), "SCHEMA"),
    "whitened without its tensors": (changed(("maps", 0, "condition"), [1.0, 1.0]), "ST_NOT_CANONICAL"),
    "a condition below one": (changed(("maps", 0, "condition"), [0.5, 1.0]), "SCHEMA"),
    "a narrower frame": (changed(("target", "width"), 7), "SCHEMA"),
    "a longer frame": (changed(("target", "rows"), 36), "ST_NOT_CANONICAL"),
    "a frame that is not of whole images": (changed(("target", "rows"), 33), "SCHEMA"),
    "a frame beyond all memory": (changed(("target", "rows"), 2**40), "SCHEMA"),
    "a frame larger than a file": (changed(("target", "rows"), 2**24), "MAPS_TOO_LARGE"),
    "neither frame nor cell": (changed(("target", "kind"), "band"), "SCHEMA"),
    "a frame that is a cell": (changed(("target", "kind"), "cell"), "SCHEMA"),
    "other tokens than there are": (changed(("tokens",), "colours"), "SCHEMA"),
    "no grid": (changed(("grid",), [0, 4]), "SCHEMA"),
    "no probe": (changed(("probe",), ""), "SCHEMA"),
    "a digest of another form": (changed(("maps", 0, "source", "tensors"), "A" * 64), "SCHEMA"),
    "a block less": (lambda d: d["blocks"].pop(), "ST_TAIL"),
    "a newer schema": (changed(("schema_version",), "2.0"), "SCHEMA_NEWER"),
    "a field more": (lambda d: d.update(more=1), "SCHEMA"),
    "a field less": (lambda d: d.pop("probe"), "SCHEMA"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_document_that_cannot_be_is_refused_however_well_it_is_sealed(path, name):
    change, code = HOSTILE[name]
    value = document(path.read_bytes())
    change(value)
    data = with_document(path.read_bytes(), resealed(value))
    if code is None:
        FORMS["maps"].open(data, where="test")
    else:
        assert refused(data, (FormatError, PolicyError)) == code


HOSTILE_DIRECT = {
    "two maps to a cell": lambda d: d["maps"].append(d["maps"][0]),
    "a score without a frame": lambda d: d.update(scores=[{}]),
    "one name for two cells": changed(("target", "name"), "noise"),
    "a determinant of what is not square": changed(("maps", 0, "shape"), [4, 5]),
    "whitened and projected": lambda d: d["maps"][0].update(determinant=0, condition=[1.0, 1.0]),
    "a frame": lambda d: d.update(target={"kind": "frame", "rows": 4, "width": 3, "residual": 0.5}),
}


@pytest.mark.parametrize("name", HOSTILE_DIRECT)
def test_the_same_for_one_map(little, name):
    value = document(little)
    HOSTILE_DIRECT[name](value)
    assert refused(with_document(little, resealed(value))) == "SCHEMA"


def test_numbers_that_no_fit_makes_are_refused(of, path, little, tmp_path):
    turn = FORMS["maps"].open(little, where="x").array("maps.0.rotation")
    mirrored = turn * [-1, 1, 1, 1]
    for wrong in (2 * turn, turn + 1e-4, 1e300 * turn, np.zeros_like(turn), mirrored):
        data = forged(little, **{"maps.0.rotation": np.ascontiguousarray(wrong)})
        assert refused(data, PolicyError) == "NOT_A_ROTATION"
    save(direct(of, unequal="project"), tmp_path / "x.safetensors", lock=of.lock)
    narrow = (tmp_path / "x.safetensors").read_bytes()
    part = FORMS["maps"].open(narrow, where="x").array("maps.0.rotation")
    assert refused(forged(narrow, **{"maps.0.rotation": 1.001 * part}), PolicyError) == "NOT_A_ROTATION"
    whole = path.read_bytes()
    rows = np.ones(32, bool)
    rows[4] = False
    assert refused(forged(whole, **{"frame.rows": rows}), PolicyError) == "NOT_A_FRAME"
    tokens = FORMS["maps"].open(whole, where="x").array("frame.tokens").copy()
    tokens[4] = 0
    assert refused(forged(whole, **{"frame.rows": rows, "frame.tokens": tokens}), PolicyError) == "NOT_A_FRAME"


def test_a_flag_is_nothing_but_yes_or_no(path):
    whole = path.read_bytes()
    opened = FORMS["maps"].open(whole, where="x")
    row = opened.layout["frame.rows"]
    start = len(whole) - len(opened.data)
    body = bytearray(opened.data)
    body[row.start] = 2
    value = document(whole)
    value["blocks"] = [canonical_json.sha256(bytes(body))]
    assert refused(with_document(whole[:start] + bytes(body), resealed(value))) == "FLAGS"


def test_another_kind_of_file_is_named_whichever_was_wanted(path, tmp_path):
    cell = tiny().write(tmp_path)
    save(least(), tmp_path / "model.safetensors")
    model = tmp_path / "model.safetensors"
    for attempt, code, word in (
        (lambda: load(cell), "NOT_A_MODEL", "batteries.Cell.read"),
        (lambda: read(cell), "NOT_A_MODEL", "batteries.Cell.read"),
        (lambda: FORMS["maps"].open(cell.read_bytes(), where="x"), "NOT_MAPS", "batteries.Cell.read"),
        (lambda: FORMS["maps"].load(model), "NOT_MAPS", "composer.load"),
        (lambda: FORMS["model"].load(path), "NOT_A_MODEL", "composer.load"),
        (lambda: Cell.read(path), "MAPS", "composer.load"),
    ):
        with pytest.raises(FormatError) as caught:
            attempt()
        assert caught.value.code == code
        assert word in caught.value.remedy


def test_files_that_are_none(tmp_path):
    with pytest.raises(NotFoundError, match="NO_FILE"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="BAD_PATH"):
        load(None)
    large = tmp_path / "large.safetensors"
    with large.open("wb") as file:
        file.write(bytes(8) + MAPS.start)
        file.truncate(MAPS.limit + 1)
    with pytest.raises(FormatError, match="TOO_LARGE"):
        load(large)
    for data in (b"", b"1234567", bytes(1000), framed(MAPS.start + b"{}}", b""), framed(MAPS.start + b'"\\ud800"}', b"")):
        refused(data)
