"""A teacher: what a cell is compared with, what a plan and a command say of it, and what is refused."""

import dataclasses

import pytest
import torch

import registry
from batteries import CellSpec, NoiseSource, Plan, probe, train
from batteries.cell.manifest import InputScale
from batteries.errors import BatteriesError
from batteries.model.patch_svae import PatchSVAE
from batteries.training.gradient import gradient
from batteries.training.recipe import Recipe
from batteries.training.rerun import Rerun
from tests.support.cells import tiny

SPEC = CellSpec.preset("high", V=8, patch_size=16, hidden=8, smooth_width=2)


@pytest.fixture(scope="module")
def small():
    whole = probe("noise16-64")
    return dataclasses.replace(whole, images=whole.images[::16], group=whole.group[::16])


@pytest.fixture(scope="module")
def teacher():
    return registry.load("high/johanna-64")


def plan(**changes):
    return Plan(**{"spec": SPEC, "size": 64, "steps": 3, "batch": 4, "seed": 1, "boost": 0.0, **changes})


def first_loss(made, small, **cells):
    losses = []

    class Watch:
        def stepped(self, step, loss):
            losses.append(loss)

        def read(self, point):
            pass

    train(made, NoiseSource(), small, watchers=[Watch()], **cells)
    return losses[0]


def test_the_target_is_between_the_image_and_what_the_teacher_makes_of_it(small, teacher):
    images = NoiseSource().batch(seed=0, count=4, size=64)
    with torch.no_grad():
        taught = PatchSVAE.from_cell(teacher).eval()(images).recon
    for share in (0.25, 1.0):
        run = train(plan(teacher=teacher.digest, distil=share, steps=1), NoiseSource(), small, teacher=teacher)
        assert torch.allclose(run.target(images), (1 - share) * images + share * taught, atol=1e-5)
        assert not run.target(images).requires_grad
        assert all(not parameter.requires_grad and parameter.grad is None for parameter in run.teacher.parameters())


def test_the_gradient_is_that_of_the_distance_to_the_target(small, teacher):
    run = train(plan(teacher=teacher.digest, steps=1), NoiseSource(), small, teacher=teacher)
    images = NoiseSource().batch(seed=0, count=3, size=64)
    loss, found, _ = gradient(run.model, images, target=run.target)
    recon = run.model.reconstruction(images)[0]
    wanted = (recon - run.target(images)).square().mean()
    assert loss == pytest.approx(wanted.item(), rel=1e-5)
    for mine, theirs in zip(found, torch.autograd.grad(wanted, list(run.model.parameters())), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6)


def test_a_teacher_changes_the_run_and_none_leaves_every_bit(small, teacher):
    usual = first_loss(plan(), small)
    assert first_loss(plan(), small) == usual
    taught = first_loss(plan(teacher=teacher.digest, distil=1.0), small, teacher=teacher)
    assert taught != usual
    assert "teacher" not in plan().model_dump(mode="json")
    assert "distil" not in plan().model_dump(mode="json")
    assert plan(teacher=teacher.digest).distil == 0.5
    assert f"0.5 of the target by the cell sha256:{teacher.digest}" in plan(teacher=teacher.digest).describe()[0]


@pytest.mark.slow
def test_a_taught_run_resumes_to_the_same_weights(small, teacher, tmp_path):
    made = plan(teacher=teacher.digest, checkpoint_every=1)
    whole = train(made, NoiseSource(), small, teacher=teacher)
    train(made, NoiseSource(), small, teacher=teacher, folder=tmp_path, until=2)
    resumed = train(made, NoiseSource(), small, teacher=teacher, folder=tmp_path)
    for one, two in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(BatteriesError, match="RUN_CHANGED"):
        train(plan(checkpoint_every=1), NoiseSource(), small, folder=tmp_path)


def rescaled(cell):
    identity = cell.manifest.identity.model_copy(update={"input": InputScale(mean=(0.5,) * 3, std=(0.2,) * 3)})
    return dataclasses.replace(cell, manifest=cell.manifest.model_copy(update={"identity": identity}))


def test_what_is_refused(small, teacher):
    taught = plan(teacher=teacher.digest)
    for made, cell, code in (
        (taught, None, "TEACHER"),
        (plan(), teacher, "TEACHER"),
        (taught, registry.load("high/attractor-64"), "TEACHER"),
        (plan(teacher=tiny().digest), tiny(), "TEACHER"),  # of one channel
        (taught, rescaled(teacher), "START_INPUT"),
    ):
        with pytest.raises(BatteriesError) as caught:
            train(made, NoiseSource(), small, teacher=cell)
        assert caught.value.code == code
    for wrong in ({"distil": 0.5}, {"teacher": teacher.digest, "distil": 0.0}, {"teacher": teacher.digest, "distil": 1.5}):
        with pytest.raises(ValueError, match="distil"):
            plan(**wrong)


def test_a_command_names_its_teacher(teacher):
    recipe = Recipe.parse("batteries train high/x --steps 3 --noise --teacher high/teacher --distil 0.3")
    assert (recipe.teacher, recipe.distil) == ("high/teacher", 0.3)
    made = recipe.plan(None, teacher.digest)
    assert (made.teacher, made.distil) == (teacher.digest, 0.3)
    assert recipe.model_copy(update={"distil": None}).plan(None, teacher.digest).distil == 0.5
    again = Rerun.of(teacher.manifest, recipe.model_copy(update={"noise": "batteries"}), None, teacher)
    assert again.teacher is teacher
    assert again.plan == made
