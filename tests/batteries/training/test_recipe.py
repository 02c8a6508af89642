"""Recipes: what ``batteries train`` is told, and what a manifest records of it."""

import inspect
import shlex

import pytest

import batteries
import registry
from batteries.errors import InputError
from batteries.training.plan import RATES
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


def test_every_field_of_the_spec_may_be_set():
    settings = "D=8 V=40 patch_size=8 hidden=24 depth=2 cross_layers=3 heads=4 smooth_width=4 activation=silu row_norm=none"
    words = [word for text in [*settings.split(), "bounded_alpha=false", "init=small_normal"] for word in ("--set", text)]
    plan = Recipe.parse(f"batteries train mid/x --noise --steps 1 --optimiser muon {shlex.join(words)}").plan(None)
    assert (plan.optimiser, plan.rate) == ("muon", RATES["muon"])
    told = {"depth": 2, "cross_layers": 3, "heads": 4, "smooth_width": 4, "activation": "silu", "row_norm": "none"}
    assert plan.spec == batteries.CellSpec(
        D=8, V=40, patch_size=8, hidden=24, bounded_alpha=False, init="small_normal", channels=3, **told
    )


def test_heads_are_those_of_the_width_that_is_set():
    assert Recipe.parse("batteries train open/x --noise --steps 1 --preset low --set D=6").plan(None).spec.heads == 2
    assert (
        Recipe.parse("batteries train open/x --noise --steps 1 --preset low --set D=6 --set heads=3").plan(None).spec.heads == 3
    )


def test_older_options_mean_what_they_meant():
    old = Recipe.parse("batteries train high/x --noise --steps 1 --rows 12 --hidden 8 --rate 0.003")
    new = Recipe.parse("batteries train high/x --noise --steps 1 --set V=12 --set hidden=8 --rate 0.003")
    assert old.plan(None).to_bytes() == new.plan(None).to_bytes()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["depht=2"], "expected V | D | patch_size | hidden"),
        (["D"], "expected NAME=VALUE, got D"),
        (["=3"], "unknown field"),
        (["D=8", "D=16"], "duplicate field of a spec: got D=8 and D=16"),
        (["D=x"], "D: "),
        (["D="], "D: "),
        (["D=1e99"], "D: "),
        (["D=" + "9" * 5000], "D: "),
        (["D=4.0"], "D: "),
        (["D=true"], "D: "),
        (["bounded_alpha=1"], "bounded_alpha: "),
        (["activation=step", "V=2"], "V: "),
        (["activation=step", "V=2"], "activation: "),
        (["D=16", "heads=3"], "heads must divide D"),
        (["D=9999999999"], "D: Input should be less than or equal to 256"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(settings, says):
    words = [word for text in settings for word in ("--set", text)]
    with pytest.raises(InputError) as caught:
        Recipe.parse(shlex.join(["batteries", "train", "high/x", "--noise", "--steps", "1", *words])).plan(None)
    assert caught.value.code == "SPEC"
    assert says in str(caught.value)


@pytest.mark.filterwarnings("ignore::registry.YankedWarning")
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


@pytest.mark.parametrize(
    ("words", "mix"), [("--noise", "batteries"), ("--noise batteries", "batteries"), ("--noise published", "published")]
)
def test_noise_names_its_mix(words, mix):
    for command in (f"high/x {words} --steps 1", f"high/x --steps 1 {words}"):
        recipe = Recipe.parse(f"batteries train {command}")
        assert recipe.source(None) == batteries.NoiseSource(mix=mix)
        assert recipe.steps == 1


def test_places_with_spaces_and_dashes_are_kept():
    places = ["a b/*.png", "--odd", "it's"]
    words = ["batteries", "train", "low/x", "--steps", "1", *(word for place in places for word in ("--photos", place))]
    recipe = Recipe.parse(shlex.join([*words, "--mix", "0.25", "--allow-probe-photos"]))
    assert (recipe.photos, recipe.mix, recipe.allow_probe_photos) == (tuple(places), 0.25, True)


def test_the_defaults_of_the_command_are_those_of_the_recipe():
    defaults = {name: given.default for name, given in inspect.signature(train).parameters.items()}
    fields = {name: field.default for name, field in Recipe.model_fields.items() if not field.is_required()}
    assert {name: defaults[name] for name in fields} == {**fields, "photos": None, "set": None}


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
        ("batteries train high/x --steps 1 --noise --optimiser lion", "USAGE"),
        ("batteries train high/x --steps 1 --noise pink", "USAGE"),
        ("batteries train high/x --steps 1 --noise published --photos x", "USAGE"),
        ("batteries train high/x --steps 1 --noise --rate fast", "USAGE"),
    ],
)
def test_a_command_that_trains_nothing_is_refused(command, code):
    with pytest.raises(InputError) as caught:
        Recipe.parse(command)
    assert caught.value.code == code


@pytest.mark.parametrize("option", ["--rate -1", "--rate 0", "--size 0", "--batch 0", "--rows 2", "--rows 12 --set V=13"])
def test_a_plan_that_cannot_be_is_refused(option):
    with pytest.raises(InputError, match=r"\[(USAGE|SPEC)\]"):
        Recipe.parse(f"batteries train high/x --noise --steps 1 {option}").plan(None)


def test_torch_is_not_needed_to_read_a_recipe():
    code = "import sys; from batteries.training.recipe import Recipe; "
    code += f"Recipe.parse({COMMAND!r}).plan(None); assert 'torch' not in sys.modules"
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_noise_types_in_any_order_are_one_source():
    first, second = (
        Recipe.parse(f"batteries train high/x --steps 1 --noise published --types {types}").source(None)
        for types in ("pink,brown", "brown,pink")
    )
    assert first == second == batteries.NoiseSource((4, 5), "published")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("--noise --types pink,mauve", "NOISE_TYPE", "got mauve"),
        ("--noise --types pink,pink", "NOISE_TYPE", "duplicate noise type"),
        ("--noise --types ''", "NOISE_TYPE", "unknown noise type"),
        ("--types pink", "USAGE", "--noise (with --types"),
        ("--photos . --types pink", "USAGE", "--noise (with --types"),
        ("--photos . --mix 0.2 --types pink", "USAGE", "--noise (with --types"),
    ],
)
def test_noise_types_that_are_refused(words, code, says):
    with pytest.raises(InputError) as caught:
        Recipe.parse(f"batteries train high/x --steps 1 {words}").source(None)
    assert caught.value.code == code
    assert says in str(caught.value)
