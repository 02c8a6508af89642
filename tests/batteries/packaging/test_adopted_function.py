"""An adopted checkpoint of somebody else's is the same function, measured on our scale."""

import dataclasses

import pytest
import torch

import batteries
import registry
from batteries import CellSpec, PatchSVAE, probe
from batteries.cell.input_scale import IMAGENET
from batteries.errors import InputError
from batteries.images import from_input, to_input
from tests.support.checkpoints import MEAN, PLAIN, SPEC, STD, WIDE, adopt, reference, saved, state
from tests.support.soak import SOAK


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["high", "low"])
def test_an_adopted_checkpoint_is_the_same_function(tmp_path, spec):
    weights = state(spec)
    cell = adopt(saved(tmp_path, weights))
    assert cell.spec == spec
    images = probe("noise16-64").images[::40].double()  # in float64 nothing is left but what is another function
    expected = reference({name: tensor.double() for name, tensor in weights.items()}, images, spec.patch_size, spec.heads)
    assert expected.std() > 0.1
    found = PatchSVAE.from_cell(cell).double()(images)
    torch.testing.assert_close(found.recon, expected, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["high", "low"])
def test_so_is_one_of_images_normalised_as_for_imagenet(tmp_path, spec):
    weights = state(spec)
    cell = adopt(saved(tmp_path, weights), input=IMAGENET)
    mean, std = (torch.tensor(numbers, dtype=torch.float64)[:, None, None] for numbers in (MEAN, STD))
    pixels = torch.randint(256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(1)).double()
    theirs = (pixels / 255 - mean) / std
    wide = {name: tensor.double() for name, tensor in weights.items()}
    expected = reference(wide, theirs, spec.patch_size, spec.heads)
    scale = cell.manifest.identity.input
    found = PatchSVAE.from_cell(cell).double()(to_input(pixels / 127.5 - 1, scale)).recon
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    ours = 2 * (expected * std + mean) - 1
    torch.testing.assert_close(from_input(found, scale), ours, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("band", ["low", "high"])
@pytest.mark.parametrize("scale", [PLAIN, IMAGENET], ids=["plain", "imagenet"])
def test_in_float32_they_agree_within_a_millionth(tmp_path, band, scale):
    spec = CellSpec.preset(band)
    weights = {name: tensor.detach() for name, tensor in batteries.untrained(spec, 3).state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    last = weights["boundary_smooth.net.2.weight"]
    weights["boundary_smooth.net.2.weight"] = 0.05 * torch.randn(last.shape, generator=generator)
    cell = adopt(saved(tmp_path, weights), input=scale)
    images = to_input(probe("photos-64").images[::12], scale)
    expected = reference(weights, images, spec.patch_size, spec.heads)
    torch.testing.assert_close(PatchSVAE.from_cell(cell)(images).recon, expected, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("few")
def test_the_error_is_on_our_scale_whatever_the_cells(tmp_path):
    weights = state()
    cell = adopt(saved(tmp_path, weights), input=IMAGENET)
    whole = probe("noise16-64")
    images = whole.images[::16]
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    theirs = ((images + 1) / 2 - mean) / std
    ours = 2 * (reference(weights, theirs, SPEC.patch_size, SPEC.heads) * std + mean) - 1
    error = (ours - images).square().mean(dim=(1, 2, 3))
    own = cell.manifest.own
    assert own.mse.value == pytest.approx(float(error.mean()), rel=1e-4)
    assert own.mse_by_group["gaussian"] == pytest.approx(float(error[0]), rel=1e-4)
    assert cell.manifest.untrained[own.probe].mse.value != own.mse.value
    assert own.baselines.fitted_on.startswith("at adoption: generated noise")
    few = dataclasses.replace(whole, images=images, group=whole.group[::16])
    again = batteries.measure(PatchSVAE.from_cell(cell), few, input=cell.manifest.identity.input)
    assert again == own.model_copy(update={"baselines": None})


@pytest.mark.usefixtures("few")
def test_a_shipped_cell_saved_as_a_checkpoint_is_adopted_as_itself(tmp_path):
    (cell,) = registry.pull("mid/johanna-64")
    found = adopt(saved(tmp_path, {name: torch.tensor(array) for name, array in cell.weights.items()}))
    assert (found.digest, found.spec) == (cell.digest, cell.spec)
    assert found.to_bytes() == cell.to_bytes()


@pytest.mark.skipif(not SOAK, reason="measures on whole probes")
def test_and_measured_as_it_was_when_it_was_trained(tmp_path):
    (cell,) = registry.pull("mid/johanna-64")
    found = adopt(saved(tmp_path, {name: torch.tensor(array) for name, array in cell.weights.items()}))
    for name, ours in cell.manifest.measured.items():
        again = found.manifest.measured[name]
        assert (again.mse.value, again.cv.value) == (pytest.approx(ours.mse.value), pytest.approx(ours.cv.value))
    assert found.manifest.own.baselines.pca == pytest.approx(cell.manifest.own.baselines.pca)


@pytest.mark.slow
def test_mean_zero_and_std_one_change_no_bit():
    images = probe("noise16-64").images[::64]
    assert torch.equal(to_input(images, PLAIN), images)
    few = dataclasses.replace(probe("photos-64"), images=probe("photos-64").images[::6], group=torch.arange(16))
    model = batteries.untrained(SPEC, 0)
    assert batteries.measure(model, few) == batteries.measure(model, few, input=PLAIN)


def test_images_of_other_channels_than_the_scale_are_refused():
    for images in (torch.zeros(1, 1, 8, 8), torch.zeros(3, 8, 8)):
        with pytest.raises(InputError, match="IMAGE_SHAPE"):
            to_input(images, PLAIN)
