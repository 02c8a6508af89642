"""Model cards and bundles of manifests: pure functions."""

import json

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from batteries.cell.manifest import CvFigure
from batteries.cell.model_card import cell_card, escape, front_matter
from batteries.io import canonical_json
from registry import MemoryStore
from registry.catalog import manifest_bundle
from registry.catalog.index import Index
from registry.stores.registry_card import registry_card
from tests.support.cells import publish, tiny, with_axial
from tests.support.costs import at_most, peak_of
from tests.support.soak import many

ADDRESS = "hf://local/cells"


def filled(*some):
    """A registry in memory."""
    store = MemoryStore()
    for cell in some:
        publish(cell, store)
    return store


def test_a_card_is_the_same_bytes_for_the_same_index():
    index = Index.from_bytes(filled(tiny("b"), tiny("a", seed=1)).read_index(), where="")
    card = registry_card(index, ADDRESS)
    assert card == registry_card(index, ADDRESS)
    assert card.index("high/a@1.0.0") < card.index("high/b@1.0.0")
    assert f"batteries pull high/a --registry {ADDRESS}" in card
    assert registry_card(Index(), ADDRESS).startswith("---\n")


def test_a_licence_is_named_where_it_is_one_that_the_hub_knows():
    def license(*names):
        return front_matter(names).splitlines()[2]

    assert license("CC-BY-4.0", "cc-by-4.0") == "license: cc-by-4.0"
    assert license("MIT", "Apache-2.0") == license("MIT\nx: y") == license("LicenseRef-x") == license() == "license: other"


def test_a_cells_card_lists_its_figures_as_results():
    manifest = tiny().manifest
    data = ModelCard(cell_card(manifest, "me/a"), ignore_metadata_errors=False).data
    assert (data.model_name, data.library_name, data.license) == ("me/a", "svae-batteries", manifest.identity.license.lower())
    found = {(result.dataset_type, result.metric_type): result for result in data.eval_results}
    assert found[manifest.own_probe, "mse"].metric_value == manifest.own.mse.value
    assert found[manifest.own_probe, "effective_rank"].dataset_args["sha256"] == manifest.own.probe_digest
    assert ((manifest.own_probe, "cv") in found) == isinstance(manifest.own.cv, CvFigure)
    assert {probe for probe, _ in found} == set(manifest.measured)


def test_both_cvs_are_on_the_cards_where_the_manifest_has_both():
    cell = with_axial(tiny("b"), 0.9876)
    own, card = (cell_card(one.manifest, "me/b") for one in (tiny("b"), cell))
    assert "axial" not in own
    assert "| CV | 0.92 |" in card
    assert "| CV (axial) | 0.9876 |" in card
    assert "Axial simplex CV" in card
    index = Index.from_bytes(filled(tiny("a", seed=1), cell).read_index(), where="")
    rows = [line for line in registry_card(index, ADDRESS).splitlines() if line.startswith("| high/")]
    assert [row.split(" | ")[4:6] for row in rows] == [["0.92", "-"], ["0.92", "0.9876"]]


def test_a_registrys_card_has_no_results():
    assert "model-index" not in registry_card(Index(), ADDRESS)


@pytest.mark.slow
@given(st.text(max_size=80))
def test_no_text_breaks_out_of_its_field(text):
    shown = escape(text)
    assert "\n" not in shown
    assert shown.isprintable()
    bare = shown.replace("\\\\", "")
    for mark in "|<>[]`*_&":
        assert bare.count(mark) == bare.count(f"\\{mark}")


VALUES = st.none() | st.integers(-9, 9) | st.text(max_size=5)


@pytest.mark.slow
@settings(max_examples=many(50, 2000))
@given(
    st.dictionaries(st.sampled_from([f"low/x/{n}.0.0.json" for n in range(9)]), st.dictionaries(st.text(max_size=5), VALUES))
)
def test_a_bundle_holds_what_was_packed(documents):
    manifests = {key: canonical_json.dump(value) for key, value in documents.items()}
    packed = manifest_bundle.pack(manifests)
    assert manifest_bundle.unpack(packed) == manifests
    assert len(packed) <= manifest_bundle.size({key: len(data) for key, data in manifests.items()})
    for line in packed.splitlines():
        assert canonical_json.dump(json.loads(line)) == line + b"\n"


@given(st.binary(max_size=200))
def test_nonsense_is_no_bundle(data):
    manifest_bundle.unpack(data)


@pytest.mark.parametrize("line", [b"\n", b"a\n", b"\r", b'{"key":"', b'{"key":"low/x/1.0.0.json","manifest":{', b"}}\n"])
def test_nonsense_costs_no_more_than_its_bytes(line, frozen_heap):
    data = line * (8 * 2**20 // len(line))
    with at_most(seconds=1):
        assert manifest_bundle.unpack(data) == {}
    assert peak_of(lambda: manifest_bundle.unpack(data)) < len(data)
