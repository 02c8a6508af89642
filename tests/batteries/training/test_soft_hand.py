"""Forms of the soft hand: their effect on loss and weights, their gradient, and the average CV of every reading."""

import dataclasses

import pytest
import torch

from batteries import CellSpec, NoiseSource, Plan, geometry, probe, train
from batteries.data.sources import seed_of
from batteries.geometry import simplex_cv
from batteries.model.patch_svae import arrays_of, untrained
from batteries.training import soft_hand
from batteries.training.gradient import gradient
from batteries.training.optimisers import optimisers_of
from batteries.training.run import Run
from batteries.training.step import take_step

pytestmark = pytest.mark.usefixtures("few_matrices")
SPEC = CellSpec(V=16, D=4, patch_size=4, hidden=16)
FLAT = SPEC.model_copy(update={"row_norm": "layernorm"})  # rows in a hyperplane, which have no CV


def plan(**changes):
    values = {"spec": SPEC, "size": 16, "steps": 6, "batch": 8, "reading_every": 2, "triage_step": 1000}
    return Plan(**{**values, **changes})


def images(step=0):
    return NoiseSource().batch(step, 8, 16)


def begun(**changes):
    model = untrained(changes.get("spec", SPEC), 0)
    return Run(plan(**changes), "test", model, optimisers_of(plan(**changes), model))


@pytest.fixture(scope="module")
def small():
    whole = probe("noise16-64")
    return dataclasses.replace(whole, images=whole.images[::8, :, :16, :16], group=whole.group[::8])


def same(run, other):
    first, second = arrays_of(run.model), arrays_of(other.model)
    return all((first[name] == second[name]).all() for name in first)


def test_a_measured_cv_leaves_every_bit_and_is_in_every_reading(small):
    off, measured, on = (train(plan(**changes), NoiseSource(), small) for changes in ({"boost": 0.0}, {"hand": "measured"}, {}))
    assert same(off, measured)
    assert not same(off, on)
    assert off.cv_averages == [None] * 3
    for run in (measured, on):
        assert len({*run.cv_averages}) == len(run.trajectory) == 3
        assert run.cv_averages[-1] == run.cv_average
    assert measured.trajectory == off.trajectory


@pytest.mark.parametrize("hand", ["loss", "measured", "penalty"])
def test_the_average_is_that_of_the_readings_of_the_first_patch(hand):
    run, average = begun(hand=hand), None
    for step in range(3):
        _, _, M = gradient(run.model, images(step))
        seed = seed_of(0, step, 2)
        reading = simplex_cv.cv(M, torch.zeros(1), draws=soft_hand.DRAWS, seed=seed, corrected=False).value
        average = reading if average is None else soft_hand.EMA_DECAY * average + (1 - soft_hand.EMA_DECAY) * reading
        take_step(run, images(step))
        assert run.cv_average == pytest.approx(average, rel=1e-12)


def test_the_gradient_of_the_penalty_is_that_of_the_whole_loss():
    run, x = begun(hand="penalty", boost=3.0, size=64), NoiseSource().batch(0, 20, 64)  # two pieces
    term = soft_hand.penalty(run.plan, 0)
    loss, found, M = gradient(run.model, x, term)
    recon, whole = run.model.reconstruction(x)
    cv = simplex_cv.differentiable_cv(whole[0, 0], draws=soft_hand.DRAWS, seed=seed_of(0, 0, 2))
    added = 3.0 * (cv / geometry.sphere_cv(4) - 1) ** 2
    assert term(M).item() == pytest.approx(added.item(), rel=1e-4)
    assert loss == pytest.approx((recon - x).square().mean().item(), rel=1e-6)  # the error alone
    wanted = torch.autograd.grad((recon - x).square().mean() + added, list(run.model.parameters()))
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_penalty_pulls_the_cv_towards_the_exact_one():
    wide = CellSpec(V=16, D=8, patch_size=4, hidden=16, row_norm="none")
    distances, held_out = [], NoiseSource().batch(99, 64, 16)
    for changes in ({"boost": 0.0}, {"hand": "penalty"}):
        run = begun(spec=wide, rate=1e-2, schedule="constant", steps=60, **changes)
        for step in range(60):
            take_step(run, images(step))
        M = run.model.tokens(held_out).M.detach()[:, ::4].flatten(0, 1)
        distances.append(abs(simplex_cv.cv(M, torch.arange(len(M)), draws=200).value / geometry.sphere_cv(8) - 1))
    assert distances[1] < 0.5 * distances[0]


def test_rows_without_a_cv_have_no_penalty():
    off, penalty = begun(spec=FLAT, boost=0.0), begun(spec=FLAT, hand="penalty")
    for run in (off, penalty):
        take_step(run, images())
    assert same(off, penalty)
    assert penalty.cv_average is None


def test_widths_without_a_cv_have_no_soft_hand():
    run = begun(spec=CellSpec(V=16, D=3, patch_size=4, hidden=16))
    take_step(run, images())
    assert run.cv_average is None
    assert not run.plan.reads_cv
