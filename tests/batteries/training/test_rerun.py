"""The first steps of a recorded run, run again."""

import shlex

import pytest
from PIL import Image

import batteries
from batteries import Cell
from batteries.data.probes import photographs
from batteries.data.sources import PhotoSource
from batteries.errors import InputError, NotFoundError
from batteries.training.recipe import Recipe
from batteries.training.rerun import Readings, Rerun, reading_differences

pytestmark = [pytest.mark.usefixtures("few_in_module"), pytest.mark.slow]
OPTIONS = "--batch 2 --size 16 --rows 12 --hidden 8"
COMMAND = f"batteries train high/tiny-16 --steps 6 --noise {OPTIONS}"


def trained(command=COMMAND, source=None, start=None):
    """A cell of a recorded command."""
    recipe = Recipe.parse(command)
    source = source or recipe.source(batteries.read_photos(*recipe.photos) if recipe.photos else None)
    plan = recipe.plan(start.digest if start else None)
    probe = batteries.own_probe(source.facts.kind, plan.size)
    run = batteries.train(plan, source, probe, start=start, allow_probe_photos=recipe.allow_probe_photos)
    label = batteries.Label(name="tiny-16", version="1.0.0", family="tiny", license="MIT", description="")
    return batteries.package(run, source, label, command)


@pytest.fixture(scope="module")
def cell(few_in_module):
    return trained()


def prepared(cell, start=None, photos=()):
    return Rerun.of(cell.manifest, Recipe.parse(cell.manifest.training.command), start, photos=photos)


def altered(cell, **training):
    facts = cell.manifest.training.model_copy(update=training)
    return Cell(cell.weights, cell.manifest.model_copy(update={"training": facts}))


def test_a_run_repeats_to_the_last_bit(cell):
    rerun = prepared(cell)
    found = rerun.run(cell.manifest.own_probe)
    assert rerun.contradictions(cell.manifest) == []
    assert found == Readings(steps=6, points=cell.manifest.training.trajectory)
    assert [*reading_differences(cell.manifest.training.trajectory, found)] == []


@pytest.mark.parametrize(
    "options",
    [
        "--optimiser lbfgs --fixed-batch --schedule linear",
        "--hand penalty --boost 2 --schedule restarts",
        "--hand penalty --later-boost 3 --adaptive-clip --fixed-readout --set readout=narrow_sphere",
        "--optimiser sgd --momentum 0.0 --rate 0.1 --clip 0.0 --hand measured",
    ],
)
def test_a_run_of_other_settings_repeats_to_the_last_bit(options):
    cell = trained(f"{COMMAND} {options}")
    found = prepared(cell).run(cell.manifest.own_probe)
    assert prepared(cell).contradictions(cell.manifest) == []
    assert found.points == cell.manifest.training.trajectory


def test_it_stops_before_the_end_on_the_schedule_of_the_whole(monkeypatch, cell):
    whole = trained(COMMAND.replace("--steps 6", "--steps 260"))
    monkeypatch.setattr("batteries.training.rerun.STEPS", 250)
    found = prepared(whole).run(whole.manifest.own_probe)
    assert found.steps == 250
    assert found.points == whole.manifest.training.trajectory[:1]
    assert [point.step for point in whole.manifest.training.trajectory] == [250, 260]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mse": 0.5}, "MSE at step 6 0.5 claimed"), ({"cv": 0.5}, "CV at step 6"), ({"cv": None}, "CV at step 6 None claimed")],
)
def test_another_reading_is_named(cell, change, words):
    (point,) = cell.manifest.training.trajectory
    found = Readings(steps=6, points=(point,))
    (wrong,) = reading_differences([point.model_copy(update=change)], found)
    assert words in str(wrong)


def test_a_reading_at_a_step_without_one_is_named(cell):
    (point,) = cell.manifest.training.trajectory
    (wrong,) = reading_differences([point.model_copy(update={"step": 5})], Readings(steps=6, points=(point,)))
    assert "reading at step 5" in str(wrong)
    assert [*reading_differences([point.model_copy(update={"step": 7})], Readings(steps=6, points=(point,)))] == []


@pytest.mark.parametrize(
    ("change", "name"), [({"seed": 1}, "seed"), ({"batch": 3}, "batch"), ({"schedule": "cosine"}, "optimiser")]
)
def test_facts_that_are_not_those_of_the_command_are_named(cell, change, name):
    other = altered(cell, **change)
    (wrong,) = prepared(cell).contradictions(other.manifest)
    assert str(wrong).startswith(f"{name}")


def test_noise_of_other_types_cannot_be_had(cell):
    other = altered(cell, data=batteries.NoiseSource(types=(0,)).facts)
    with pytest.raises(NotFoundError) as caught:
        prepared(other)
    assert caught.value.code == "NO_DATA"


def test_photographs_are_compared_by_digest(tmp_path):
    folder = tmp_path / "two words"
    folder.mkdir()
    Image.linear_gradient("L").save(folder / "a.png")
    command = f"batteries train high/tiny-16 --steps 2 --photos {shlex.quote(str(folder))} --mix 0.5 {OPTIONS}"
    cell = trained(command)
    rerun = prepared(cell, photos=[folder])
    assert rerun.run(cell.manifest.own_probe).points == cell.manifest.training.trajectory
    Image.radial_gradient("L").save(folder / "b.png")
    with pytest.raises(NotFoundError) as caught:
        prepared(cell, photos=[folder])
    assert caught.value.code == "NO_DATA"
    assert str(folder) in str(caught.value)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(NotFoundError, match="NO_DATA"):
        prepared(cell, photos=[folder])


def test_no_place_in_a_manifest_is_read(tmp_path, cell):
    """A foreign manifest may name ``/**``: every file of the machine."""
    Image.linear_gradient("L").save(tmp_path / "a.png")
    photos = batteries.read_photos(tmp_path)
    command = f"batteries train high/tiny-16 --steps 6 --photos {shlex.quote(str(tmp_path))} {OPTIONS}"
    recorded = altered(cell, command=command, data=PhotoSource(photos, "unknown", "unknown").facts)
    with pytest.raises(NotFoundError, match="NO_DATA") as caught:
        prepared(recorded)
    assert "--photos" in caught.value.remedy
    assert prepared(recorded, photos=[tmp_path]).source.facts.digest == photos.digest


def test_bundled_photographs_are_found_wherever_the_command_had_them(cell):
    photos = batteries.read_photos(photographs()[0].parent)
    recorded = altered(
        cell,
        command=f"batteries train high/tiny-16 --steps 6 --photos /elsewhere --allow-probe-photos {OPTIONS}",
        data=PhotoSource(photos, "unknown", "unknown").facts,
    )
    assert prepared(recorded).source.facts.digest == photos.digest


def test_a_cell_to_start_from_is_part_of_the_run(cell, tmp_path):
    path = cell.write(tmp_path)
    command = f"batteries train high/tiny-16 --steps 2 --noise --start {path} {OPTIONS}"
    later = trained(command, start=cell)
    rerun = prepared(later, cell)
    assert rerun.contradictions(later.manifest) == []
    assert rerun.run(later.manifest.own_probe).points == later.manifest.training.trajectory
    other = trained(COMMAND + " --seed 1")
    (wrong,) = prepared(later, other).contradictions(later.manifest)
    assert other.digest in str(wrong)


def test_an_adopted_cell_has_no_command(cell):
    with pytest.raises(InputError, match="NO_RECIPE"):
        prepared(altered(cell, command="batteries adopt a.pt --name high/tiny-16 --input plain --noise"))
