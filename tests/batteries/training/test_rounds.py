"""Settings of the read-out rounds in training: what a clip lets through, matrices that keep their start, a typed end."""

import dataclasses

import pytest
import torch

import batteries
from batteries import CellSpec, NoiseSource, Plan, probe, train
from batteries.errors import PolicyError
from batteries.model.patch_svae import arrays_of, untrained
from batteries.training import soft_hand
from batteries.training.optimisers import optimisers_of
from batteries.training.run import Run
from batteries.training.step import take_step

SPEC = CellSpec(V=12, D=4, patch_size=16, hidden=8, readout="narrow")


def plan(**changes):
    values = {"size": 32, "steps": 4, "batch": 4, "reading_every": 4, "optimiser": "sgd", "momentum": 0.0, "boost": 0.0}
    return Plan(**{"spec": SPEC, "schedule": "constant", **values, **changes})


def begun(**changes):
    made = plan(**changes)
    model = untrained(made.spec, made.seed).train()
    return Run(made, "0" * 64, model, optimisers_of(made, model))


@pytest.fixture(scope="module")
def small():
    whole = probe("noise16-64")
    return dataclasses.replace(whole, images=whole.images[::16], group=whole.group[::16])


def moved(run, images):
    """Length of a step of plain SGD over its rate, which is the clipped gradient's norm, and the step's error."""
    before = [p.detach().clone() for p in run.model.parameters()]
    error = take_step(run, images)
    squares = [(p.detach() - q).double().square().sum() for p, q in zip(run.model.parameters(), before, strict=True)]
    return float(sum(squares).sqrt()) / run.plan.rate, error


@pytest.mark.parametrize(("adaptive", "clip", "most"), [(True, 1.0, "error"), (False, 1.0, 1.0), (True, 1e4, "gradient")])
def test_an_adaptive_clip_lets_a_gradient_of_the_errors_size_through(adaptive, clip, most):
    images = 40 * NoiseSource().batch(0, 4, 32)
    whole, error = moved(begun(clip=0.0), images)
    assert whole > 1
    found, _ = moved(begun(clip=clip, adaptive_clip=adaptive), images)
    assert found == pytest.approx({"error": min(error, whole), "gradient": whole}.get(most, most), rel=1e-2)


@pytest.mark.parametrize("readout", ["narrow_sphere", "linear"])
@pytest.mark.parametrize("optimiser", ["adam", "muon", "lbfgs"])
def test_a_fixed_readout_keeps_its_start_and_the_rest_learns(readout, optimiser):
    spec = SPEC.model_copy(update={"readout": readout})
    run = begun(spec=spec, fixed_readout=True, optimiser=optimiser, momentum=None)
    before = arrays_of(run.model)
    take_step(run, NoiseSource().batch(0, 4, 32))
    after = arrays_of(run.model)
    kept = {name for name in before if (before[name] == after[name]).all()}
    named = {name for name in before if name.startswith(("narrow.", "readout."))}
    assert named
    assert named <= kept
    assert "enc_out.weight" not in kept
    assert "dec_in.weight" not in kept


def test_a_penalty_is_weaker_in_the_second_half():
    M = torch.nn.functional.normalize(torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(0)).abs(), dim=-1)
    halves = plan(hand="penalty", boost=20.0, later_boost=10.0)
    before = [soft_hand.penalty(plan(hand="penalty", boost=20.0), step)(M) for step in range(4)]
    found = [soft_hand.penalty(halves, step)(M) for step in range(4)]
    assert all(float(one) > 0 for one in before)
    assert found == [before[0], before[1], before[2] / 2, before[3] / 2]


@pytest.mark.parametrize(("step", "factor"), [(1, 1.5), (2, 1.25)])
def test_so_is_the_factor_of_the_loss(step, factor):
    target = batteries.geometry.sphere_cv(4)
    assert soft_hand.factor(plan(boost=0.5, later_boost=0.25), step, target) == pytest.approx(factor)


@pytest.mark.parametrize("rate", [1e25, 1e6])
def test_a_reading_that_is_not_finite_ends_the_run_as_diverged(small, rate):
    with pytest.raises(PolicyError) as caught:
        train(plan(rate=rate, adaptive_clip=True, reading_every=1, steps=40), NoiseSource(), small)
    assert caught.value.code == "DIVERGED"
    assert str(caught.value.where).startswith("step ")


@pytest.mark.slow
def test_a_narrow_cell_is_packaged_and_read_again(tmp_path, small):
    run = train(plan(spec=SPEC.model_copy(update={"readout": "narrow_sphere"}), size=64, steps=1), NoiseSource(), small)
    label = batteries.Label(name="mine", version="1.0.0", family="mine", license="Apache-2.0", description="A test.")
    cell = batteries.package(run, NoiseSource(), label, command="none")
    again = batteries.Cell.read(cell.write(tmp_path))
    assert again == cell
    assert again.spec.readout == "narrow_sphere"
