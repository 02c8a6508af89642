"""Recipes: what ``batteries train`` is told, and what a manifest records of it."""

import inspect
import shlex

import pytest

import batteries
import registry
from batteries.errors import InputError
from batteries.training.recipe import Recipe
from registry.cli.train import train
from tests.support.cells import python

COMMAND = "batteries train high/mine-64@1.2.0 --steps 40 --noise --rate 0.003 --rows 12 --description 'two words'"


def test_a_recorded_command_makes_its_plan():
    recipe = Recipe.parse(COMMAND)
    plan = recipe.plan(None)
    assert (recipe.band, plan.steps, plan.rate, plan.batch, plan.seed) == ("high", 40, 0.003, 64, 0)
    assert plan.spec == batteries.CellSpec.preset("high", V=12)
    assert recipe.source(None).facts == batteries.NoiseSource().facts


def test_every_shipped_command_makes_the_recorded_plan():
    index = registry.Index.from_bytes(registry.open_store().read_index(), where="the embedded index")
    for path, version, _ in index.everything():
        training = (manifest := registry.load(f"{path}@{version}").manifest).training
        recipe = Recipe.parse(training.command)
        plan = recipe.plan(registry.load(recipe.start).digest if recipe.start else None)
        assert plan.describe() == (training.optimiser, training.schedule, training.soft_hand), path
        assert (plan.spec, plan.steps, plan.batch, plan.size, plan.seed) == (
            manifest.spec,
            training.steps,
            training.batch,
            training.size,
            training.seed,
        ), path


def test_places_with_spaces_and_dashes_are_kept():
    places = ["a b/*.png", "--odd", "it's"]
    words = ["batteries", "train", "low/x", "--steps", "1", *(word for place in places for word in ("--photos", place))]
    recipe = Recipe.parse(shlex.join([*words, "--mix", "0.25", "--allow-probe-photos"]))
    assert (recipe.photos, recipe.mix, recipe.allow_probe_photos) == (tuple(places), 0.25, True)


def test_the_defaults_of_the_command_are_those_of_the_recipe():
    defaults = {name: given.default for name, given in inspect.signature(train).parameters.items()}
    fields = {name: field.default for name, field in Recipe.model_fields.items() if not field.is_required()}
    assert {name: defaults[name] for name in fields} == {**fields, "photos": None}


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("python mine.py", "NO_RECIPE"),
        ("", "NO_RECIPE"),
        ("batteries train", "NO_RECIPE"),
        ("batteries adopt a.pt --name high/x --noise", "NO_RECIPE"),
        ("batteries train high/x --noise --steps", "NO_RECIPE"),
        ("batteries train high/x --noise --steps 1 --out /", "NO_RECIPE"),
        ("batteries train high/x --noise --steps 1 more", "NO_RECIPE"),
        ("batteries train high/x --noise --steps '1", "NO_RECIPE"),
        ("batteries train high/x --noise --steps many", "USAGE"),
        ("batteries train high/x --steps 1", "USAGE"),
        ("batteries train high/x --steps 1 --noise --photos x", "USAGE"),
        ("batteries train high/x --steps 1 --photos x --mix 7", "USAGE"),
        ("batteries train high/x --steps 1 --noise --preset open", "USAGE"),
    ],
)
def test_a_command_that_trains_nothing_is_refused(command, code):
    with pytest.raises(InputError) as caught:
        Recipe.parse(command)
    assert caught.value.code == code


@pytest.mark.parametrize("option", ["--rate -1", "--size 0", "--batch 0", "--rows 2"])
def test_a_plan_that_cannot_be_is_refused(option):
    with pytest.raises(InputError, match=r"\[(USAGE|SPEC)\]"):
        Recipe.parse(f"batteries train high/x --noise --steps 1 {option}").plan(None)


def test_torch_is_not_needed_to_read_a_recipe():
    code = "import sys; from batteries.training.recipe import Recipe; "
    code += f"Recipe.parse({COMMAND!r}).plan(None); assert 'torch' not in sys.modules"
    done = python(code)
    assert done.returncode == 0, done.stderr
