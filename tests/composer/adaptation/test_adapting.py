"""Adaptation: the guard holds what a host destroys, the raw gradient does not, and all of it is determined by its seed."""

import numpy as np
import pytest
import torch

import composer
from batteries import InputError, PolicyError
from batteries.data.sources import NoiseSource
from batteries.training.schedules import share
from composer import Hold
from composer.adaptation import OwnDomain, naming, own_domain
from composer.adaptation.adapting import Course, learn
from composer.hosts import FrozenCell, residual_host
from tests.support.adaptation import HOST, LITTLE, Broken, Destroyer, first_class, job, small_cell
from tests.support.viability import measure_little, one_of_a_group

GUARD = Hold(reconstruction=0, cv=0, anchor=0, every=2, backoffs=6)


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        measure_little(patch.setattr)
        patch.setattr("composer.adaptation.adapting.probe", one_of_a_group)
        yield


@pytest.fixture(scope="module")
def cell(patched):
    return small_cell()


@pytest.fixture(scope="module")
def adapted(cell):
    return composer.adapt(cell, HOST, naming(numbers=LITTLE), hold=Hold(every=3), steps=6, batch=8)


def bits(model):
    return {name: array.tobytes() for name, array in model.state_dict().items() for array in [array.numpy()]}


def test_a_guard_stops_a_host_that_destroys_the_cell(cell):
    task = first_class(naming(numbers=LITTLE))
    raw = learn(job(cell, None, factory=Destroyer, task=task, rate=1e-2, steps=8))
    assert not raw.last.holds
    assert raw.last.step == 8
    held = learn(job(cell, GUARD, factory=Destroyer, task=task, rate=1e-2, steps=8))
    assert held.last.holds
    assert held.backoffs > 0
    assert any(not moment.holds for moment in held.moments)
    rates = [moment.rate for moment in held.moments]
    assert rates == sorted(rates, reverse=True)


def test_a_guard_without_returns_ends_at_the_first_state_that_does_not_hold(cell):
    task = first_class(naming(numbers=LITTLE))
    guard = Hold(reconstruction=0, cv=0, anchor=0, every=1, backoffs=0, content=0.8)
    found = learn(job(cell, guard, factory=Destroyer, task=task, rate=3e-3, steps=200))
    assert found.ended == "guard"
    assert found.backoffs == 0
    assert [moment.holds for moment in found.moments] == [True] * (len(found.moments) - 1) + [False]
    assert found.last.step == found.points[-1].step == len(found.moments) - 1
    assert found.dose == pytest.approx(3e-3 * sum(share("cosine", step, 200) for step in range(found.last.step)))


def test_the_state_that_is_kept_is_that_of_its_figures(cell):
    task = first_class(naming(numbers=LITTLE))
    wanted = job(cell, Hold(reconstruction=0, cv=0, anchor=0, every=1, backoffs=0), factory=Destroyer, task=task, rate=3e-3)
    found = learn(wanted)
    if found.ended == "finished":
        pytest.fail("planted for a guard that ends it")
    again = learn(job(cell, None, factory=Destroyer, task=task, rate=3e-3, steps=found.last.step))
    assert bits(again.model) == bits(found.model)


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_a_seed_determines_every_bit(cell, optimiser):
    first, second, other = (learn(job(cell, Hold(every=3), optimiser=optimiser, steps=4, seed=seed)) for seed in (0, 0, 1))
    assert bits(first.model) == bits(second.model) != bits(other.model)
    assert first.moments == second.moments
    assert first.score == second.score


def test_threads_and_defaults_of_the_program_change_no_bit(cell):
    found, cell_job = [], job(cell, Hold(every=3), steps=3)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(bits(learn(cell_job).model))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_no_rate_changes_nothing_but_the_host(cell):
    found = learn(job(cell, Hold(every=2), rate=1e-30, steps=2))
    assert found.last.weight_change < 1e-6
    assert found.last.content == pytest.approx(1.0, abs=1e-4)


def test_the_parent_is_unchanged_and_the_new_cell_names_it(cell, adapted):
    weights, manifest = {name: array.tobytes() for name, array in cell.weights.items()}, cell.manifest.to_bytes()
    again = composer.adapt(cell, HOST, naming(numbers=LITTLE), hold=Hold(every=3), steps=6, batch=8)
    assert again.cell.to_bytes() == adapted.cell.to_bytes()
    assert again.cell.manifest.to_bytes() == adapted.cell.manifest.to_bytes()
    assert {name: array.tobytes() for name, array in cell.weights.items()} == weights
    assert cell.manifest.to_bytes() == manifest
    facts = adapted.cell.manifest.adapted
    assert (facts.parent, facts.parent_digest) == (f"{cell.name}@1.0.0", cell.digest)
    assert (adapted.cell.version, facts.steps, facts.hold.every) == ("1.1.0", 6, 3)
    assert facts.dose == pytest.approx(facts.rate * sum(share("cosine", step, 6) for step in range(6)))
    changed = sum(float(np.square(adapted.cell.weights[n] - a, dtype=np.float64).sum()) for n, a in cell.weights.items())
    size = sum(float(np.square(a, dtype=np.float64).sum()) for a in cell.weights.values())
    assert facts.weight_change == pytest.approx((changed / size) ** 0.5, rel=1e-5)
    assert adapted.cell.manifest.training.trajectory[-1].step == adapted.cell.manifest.training.steps == 6


def test_older_manifests_keep_their_bytes(cell):
    assert b'"adapted"' not in cell.manifest.to_bytes()
    assert cell.manifest.adapted is None


def test_frozen_cells_of_the_container_are_untouched(cell):
    other = small_cell("other-64")
    container = composer.compose([other])
    before = {name: tensor.clone() for name, tensor in container.named_buffers()}
    found = learn(job(cell, Hold(every=3), factory=residual_host(beside=container), steps=3))
    assert found.host.cells[1].name == other.name
    container.verify()
    assert all(torch.equal(tensor, before[name]) for name, tensor in container.named_buffers())
    alone = learn(job(cell, Hold(every=3), factory=residual_host(), steps=3))
    assert bits(found.model) != bits(alone.model)  # the host reads what is beside the cell


@pytest.mark.parametrize(
    "given", ["frozen", "text", "host", "task", "hold", "domain", "host_rate", "optimiser", "steps", "rate"]
)
def test_bad_arguments_are_refused(cell, given):
    task, hold, more, code = naming(numbers=LITTLE), Hold(), {}, "USAGE"
    subject, host = cell, HOST
    match given:
        case "frozen":
            subject, code = FrozenCell(composer.compose(cell)), "FROZEN_CELL"
            hosts = [HOST(subject, task.train[0], 16) for _ in range(2)]
            assert subject.hosts == len(hosts)
        case "text":
            subject, code = "high/small-64", "CELL"
        case "host":  # made, in place of its factory
            host, code = torch.nn.Linear(3, 16), "HOST"
        case "domain":
            more, code = {"domain": "noise"}, "DOMAIN"
        case "task":
            task, code = task.train, "TASK"
        case "hold":
            hold, code = 10.0, "HOLD"
        case "host_rate" | "rate":
            more = {given: float("nan")}
        case "optimiser":
            more = {given: "lbfgs"}
        case "steps":
            more = {given: 0}
    with pytest.raises(InputError, match=code) as caught:
        composer.adapt(subject, host, task, hold=hold, **more)
    if given == "frozen":
        assert "frozen in 2 hosts" in str(caught.value)


def test_a_task_of_other_images_is_refused(cell):
    images, labels = naming(numbers=LITTLE).train
    for changed, code in ((images[:, :1], "CELL_INPUT"), (images[..., :40], "IMAGE_SIZE")):
        task = composer.hosts.Task("other", (changed, labels), (changed, labels))
        with pytest.raises(InputError, match=code):
            composer.adapt(cell, HOST, task)


def test_photographs_are_no_domain_of_a_cell_of_noise(cell):
    with pytest.raises(InputError, match="DOMAIN"):
        own_domain(cell, photos=object())


def test_a_step_that_is_not_finite_ends_it(cell):
    with pytest.raises(PolicyError, match=r"DIVERGED.*") as caught:
        learn(job(cell, Hold(), factory=Broken))
    assert "step 1" in str(caught.value)


def test_a_host_that_does_not_use_its_cell_is_refused(cell):
    class Deaf(torch.nn.Linear):
        def forward(self, images):
            return super().forward(images.mean(dim=(2, 3)))

    with pytest.raises(InputError, match="HOST_UNUSED"):
        learn(job(cell, Hold(), factory=lambda mounted, sample, classes: Deaf(3, classes)))


def test_nothing_held_is_an_error_and_no_cell(cell):
    guard = Hold(reconstruction=0, cv=0, anchor=0, every=5, backoffs=1)
    with pytest.raises(PolicyError, match="NOT_HELD"):
        learn(job(cell, guard, rate=1.0, steps=5))


def test_a_cell_without_content_has_nothing_to_hold(cell):
    bright = OwnDomain(NoiseSource(), torch.zeros(16, 3, 64, 64), torch.arange(16), "black")
    with pytest.raises(PolicyError, match="NO_CONTENT"):
        learn(job(cell, Hold(), domain=bright))


def test_both_rates_fall_along_a_cosine_and_a_return_halves_the_rate_of_the_cell_alone(cell, monkeypatch):
    seen = []

    def noted(course, host, own):
        seen.append((course.step, host, own))
        learn_at(course, host, own)

    learn_at = Course.learn_at
    monkeypatch.setattr(Course, "learn_at", noted)
    found = learn(job(cell, GUARD, factory=Destroyer, task=first_class(naming(numbers=LITTLE)), rate=3e-3, steps=20))
    assert found.backoffs > 0
    firsts = {round(own / share("cosine", step, 20), 9) for step, _, own in seen}
    assert firsts == {3e-3 / 2**n for n in range(len(firsts))}
    assert len(firsts) > 1
    assert {round(host / share("cosine", step, 20), 9) for step, host, _ in seen} == {1e-2}
