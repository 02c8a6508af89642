"""L-BFGS: one objective during a step, a bound on its gradients, full-batch descent, divergence; plain SGD and its momentum."""

from itertools import pairwise

import pytest
import torch

from batteries import CellSpec, NoiseSource, Plan
from batteries.data.sources import seed_of
from batteries.errors import PolicyError
from batteries.model.patch_svae import untrained
from batteries.training import soft_hand, step
from batteries.training.optimisers import optimisers_of
from batteries.training.plan import EVALUATIONS
from batteries.training.run import Run
from batteries.training.trainer import _batches

SPEC = CellSpec(V=12, D=4, patch_size=8, hidden=8, smooth_width=4)


def plan(**changes):
    values = {"spec": SPEC, "size": 16, "steps": 20, "batch": 4, "schedule": "constant", "optimiser": "lbfgs"}
    return Plan(**{**values, **changes})


def begun(**changes):
    model = untrained(SPEC, 0)
    return Run(plan(**changes), "test", model, optimisers_of(plan(**changes), model))


def walk(run, count):
    batches = _batches(run.plan, NoiseSource(), run.step, run.step + count)
    return [step.take_step(run, images) for images in batches]


@pytest.fixture
def asked(monkeypatch):
    """Images of every gradient asked for, and how often the average CV was taken."""
    seen, averages = [], []
    gradient, averaged = step.gradient, soft_hand.averaged
    monkeypatch.setattr(step, "gradient", lambda model, images, *rest: seen.append(images) or gradient(model, images, *rest))
    monkeypatch.setattr(soft_hand, "averaged", lambda *given: averages.append(given[1]) or averaged(*given))
    return seen, averages


def test_a_step_asks_for_a_bounded_number_of_gradients_of_its_own_images(asked):
    seen, averages = asked
    run = begun()
    for index in range(3):
        seen.clear()
        walk(run, 1)
        assert 1 < len(seen) <= EVALUATIONS
        wanted = NoiseSource().batch(seed_of(0, index), 4, 16)
        assert all(torch.equal(images, wanted) for images in seen)
    assert averages == list(range(3))  # once a step


@pytest.mark.parametrize("hand", ["loss", "penalty"])
def test_a_step_lowers_its_own_objective(hand):
    run = begun(hand=hand, fixed_batch=True)

    def objective(images, step_index, average):
        loss, _, M = step.gradient(run.model, images)
        term = soft_hand.penalty(run.plan, step_index)
        return soft_hand.factor(run.plan, run.step, average) * loss + (0.0 if term is None else term(M).item())

    for index, images in enumerate(_batches(run.plan, NoiseSource(), 0, 3)):
        average = soft_hand.averaged(run.plan, index, step.gradient(run.model, images)[2], run.cv_average)
        before = objective(images, index, average)
        step.take_step(run, images)
        assert run.cv_average == average
        assert objective(images, index, average) < before


def test_a_fixed_batch_is_that_of_the_first_step_and_its_loss_falls():
    run = begun(fixed_batch=True, boost=0.0)
    (images,) = _batches(run.plan, NoiseSource(), 0, 1)
    assert torch.equal(images, NoiseSource().batch(seed_of(0, 0), 4, 16))
    assert [torch.equal(images, other) for other in _batches(run.plan, NoiseSource(), 5, 8)] == [True] * 3
    assert [*_batches(run.plan, NoiseSource(), 20, 20)] == []
    losses = walk(run, 5)
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("optimiser", "rate"), [("adam", 1e-2), ("muon", 0.02)])
def test_a_fixed_batch_serves_every_optimiser(optimiser, rate):
    losses = walk(begun(optimiser=optimiser, fixed_batch=True, rate=rate), 20)
    assert losses[-1] < 0.9 * losses[0]


def test_a_rate_without_sense_diverges_by_name():
    run = begun(rate=1e38)
    with pytest.raises(PolicyError, match="training diverged") as caught:
        walk(run, 20)
    assert caught.value.code == "DIVERGED"


def test_plain_sgd_goes_along_the_gradient():
    run = begun(optimiser="sgd", momentum=0.0, rate=0.1, boost=0.0, clip=0.0)
    (images,) = _batches(run.plan, NoiseSource(), 0, 1)
    start = [parameter.detach().clone() for parameter in run.model.parameters()]
    _, gradients, _ = step.gradient(run.model, images)
    step.take_step(run, images)
    for before, slope, after in zip(start, gradients, run.model.parameters(), strict=True):
        assert torch.allclose(after, before - 0.1 * slope, atol=1e-7)


def test_a_given_momentum_is_classical():
    run, slopes = begun(optimiser="sgd", momentum=0.99, rate=0.01, boost=0.0, clip=0.0), []
    start = [parameter.detach().clone() for parameter in run.model.parameters()]
    for images in _batches(run.plan, NoiseSource(), 0, 2):
        slopes.append(step.gradient(run.model, images)[1])
        step.take_step(run, images)
    for before, first, second, after in zip(start, *slopes, run.model.parameters(), strict=True):
        assert torch.allclose(after, before - 0.01 * first - 0.01 * (0.99 * first + second), atol=1e-6)


def test_a_gradient_is_clipped_only_if_the_plan_says_so():
    def move(clip):
        run = begun(optimiser="sgd", momentum=0.0, rate=1.0, boost=0.0, clip=clip)
        start = torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])
        walk(run, 1)
        return float((torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()]) - start).norm())

    assert move(1e-3) == pytest.approx(1e-3, rel=1e-2)
    assert move(0.0) > 10 * move(1e-3)
