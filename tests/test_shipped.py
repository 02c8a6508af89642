"""Every cell that ships: its bytes, its figures measured again, its provenance."""

import pytest

import registry
from batteries import PatchSVAE, measure, probe
from batteries.manifest import CvFigure
from registry import open_store, verify_store

NAMES = ("high/johanna-64", "low/fresnel-256", "low/johanna-64")


@pytest.fixture(scope="module")
def cells():
    return {cell.name: cell for cell in registry.pull(*NAMES)}


def test_the_embedded_registry_holds_them_and_every_byte_is_right():
    found = verify_store(open_store())
    assert {finding.error for finding in found} == {None}
    assert {finding.name for finding in found} >= {f"{name}/1.0.0.json" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_those_of_the_manifest(cells, name):
    cell = cells[name]
    for wanted in cell.manifest.measured.values():
        found = measure(PatchSVAE.from_cell(cell), probe(wanted.probe))
        assert found.probe_digest == wanted.probe_digest
        assert isinstance(found.cv, CvFigure)
        # the same seeds and images: what is left is another machine's rounding
        assert found.cv.value == pytest.approx(wanted.cv.value, abs=wanted.cv.standard_error)
        assert found.mse.value == pytest.approx(wanted.mse.value, abs=wanted.mse.standard_error)
        assert found.effective_rank.value == pytest.approx(
            wanted.effective_rank.value, abs=wanted.effective_rank.standard_error
        )
        assert found.radius_error < 1e-6
        assert found.band == wanted.band


@pytest.mark.parametrize("name", NAMES)
def test_it_is_better_than_nothing_and_says_where_it_came_from(cells, name):
    manifest = cells[name].manifest
    own, null = manifest.own, manifest.untrained[manifest.own_probe]
    assert own.mse.value + 3 * own.mse.standard_error < min(null.mse.value, own.baselines.mean)
    assert null.band == own.band  # which is why the band proves nothing
    assert manifest.training.command.startswith(f"batteries train {name} ")
    assert manifest.training.triage.passed
    assert manifest.training.data.license
    assert len(manifest.training.trajectory) >= 10


@pytest.mark.parametrize(
    ("name", "verdict"), [("low/fresnel-256", "viable"), ("low/johanna-64", "viable"), ("high/johanna-64", "walked back")]
)
def test_each_has_an_attestation(cells, name, verdict):
    store = open_store()
    index = registry.Index.from_bytes(store.read_index(), where="the embedded index")
    assert index.attestations[cells[name].digest]["first-2"].verdict == verdict
