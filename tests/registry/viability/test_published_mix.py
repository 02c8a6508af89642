"""A cell of the published noise mix: trained, packaged, published and validated on its own probe, and on no other's figures."""

import dataclasses
import json

import pytest

import batteries
import registry
from batteries import Cell, NoiseSource
from batteries.packaging.package import linear_code
from registry.viability.readouts import read_outs
from tests.support.commands import run
from tests.support.viability import TEST, one_of_a_group

pytestmark = pytest.mark.usefixtures("few")
WORDS = [
    "--steps",
    "6",
    "--size",
    "32",
    "--batch",
    "4",
    "--set",
    "V=12",
    "--set",
    "hidden=8",
    "--set",
    "patch_size=16",
    "--json",
]


@pytest.fixture
def cell(capsys, tmp_path, few):
    places = ["--out", str(tmp_path), "--run", str(tmp_path / "run")]
    code, out, _ = run(capsys, "train", "high/mine-p-32", "--noise", "published", *WORDS, *places)
    assert code == 0
    return Cell.read(json.loads(out)["path"])


@pytest.mark.slow
def test_its_figures_are_of_the_published_mix(cell):
    manifest = cell.manifest
    assert manifest.own_probe == "noise16p-64"
    assert set(manifest.measured) == {"noise16p-64", "photos-64"}
    assert set(manifest.untrained) == {"noise16p-64"}
    assert manifest.training.data == NoiseSource(mix="published").facts
    assert "--noise published" in manifest.training.command
    probe = one_of_a_group("noise16p-64")
    mixes = [linear_code(cell.spec, 32, 0, NoiseSource(mix=mix)) for mix in ("published", "batteries")]
    found = [batteries.measurement.baselines.baselines(code, probe.images, cell.spec).pca_width for code in mixes]
    assert manifest.own.baselines.pca_width == pytest.approx(found[0], rel=1e-6)
    assert found[0] != found[1]


@pytest.mark.slow
def test_it_is_published_and_validated_with_its_run_repeated(cell, tmp_path, monkeypatch):
    (tmp_path / "registry").mkdir()
    assert registry.publish(cell, str(tmp_path / "registry")).new
    seen = []

    def few(name):
        seen.append(whole := batteries.probe(name))
        return dataclasses.replace(whole, images=whole.images[::8], group=whole.group[::8], digest="2" * 64)

    def noted(model, task, subject, own):
        pink = task.train[0][task.train[1] == probe.groups.index("pink")]
        assert pink.std(dim=(2, 3)).max() < 1e-4
        return read_outs(model, task, subject, own)

    probe = batteries.probe("noise16p-64")
    monkeypatch.setattr("registry.viability.validate.probe", few)
    monkeypatch.setattr("registry.viability.runner.read_outs", noted)
    report = registry.validate(cell, profile=TEST, cache=tmp_path / "cache", retrain=True)
    assert seen == [probe]
    assert report.attestation.probe == "noise16p-64"
    checks = {check.name: check for check in report.checks}
    assert checks["retrained"].passed
    assert "error, worst type" in checks
