"""Manifests edited in their favour are refused by ``publish``; what cannot be measured again is published as a claim."""

import numpy as np
import pytest

import batteries
import registry
from batteries import Cell
from batteries.cell.input_scale import of_unit_images
from batteries.cell.model_card import cell_card
from batteries.errors import PolicyError
from batteries.training.recipe import Recipe
from registry.reports import tables
from registry.stores.memory import MemoryStore
from registry.transfer import remeasure
from tests.support.cells import tiny
from tests.support.commands import run

NAME = "high/fresnel-64"


@pytest.fixture(scope="module")
def cell():
    return registry.load(f"{NAME}@1.0.0")


@pytest.fixture(scope="module", autouse=True)
def measured_once():
    """Remember measurements of equal weights, for they are what takes time."""
    known, measure = {}, remeasure.measure

    def remembered(model, on, *, input, like):
        form = like.axial_cv is None, getattr(like.cv, "corrected", False)
        key = on.name, str(input), form, sum(float(weight.detach().double().sum()) for weight in model.parameters())
        if key not in known:
            known[key] = measure(model, on, input=input, like=like)
        return known[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(remeasure, "measure", remembered)
        yield


def edited(cell, table="measured", probe=None, **fields):
    """The cell with other figures on one of its probes."""
    manifest, probe = cell.manifest, probe or cell.manifest.own_probe
    figures = getattr(manifest, table)
    return Cell(
        cell.weights,
        manifest.model_copy(update={table: {**figures, probe: figures[probe].model_copy(update=fields)}}),
    )


def history(cell, **training):
    return Cell(
        cell.weights,
        cell.manifest.model_copy(update={"training": cell.manifest.training.model_copy(update=training)}),
    )


def figure(cell, name, **fields):
    return {name: getattr(cell.manifest.own, name).model_copy(update=fields)}


def refused(cell):
    """The words of the refusal; nothing was written."""
    store = MemoryStore()
    with pytest.raises(PolicyError) as caught:
        registry.publish(cell, store)
    assert (caught.value.code, store.keys()) == ("REPLAY_MISMATCH", [])
    return str(caught.value)


@pytest.mark.slow
def test_a_cell_that_ships_is_published_with_its_steps_told(cell):
    steps, store = [], MemoryStore()
    assert registry.publish(cell, store, progress=steps.append).new
    assert steps == ["measuring", "writing"]
    assert registry.mirror(store, MemoryStore()).copied == 1


@pytest.mark.slow
def test_a_cell_trained_here_is_published():
    command = "batteries train high/tiny-16 --steps 2 --noise --batch 2 --size 16 --rows 12 --hidden 8 --seed 3"
    recipe = Recipe.parse(command)
    source = recipe.source(None)
    trained = batteries.train(recipe.plan(None), source, "noise16-64")
    label = batteries.Label(name="tiny-16", version="1.0.0", family="tiny", license="MIT", description="")
    cell = batteries.package(trained, source, label, command)
    assert registry.publish(cell, MemoryStore()).new
    data = cell.manifest.training.data.model_copy(update={"noise_mix": "published"})
    other = cell.manifest.training.model_copy(update={"data": data})
    found = refused(Cell(cell.weights, cell.manifest.model_copy(update={"training": other})))
    assert "noise mix of the own probe batteries claimed, published measured" in found
    later = cell.manifest.training.model_copy(update={"seed": 4})
    found = refused(Cell(cell.weights, cell.manifest.model_copy(update={"training": later})))
    assert "untrained MSE" in found


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda cell: figure(cell, "cv", value=0.95), "photos-64: CV 0.95 claimed, 1.01335"),
        (lambda cell: figure(cell, "cv", standard_error=1e-6), "standard error of the CV 1e-06 claimed"),
        (lambda cell: figure(cell, "effective_rank", value=3.999), "effective rank 3.999 claimed"),
        (lambda cell: figure(cell, "cv", ratio=1.0), "CV / exact CV 1 claimed, 1.0978"),
        (lambda cell: figure(cell, "mse", value=1e-6), "MSE 1e-06 claimed, 4.25"),
        (lambda cell: figure(cell, "mse", standard_error=1e-9), "standard error of the MSE 1e-09 claimed"),
        (lambda cell: figure(cell, "cv", on_attractor=False), "on attractor False claimed, True measured"),
        (lambda cell: {"spectrum": (9.0, *cell.manifest.own.spectrum[1:])}, "S[0] 9 claimed"),
        (lambda cell: {"radius_error": 0.0001}, "radius error 0.0001 claimed"),
        (lambda cell: {"mse_by_group": dict.fromkeys(cell.manifest.own.mse_by_group, 1e-6)}, "MSE of chelsea 1e-06 claimed"),
        (lambda cell: figure(cell, "held", ratio=1.0), "held, ratio 1 claimed"),
    ],
)
def test_an_edited_figure_is_refused_by_name(cell, edit, words):
    assert words in refused(edited(cell, **edit(cell)))


def test_every_edited_figure_is_listed(cell):
    own = cell.manifest.own
    lies = figure(cell, "cv", value=0.9, ratio=0.975) | figure(cell, "mse", value=1e-6) | {"radius_error": 1.0}
    found = refused(edited(edited(cell, **lies), "untrained", mse=own.mse))
    for words in ("CV 0.9 claimed", "MSE 1e-06 claimed", "radius error 1 claimed", "untrained MSE 4.2"):
        assert words in found
    assert found.count("tolerance") >= 4


def test_figures_on_the_other_probe_and_of_the_untrained_cell_are_measured(cell):
    other = cell.manifest.measured["noise16-64"]
    mse = other.mse.model_copy(update={"value": other.mse.value / 2})
    assert "noise16-64: MSE" in refused(edited(cell, probe="noise16-64", mse=mse))
    null = cell.manifest.untrained["photos-64"].mse.model_copy(update={"value": 2.0})
    assert "photos-64: untrained MSE 2 claimed" in refused(edited(cell, "untrained", mse=null))
    baselines = cell.manifest.own.baselines.model_copy(update={"mean": 2.0})
    assert "baselines of the untrained cell" in refused(edited(cell, "untrained", baselines=baselines))


def test_a_band_is_refused_before_anything_is_measured(cell):
    with pytest.raises(PolicyError, match="BAND_DENIED"):
        registry.publish(edited(cell, band="low"), MemoryStore())


def test_figures_of_a_probe_that_is_not_ours_cannot_be_published(cell):
    for strange in (edited(cell, probe="noise16-64", probe_digest="0" * 64), tiny()):
        store = MemoryStore()
        with pytest.raises(PolicyError) as caught:
            registry.publish(strange, store)
        assert (caught.value.code, store.keys()) == ("UNKNOWN_PROBE", [])
        assert "noise16-64" in str(caught.value.found)


@pytest.mark.slow
def test_another_input_scale_has_other_figures(cell):
    scale = of_unit_images((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    identity = cell.manifest.identity.model_copy(update={"input": scale})
    assert "MSE" in refused(Cell(cell.weights, cell.manifest.model_copy(update={"identity": identity})))


@pytest.mark.slow
def test_linear_codes_of_generated_noise_are_fitted_again():
    noise = registry.load("high/attractor-64")
    baselines = noise.manifest.own.baselines.model_copy(update={"pca_width": 2.0})
    assert "baseline pca_width 2 claimed, 0.90" in refused(edited(noise, baselines=baselines))


@pytest.mark.slow
def test_results_that_are_not_finite_are_a_difference(cell):
    weights = {name: np.array(array) for name, array in cell.weights.items()}
    weights["dec_out.weight"] = np.full_like(weights["dec_out.weight"], 3e38)
    found = dict(registry.measure_again(Cell(weights, cell.manifest), exact=False))
    assert [words.split(" claimed")[0] for words in found["photos-64"][:1]] == ["figures finite"]


# Forged trajectories.


def test_a_moved_triage_contradicts_the_readings(cell):
    points = cell.manifest.training.trajectory
    triage = cell.manifest.training.triage
    assert points[7].step == 2000
    lost = tuple(point for point in points if point.step != 1000)
    assert "band at triage, step 1000" in refused(history(cell, trajectory=lost))
    assert "band at triage, step 1001" in refused(history(cell, triage=triage.model_copy(update={"step": 1001})))


def test_a_deleted_trajectory_leaves_claims_without_ground(cell):
    assert "held, ratio" in refused(history(cell, trajectory=()))
    assert "step of the last reading 2250 claimed, 2500" in refused(
        history(cell, trajectory=cell.manifest.training.trajectory[:-1])
    )


def test_an_invented_trajectory_is_published_as_a_claim(cell):
    last = cell.manifest.training.trajectory[-1]
    flat = tuple(last.model_copy(update={"step": step}) for step in range(250, 2501, 250))
    held = cell.manifest.own.held.model_copy(update={"ratio": 1.0, "lower": 1.0, "upper": 1.0})
    forged, store = history(edited(cell, held=held), trajectory=flat), MemoryStore()
    registry.publish(forged, store)
    (located,) = registry.find(NAME, registry=store)
    titles = [table.title for table in tables.manifest(located, forged.manifest, located.signature())]
    for claim in ("trajectory", "training", "training data", "baselines and second flag"):
        assert f"{claim}, claimed by the maker" in titles
    assert "measured" in titles


def test_claims_are_labelled_on_a_card_and_on_a_page(cell):
    card = cell_card(cell.manifest, "me/cell")
    assert "trained on (claimed by the maker)" in card
    assert "licence of the data (claimed by the maker)" in card
    store = registry.open_store()
    (key,) = store.keys(f"attestations/{cell.digest}")
    attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    text = registry.page(attestation)
    assert "CV along training, claimed by the maker" in text
    assert "Along training: claimed by the maker, in the manifest." in text


def test_the_command_tells_the_seconds(cell, tmp_path, capsys):
    path = cell.write(tmp_path / "high")
    code, out, err = run(capsys, "publish", path, "--to", tmp_path / "registry")
    assert (code, out.split("\t")[0]) == (0, f"{NAME}@1.0.0\n".strip())
    assert "published, in index 1, not signed (measuring " in err
    assert " s, writing " in err
