"""Inspections of planted cells, of specs without some figures, and of input that is refused."""

import math

import pytest
import torch

import batteries
from batteries import diagnostics

IMAGES = batteries.noise.random_batch(6, (16, 16), seed=1)[0]


def untrained(seed=0, **changed):
    return batteries.untrained(batteries.CellSpec.preset("high", hidden=16, smooth_width=4, **changed), seed)


@pytest.fixture(scope="module")
def model():
    return untrained()


@pytest.fixture(scope="module")
def column(model):
    (found,) = diagnostics.inspect(model, IMAGES).columns
    return found


def value(column, key, place=""):
    return column.figure(key, place).value


def test_attention_switched_off_changes_nothing():
    model = untrained()
    with torch.no_grad():
        model.cross_attn[0].out_proj.weight.zero_()
        model.cross_attn[0].out_proj.bias.zero_()
    (column,) = diagnostics.inspect(model, IMAGES).columns
    assert value(column, "attention-change", "layer 0") == 0
    assert column.figure("attention-common", "layer 0").undefined == "attention changes nothing"
    for key in ("cv-patches", "variation"):
        assert value(column, key, "S after layer 0") == value(column, key, "S before attention")


def planted(rows):
    """A cell whose M is the same for every patch: rows (V, D) given."""
    V, D = rows.shape
    model = batteries.untrained(batteries.CellSpec(V=V, D=D, patch_size=4, hidden=8, smooth_width=2), seed=0)
    with torch.no_grad():
        model.enc_out.weight.zero_()
        model.enc_out.bias.copy_(rows.flatten())
    return model


def test_orthogonal_rows_have_a_flat_spectrum():
    (column,) = diagnostics.inspect(planted(torch.eye(4).repeat(8, 1)), IMAGES).columns
    for mode in range(4):
        assert value(column, "spectrum", f"mode {mode}") == pytest.approx(math.sqrt(8))
        assert value(column, "energy-share", f"mode {mode}") == pytest.approx(0.25)
    assert value(column, "spectrum-ratio") == pytest.approx(1)
    assert value(column, "effective-rank") == pytest.approx(4)
    assert value(column, "participation") == pytest.approx(4)
    assert value(column, "patch-rank") == pytest.approx(1, abs=1e-5)  # one vector for all patches
    assert value(column, "variance-retained") == pytest.approx(0, abs=1e-9)
    assert column.figure("spectrum", "mode 0").standard_error == pytest.approx(0, abs=1e-6)
    assert "hyperplane" in column.figure("cv-patches", "M").undefined


def test_a_known_spectrum_is_found():
    counts = torch.tensor([10, 6, 3, 1])  # of each axis: singular values are their roots
    (column,) = diagnostics.inspect(planted(torch.eye(4).repeat_interleave(counts, dim=0)), IMAGES).columns
    for mode, count in enumerate(counts.tolist()):
        assert value(column, "spectrum", f"mode {mode}") == pytest.approx(math.sqrt(count), rel=1e-6)
        assert value(column, "energy-share", f"mode {mode}") == pytest.approx(count / 20, rel=1e-6)
    assert value(column, "participation") == pytest.approx(400 / 146, rel=1e-6)


def test_one_direction_is_undefined_where_it_has_no_value():
    (column,) = diagnostics.inspect(planted(torch.eye(4)[:1].repeat(8, 1)), IMAGES).columns
    assert value(column, "effective-rank") == pytest.approx(1, abs=1e-4)
    for key in ("spectrum-ratio", "u-orthogonality", "cv-rows", "axial-cv-rows"):
        assert column.figure(key).value is None
        assert column.figure(key).undefined


UNDEFINED = {
    "linear": ({"readout": "linear"}, {"u-orthogonality", "v-orthogonality", "factorisation"}),
    "none": ({"readout": "none"}, {"u-orthogonality", "v-orthogonality", "factorisation"}),
    "no layers": (
        {"cross_layers": 0, "depth": 0},
        {"attention-change", "attention-common", "qk-cosine", "qk-cosine-own", "alpha"},
    ),
    "D 3": ({"D": 3, "heads": 1}, {"cv-rows", "axial-cv-rows"}),
    "D 2": ({"D": 2, "heads": 1}, {"cv-rows", "axial-cv-rows"}),
    "layernorm": ({"row_norm": "layernorm"}, {"cv-rows", "axial-cv-rows", "spectrum-ratio", "u-orthogonality"}),
    "V below D": ({"V": 5, "D": 8}, {"spectrum-ratio", "u-orthogonality"}),
    "free rows": ({"row_norm": "none"}, set()),
    "rows by the batch": ({"row_norm": "scale"}, set()),
    "one channel": ({"channels": 1}, set()),
    "free alpha": ({"bounded_alpha": False}, set()),
}


@pytest.mark.parametrize(("changed", "undefined"), UNDEFINED.values(), ids=UNDEFINED)
def test_a_figure_that_does_not_exist_is_undefined_with_a_reason(changed, undefined):
    model = untrained(**changed)
    (column,) = diagnostics.inspect(model, IMAGES[:, : model.spec.channels]).columns
    for figure in column.figures:
        assert (figure.value is None) == bool(figure.undefined)
        assert figure.value is None or math.isfinite(figure.value)
    whole = {figure.definition.key for figure in column.figures if figure.undefined and not figure.place}
    assert whole - {"readout"} == undefined


def test_few_patches_and_equal_images_have_no_cv_of_patches():
    few = diagnostics.inspect(untrained(patch_size=8), IMAGES).columns[0]
    assert "fewer than 5" in few.figure("cv-patches", "enc_in").undefined
    equal = diagnostics.inspect(untrained(), torch.zeros(2, 3, 16, 16)).columns[0]
    assert equal.figure("cv-patches", "enc_in").undefined
    for key in ("variance-retained", "relative-error", "spearman"):
        assert equal.figure(key).undefined
    assert equal.figure("mse").value >= 0


def test_a_cell_of_zeros_has_no_wrong_numbers():
    model = untrained()
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
    (column,) = diagnostics.inspect(model, IMAGES).columns
    assert column.figure("effective-rank").undefined == "M of a patch is zero"
    assert column.figure("cv-rows").undefined


def test_mode_is_kept_and_nothing_else_changes():
    model = untrained().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first, second = (diagnostics.inspect(model, IMAGES) for _ in range(2))
    assert model.training
    assert first == second
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


PUBLIC = {
    "F class": {"V": 64, "D": 16, "patch_size": 16, "hidden": 64},
    "Freckles": {"V": 48, "D": 4, "patch_size": 4, "hidden": 384, "depth": 4, "cross_layers": 2},
    "Fresnel": {"V": 256, "D": 16, "patch_size": 16, "hidden": 768, "depth": 4, "cross_layers": 2},
}


@pytest.mark.parametrize("spec", PUBLIC.values(), ids=PUBLIC)
def test_public_specs(spec):
    model = batteries.untrained(batteries.CellSpec(**spec), seed=0)
    images = batteries.noise.random_batch(2, (64, 64), seed=0)[0]
    (column,) = diagnostics.inspect(model, images).columns
    assert column.figure("v-orthogonality").value < column.figure("v-orthogonality").tolerance
    assert column.figure("u-orthogonality").value < column.figure("u-orthogonality").tolerance
    assert 0.5 < column.figure("cv-rows").value / batteries.geometry.sphere_cv(model.spec.D) < 1.5


def test_an_input_scale_leaves_errors_on_the_probes_scale():
    model = untrained()
    scale = batteries.InputScale(mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7))
    given = batteries.images.to_input(IMAGES, scale)
    plain = diagnostics.inspect(model, given).columns[0]
    scaled = diagnostics.inspect(model, IMAGES, input=scale).columns[0]
    assert value(scaled, "effective-rank") == pytest.approx(value(plain, "effective-rank"), rel=1e-6)
    back = batteries.images.from_input(diagnostics.stages(model, given).recon, scale)
    assert value(scaled, "mse") == pytest.approx(float((back - IMAGES).square().mean()), rel=1e-5)


BAD = {
    "no images": (lambda model: diagnostics.inspect(model, IMAGES[:0]), "IMAGES"),
    "clusters of another number": (lambda model: diagnostics.inspect(model, IMAGES, cluster=torch.zeros(2)), "IMAGES"),
    "images that are not finite": (lambda model: diagnostics.inspect(model, IMAGES * math.nan), "NOT_FINITE"),
    "sizes beside images": (lambda model: diagnostics.inspect(model, IMAGES, sizes=(16,)), "SIZE"),
    "no multiple": (lambda model: diagnostics.inspect(model, "noise16-64", sizes=(66,)), "IMAGE_SIZE"),
    "no size": (lambda model: diagnostics.inspect(model, "noise16-64", sizes=(0,)), "IMAGE_SIZE"),
    "too large": (lambda model: diagnostics.inspect(model, "noise16-64", sizes=(2048,)), "SIZE"),
    "larger than photographs": (lambda model: diagnostics.inspect(model, "photos-64", sizes=(1024,)), "SIZE"),
    "unknown probe": (lambda model: diagnostics.inspect(model, "noise"), "NO_PROBE"),
    "no probe": (lambda model: diagnostics.inspect(model, 3), "PROBE"),
    "other channels": (lambda model: diagnostics.inspect(model, IMAGES[:, :1]), "IMAGE_SHAPE"),
}


@pytest.mark.parametrize(("call", "code"), BAD.values(), ids=BAD)
def test_bad_input_is_one_typed_error(call, code):
    with pytest.raises(batteries.InputError) as caught:
        call(untrained())
    assert caught.value.code == code


def test_weights_that_are_not_finite_are_refused():
    model = untrained()
    with torch.no_grad():
        model.enc_in.weight[0, 0] = math.nan
    with pytest.raises(batteries.InputError) as caught:
        diagnostics.inspect(model, IMAGES)
    assert caught.value.code == "NOT_FINITE"


def test_an_unknown_figure_or_size_is_refused(column, model):
    with pytest.raises(batteries.InputError, match="unknown figure"):
        column.figure("rank")
    with pytest.raises(batteries.InputError, match="not inspected"):
        diagnostics.inspect(model, IMAGES).at(64)
