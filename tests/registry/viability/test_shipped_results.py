"""Results of untrained cells that ship with the package: used, checked by digest, and computed again on request."""

import numpy as np
import pytest

import batteries
import registry
from batteries.errors import IntegrityError
from batteries.io import atomic_files
from batteries.io.canonical_json import Document, load_document
from batteries.model.patch_svae import PatchSVAE
from registry.viability import controls, shipped_results
from registry.viability.controls import untrained_cell
from registry.viability.result_cache import ResultCache
from registry.viability.runner import Runner
from registry.viability.shipped_results import ShippedResults
from registry.viability.tasks import own_hosts, own_tasks
from registry.viability.unhosted import CONTROL_SEED

QUICK = registry.PROFILES["quick"]


class Part(Document):
    number: int


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of one result in the place of the one that ships."""
    results = {shipped_results.address(Part, {"seed": 0}): {"number": 7}}
    path = tmp_path / "results.json"
    path.write_bytes(ShippedResults.of(results, "2.0").to_bytes())
    monkeypatch.setattr(shipped_results, "PATH", path)
    shipped_results.shipped.cache_clear()
    yield path
    shipped_results.shipped.cache_clear()


def test_a_shipped_result_is_used_and_a_fresh_one_is_not(file):
    assert ResultCache().recall(Part, {"seed": 0}, lambda: Part(number=1)).number == 7
    assert ResultCache().recall(Part, {"seed": 1}, lambda: Part(number=1)).number == 1
    assert ResultCache(fresh=True).recall(Part, {"seed": 0}, lambda: Part(number=1)).number == 1


def test_a_changed_file_is_refused(file):
    file.write_bytes(file.read_bytes().replace(b'"number":7', b'"number":8'))
    with pytest.raises(IntegrityError) as caught:
        shipped_results.find(Part, {"seed": 0})
    assert caught.value.code == "DIGEST_MISMATCH"


def test_results_of_another_version_of_the_package_are_not_used(file):
    found = load_document(ShippedResults, file.read_bytes(), where=file, limit=2**20)
    file.write_bytes(found.model_copy(update={"package": "0.0.1"}).to_bytes())
    assert shipped_results.find(Part, {"seed": 0}) is None


def test_a_package_without_the_file_computes(file):
    file.unlink()
    assert shipped_results.find(Part, {"seed": 0}) is None


class MissedError(Exception):
    pass


class Shipped(ResultCache):
    """A cache that computes nothing."""

    def recall(self, kind, key, make):
        found = shipped_results.find(kind, key)
        if found is None:
            raise MissedError(f"{kind.__name__} does not ship")
        return found


def runner_of(reference):
    cell = registry.load(reference)
    own = batteries.probe(cell.manifest.own_probe)
    tasks = own_tasks(own, QUICK, 0)
    return Runner(cell, QUICK, own, tasks, own_hosts(QUICK), 0, Shipped(), lambda words, done, parts: None)


@pytest.mark.parametrize("found", registry.find("*/*", registry="embedded"), ids=lambda found: str(found.reference))
def test_the_null_of_every_shipped_cell_ships(found):
    assert len(runner_of(str(found.reference)).null().mse) == QUICK.untrained


def test_the_trials_of_untrained_cells_ship_for_machines_whose_last_bits_differ(monkeypatch):
    """Orthogonal initial weights come from a factorisation, which rounds as the processor's library does."""
    whole = controls._untrained
    monkeypatch.setattr(
        controls, "_untrained", lambda *one: {name: array * np.float32(1 + 2e-7) for name, array in whole(*one).items()}
    )
    runner = runner_of("high/johanna-64")
    digests = {runner.untrained(0).digest, controls._of_weights(runner.cell.manifest, whole(runner.cell, 0)).digest}
    assert len(digests) == 2
    assert len(runner.frozen(runner.untrained(CONTROL_SEED), 1, runner.deciding)) == len(runner.hosts)
    assert runner.untrained_return().subject == "untrained"


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["low/fresnel-64", "high/johanna-64"])
def test_what_ships_is_what_would_be_computed(reference):
    runner = runner_of(reference)
    null = runner.null()
    model = PatchSVAE.from_cell(untrained_cell(runner.cell, 0))
    assert null.mse[0] == pytest.approx(float(runner.read(model).mse.mean()), rel=1e-4)
    shipped = [(figure.reads, figure.loss) for figure in null.readouts[:2]]
    computed = [(figure.reads, pytest.approx(figure.loss, rel=1e-3)) for figure in runner.readouts(model, "untrained")]
    assert shipped == computed


def test_the_file_is_a_document_within_its_limit():
    data = atomic_files.read(shipped_results.PATH, limit=shipped_results.MAX_FILE)
    found = load_document(ShippedResults, data, where="shipped results", limit=shipped_results.MAX_FILE)
    assert found.package == batteries.__version__
    assert found.to_bytes() == data
