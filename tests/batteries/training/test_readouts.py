"""Cells of every readout: trained, resumed, packaged and read like any other."""

import dataclasses
import json

import pytest
import torch

import batteries
from batteries import CellSpec, NoiseSource, Plan, probe, train
from batteries.cell.model_card import cell_card
from batteries.errors import ConflictError, FormatError
from batteries.model.patch_svae import arrays_of, untrained

SPEC = CellSpec(V=12, D=4, patch_size=16, hidden=8)


def plan(readout, **changes):
    values = {"size": 64, "steps": 6, "batch": 4, "reading_every": 3, "checkpoint_every": 1, "triage_step": 3}
    return Plan(**{"spec": SPEC.model_copy(update={"readout": readout}), **values, **changes})


@pytest.fixture(scope="module")
def small():
    whole = probe("noise16-64")
    return dataclasses.replace(whole, images=whole.images[::8], group=whole.group[::8])


@pytest.mark.parametrize(("readout", "optimiser"), [("linear", "muon"), ("none", "adam"), ("narrow_sphere", "sgd")])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, small, readout, optimiser):
    unbroken = train(plan(readout, optimiser=optimiser), NoiseSource(), small)
    for until in (2, 6):
        resumed = train(plan(readout, optimiser=optimiser), NoiseSource(), small, folder=tmp_path, until=until)
    first, second, start = arrays_of(resumed.model), arrays_of(unbroken.model), arrays_of(untrained(unbroken.plan.spec, 0))
    assert all((first[name] == second[name]).all() for name in second)
    assert resumed.trajectory == unbroken.trajectory
    assert all((first[name] != start[name]).any() for name in start if name.endswith("weight"))


def test_a_checkpoint_of_another_readout_is_refused(tmp_path, small):
    train(plan("none"), NoiseSource(), small, folder=tmp_path, until=1)
    with pytest.raises(ConflictError, match="RUN_CHANGED"):
        train(plan("svd"), NoiseSource(), small, folder=tmp_path)


@pytest.mark.slow
def test_a_packaged_cell_names_its_readout_and_is_read_again(tmp_path, small):
    run = train(plan("linear", steps=2), NoiseSource(), small)
    label = batteries.Label(name="mine", version="1.0.0", family="mine", license="Apache-2.0", description="A test.")
    cell = batteries.package(run, NoiseSource(), label, command="none")
    path = cell.write(tmp_path)
    manifest = json.loads(path.with_suffix(".json").read_bytes())
    assert manifest["spec"]["readout"] == "linear"
    assert batteries.Cell.read(path) == cell
    assert cell.manifest.own.mse.value == pytest.approx(float(small_error(cell)), rel=1e-5)
    assert "readout='linear'" in repr(cell.spec)
    assert "- svd" not in cell_card(cell.manifest, "me/mine")
    del manifest["spec"]["readout"]
    path.with_suffix(".json").write_bytes(batteries.io.canonical_json.dump(manifest))
    with pytest.raises(FormatError, match=r"readout\.weight is unexpected"):
        batteries.Cell.read(path)


def small_error(cell):
    images = probe("noise16-64").images
    with torch.no_grad():
        return (batteries.PatchSVAE.from_cell(cell)(images).recon - images).square().mean()
