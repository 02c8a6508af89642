import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semver import Version

from batteries.errors import BatteriesError, ConflictError, FormatError, IntegrityError, NotFoundError, PolicyError
from batteries.io.canonical_json import dump, sha256
from registry.catalog.index import Index
from registry.catalog.reference import Reference
from registry.catalog.release import Attested, Release, Summary
from registry.catalog.version_ranges import Range
from tests.support.cells import DAMAGED, SPEC, measured, tiny
from tests.support.costs import at_most


def index_of(*cells):
    index = Index()
    for cell in cells:
        index = index.with_release(cell.name, cell.version, Release.of(cell.manifest))
    return index


def read(data):
    return Index.from_bytes(data, where="test")


@pytest.fixture(scope="module")
def small():
    cell = tiny()
    attested = Attested(sha256="a" * 64, size=5, verdict="viable")
    return index_of(cell, tiny(version="1.1.0")).with_attestation(cell.digest, "quick-1", attested)


def test_round_trip(small):
    assert read(small.sealed()) == small
    assert read(small.sealed()).sealed() == small.sealed()


def test_numbers_and_previous_form_a_chain():
    first = index_of(tiny())
    second = first.with_release("high/tiny", "2.0.0", Release.of(tiny(version="2.0.0").manifest))
    assert (Index().number, first.number, second.number) == (0, 1, 2)
    assert first.previous is None
    assert second.previous == sha256(first.sealed())


def test_a_change_that_changes_nothing_is_the_same_object(small):
    cell = tiny()
    assert small.with_release(cell.name, cell.version, Release.of(cell.manifest)) is small
    assert small.with_attestation(cell.digest, "quick-1", small.attestations[cell.digest]["quick-1"]) is small


def test_a_new_attestation_takes_the_place_of_the_old_one(small):
    cell = tiny()
    other = Attested(sha256="b" * 64, size=6, verdict="walked back")
    assert small.with_attestation(cell.digest, "quick-1", other).attestations[cell.digest] == {
        "quick-1": other.model_copy(update={"revision": 1})
    }
    assert set(small.with_attestation(cell.digest, "full-1", other).attestations[cell.digest]) == {"quick-1", "full-1"}


def test_every_flipped_byte_is_found(small):
    data = small.sealed()
    for position in range(len(data)):
        for mask in (0x01, 0x20, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= mask
            with pytest.raises((FormatError, IntegrityError), match=DAMAGED):
                read(bytes(damaged))


def test_every_truncation_is_found(small):
    data = small.sealed()
    for length in range(len(data)):
        with pytest.raises(FormatError, match=DAMAGED):
            read(data[:length])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_typed_error(data):
    with pytest.raises(FormatError, match=DAMAGED):
        read(data)


def resealed(small, edit):
    """The index with some JSON changed and the digest made right again: what a careful forger would store."""
    value = json.loads(small.to_bytes())
    edit(value)
    return dump({**value, "sha256": sha256(dump(value))})


FORGERIES = {
    "an unknown key": (lambda v: v.update(extra=1), "SCHEMA"),
    "a cell outside the grammar": (lambda v: v["cells"].update({"low/../x": next(iter(v["cells"].values()))}), "SCHEMA"),
    "a version outside the grammar": (
        lambda v: v["cells"]["high/tiny"].update({"1.0": v["cells"]["high/tiny"]["1.0.0"]}),
        "SCHEMA",
    ),
    "a cell without a version": (lambda v: v["cells"].update({"low/x": {}}), "SCHEMA"),
    "a digest that is a path": (lambda v: v["cells"]["high/tiny"]["1.0.0"]["blob"].update(sha256="../" * 21 + "x"), "SCHEMA"),
    "a size that is not positive": (lambda v: v["cells"]["high/tiny"]["1.0.0"]["blob"].update(size=0), "SCHEMA"),
    "a verdict nobody gives": (lambda v: next(iter(v["attestations"].values()))["quick-1"].update(verdict="great"), "SCHEMA"),
    "a newer schema": (lambda v: v.update(schema_version="2.0"), "SCHEMA_NEWER"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_with_a_right_digest(small, name):
    edit, code = FORGERIES[name]
    with pytest.raises(FormatError) as caught:
        read(resealed(small, edit))
    assert caught.value.code == code


def test_a_change_without_its_digest_is_named(small):
    value = json.loads(small.sealed())
    value["number"] += 1
    with pytest.raises(IntegrityError) as caught:
        read(dump(value))
    assert caught.value.code == "INDEX_DIGEST"


def test_other_spacing_is_refused(small):
    with pytest.raises(FormatError) as caught:
        read(json.dumps(json.loads(small.sealed()), sort_keys=True).encode())
    assert caught.value.code == "NOT_CANONICAL"


def test_unknown_cell_with_the_nearest_names():
    index = index_of(tiny("fresnel-256"), tiny("johanna-64"))
    with pytest.raises(NotFoundError) as caught:
        index.resolve(Reference.parse("high/fresnal-256"))
    assert (caught.value.code, caught.value.exit_code) == ("NO_CELL", 3)
    assert "Did you mean high/fresnel-256?" in str(caught.value)
    with pytest.raises(NotFoundError, match="batteries list"):
        index.resolve(Reference.parse("open/zzzzzzzzzz"))


@pytest.mark.slow
@pytest.mark.usefixtures("frozen_heap")
def test_a_guess_among_very_many_names_takes_no_time():
    release = Release.of(tiny().manifest)
    names = [f"high/{'a' * 50}{number:06}" for number in range(20_000)]
    index = Index.model_construct(cells={name: {"1.0.0": release} for name in names})
    with at_most(seconds=5), pytest.raises(NotFoundError, match="Did you mean high/aaaa"):
        index.resolve(Reference.parse(f"{names[0]}x"))


def test_newest_is_by_semantic_order_without_prereleases_and_yanked_ones():
    index = index_of(*(tiny(version=version, seed=i) for i, version in enumerate(["1.9.0", "1.10.0", "2.0.0-rc.1"])))
    assert index.versions("high/tiny") == ["1.9.0", "1.10.0", "2.0.0-rc.1"]
    assert index.resolve(Reference.parse("high/tiny"))[0] == "1.10.0"
    assert index.resolve(Reference.parse("high/tiny@2.0.0-rc.1"))[0] == "2.0.0-rc.1"
    release = index.cells["high/tiny"]["1.10.0"].model_copy(update={"yanked": "wrong photographs"})
    yanked = index.model_copy(update={"cells": {"high/tiny": {**index.cells["high/tiny"], "1.10.0": release}}})
    assert yanked.resolve(Reference.parse("high/tiny"))[0] == "1.9.0"
    assert yanked.resolve(Reference.parse("high/tiny@1.10.0"))[1].yanked == "wrong photographs"


def many_versions(*versions, yanked=()):
    """An index of one cell, whose release stays the same: what a version means does not depend on it."""
    release = Release.of(tiny().manifest)
    old = release.model_copy(update={"yanked": "old"})
    return Index(cells={"high/tiny": {version: old if version in yanked else release for version in versions}})


CHOICES = {
    "^1": "1.10.0",
    "^1.2": "1.10.0",
    "~1.2": "1.2.9",
    "1": "1.10.0",
    "1.2": "1.2.9",
    ">=1.1,<1.10": "1.9.0",
    "^2.0.0-rc.1": "2.0.0-rc.2",
    "^1.11.0": None,
    "^3": None,
    ">=0.1": "1.10.0",
}


@pytest.mark.parametrize("text", CHOICES)
def test_a_range_is_the_newest_version_in_it(text):
    versions = ["1.2.0", "1.2.9", "1.2.10", "1.9.0", "1.10.0", "1.10.1-rc.1", "1.11.0", "2.0.0-rc.1", "2.0.0-rc.2"]
    index = many_versions(*versions, yanked=("1.2.10", "1.11.0"))
    reference = Reference.parse(f"high/tiny@{text}")
    if CHOICES[text] is not None:
        assert index.resolve(reference)[0] == CHOICES[text]
        return
    with pytest.raises(NotFoundError) as caught:
        index.resolve(reference)
    assert caught.value.code == "NO_VERSION"
    assert "one of 1.2.0, 1.2.9, 1.2.10, 1.9.0" in str(caught.value)
    assert "never chosen automatically" in str(caught.value)


small_versions = st.builds(
    lambda a, b, c, s: f"{a}.{b}.{c}{s}",
    *(st.integers(0, 2) for _ in range(3)),
    st.sampled_from(["", "", "", "-rc.1", "-rc.2", "+b"]),
)
range_texts = st.sampled_from(
    ["^0", "^1", "^0.1", "~1", "~1.1", "1", "1.2", ">=1", ">1", "<2", "<=1.1", ">=0.1,<2", "^1.0.0-rc.2"]
)


@pytest.mark.slow
@settings(deadline=None)
@given(versions=st.sets(small_versions, min_size=1, max_size=8), text=range_texts, data=st.data())
def test_nothing_newer_in_the_range_could_have_been_chosen(versions, text, data):
    yanked = data.draw(st.sets(st.sampled_from(sorted(versions))))
    index = many_versions(*versions, yanked=yanked)
    usable = [version for version in versions if Range.parse(text).allows(version) and version not in yanked]
    chosen = index.newest("high/tiny", Range.parse(text))
    if chosen is None:
        assert usable == []
    else:
        assert chosen in usable
        assert all(Version.parse(chosen) >= version for version in usable)


def test_a_near_version_is_named():
    with pytest.raises(NotFoundError, match=r"Did you mean 1\.10\.0"):
        many_versions("1.10.0", "2.0.0").resolve(Reference.parse("high/tiny@1.10.1"))


def test_a_yank_is_made_once_and_hides_nothing():
    index = index_of(tiny(), tiny(version="1.1.0", seed=1))
    yanked = index.with_yank("high/tiny", "1.1.0", "wrong photographs")
    assert (yanked.number, yanked.previous) == (index.number + 1, sha256(index.sealed()))
    assert read(yanked.sealed()) == yanked
    assert yanked.resolve(Reference.parse("high/tiny@^1"))[0] == "1.0.0"
    assert yanked.resolve(Reference.parse("high/tiny@1.1.0"))[1].yanked == "wrong photographs"
    assert yanked.with_yank("high/tiny", "1.1.0", "wrong photographs") is yanked
    assert yanked.with_release("high/tiny", "1.1.0", Release.of(tiny(version="1.1.0", seed=1).manifest)) is yanked
    with pytest.raises(ConflictError) as caught:
        yanked.with_yank("high/tiny", "1.1.0", "another")
    assert caught.value.code == "YANKED"
    assert "wrong photographs" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "version", "reason", "code"),
    [
        ("high/tinny", "1.0.0", "x", "NO_CELL"),
        ("high/tiny", "9.0.0", "x", "NO_VERSION"),
        ("high/tiny", "1.0", "x", "NO_VERSION"),
        ("high/tiny", "1.0.0", "", "REASON"),
        ("high/tiny", "1.0.0", "  ", "REASON"),
        ("high/tiny", "1.0.0", "two\nlines", "REASON"),
        ("high/tiny", "1.0.0", "\x1b[31mred", "REASON"),
        ("high/tiny", "1.0.0", "no \udcff text", "REASON"),
        ("high/tiny", "1.0.0", "x" * 2001, "REASON"),
    ],
)
def test_what_cannot_be_yanked(path, version, reason, code):
    with pytest.raises(BatteriesError) as caught:
        index_of(tiny()).with_yank(path, version, reason)
    assert caught.value.code == code


def test_unknown_version_lists_the_versions():
    index = index_of(tiny(version="1.0.0-rc.1"), tiny(version="1.0.0-rc.2"))
    for text in ("high/tiny", "high/tiny@3.0.0", "high/tiny@sha256:" + "f" * 64):
        with pytest.raises(NotFoundError) as caught:
            index.resolve(Reference.parse(text))
        assert caught.value.code == "NO_VERSION"
        assert "1.0.0-rc.1, 1.0.0-rc.2" in str(caught.value)


def test_a_digest_is_the_newest_version_with_those_weights():
    index = index_of(tiny(version="1.0.0"), tiny(version="1.0.1"), tiny(version="1.0.2", seed=5))
    assert index.resolve(Reference.parse(f"high/tiny@sha256:{tiny().digest}"))[0] == "1.0.1"


def test_other_bytes_under_a_version_conflict(small):
    with pytest.raises(ConflictError) as caught:
        small.with_release("high/tiny", "1.0.0", Release.of(tiny(description="other").manifest))
    assert (caught.value.code, caught.value.exit_code) == ("VERSION_EXISTS", 6)


def test_an_index_that_readers_would_refuse_is_not_sealed(small, monkeypatch):
    monkeypatch.setattr(sys.modules["registry.catalog.index"], "MAX_INDEX", 100)
    with pytest.raises(PolicyError, match="INDEX_FULL"):
        small.sealed()


def test_summary_of_a_degenerate_cell():
    manifest = tiny().manifest
    flat = manifest.model_copy(update={"measured": {"noise16-64": measured(None, None).model_copy(update={"held": None})}})
    summary = Summary.of(flat)
    assert (summary.cv, summary.cv_standard_error, summary.ratio) == (None, None, None)
    assert (summary.on_attractor, summary.holds) == (None, None)
    assert (summary.D, summary.parameters, summary.mse) == (SPEC.D, SPEC.parameters, 0.25)


def test_summary_rests_on_the_axial_cv_where_there_is_one():
    manifest = tiny().manifest
    old = Summary.of(manifest)
    assert (old.axial_cv, old.ratio) == (None, manifest.own.cv.ratio)
    assert b"axial" not in old.to_bytes()
    assert old.words[1] == "CV 0.920"
    axial = manifest.own.cv.model_copy(update={"value": 1.2, "ratio": 1.3, "on_attractor": False, "corrected": True})
    own = manifest.own.model_copy(update={"axial_cv": axial})
    new = Summary.of(manifest.model_copy(update={"measured": {"noise16-64": own}}))
    assert (new.cv, new.axial_cv, new.ratio, new.on_attractor) == (0.92, 1.2, 1.3, False)
    assert new.words[1] == "axial CV 1.200"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_edits_of_an_index_are_typed(small, data):
    raw = bytearray(small.sealed())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position : position + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    if bytes(raw) != small.sealed():
        with pytest.raises(BatteriesError, match=DAMAGED):
            read(bytes(raw))
