"""Narrow readouts: a float64 reference, what D numbers let pass, and how the matrices start."""

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from batteries import CellSpec
from batteries.model.bottleneck import BOTTLENECKS
from batteries.model.patch_svae import untrained
from tests.batteries.model.test_bottleneck import SMALL, images, shaken
from tests.support.laws import given, settings, st

NARROW = ["narrow", "narrow_norm", "narrow_sphere"]


def received(model, M):
    """What the decoder receives of rows M (B, N, V, D), once more, plainly, in float64."""
    w = {name: p.detach().double() for name, p in model.named_parameters()}
    spec = model.spec

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    code = linear("narrow.down", M.double().flatten(-2))
    if spec.readout != "narrow":
        code = F.layer_norm(code, (spec.D,), w["narrow.norm.weight"], w["narrow.norm.bias"])
    for i in range(spec.cross_layers):
        name = f"cross_attn.{i}"
        n = F.layer_norm(code, (spec.D,), w[f"{name}.norm.weight"], w[f"{name}.norm.bias"])
        q, k, v = linear(f"{name}.qkv", n).chunk(3, dim=-1)
        q, k, v = (rearrange(t, "B N (h d) -> B h N d", h=spec.heads) for t in (q, k, v))
        mixed = ((q @ k.mT) / (spec.D // spec.heads) ** 0.5).softmax(dim=-1) @ v
        change = torch.tanh(linear(f"{name}.out_proj", rearrange(mixed, "B h N d -> B N (h d)")))
        code = code * (1 + 0.2 * torch.sigmoid(w[f"{name}.alpha_logits"]) * change)
    rows = linear("narrow.up", code).unflatten(-1, (spec.V, spec.D))
    return rows / rows.norm(dim=-1, keepdim=True) if spec.readout == "narrow_sphere" else rows


@pytest.mark.parametrize("spec", [CellSpec(**SMALL), CellSpec.preset("low", hidden=16)], ids=["small", "low"])
@pytest.mark.parametrize("readout", NARROW)
def test_a_decoder_receives_what_the_float64_reference_says(spec, readout):
    model = shaken(spec.model_copy(update={"readout": readout}))
    encoded = model.encode(images(2 * spec.patch_size))
    wanted = received(model, encoded.M)
    assert (model.received(encoded) - wanted).abs().max() < 1e-5 * wanted.abs().max()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.sampled_from(NARROW[:2]))
def test_no_more_than_D_numbers_pass(seed, readout):
    """Of many matrices, those that the decoder receives differ in D directions, and in fewer by one under the norm."""
    model = shaken(CellSpec(**SMALL | {"cross_layers": 0}, readout=readout), seed)
    with torch.no_grad():
        X = model.received(model.encode(images(24, seed))).flatten(0, 1).flatten(1).double()
    rank = int(torch.linalg.matrix_rank(X - X.mean(dim=0), rtol=1e-5))
    assert len(X) > X.shape[1]
    assert rank == (4 if readout == "narrow" else 3)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99))
def test_rows_of_the_sphere_have_unit_length(seed):
    model = shaken(CellSpec(**SMALL, readout="narrow_sphere"), seed)
    lengths = model.received(model.encode(images(seed=seed))).norm(dim=-1)
    assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-5)
    other = shaken(CellSpec(**SMALL, readout="narrow_norm"), seed)
    other.load_state_dict(model.state_dict())
    rows = other.received(other.encode(images(seed=seed)))
    assert (rows.norm(dim=-1) - 1).abs().max() > 0.1
    assert torch.allclose(F.normalize(rows, dim=-1), model.received(model.encode(images(seed=seed))), atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.floats(2.0, 100.0))
def test_the_norm_takes_the_size_of_the_code_away(seed, factor):
    plain, normed = (shaken(CellSpec(**SMALL, readout=name), seed).double() for name in NARROW[:2])
    M = torch.randn(1, 3, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        for model in (plain, normed):
            model.narrow.down.bias.zero_()
        assert torch.allclose(plain.coded(factor * M), factor * plain.coded(M))
        assert (normed.coded(factor * M) - normed.coded(M)).abs().max() < 0.01 * normed.coded(M).abs().max()


@pytest.mark.parametrize("readout", NARROW)
def test_the_matrices_start_as_published(readout):
    narrow = untrained(CellSpec(**SMALL, readout=readout), 0).narrow
    down, up = (layer.weight.detach() for layer in (narrow.down, narrow.up))
    quarter = torch.eye(4) / 4
    orthogonal = [torch.allclose(product, quarter, atol=1e-6) for product in (down @ down.T, up.T @ up)]
    assert orthogonal == [readout != "narrow"] * 2
    assert bool(narrow.up.bias.abs().sum() == 0) == (readout != "narrow")


def test_columns_resumed_with_another_factor_are_scaled():
    model = shaken(CellSpec(**SMALL, readout="narrow_sphere"))
    encoded = model.encode(images())
    halved = BOTTLENECKS["narrow_sphere"].resumed(encoded.M, encoded.S, encoded.ratio / 2, None, model)
    assert torch.allclose(halved.matrices(), model.received(encoded) / 2)
