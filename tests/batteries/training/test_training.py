"""Training: it learns, resumes to the same numbers after a kill, and stops a run of the wrong band."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys

import pytest
import torch

from batteries import CellSpec
from batteries.data.probes import Probe, probe
from batteries.data.sources import NoiseSource, seed_of
from batteries.errors import ConflictError, FormatError, InputError, PolicyError
from batteries.model.patch_svae import arrays_of
from batteries.packaging.package import Label, package
from batteries.training.plan import Plan
from batteries.training.trainer import expected_band, train
from tests.support.cells import ROOT
from tests.support.soak import SOAK

pytestmark = pytest.mark.usefixtures("few_matrices")
SPEC = CellSpec(V=16, D=4, patch_size=4, hidden=16)


def plan(**changes):
    values = {"spec": SPEC, "size": 16, "steps": 12, "batch": 8, "reading_every": 4, "checkpoint_every": 3, "triage_step": 5}
    return Plan(**{**values, **changes})


@pytest.fixture(scope="module")
def small():
    whole = probe("noise16-64")
    return Probe("noise16-64", 1, "noise", whole.images[::8, :, :16, :16], whole.group[::8], whole.groups, whole.digest)


RUN = """
import json, sys, time
from pathlib import Path
from batteries.measurement import measure
from tests.batteries.training import test_training as t
measure.MATRICES = int(sys.argv[2])
small = t.probe("noise16-64")
small = t.Probe("noise16-64", 1, "noise", small.images[::8, :, :16, :16], small.group[::8], small.groups, small.digest)
class Slow:
    def stepped(self, step, loss):
        print(step, flush=True)
        time.sleep(0.05)
    def read(self, point): pass
t.train(t.plan(**json.loads(sys.argv[3])), t.NoiseSource(), small, folder=Path(sys.argv[1]), watchers=[Slow()])
"""


def same(run, other):
    first, second = arrays_of(run.model), arrays_of(other.model)
    return all((first[name] == second[name]).all() for name in first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "after"),
    [
        *(({"optimiser": "adam"}, after) for after in (2, 5, 8)),
        ({"optimiser": "muon"}, 5),
        ({"optimiser": "lbfgs", "hand": "penalty", "fixed_batch": True, "schedule": "linear"}, 8),
        *(({"optimiser": optimiser}, 5) for optimiser in (("adamw", "sgd", "lbfgs") if SOAK else ())),
    ],
    ids=str,
)
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, small, few_matrices, changes, after):
    command = [sys.executable, "-c", RUN, str(tmp_path), str(few_matrices), json.dumps(changes)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if int(line) == after:
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    resumed = train(plan(**changes), NoiseSource(), small, folder=tmp_path)
    unbroken = train(plan(**changes), NoiseSource(), small)
    assert same(resumed, unbroken)
    assert resumed.trajectory == unbroken.trajectory
    assert resumed.cv_average == unbroken.cv_average
    assert resumed.cv_averages == unbroken.cv_averages
    assert resumed.axial_cv_at_triage == unbroken.axial_cv_at_triage
    assert [p.step for p in resumed.trajectory] == [4, 5, 8, 12]


class Nobody:
    def stepped(self, step, loss):
        raise AssertionError("a step was taken")

    def read(self, point):
        raise AssertionError("a reading was taken")


@pytest.mark.slow
def test_a_finished_run_is_not_run_again(tmp_path, small):
    first = train(plan(), NoiseSource(), small, folder=tmp_path)
    again = train(plan(), NoiseSource(), small, folder=tmp_path, watchers=[Nobody()])
    assert same(first, again)
    assert again.step == 12


@pytest.mark.slow
def test_it_learns_and_reports(small):
    seen = []

    class Watch:
        def stepped(self, step, loss):
            seen.append((step, loss))

        def read(self, point):
            seen.append(point)

    run = train(plan(steps=60, batch=16, rate=4e-3), NoiseSource(), small, watchers=[Watch()])
    losses = [row[1] for row in seen if isinstance(row, tuple)]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert run.trajectory == [row for row in seen if not isinstance(row, tuple)]
    assert run.trajectory[-1].mse < run.trajectory[0].mse


@pytest.mark.slow
def test_the_same_seed_gives_the_same_cell_bytes(small, monkeypatch):
    monkeypatch.setattr("batteries.packaging.package.probe", lambda name: small if name.startswith("noise") else probe(name))
    label = Label(name="tiny", version="0.1.0", family="johanna", license="Apache-2.0", description="a test")
    cells = [package(train(plan(), NoiseSource(), small), NoiseSource(), label, "batteries train high/tiny") for _ in range(2)]
    assert cells[0].to_bytes() == cells[1].to_bytes()
    assert cells[0].manifest.to_bytes() == cells[1].manifest.to_bytes()
    assert cells[0].name == "high/tiny"
    manifest = cells[0].manifest
    assert manifest.own.baselines.mean == pytest.approx(small.images.square().mean().item(), rel=0.1)
    assert manifest.training.trajectory[-1].step == 12
    other = train(plan(seed=1), NoiseSource(), small)
    assert not all((arrays_of(other.model)[k] == cells[0].weights[k]).all() for k in cells[0].weights)


def test_triage_stops_a_run_of_the_wrong_band(small):
    wide = CellSpec(V=16, D=8, patch_size=4, hidden=16, row_norm="none")
    run = train(plan(spec=wide), NoiseSource(), small)
    assert run.stopped
    assert run.step == 5
    assert run.triage.expected == "mid"
    assert run.triage.found == "off"
    label = Label(name="tiny", version="0.1.0", family="johanna", license="Apache-2.0", description="a test")
    with pytest.raises(PolicyError, match="TRIAGE"):
        package(run, NoiseSource(), label, "by hand")


def test_a_cell_outside_the_window_of_its_width_is_off(small, monkeypatch):
    monkeypatch.setattr("batteries.packaging.package.probe", lambda name: small if name.startswith("noise") else probe(name))
    label = Label(name="tiny", version="0.1.0", family="johanna", license="Apache-2.0", description="a test")
    wide = CellSpec(V=16, D=8, patch_size=4, hidden=16, row_norm="none")
    run = train(plan(spec=wide, steps=2), NoiseSource(), small)
    assert package(run, NoiseSource(), label, "by hand").name == "off/tiny"


def test_readings_along_training_have_both_cvs(small):
    point = train(plan(steps=2), NoiseSource(), small).trajectory[-1]
    assert point.deciding_cv == (point.axial_cv, point.axial_cv_standard_error)
    assert point.axial_cv != point.cv
    old = point.model_copy(update={"axial_cv": None, "axial_cv_standard_error": None})
    assert old.deciding_cv == (point.cv, point.cv_standard_error)
    assert sorted(old.model_dump()) == ["cv", "cv_standard_error", "mse", "step"]


def test_the_expected_band():
    assert [expected_band(CellSpec.preset(p)) for p in ("low", "mid", "high")] == ["low", "mid", "high"]
    assert expected_band(CellSpec.preset("low", D=32)) == "open"


@pytest.mark.parametrize("other", ["plan", "optimiser", "data", "probe"])
def test_a_checkpoint_of_another_run_is_refused(tmp_path, small, other):
    train(plan(steps=3), NoiseSource(), small, folder=tmp_path)
    changed = {"plan": plan(steps=3), "data": NoiseSource(), "probe": small}
    changed |= {
        "plan": {"plan": plan(steps=4)},
        "optimiser": {"plan": plan(steps=3, optimiser="adamw")},
        "data": {"data": NoiseSource(types=(0, 1))},
        "probe": {"probe": dataclasses.replace(small, digest="1" * 64)},
    }[other]
    with pytest.raises(ConflictError, match="another run") as caught:
        train(changed["plan"], changed["data"], changed["probe"], folder=tmp_path)
    assert caught.value.exit_code == 6


def test_a_probe_that_the_patches_do_not_tile_is_refused_before_the_first_step(small):
    wide = CellSpec(V=16, D=4, patch_size=12, hidden=16)
    with pytest.raises(InputError, match="multiples of 12") as caught:
        train(plan(spec=wide, size=24), NoiseSource(), small, watchers=[Nobody()])
    assert caught.value.code == "IMAGE_SIZE"


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_run_that_diverges_says_so_and_keeps_its_checkpoint(tmp_path, small, rate):
    with pytest.raises(PolicyError, match="training diverged") as caught:
        train(plan(rate=rate, checkpoint_every=1, reading_every=100), NoiseSource(), small, folder=tmp_path)
    assert caught.value.exit_code == 6
    assert (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_a_long_trajectory_is_thinned_and_keeps_its_ends(small, monkeypatch):
    monkeypatch.setattr("batteries.packaging.package.probe", lambda name: small if name.startswith("noise") else probe(name))
    monkeypatch.setattr("batteries.packaging.package.MAX_TRAJECTORY", 6)
    run = train(plan(reading_every=1), NoiseSource(), small)
    label = Label(name="tiny", version="0.1.0", family="johanna", license="Apache-2.0", description="")
    kept = [point.step for point in package(run, NoiseSource(), label, "").manifest.training.trajectory]
    assert kept == [1, 4, 5, 7, 10, 12]


def test_a_damaged_checkpoint_is_named(tmp_path, small):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not one")
    with pytest.raises(FormatError, match="not a checkpoint"):
        train(plan(), NoiseSource(), small, folder=tmp_path)


STATES = {
    "a step that is none": {"step": -1},
    "a step beyond the plan": {"step": 99},
    "a word": {"step": "three"},
    "a field too many": {"rate": 0.1},
    "a reading too few": {"trajectory": [{"step": 1, "mse": 0.5, "cv": None, "cv_standard_error": None}]},
    "a reading that is none": {"trajectory": [{"step": 1}], "cv_averages": [None]},
    "a triage that is none": {"triage": {"passed": True}},
    "half an estimate": {"axial_cv_at_triage": [0.2, 0.1]},
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_is_none_of_the_run_is_refused(small, name):
    run = train(plan(), NoiseSource(), small, until=1)
    with pytest.raises(FormatError) as caught:
        run.restore({**run.state(), **STATES[name]}, where="saved")
    assert (caught.value.code, caught.value.where) == ("CHECKPOINT", "saved")
    state = run.state()
    del state["cv_averages"]
    with pytest.raises(FormatError, match="cv_averages"):
        run.restore(state, where="saved")


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle", "linear", "restarts"])
def test_schedules(schedule):
    p = plan(steps=100, rate=1.0, schedule=schedule)
    rates = [p.rate_at(step) for step in range(100)]
    assert max(rates) == pytest.approx(1.0)
    assert all(rate > 0 for rate in rates)
    if schedule != "constant":
        assert rates[-1] < 0.02
    if schedule == "onecycle":
        assert rates[0] < 0.02


def test_seeds_of_steps_do_not_meet():
    seeds = {seed_of(run, step, purpose) for run in range(5) for step in range(200) for purpose in range(3)}
    assert len(seeds) == 5 * 200 * 3


@pytest.mark.slow
def test_tensorboard_events(tmp_path, small):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from batteries.training.tensorboard import Events

    events = Events(tmp_path)
    train(plan(), NoiseSource(), small, watchers=[events])
    events.close()
    log = EventAccumulator(str(tmp_path))
    log.Reload()
    assert [row.step for row in log.Scalars("probe/cv")] == [4, 5, 8, 12]
    assert len(log.Scalars("loss")) == 12


@pytest.mark.slow
@pytest.mark.parametrize("killed", [2, 5, 7])
def test_events_of_a_run_that_was_killed_appear_once(tmp_path, small, killed):
    """Killed before and after the checkpoints at steps 3 and 6, with its events on the disk, and resumed."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from batteries.training.tensorboard import Events

    class Killer:
        def stepped(self, step, loss):
            if step == killed:
                raise KeyboardInterrupt

        def read(self, point):
            pass

    settings = plan(reading_every=3, triage_step=100)
    for others in ([Killer()], []):
        events = Events(tmp_path / "events")
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(events):
            train(settings, NoiseSource(), small, folder=tmp_path, watchers=[events, *others])
    assert len(list((tmp_path / "events").iterdir())) == 2
    log = EventAccumulator(str(tmp_path / "events"))
    log.Reload()
    assert [row.step for row in log.Scalars("loss")] == list(range(1, 13))
    assert [row.step for row in log.Scalars("probe/mse")] == [3, 6, 9, 12]


def test_events_without_a_step_make_no_file(tmp_path):
    pytest.importorskip("tensorboard")
    from batteries.training.tensorboard import Events

    events = Events(tmp_path / "events")
    events.close()
    assert not (tmp_path / "events").exists()


def test_the_soft_hand_scales_the_loss_and_not_its_direction(small):
    on, off = (train(plan(steps=1, boost=boost, clip=1e9, rate=1e-3), NoiseSource(), small) for boost in (0.5, 0.0))
    assert on.cv_average is not None
    assert off.cv_average is None
    # Adam's first step is the sign of the gradient: a positive factor leaves it as it was
    first, second = arrays_of(on.model), arrays_of(off.model)
    assert all(torch.allclose(torch.from_numpy(first[k]), torch.from_numpy(second[k]), atol=2e-5) for k in first)


@pytest.mark.slow
def test_a_run_may_start_from_a_cell(small):
    label = Label(name="tiny", version="1.0.0", family="johanna", license="CC0-1.0", description="")
    first = package(train(plan(), NoiseSource(), small), NoiseSource(), label, "batteries train high/tiny")
    begun = plan(steps=1, rate=1e-9, start=first.digest)
    run = train(begun, NoiseSource(), small, start=first)
    for name, array in first.weights.items():
        assert torch.allclose(dict(run.model.named_parameters())[name], torch.tensor(array), atol=1e-6)
    assert first.digest in package(run, NoiseSource(), label, "").manifest.training.optimiser
    other = CellSpec(V=13, D=4, patch_size=16, hidden=8)
    for wrong, start in ((begun, None), (plan(), first), (plan(spec=other, start=first.digest), first)):
        with pytest.raises(ConflictError) as caught:
            train(wrong, NoiseSource(), small, start=start)
        assert caught.value.code == "START"
