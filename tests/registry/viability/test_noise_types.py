"""A cell of one noise type: trained, packaged, published and validated on images of that type, and its hosts name all 16."""

import dataclasses

import pytest
import torch

import batteries
import registry
from batteries import Cell, NoiseSource
from batteries.cell import weights_file
from batteries.errors import PolicyError
from batteries.model.patch_svae import arrays_of
from batteries.noise import NAMES, of_types
from batteries.packaging.package import linear_code
from batteries.training.recipe import Recipe
from registry.checks import content_checks
from registry.cli import main
from registry.stores.memory import MemoryStore
from registry.transfer import remeasure
from registry.viability import trials
from registry.viability.readouts import read_outs
from registry.viability.tasks import own_images, own_tasks
from tests.support.viability import QUICK, TEST, one_of_a_group

pytestmark = pytest.mark.usefixtures("few_in_module")
WORDS = [
    "train",
    "high/pink-32",
    "--noise",
    "--types",
    "pink",
    "--steps",
    "2",
    "--size",
    "32",
    "--batch",
    "2",
    "--set",
    "V=12",
    "--set",
    "hidden=8",
    "--set",
    "patch_size=16",
]
SHORT = TEST.model_copy(update={"dose_rates": (1e-4,), "reference_seeds": 1, "return_limit": 1})
PINK = NAMES.index("pink")


@pytest.fixture(scope="module")
def cell(tmp_path_factory, few_in_module):
    folder = tmp_path_factory.mktemp("expert")
    assert main([*WORDS, "--out", str(folder), "--run", str(folder / "run")]) == 0
    return Cell.read(folder / "high" / "pink-32.safetensors")


@pytest.mark.slow
def test_the_recorded_command_repeats_it_to_the_bit(cell):
    manifest = cell.manifest
    assert "--types pink" in manifest.training.command
    recipe = Recipe.parse(manifest.training.command)
    assert recipe.source(None).facts == manifest.training.data
    assert manifest.training.data.noise_types == ("pink",)
    again = batteries.train(recipe.plan(None), recipe.source(None), manifest.own_probe)
    arrays = arrays_of(again.model)
    assert weights_file.tensor_digest(arrays) == manifest.file.tensor_digest


@pytest.mark.slow
def test_its_figures_are_of_its_type(cell):
    manifest = cell.manifest
    assert set(manifest.measured) == {"noise16-64:pink", "photos-64"}
    assert set(manifest.untrained) == {"noise16-64:pink"}
    assert set(manifest.own.mse_by_group) == {"pink"}
    source, probe = NoiseSource(types=(PINK,)), one_of_a_group("noise16-64:pink")
    found = batteries.measurement.baselines.baselines(linear_code(cell.spec, 32, 0, source), probe.images, cell.spec)
    assert manifest.own.baselines.pca_width == pytest.approx(found.pca_width, rel=1e-6)


@pytest.mark.slow
def test_it_is_published_and_other_types_are_refused(cell):
    assert registry.publish(cell, MemoryStore()).new
    data = cell.manifest.training.data.model_copy(update={"noise_types": ("brown",)})
    training = cell.manifest.training.model_copy(update={"data": data})
    false = Cell(cell.weights, cell.manifest.model_copy(update={"training": training}))
    with pytest.raises(PolicyError, match="noise types of the own probe"):
        registry.publish(false, MemoryStore())


@pytest.mark.parametrize("types", [("brown",), (), ("mauve",), ("pink", "pink")])
def test_types_that_contradict_the_probe(types):
    data = NoiseSource((PINK,)).facts.model_copy(update={"noise_types": types})
    assert [str(one) for one in remeasure._type_differences(data, batteries.probe("noise16-64:pink"))]
    assert remeasure._generated(data) is None


@pytest.mark.slow
def test_it_is_validated_with_its_run_repeated(cell, tmp_path, monkeypatch):
    seen = []

    def few(name):
        seen.append(name)
        whole = batteries.probe(name)
        return dataclasses.replace(whole, images=whole.images[::16], group=whole.group[::16], digest="4" * 64)

    def noted(model, task, subject, own):
        assert (task.classes, set(own.test[1].tolist())) == (16, {0})
        return read_outs(model, task, subject, own)

    monkeypatch.setattr("registry.viability.validate.probe", few)
    monkeypatch.setattr("registry.viability.runner.read_outs", noted)
    report = registry.validate(cell, profile=SHORT, cache=tmp_path / "cache", retrain=True)
    assert seen == ["noise16-64:pink"]
    assert report.attestation.probe == "noise16-64:pink"
    assert report["retrained"].passed
    assert "pink" in report["error, worst type"].reason
    losses = {figure.reads: figure.losses for figure in report.attestation.readouts if figure.subject == "cell"}
    assert {reads: len(each) for reads, each in losses.items()} == {"M": 1, "omega": 16}
    registry.Attestation.from_bytes(report.attestation.to_bytes(), where="here")


def test_hosts_name_its_types_or_all_sixteen_of_its_mix():
    (one,), (two,) = (own_tasks(batteries.probe(f"noise16-64:{name}"), TEST, 0) for name in ("pink", "pink+brown"))
    (whole,) = own_tasks(batteries.probe("noise16-64"), TEST, 0)
    assert (one.classes, two.classes) == (16, 2)
    assert torch.equal(one.train[0], whole.train[0])
    assert two.train[1].bincount().tolist() == two.test[1].bincount().tolist() == [32, 32]
    again = of_types(torch.tensor([PINK, PINK + 1])[two.test[1]], (64, 64), torch.Generator().manual_seed(1))
    assert torch.equal(two.test[0], again)


def test_own_images_are_of_its_type_and_of_others_those_of_the_task():
    pink, two, photos = (batteries.probe(name) for name in ("noise16-64:pink", "noise16-64:pink+brown", "photos-64"))
    own = own_images(pink, TEST, 0)
    assert torch.equal(own.train[0], of_types(torch.full((64,), PINK), (64, 64), torch.Generator().manual_seed(0)))
    assert not torch.equal(own.train[0], own.test[0])
    for probe in (two, photos):
        naming = own_tasks(probe, TEST, 0)[-1]
        assert own_images(probe, TEST, 0).train[0] is naming.train[0]


def test_recovery_is_on_its_type():
    pink = batteries.probe("noise16p-64:pink")
    (task,) = own_tasks(pink, TEST, 0)
    for images in trials._own_images(pink, task, TEST, 0):
        assert images.std(dim=(2, 3)).max() < 1e-4


def test_constant_colours_leave_no_type_to_judge():
    own, model = batteries.probe("noise16p-64:pink+brown"), batteries.untrained(batteries.CellSpec.preset("high", hidden=8), 0)
    found = content_checks.content(batteries.measurement.measure.read(model, own.images[::8], own.cluster[::8]), few_of(own))
    assert found.types == {}
    worst = next(check for check in content_checks.of_content(found, 32, QUICK) if check.name == "error, worst type")
    assert (worst.passed, worst.decides) == (None, False)
    assert "constant colours" in worst.reason


def few_of(own):
    return dataclasses.replace(own, images=own.images[::8], group=own.group[::8], digest="5" * 64)


def test_linear_codes_of_constant_colours_are_exact(monkeypatch):
    monkeypatch.setattr("batteries.packaging.package.BASELINE_PATCHES", 2000)
    own, spec = batteries.probe("noise16p-64:pink"), batteries.CellSpec.preset("high")
    code = linear_code(spec, 64, 0, NoiseSource((PINK,), "published"))
    found = batteries.measurement.baselines.baselines(code, own.images, spec)
    assert 0 <= found.pca <= found.pca_width < 1e-6 < found.mean
