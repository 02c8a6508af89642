"""Every optimiser of a plan: its share of the weights, resuming to the same bits, on any number of threads; plans of before."""

import dataclasses

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open

import batteries
from batteries import CellSpec, NoiseSource, Plan, probe, train
from batteries.io.canonical_json import sha256
from batteries.model.patch_svae import arrays_of, untrained
from batteries.training.optimisers import optimisers_of
from batteries.training.plan import RATES

pytestmark = pytest.mark.usefixtures("few_matrices")
SPEC = CellSpec(V=16, D=4, patch_size=4, hidden=16)


def plan(optimiser, **changes):
    values = {"spec": SPEC, "size": 16, "steps": 9, "batch": 8, "reading_every": 4, "checkpoint_every": 1, "triage_step": 5}
    return Plan(**{**values, "optimiser": optimiser, **changes})


@pytest.fixture(scope="module")
def small():
    whole = probe("noise16-64")
    return dataclasses.replace(whole, images=whole.images[::8, :, :16, :16], group=whole.group[::8])


def same(run, other):
    first, second = arrays_of(run.model), arrays_of(other.model)
    return all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", RATES)
def test_a_run_resumes_to_the_same_weights(tmp_path, small, optimiser):
    unbroken = train(plan(optimiser), NoiseSource(), small)
    for until in (1, 4, 9):
        resumed = train(plan(optimiser), NoiseSource(), small, folder=tmp_path, until=until)
    assert same(resumed, unbroken)
    assert resumed.trajectory == unbroken.trajectory


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", RATES)
def test_no_bit_depends_on_the_number_of_threads(small, optimiser):
    runs = []
    for count in (1, 3):
        with batteries.threads(count):
            runs.append(train(plan(optimiser, steps=3, size=64, batch=20), NoiseSource(), small))
    assert same(*runs)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", RATES)
def test_it_learns(small, optimiser):
    losses = []

    class Watch:
        def stepped(self, step, loss):
            losses.append(loss)

        def read(self, point):
            pass

    rate = {"adam": 4e-3, "adamw": 4e-3}.get(optimiser)  # their own is for longer runs
    train(plan(optimiser, steps=60, batch=16, rate=rate, reading_every=100), NoiseSource(), small, watchers=[Watch()])
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_optimisers_end_in_different_weights(small):
    runs = [train(plan(optimiser, steps=2, rate=1e-2), NoiseSource(), small) for optimiser in RATES]
    assert not any(same(one, other) for index, one in enumerate(runs) for other in runs[:index])


@pytest.mark.parametrize("optimiser", RATES)
def test_every_weight_has_one_optimiser(optimiser):
    model = untrained(SPEC, 0)
    shares = [
        {id(parameter) for group in one.param_groups for parameter in group["params"]}
        for one in optimisers_of(plan(optimiser), model)
    ]
    assert set().union(*shares) == {id(parameter) for parameter in model.parameters()}
    assert sum(map(len, shares)) == len(list(model.parameters()))


def test_muon_takes_the_matrices_alone():
    matrices, rest = optimisers_of(plan("muon"), untrained(SPEC, 0))
    assert isinstance(matrices, torch.optim.Muon)
    assert {parameter.ndim for group in matrices.param_groups for parameter in group["params"]} == {2}
    assert {parameter.ndim for group in rest.param_groups for parameter in group["params"]} == {1, 4}


@pytest.mark.parametrize("optimiser", RATES)
def test_a_checkpoint_holds_the_state_of_every_weight_once(tmp_path, small, optimiser):
    train(plan(optimiser, steps=1), NoiseSource(), small, folder=tmp_path)
    with safe_open(tmp_path / "checkpoint.safetensors", "pt") as saved:
        names = [name.split(".") for name in saved.keys()]  # noqa: SIM118  # not a mapping
    count = 1 if optimiser == "lbfgs" else len(list(untrained(SPEC, 0).parameters()))  # its state is of all weights together
    assert {int(index) for kind, index, *_ in names if kind == "optimiser"} == set(range(count))
    if optimiser == "adam":  # as in checkpoints from before there were others
        assert {key for kind, *_, key in names if kind == "optimiser"} == {"step", "exp_avg", "exp_avg_sq"}


def test_a_plan_of_adam_has_the_bytes_of_before():
    text = Plan(spec=CellSpec.preset("high"), size=64, steps=10).to_bytes().decode()
    assert "optimiser" not in text
    assert '"rate":0.001,' in text
    assert sha256(text.encode()) == "5e6746a5a79026134f1d0be573f98f87de4b0435b52e461dd8ec8407576bf0f7"
    assert Plan.model_validate_json(text) == Plan(spec=CellSpec.preset("high"), size=64, steps=10, optimiser="adam")
    assert '"optimiser":"muon"' in Plan(spec=SPEC, size=64, steps=10, optimiser="muon").to_bytes().decode()


@pytest.mark.parametrize("optimiser", RATES)
def test_each_has_its_own_rate_and_words(optimiser):
    assert plan(optimiser).rate == plan(optimiser, rate=None).rate == RATES[optimiser]
    assert plan(optimiser, rate=0.5).rate == 0.5
    words = {plan(other, rate=0.5).describe()[0] for other in RATES}
    assert len(words) == len(RATES)
    assert plan(optimiser, rate=0.5).describe()[0].lower().startswith(f"{optimiser} 0.5")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"optimiser": "lion"}, "optimiser"),
        ({"optimiser": None}, "optimiser"),
        ({"rate": 0.0}, "rate"),
        ({"rate": -1.0}, "rate"),
        ({"rate": float("inf")}, "rate"),
        ({"optimiser": "muon", "rate": 0.0}, "rate"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        plan(**{"optimiser": "adam", **changes})
