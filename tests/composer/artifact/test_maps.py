"""Maps as one file: what was saved is what is loaded, to the last bit; and a map whose end changed is refused."""

import copy
import dataclasses
import random

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_safetensors

from batteries import Cell
from batteries.errors import FormatError, InputError, IntegrityError, NotFoundError, PolicyError, StoreError
from batteries.io import canonical_json
from composer import compose, load, pack, read, save
from composer.artifact import MapsManifest, PackedLabel, packing
from composer.artifact.kinds import FORMS
from composer.artifact.maps.document import SavedMaps
from composer.artifact.maps.manifest import MAPS
from composer.procrustes.consensus import Consensus
from composer.procrustes.consensus import consensus as of_tokens
from composer.procrustes.generalized import Frame
from composer.procrustes.provenance import Pairing, digest_of
from composer.procrustes.similarity import Alignment
from composer.sealed import file_format as sealing
from tests.support.cells import python, tiny
from tests.support.maps import consensus, container, direct, document, forged, masked, resealed, same, with_document
from tests.support.models import cells, framed, images, least

LABEL = PackedLabel(name="small", version="1.0.0", license="Apache-2.0", description="five cells")


@pytest.fixture(scope="module")
def of():
    return container()


@pytest.fixture(scope="module")
def found(of):
    return consensus(of)


@pytest.fixture(scope="module")
def path(found, of, tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "small.safetensors"
    save(found, path, lock=of.lock)
    return path


@pytest.fixture(scope="module")
def little(of, tmp_path_factory):
    """The bytes of one map between narrow cells."""
    path = tmp_path_factory.mktemp("maps") / "little.safetensors"
    save(direct(of, "noise", "low"), path, lock=of.lock)
    return path.read_bytes()


def refused(data, kind=(FormatError, IntegrityError)):
    """The code of the error that a file gives."""
    with pytest.raises(kind) as caught:
        FORMS["maps"].open(data, where="test")
    return caught.value.code


# What is loaded is what was saved.

MAPS_OF = {
    "a consensus": lambda of, found: found,
    "a consensus of rows of M": lambda of, found: consensus(of.cells("noise", "photo", "low"), "rows"),
    "a consensus without some rows": lambda of, found: masked(found),
    "a part of a consensus": lambda of, found: found.of([3, 1]),
    "a consensus of one": lambda of, found: consensus(of.cells("wide")),
    "a map that pads": lambda of, found: direct(of),
    "a map that pads the other end": lambda of, found: direct(of, "wide", "noise"),
    "a map that whitens": lambda of, found: direct(of, whiten=True),
    "a map that projects": lambda of, found: direct(of, unequal="project"),
    "a map of no scale and no reflection": lambda of, found: direct(of, scale=False, reflection="forbidden"),
    "a map through the frame": lambda of, found: found.maps[0].then(found.maps[3].inverse()),
    "a map onto itself": lambda of, found: direct(of, "low", "low"),
}


@pytest.mark.parametrize("name", MAPS_OF)
def test_what_is_loaded_is_what_was_saved_to_the_last_bit(of, found, tmp_path, name):
    maps, path = MAPS_OF[name](of, found), tmp_path / "x.safetensors"
    facts = save(maps, path, lock=of.lock)
    loaded = load(path)
    assert same(loaded, maps)
    assert (facts.size, facts.sha256, facts.seal) == (
        path.stat().st_size,
        canonical_json.sha256(path.read_bytes()),
        read(path).seal,
    )
    save(loaded, tmp_path / "again.safetensors", lock=read(path).lock)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    one = loaded.maps[0] if isinstance(loaded, Consensus) else loaded
    tokens = torch.randn(5, one.rotation.shape[0] - one.padded[0])
    assert torch.equal(one(tokens), (maps.maps[0] if isinstance(maps, Consensus) else maps)(tokens))


def test_what_differs_is_told_apart(of, found):
    for first, second in (
        (found, found.of([0, 1])),
        (found, masked(found)),
        (direct(of), direct(of, whiten=True)),
        (direct(of), dataclasses.replace(direct(of), scale=torch.tensor(2.0, dtype=torch.float64))),
        (found, dataclasses.replace(found, probe="0" * 64)),
    ):
        assert same(first, first)
        assert not same(first, second)


def test_a_document_names_both_ends_of_every_map(of, found, path, little):
    said = read(path)
    assert (said.tokens, said.grid, said.probe) == ("omega", found.grid, digest_of(images()))
    assert (said.target.kind, said.target.rows, said.target.width) == ("frame", 32, 8)
    assert said.lock == of.lock
    assert [one.source.name for one in said.maps] == list(of.names)
    assert [one.widths for one in said.maps] == [(4, 8), (8, 8), (4, 8), (4, 8), (4, 8)]
    assert len(said.scores) == 5
    one = SavedMaps.model_validate_json(canonical_json.dump(document(little)))
    assert (one.maps[0].source.digests, one.target.digests) == (of.lock["noise"], of.lock["low"])
    assert one.lock == {name: of.lock[name] for name in ("noise", "low")}


def test_the_formats_own_reader_reads_it(found, path):
    arrays = load_safetensors(path.read_bytes())
    assert np.array_equal(arrays["frame.tokens"], found.frame.tokens.numpy())
    assert arrays["frame.rows"].dtype == bool
    assert np.array_equal(arrays["maps.1.rotation"], found.maps[1].rotation.numpy())
    assert len(arrays) == 2 + 3 * 5


@pytest.mark.slow
def test_the_same_maps_give_the_same_bytes_in_every_process(tmp_path):
    code = """
import sys
from composer import save
from tests.support.maps import container, direct
of = container()
save(direct(of, whiten=True), sys.argv[1], lock=of.lock)
"""
    for seed in ("1", "2"):
        done = python(code, tmp_path / f"{seed}.safetensors", PYTHONHASHSEED=seed, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


def test_loaded_maps_have_memory_of_their_own(path, tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(path.read_bytes())
    loaded = load(mine)
    mine.write_bytes(b"")
    loaded.frame.tokens.zero_()
    assert same(load(path).maps, loaded.maps)


def test_what_maps_are_can_be_read_without_torch(path):
    code = """
import sys, composer
from pathlib import Path
from composer.artifact.maps.manifest import MAPS
print(len(composer.read(sys.argv[1]).maps), "torch" in sys.modules, "numpy" in sys.modules)
composer.artifact.kinds.FORMS["maps"].open(Path(sys.argv[1]).read_bytes(), where="x")
print("torch" in sys.modules)
"""
    done = python(code, path)
    assert done.stdout.split() == ["5", "False", "False", "False"], done.stderr


def test_a_thousand_cells_of_sixteen_dimensions_fit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(24_576, 16, dtype=torch.float64, generator=generator)
    names = tuple(f"low/cell-{number}" for number in range(1000))
    end, pairing = canonical_json.sha256(b"x"), Pairing("omega", (4, 4), "0" * 64, "0" * 64, digest_of(tokens))
    turn = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=generator))[0]
    one = Alignment(
        turn, torch.tensor(1.0), tokens[0], tokens[1], torch.tensor(0.5), torch.linalg.det(turn).round(), torch.tensor(24_576)
    )
    maps = tuple(dataclasses.replace(one, pairing=dataclasses.replace(pairing, source=end)) for _ in names)
    big = Consensus(names, maps, Frame(tokens, torch.ones(24_576, dtype=torch.bool), 0.1), (), "omega", (4, 4), "0" * 64)
    lock = {name: {"cell": name, "version": "1.0.0", "sha256": end, "tensors": end} for name in names}
    manifest = pack(big, tmp_path / "big.safetensors", LABEL, lock=lock)
    assert manifest.file.size < MAPS.limit / 4
    assert (tmp_path / "big.json").stat().st_size < 64 * 2**10
    assert len(load(tmp_path / "big.safetensors").maps) == 1000


# Ends that changed.


def test_maps_are_used_by_the_cells_that_they_were_fitted_on_and_by_no_others(found, path):
    made, loaded = cells(), load(path)
    model = compose(made, maps=loaded)
    assert torch.equal(model(images())["low"].aligned, compose(made, probe=images())(images())["low"].aligned)
    made["low"] = cells({"low": made["low"].spec, "x": made["low"].spec})["x"]
    with pytest.raises(IntegrityError) as caught:
        compose(made, maps=loaded)
    assert (caught.value.code, caught.value.exit_code, caught.value.where) == ("END_CHANGED", 4, "low")
    with pytest.raises(NotFoundError, match="NO_MAP"):
        compose({"another": made["low"]}, maps=loaded)


def test_a_direct_map_keeps_its_ends(of, little, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(little)
    pairing = load(tmp_path / "x.safetensors").pairing
    pairing.check(source=of.ends["noise"], target=of.ends["low"])
    for ends in ({"source": of.ends["low"]}, {"target": of.ends["noise"]}):
        with pytest.raises(IntegrityError, match="END_CHANGED"):
            pairing.check(**ends)


DIGESTS = [("maps", 0, "source", "tensors"), ("maps", 0, "source", "sha256"), ("target", "tensors"), ("probe",)]


@pytest.mark.parametrize("place", DIGESTS)
def test_digests_that_somebody_altered_break_the_seal(little, place):
    value = document(little)
    *within, last = place
    inner = value
    for key in within:
        inner = inner[key]
    inner[last] = "0" * 64
    assert refused(with_document(little, canonical_json.dump(value).decode()), IntegrityError) == "SEAL"
    with pytest.raises(IntegrityError, match="OTHER_SEAL"):
        FORMS["maps"].open(with_document(little, resealed(value)), where="test", seal=document(little)["seal"])


# What is not what was saved.


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


# What cannot be saved.


def without_ends(found):
    return dataclasses.replace(found, maps=(dataclasses.replace(found.maps[0], pairing=None), *found.maps[1:]))


def of_another_fit(found):
    pairing = dataclasses.replace(found.maps[0].pairing, probe="0" * 64)
    return dataclasses.replace(found, maps=(dataclasses.replace(found.maps[0], pairing=pairing), *found.maps[1:]))


def into_another_frame(found):
    return dataclasses.replace(found, frame=dataclasses.replace(found.frame, tokens=found.frame.tokens + 1))


def with_a_nan(found):
    turned = found.maps[0].rotation.clone()
    turned[0, 0] = torch.nan
    return dataclasses.replace(found, maps=(dataclasses.replace(found.maps[0], rotation=turned), *found.maps[1:]))


def of_other_tokens(found):
    return dataclasses.replace(found, kind="S")


def with_a_batch(found):
    one = found.maps[0]
    return dataclasses.replace(one, rotation=torch.stack([one.rotation] * 2))


def with_a_wide_map(found):
    one = found.maps[0]
    return dataclasses.replace(found, maps=(dataclasses.replace(one, padded=(9, 0)), *found.maps[1:]))


WRONG = {
    "no maps at all": (lambda found: None, InputError, "MODEL"),
    "maps without a consensus": (lambda found: found.maps, InputError, "MODEL"),
    "a consensus of nobody": (lambda found: found.of([]), InputError, "PARTS"),
    "a map without ends": (without_ends, InputError, "NO_ENDS"),
    "a map back from the frame": (lambda found: found.maps[0].inverse(), InputError, "LOCK"),
    "a batch of maps": (with_a_batch, InputError, "NO_ENDS"),
    "maps of two fits": (of_another_fit, InputError, "PARTS"),
    "maps of other tokens than their consensus": (of_other_tokens, InputError, "PARTS"),
    "maps into another frame": (into_another_frame, IntegrityError, "END_CHANGED"),
    "numbers that are none": (with_a_nan, PolicyError, "NON_FINITE"),
    "a residual that is none": (
        lambda found: dataclasses.replace(found, frame=dataclasses.replace(found.frame, residual=float("inf"))),
        PolicyError,
        "NON_FINITE",
    ),
    "a map that cannot be": (with_a_wide_map, InputError, "PARTS"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_saved(of, found, tmp_path, name):
    make, kind, code = WRONG[name]
    with pytest.raises(kind) as caught:
        save(make(found), tmp_path / "x.safetensors", lock=of.lock)
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_bare_tokens_have_no_ends_that_a_file_could_name(of, tmp_path):
    bare = of_tokens({"a": torch.randn(6, 4, 3), "b": torch.randn(6, 4, 3)})
    with pytest.raises(InputError, match="NO_ENDS"):
        save(bare, tmp_path / "x.safetensors", lock=of.lock)


def test_a_lock_has_to_name_the_cells_and_fit_them(of, found, tmp_path):
    less = {name: row for name, row in of.lock.items() if name != "low"}
    other = copy.deepcopy(of.lock)
    other["low"]["tensors"] = "0" * 64
    short = {name: {"tensors": row["tensors"]} for name, row in of.lock.items()}
    named = {name.replace("low", "Low Cell"): row for name, row in of.lock.items()}
    renamed = dataclasses.replace(found, names=tuple(named))
    for maps, lock, kind, code in (
        (found, less, InputError, "LOCK"),
        (found, None, InputError, "LOCK"),
        (found, {"low": "x"}, InputError, "LOCK"),
        (found, other, IntegrityError, "END_CHANGED"),
        (found, short, InputError, "PARTS"),
        (renamed, named, InputError, "PARTS"),
        (direct(of, "noise", "low"), less, InputError, "LOCK"),
        (direct(of, "noise", "low"), other, InputError, "LOCK"),
    ):
        with pytest.raises(kind) as caught:
            save(maps, tmp_path / "x.safetensors", lock=lock)
        assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_paths_labels_and_disks(of, found, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "x.safetensors"
    for attempt, kind, code in (
        (lambda: save(found, tmp_path / "x.bin", lock=of.lock), InputError, "SUFFIX"),
        (lambda: save(found, None, lock=of.lock), InputError, "BAD_PATH"),
        (lambda: save(found, path), InputError, "LOCK"),
        (lambda: save(of, path, lock=of.lock), InputError, "LOCK"),
        (lambda: pack(least(), path, LABEL, lock={}), InputError, "LOCK"),
        (lambda: pack(found, path, None, lock=of.lock), InputError, "LABEL"),
        (lambda: save(found, tmp_path / "file" / "x.safetensors", lock=of.lock), StoreError, None),
    ):
        with pytest.raises(kind) as caught:
            attempt()
        assert code in (None, caught.value.code)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_more_than_a_file_may_have_is_not_written(of, found, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    monkeypatch.setattr(packing, "MAX_MANIFEST", 100)
    with pytest.raises(PolicyError, match="MANIFEST_TOO_LARGE"):
        pack(found, path, LABEL, lock=of.lock)
    monkeypatch.setattr(sealing, "MAX_HEADER", 1000)
    with pytest.raises(PolicyError, match="MAPS_TOO_LARGE"):
        save(found, path, lock=of.lock)
    monkeypatch.setattr(SavedMaps, "KIND", dataclasses.replace(MAPS, limit=1000))
    with pytest.raises(PolicyError, match="MAPS_TOO_LARGE"):
        save(found, path, lock=of.lock)
    assert list(tmp_path.iterdir()) == []


# The manifest beside it.


def test_a_manifest_says_what_the_file_is(of, found, tmp_path):
    manifest = pack(found, tmp_path / "small.safetensors", LABEL, lock=of.lock)
    assert MapsManifest.from_bytes((tmp_path / "small.json").read_bytes(), where="x") == manifest
    assert manifest.path == "maps/small"
    assert manifest.file.sha256 == canonical_json.sha256((tmp_path / "small.safetensors").read_bytes())
    assert (manifest.cells, manifest.tokens, manifest.grid, manifest.width) == (5, "omega", (2, 2), 8)
    assert (manifest.frame.rows, manifest.target, manifest.scored) == (32, None, True)
    assert manifest.lock == canonical_json.sha256(canonical_json.dump(of.lock))
    assert [cell.name for cell in manifest.sources] == list(of.names)
    one = pack(direct(of, "wide", "noise"), tmp_path / "one.safetensors", LABEL, lock=of.lock)
    assert (one.cells, one.frame, one.target.name, one.width, one.scored) == (2, None, "noise", 4, False)
