"""Plans: mixtures that are refused as a whole, bytes of before, and the settings of every published ablation."""

import dataclasses

import pytest
from pydantic import ValidationError

import batteries
from batteries import CellSpec, Plan
from batteries.errors import InputError
from batteries.training.plan import BOOSTS, CLIPS, RATES
from batteries.training.recipe import Recipe

HIGH = CellSpec.preset("high")
NARROW = CellSpec.preset("high", readout="narrow")
ADDED = ("momentum", "hand", "fixed_batch", "adaptive_clip", "later_boost", "fixed_readout")


def plan(**changes):
    return Plan(**{"spec": HIGH, "size": 64, "steps": 1000, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        *(({"optimiser": kind, "momentum": 0.5}, f"sgd, not of {kind}") for kind in RATES if kind != "sgd"),
        ({"optimiser": "sgd", "momentum": 1.0}, "less than 1"),
        ({"optimiser": "sgd", "momentum": -0.1}, "greater than or equal to 0"),
        ({"optimiser": "sgd", "momentum": float("nan")}, "momentum"),
        ({"optimiser": "lbfgs", "clip": 1.0}, "clip must be 0 for lbfgs"),
        ({"clip": -1.0}, "clip"),
        ({"hand": "measured", "boost": 0.5}, "boost must be 0 for the hand measured"),
        ({"hand": "penalty", "boost": 0.0}, "boost must be above 0 for the hand penalty"),
        ({"hand": "soft"}, "hand"),
        ({"hand": None}, "hand"),
        ({"hand": ["loss"]}, "hand"),
        ({"schedule": "zigzag"}, "schedule"),
        ({"fixed_batch": 1}, "fixed_batch"),
        ({"adaptive_clip": True, "clip": 0.0}, "clip must be above 0 for adaptive_clip"),
        ({"adaptive_clip": True, "optimiser": "lbfgs"}, "clip must be above 0 for adaptive_clip"),
        ({"later_boost": 1.0, "boost": 0.0}, "later_boost follows a boost above 0"),
        ({"later_boost": 1.0, "hand": "measured"}, "later_boost follows a boost above 0"),
        ({"later_boost": -1.0}, "later_boost"),
        *(({"fixed_readout": True, "spec": CellSpec.preset("high", readout=name)}, f"not {name}") for name in ("svd", "none")),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        *(({"hand": hand, "spec": CellSpec.preset("high", D=3)}, "D of at least 4, not 3") for hand in ("measured", "penalty")),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        plan(**changes)


def test_every_fault_is_named_at_once():
    with pytest.raises(ValidationError) as caught:
        plan(optimiser="lbfgs", momentum=0.9, clip=1.0, hand="measured", boost=0.5)
    assert all(word in str(caught.value) for word in ("momentum is", "clip must", "boost must"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--optimiser muon --momentum 0.9", "momentum is a setting of sgd, not of muon"),
        ("--momentum 0.9", "momentum is a setting of sgd, not of adam"),
        ("--optimiser sgd --momentum 1", "momentum: Input should be less than 1"),
        ("--optimiser lbfgs --clip 1", "clip must be 0 for lbfgs"),
        ("--hand measured --boost 1", "boost must be 0"),
        ("--hand penalty --boost 0", "boost must be above 0"),
        ("--clip 0 --adaptive-clip", "clip must be above 0"),
        ("--fixed-readout", "fixed_readout needs a readout with matrices, not svd"),
    ],
)
def test_a_command_of_such_a_mixture_is_a_usage_error(options, says):
    with pytest.raises(InputError, match=says) as caught:
        Recipe.parse(f"batteries train high/x --noise --steps 1 {options}").plan(None)
    assert (caught.value.code, caught.value.exit_code) == ("USAGE", 2)


def test_settings_at_their_defaults_are_not_written():
    for changes in ({}, {"optimiser": "muon"}, {"boost": 0.0}, {"schedule": "cosine", "clip": 0.5}):
        text = plan(**changes).to_bytes().decode()
        assert not any(f'"{name}"' in text for name in ADDED)
        assert Plan.model_validate_json(text) == plan(**changes)
    for changes in (
        {"optimiser": "sgd", "momentum": 0.0},
        {"hand": "penalty"},
        {"hand": "measured"},
        {"optimiser": "lbfgs", "fixed_batch": True},
        {"adaptive_clip": True},
        {"hand": "penalty", "later_boost": 0.0},
        {"fixed_readout": True, "spec": NARROW},
    ):
        assert Plan.model_validate_json(plan(**changes).to_bytes()) == plan(**changes)
        assert all(f'"{name}"' in plan(**changes).to_bytes().decode() for name in changes)


def test_defaults_follow_optimiser_and_hand():
    assert {kind: plan(optimiser=kind).clip for kind in RATES} == CLIPS
    assert {hand: plan(hand=hand).boost for hand in BOOSTS} == BOOSTS
    assert plan(rate=None, clip=None, boost=None) == plan()
    assert plan(hand="penalty", boost=3.0).boost == 3.0


def test_a_later_boost_begins_in_the_middle():
    halves = plan(steps=5, hand="penalty", boost=20.0, later_boost=10.0)
    assert [halves.boost_at(step) for step in range(5)] == [20, 20, 20, 10, 10]
    assert {plan(boost=3.0).boost_at(step) for step in range(5)} == {3.0}


def test_an_adaptive_clip_follows_an_error_above_it():
    assert [plan(adaptive_clip=True, clip=2.0).clip_at(error) for error in (0.5, 2.0, 7.0)] == [2, 2, 7]
    assert [plan(clip=2.0).clip_at(error) for error in (0.5, 7.0)] == [2, 2]
    assert plan(clip=0.0).clip_at(7.0) == 0


def test_every_setting_has_words_of_its_own():
    settings = [
        {},
        {"optimiser": "sgd", "rate": 0.1},
        {"optimiser": "sgd", "rate": 0.1, "momentum": 0.0},
        {"optimiser": "sgd", "rate": 0.1, "momentum": 0.9},
        {"optimiser": "lbfgs"},
        {"fixed_batch": True},
        {"clip": 0.0},
        {"boost": 0.0},
        {"hand": "measured"},
        {"hand": "penalty"},
        {"hand": "penalty", "boost": 1.0},
        {"schedule": "linear"},
        {"schedule": "restarts"},
        {"adaptive_clip": True},
        {"later_boost": 0.25},
        {"hand": "penalty", "later_boost": 5.0},
        {"fixed_readout": True, "spec": NARROW},
    ]
    words = [plan(**changes).describe() for changes in settings]
    assert len(set(words)) == len(words)
    assert words[3][0] == "SGD 0.1, momentum 0.9, no weight decay, gradient norm at most 1"
    assert words[6][0] == "Adam 0.001, no weight decay, gradient not clipped"


PROGRAM = {  # variants of the published program by group, as options of ``batteries train``
    "A": ["--seed 0", "--seed 4"],
    "B": [f"--types {types}" for types in ("gaussian", "cauchy,laplace")],
    "C": [
        "--optimiser adam --rate 1e-4",
        "--optimiser sgd --momentum 0 --rate 1e-2",
        "--optimiser sgd --momentum 0.9 --rate 1e-2",
        "--optimiser adamw --rate 1e-4",
    ],
    "D": [f"--schedule {name}" for name in ("cosine", "constant", "linear", "restarts", "onecycle")],
    "E": ["--hand loss", "--boost 0", "--hand measured", "--hand penalty"],
    "F": [f"--set activation={name}" for name in ("gelu", "relu", "silu", "tanh", "identity")],
    "G": [f"--set row_norm={name}" for name in ("sphere", "none", "layernorm", "scale")],
    "I": [*(f"--set cross_layers={count}" for count in range(3)), "--set bounded_alpha=false"],
    "J": [f"--set V={V} --set hidden={hidden}" for V, hidden in ((16, 32), (32, 64), (64, 64), (64, 128), (128, 128))],
    "K": [f"--batch {count}" for count in (32, 128, 512, 1024)],
    "L": [f"--set init={name}" for name in ("orthogonal", "kaiming_normal", "xavier_uniform", "small_normal")],
    "M": [
        f"--optimiser sgd --momentum {momentum} --rate {rate} --clip 0"
        for momentum, rate in ((0, 0.1), (0.9, 0.5), (0.99, 1.0))
    ],
    "floors": [
        "--optimiser adam",
        "--optimiser adamw",
        "--optimiser sgd --momentum 0.9",
        "--optimiser muon",
        "--optimiser lbfgs",
        "--optimiser lbfgs --fixed-batch",
    ],
}


@pytest.mark.parametrize("group", PROGRAM)
def test_every_variant_of_the_published_program_is_a_plan(group):
    found = []
    for band in ("low", "mid", "high"):
        for options in PROGRAM[group]:
            recipe = Recipe.parse(f"batteries train {band}/x --steps 1000 --noise {options}")
            found.append((recipe.plan(None).to_bytes(), recipe.source(None)))
    assert len({*found}) == len(found)
    assert batteries.expected_band(recipe.plan(None).spec) == "high"


def test_the_largest_seed_trains():
    spec = CellSpec.preset("high", V=8, patch_size=16, hidden=8, smooth_width=2)
    probe = batteries.probe("noise16-64")
    largest = Plan(spec=spec, size=16, steps=1, batch=1, seed=2**64 - 1)
    assert batteries.train(largest, batteries.NoiseSource(), dataclasses.replace(probe, images=probe.images[::64])).step == 1
    with pytest.raises(InputError, match="seed"):
        Recipe.of({"reference": "high/x", "steps": 1, "noise": "batteries", "seed": 2**64}).plan(None)


def test_images_that_no_memory_holds_are_refused_before_any_is_made():
    with pytest.raises(InputError, match="pixels"):
        Recipe.parse("batteries train high/x --steps 1 --noise --batch 1000000000").plan(None)
    with pytest.raises(InputError, match="pixels"):
        Recipe.parse("batteries train high/x --steps 1 --noise --size 4096 --batch 100").plan(None)
    assert Recipe.parse("batteries train high/x --steps 1 --noise --size 1024 --batch 256").plan(None).batch == 256


def test_more_steps_than_a_number_counts_are_refused():
    with pytest.raises(InputError, match="steps"):
        Recipe.parse(f"batteries train high/x --steps {'9' * 399} --noise").plan(None)
