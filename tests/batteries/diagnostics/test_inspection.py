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
