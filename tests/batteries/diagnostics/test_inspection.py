"""Every figure of an inspection is what a plain computation in float64 gives, or what was planted."""

import math

import numpy as np
import pytest
import torch

import batteries
from batteries import diagnostics
from batteries.geometry import simplex_cv

SPEC = batteries.CellSpec.preset("high", hidden=16, smooth_width=4, depth=2, cross_layers=2)
IMAGES = batteries.noise.random_batch(6, (16, 16), seed=1)[0]


def untrained(seed=0, **changed):
    return batteries.untrained(batteries.CellSpec.preset("high", hidden=16, smooth_width=4, **changed), seed)


@pytest.fixture(scope="module")
def model():
    made = batteries.untrained(SPEC, seed=3)
    with torch.no_grad():
        for layer in made.cross_attn:
            layer.alpha_logits.copy_(torch.tensor([1.0, -1.0, 0.0, 2.0]))
    return made


@pytest.fixture(scope="module")
def column(model):
    (found,) = diagnostics.inspect(model, IMAGES).columns
    return found


@pytest.fixture(scope="module")
def steps(model):
    """Intermediate results as float64 arrays, computed by the layers of a float64 copy of the model."""
    wide = batteries.untrained(SPEC, seed=3).double()
    wide.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    return diagnostics.stages(wide, IMAGES.double())


def value(column, key, place=""):
    return column.figure(key, place).value


def test_spectrum_and_what_follows_from_it(column, steps):
    M = steps.M.numpy()
    S = np.linalg.svd(M, compute_uv=False)  # (B, N, D)
    flat = S.reshape(-1, 4)
    for mode in range(4):
        assert value(column, "spectrum", f"mode {mode}") == pytest.approx(flat[:, mode].mean(), rel=1e-5)
        share = (flat[:, mode] ** 2).sum() / (flat**2).sum()
        assert value(column, "energy-share", f"mode {mode}") == pytest.approx(share, rel=1e-5)
    assert value(column, "spectrum-ratio") == pytest.approx(flat[:, 0].mean() / flat[:, 3].mean(), rel=1e-5)
    p = flat / flat.sum(1, keepdims=True)
    assert value(column, "effective-rank") == pytest.approx(np.exp(-(p * np.log(p)).sum(1)).mean(), rel=1e-6)
    squares = flat**2
    assert value(column, "participation") == pytest.approx((squares.sum(1) ** 2 / (squares**2).sum(1)).mean(), rel=1e-6)
    s = np.linalg.svd(flat, compute_uv=False)
    p = s / s.sum()
    assert value(column, "patch-rank") == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert value(column, "spectrum-spread") == pytest.approx((flat.std(0) / flat.mean(0)).mean(), rel=1e-4)


def test_exact_figures_are_rounding(column):
    for key in ("u-orthogonality", "v-orthogonality", "factorisation"):
        figure = column.figure(key)
        assert 0 < figure.value <= figure.tolerance < 1e-12
        assert figure.standard_error is None
    assert abs(value(column, "sphere-radius") - 1) < 1e-7
    assert 0 < value(column, "sphere-radius-sd") < 1e-7


def test_variance_retained(column, steps):
    received = steps.gated.matrices().flatten(2).flatten(0, 1).numpy()
    patches = IMAGES.double().unfold(2, 4, 4).unfold(3, 4, 4)  # (B, 3, 4, 4, 4, 4)
    patches = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2).numpy()
    expected = received.var(axis=0).sum() / patches.var(axis=0).sum()
    assert value(column, "variance-retained") == pytest.approx(expected, rel=1e-5)


def test_attention(column, steps, model):
    total, lengths = np.ones(steps.S.shape), steps.S
    for place, factor in enumerate(steps.layers):
        change = factor.numpy() - 1
        total = total * factor.numpy()
        assert value(column, "attention-change", f"layer {place}") == pytest.approx(abs(change).mean(), rel=1e-4)
        common = (change.mean(axis=(0, 1)) ** 2).sum() / (change**2).mean(axis=(0, 1)).sum()
        assert value(column, "attention-common", f"layer {place}") == pytest.approx(common, rel=1e-4)
        layer = model.cross_attn[place]
        normed = torch.nn.functional.layer_norm(lengths, (4,), layer.norm.weight.double(), layer.norm.bias.double())
        qkv = (normed @ layer.qkv.weight.double().T + layer.qkv.bias.double()).detach().numpy()
        q, k = (part.reshape(*part.shape[:2], layer.heads, -1) for part in (qkv[..., :4], qkv[..., 4:8]))
        q, k = (part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (q, k))
        assert value(column, "qk-cosine", f"layer {place}") == pytest.approx(
            np.einsum("bihd,bjhd->bijh", q, k).mean(), rel=1e-3, abs=1e-5
        )
        assert value(column, "qk-cosine-own", f"layer {place}") == pytest.approx((q * k).sum(-1).mean(), rel=1e-3, abs=1e-5)
        lengths = lengths * factor
        for mode, logit in enumerate((1.0, -1.0, 0.0, 2.0)):
            assert value(column, "alpha", f"layer {place}, mode {mode}") == pytest.approx(0.2 / (1 + math.exp(-logit)))
    assert value(column, "attention-change", "all layers") == pytest.approx(abs(total - 1).mean(), rel=1e-4)


def stages_of(steps):
    ratio = torch.cumprod(torch.stack(steps.layers), dim=0)
    named = {"enc_in": steps.enc_in, "enc_block_0": steps.enc_blocks[0], "enc_block_1": steps.enc_blocks[1]}
    named |= {"M": steps.M.flatten(2), "S before attention": steps.S}
    named |= {f"S after layer {place}": steps.S * ratio[place] for place in (0, 1)}
    return named | {"dec_in": steps.dec_in, "dec_block_0": steps.dec_blocks[0], "dec_block_1": steps.dec_blocks[1]}


def test_the_three_cvs_along_the_pipeline(column, steps):
    for place, activations in stages_of(steps).items():
        flat = activations.numpy().ravel()
        assert value(column, "variation", place) == pytest.approx(flat.std() / abs(flat.mean()), rel=1e-3)
        cvs = []
        for image, one in enumerate(activations):
            rows = simplex_cv.draw_rows(16, 1, 200, torch.Generator().manual_seed(5 + image))[0]
            edges = (one[rows][:, 1:] - one[rows][:, :1]).numpy()
            volumes = np.sqrt(np.maximum(np.linalg.det(edges @ edges.transpose(0, 2, 1)), 0)) / 24
            cvs.append(volumes.std(ddof=1) / volumes.mean())
        # the correction for drawing among 16 patches is small beside the spread of draws
        assert value(column, "cv-patches", place) == pytest.approx(np.mean(cvs), rel=0.15)


def test_cv_of_rows_is_that_of_a_measurement():
    spec = batteries.CellSpec.preset("low", hidden=16, smooth_width=4)
    model, whole = batteries.untrained(spec, seed=0), batteries.probe("photos-64")
    few = whole.cluster < 4
    probe = batteries.Probe(whole.name, 1, "photos", whole.images[few], whole.group[few], whole.groups[:4], "0" * 64)
    (column,) = diagnostics.inspect(model, probe).columns
    measured = batteries.measure(model, probe)
    for figure, expected in ((column.figure("cv-rows"), measured.cv), (column.figure("axial-cv-rows"), measured.axial_cv)):
        assert figure.value == pytest.approx(expected.value, rel=1e-12)
        assert figure.standard_error == pytest.approx(expected.standard_error, rel=1e-12)
    assert value(column, "mse") == pytest.approx(measured.mse.value, rel=1e-6)
    assert column.figure("mse").standard_error == pytest.approx(measured.mse.standard_error, rel=1e-6)
    assert value(column, "effective-rank") == pytest.approx(measured.effective_rank.value, rel=1e-6)
    for name, error in measured.mse_by_group.items():
        assert value(column, "mse-group", name) == pytest.approx(error, rel=1e-6)


def test_kurtosis_and_errors(column, steps):
    named = {"dec_in": steps.dec_in, "dec_block_0": steps.dec_blocks[0], "reconstruction": steps.recon}
    for place, activations in named.items():
        x = activations.numpy().ravel()
        z = (x - x.mean()) / x.std()
        assert value(column, "kurtosis", place) == pytest.approx((z**4).mean(), rel=1e-3)
    images, recon = IMAGES.double().numpy(), steps.recon.numpy()
    residual = (recon - images) ** 2
    assert value(column, "mse") == pytest.approx(residual.mean(), rel=1e-4)
    centred = images - images.mean(axis=(2, 3), keepdims=True)
    assert value(column, "relative-error") == pytest.approx(residual.sum() / (centred**2).sum(), rel=1e-4)
    ranks = [np.corrcoef(_ranks(a.ravel()), _ranks(b.ravel()))[0, 1] for a, b in zip(images, recon, strict=True)]
    assert value(column, "spearman") == pytest.approx(np.mean(ranks), abs=1e-4)


def _ranks(values):
    """Ranks, the mean rank of equal values."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    return (ends - (count - 1) / 2)[place]


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
