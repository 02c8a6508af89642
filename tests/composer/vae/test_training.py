"""Training of a battery VAE: resumable to the bit, disciplined, watched; no eigensolver and no float64 in a step."""

import math
import re

import pytest
import torch
from pydantic import ValidationError
from torch import Generator
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import batteries
from batteries import BatteriesError, ConflictError, FormatError, PolicyError
from batteries.geometry import simplex_cv, sphere_cv
from composer import BatteryVAE
from composer.vae import VaePlan, read, train
from composer.vae.objective import cv_ratios, discipline, terms
from composer.vae.readings import few
from composer.vae.training import VaeRun, gradient_norms
from tests.support import vaes
from tests.support.vaes import PLAN, SPECS, cells, images, probe

SOLVER = re.compile(r"linalg_(?!vector_norm|vecdot)|eigh|svd|geqrf|cholesky")  # in the names of operators


class Seen(TorchDispatchMode):
    """Every operator that runs, and the types of what it returns."""

    def __init__(self):
        super().__init__()
        self.operators, self.types = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.operators.add(str(func))
        self.types |= {one.dtype for one in (out if isinstance(out, tuple | list) else [out]) if isinstance(one, torch.Tensor)}
        return out


@pytest.mark.slow
def test_a_step_calls_no_eigensolver_and_computes_nothing_in_float64():
    vae, x = vaes.vae(), images(2)
    optimiser = torch.optim.Adam(vae.parameters())
    with profile(activities=[ProfilerActivity.CPU]) as found, Seen() as seen:
        terms(vae, x, PLAN, 0, Generator().manual_seed(0)).loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
    names = {event.key for event in found.key_averages()} | seen.operators
    assert any("bmm" in name for name in names)
    assert any("backward" in name.lower() for name in names)
    assert [name for name in names if SOLVER.search(name)] == []
    assert not seen.types & {torch.float64, torch.complex64, torch.complex128}
    assert torch.float32 in seen.types


def test_what_the_profile_looks_for_would_be_found():
    with Seen() as seen:
        torch.linalg.eigh(torch.eye(3, dtype=torch.float64))
    assert any(SOLVER.search(name) for name in seen.operators)
    assert torch.float64 in seen.types


class Kept:
    """A watcher that keeps everything."""

    def __init__(self):
        self.steps, self.readings = [], []

    def stepped(self, step, found):
        self.steps.append((step, found))

    def read(self, reading):
        self.readings.append(reading)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(tmp_path):
    whole, kept = vaes.vae(), Kept()
    train(whole, PLAN, batteries.NoiseSource(), probe(), watchers=[kept])
    killed, resumed = vaes.vae(), vaes.vae()
    train(killed, PLAN, batteries.NoiseSource(), probe(), folder=tmp_path, until=2)
    assert not vaes.same(killed, whole)
    run = train(resumed, PLAN, batteries.NoiseSource(), probe(), folder=tmp_path)
    assert vaes.same(resumed, whole)
    assert [step for step, _ in kept.steps] == [1, 2, 3, 4]
    assert kept.readings == run.readings == [*whole.history[-1].readings]
    again = train(vaes.vae(), PLAN, batteries.NoiseSource(), probe(), folder=tmp_path)
    assert (again.step, len(again.readings)) == (4, 2)


OTHERS = {
    "another plan": lambda: (vaes.vae(), PLAN.model_copy(update={"kl": 1e-3}), batteries.NoiseSource(), probe()),
    "other data": lambda: (vaes.vae(), PLAN, batteries.NoiseSource(types=(0,)), probe()),
    "another probe": lambda: (vaes.vae(), PLAN, batteries.NoiseSource(), probe(6)),
    "other parents": lambda: (
        BatteryVAE.from_cells({"fine-a": cells()["fine-a"], "coarse": cells()["coarse"]}, bottleneck=8),
        PLAN,
        batteries.NoiseSource(),
        probe(),
    ),
    "another start": lambda: (vaes.vae(seed=1), PLAN, batteries.NoiseSource(), probe()),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, other):
    train(vaes.vae(), PLAN, batteries.NoiseSource(), probe(), folder=tmp_path, until=2)
    vae, *asked = OTHERS[other]()
    before = [p.clone() for p in vae.parameters()]
    with pytest.raises(ConflictError) as caught:
        train(vae, *asked, folder=tmp_path)
    assert caught.value.code == "RUN_CHANGED"
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))


STATES = {
    "a step that is none": {"step": -1},
    "a step beyond the plan": {"step": 99},
    "a word": {"step": "two"},
    "a field too many": {"rate": 0.1},
    "no list": {"readings": 0.5},
    "a reading that is none": {"readings": [{"step": 1}]},
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_none_of_the_training_is_refused(name):
    run = VaeRun(vaes.vae(), PLAN, "identity")
    with pytest.raises(FormatError) as caught:
        run.restore({**run.state(), **STATES[name]}, where="saved")
    assert (caught.value.code, caught.value.where, run.step) == ("CHECKPOINT", "saved", 0)
    with pytest.raises(FormatError, match="readings"):
        run.restore({"identity": "identity", "step": 1}, where="saved")


class Breaking:
    """Noise that is not a number from a step on."""

    def __init__(self):
        self.source, self.calls = batteries.NoiseSource(), 0

    def batch(self, seed, count, size):
        self.calls += 1
        return self.source.batch(seed, count, size) * (math.nan if self.calls > 2 else 1)

    @property
    def facts(self):
        return self.source.facts

    domain = facts


@pytest.mark.slow
def test_a_step_that_is_no_number_ends_the_training_and_keeps_the_checkpoint(tmp_path):
    vae = vaes.vae()
    with pytest.raises(PolicyError) as caught:
        train(vae, PLAN, Breaking(), probe(), folder=tmp_path)
    assert (caught.value.code, caught.value.where) == ("DIVERGED", "step 2")
    assert all(bool(p.isfinite().all()) for p in vae.parameters())
    healthy = train(vaes.vae(), PLAN, batteries.NoiseSource(), probe(), folder=tmp_path)
    assert healthy.step == 4


def test_images_between_patches_are_refused_before_the_first_step():
    for plan, held in ((PLAN.model_copy(update={"size": 12}), probe()), (PLAN, probe(side=20))):
        with pytest.raises(BatteriesError) as caught:
            train(vaes.vae(), plan, batteries.NoiseSource(), held)
        assert caught.value.code == "IMAGE_SIZE"


def test_the_loss_is_made_of_its_terms():
    vae, x = vaes.vae(), images(2)
    plan = PLAN.model_copy(update={"warm_up": 4, "free": 0.0, "discipline": 0.5})
    found = terms(vae, x, plan, 1, Generator().manual_seed(0))
    whole = found.mse + plan.kl * 0.25 * found.divergence + 0.5 * found.discipline
    torch.testing.assert_close(found.loss, whole)
    bare = terms(vae, x, plan.model_copy(update={"discipline": 0.0}), 1, Generator().manual_seed(0))
    assert bare.discipline == 0
    assert torch.equal(bare.mse, found.mse)


def test_free_nats_cost_no_less_than_they_are():
    vae, x = vaes.vae(), images(2)
    plan = PLAN.model_copy(update={"warm_up": 0, "discipline": 0.0, "free": 50.0})
    found = terms(vae, x, plan, 0, Generator().manual_seed(0))
    patches = 16 * 2 + 4  # of both specs, times the sectors of each
    torch.testing.assert_close(found.loss - found.mse, torch.tensor(plan.kl * 50.0 * 8 * patches / x[0].numel()))
    found.loss.backward()
    assert float(vae.parts[0].bottleneck.log_sigma.bias.grad.abs().max()) < 1.0  # of the error alone


def clustered(vae):
    """Turn all rows of the arrays towards one axis."""
    with torch.no_grad():
        for part in vae.parts:
            part.arrays.points[..., 0] += 16.0
    return vae


@pytest.mark.slow
def test_the_discipline_leads_arrays_back_to_the_attractor():
    vae = clustered(vaes.vae())
    points = [part.arrays.points for part in vae.parts]
    before = read(vae, probe(), PLAN.kl)
    optimiser = torch.optim.Adam(points, lr=0.3)
    with torch.no_grad():
        out = vae(images(1), Generator().manual_seed(0))
    for step in range(60):
        optimiser.zero_grad()
        discipline(vae, out, Generator().manual_seed(step)).backward()
        optimiser.step()
    after = read(vae, probe(), PLAN.kl)
    for one, other in zip(before.sectors, after.sectors, strict=True):
        assert abs(one.cv[2] - 1) > 0.15
        assert abs(other.cv[2] - 1) < 0.5 * abs(one.cv[2] - 1)


def test_the_discipline_has_a_gradient_at_encoder_inverse_and_arrays():
    vae = vaes.vae()
    discipline(vae, vae(images(2), Generator().manual_seed(0)), Generator().manual_seed(0)).backward()
    for part in vae.parts:
        for parameter in (part.sectors.weight("enc_out.weight"), part.bottleneck.rows.weight, part.arrays.points):
            assert float(parameter.grad.abs().max()) > 0
        assert part.sectors.weight("dec_out.weight").grad is None


@pytest.mark.slow
def test_the_ratios_are_those_of_the_geometry():
    vae = vaes.vae()
    with torch.no_grad():
        out = vae(images(4, 64), Generator().manual_seed(0))
        ratios = cv_ratios(vae, out, Generator().manual_seed(0), matrices=256)
    for part, M, found in zip(vae.parts, out.M, ratios, strict=True):
        for place in range(len(part.names)):
            matrices = M[place].flatten(0, 1)
            reading = simplex_cv.axial_cv(matrices, torch.arange(len(matrices)), draws=400)
            uncorrected = found[0, place] * sphere_cv(part.spec.D)
            assert abs(float(uncorrected) / reading.value - 1) < 0.2  # few rows: the reading is corrected for their number


def test_a_width_without_a_cv_is_left_out():
    specs = {"flat": batteries.CellSpec(V=8, D=3, patch_size=4, hidden=6, smooth_width=2, heads=1), **SPECS}
    vae = BatteryVAE.untrained(specs, bottleneck=4)
    found = terms(vae, images(1), PLAN, 0, Generator().manual_seed(0))
    assert bool(found.loss.isfinite())
    reading = read(vae, probe(), PLAN.kl)
    assert [one.cv is None for one in reading.sectors] == [name == "flat" for name in vae.names]


def test_collapsed_codes_are_not_active():
    vae = vaes.vae()
    assert read(vae, probe(), PLAN.kl).active > 0.5
    with torch.no_grad():
        part = vae.parts[0]
        part.bottleneck.mu.weight[0, : vae.width // 2] = 0
    first = read(vae, probe(), PLAN.kl).sectors[0]
    assert first.name == vae.names[0]
    assert first.active <= 0.5


def test_a_reading_is_the_bound_of_normal_errors():
    vae, held, kl = vaes.vae(), probe(), 0.5
    found = read(vae, held, kl, step=7)
    x, _ = few(held)
    with torch.no_grad():
        out = vae(x, Generator().manual_seed(31))
    law = torch.distributions.Normal(out.decoded.images, math.sqrt(kl / 2))
    nats = sum(float(code.divergence().sum()) for code in out.codes)
    assert found.elbo == pytest.approx((float(law.log_prob(x).sum()) - nats) / x.numel(), rel=1e-4)
    assert found.error == pytest.approx(float((vae.reconstruct(x) - x).square().mean()), rel=1e-5)
    assert (found.step, found.elbo_standard_error > 0) == (7, True)
    assert sum(one.weight for one in found.sectors) == pytest.approx(1.0, abs=1e-5)


def test_gradient_norms_are_by_sector():
    vae = vaes.vae()
    assert gradient_norms(vae) == {}
    train(vae, PLAN.model_copy(update={"clip": 0.0}), batteries.NoiseSource(), probe(), until=1)
    found = gradient_norms(vae)
    assert found.keys() == {*vae.names}
    total = math.sqrt(sum(square**2 for square in found.values()) + float(vae.log_sharpness.grad) ** 2)
    whole = math.sqrt(sum(float(p.grad.square().sum()) for p in vae.parameters()))
    assert total == pytest.approx(whole, rel=1e-4)


@pytest.mark.slow
def test_training_lowers_the_error():
    vae = vaes.vae()
    run = train(vae, VaePlan(steps=25, size=16, batch=4, rate=1e-2, reading_every=25), batteries.NoiseSource(), probe())
    assert run.readings[-1].error < 0.95 * read(vaes.vae(), probe(), 1e-4).error


def test_events_hold_every_figure(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from composer.vae import VaeEvents

    events = VaeEvents(tmp_path)
    train(vaes.vae(), PLAN, batteries.NoiseSource(), probe(), watchers=[events])
    events.close()
    read_back = EventAccumulator(str(tmp_path))
    read_back.Reload()
    tags = set(read_back.Tags()["scalars"])
    assert {"loss", "mse", "divergence", "discipline", "gradient", "probe/elbo", "probe/active"} <= tags
    assert {"cv/encoder/fine-a", "cv/inverse/coarse", "cv/arrays/fine-b", "gradient/coarse", "active/fine-a"} <= tags
    assert [event.step for event in read_back.Scalars("loss")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "setting", [{"batch": 10**9}, {"size": 4096, "batch": 100}, {"free": 1e308}, {"kl": 1e308}, {"discipline": 1e308}]
)
def test_numbers_that_no_step_can_have_are_refused(setting):
    with pytest.raises(ValidationError, match=r"at most|less than or equal"):
        VaePlan(steps=1, **setting)
