"""Readouts of a spec: published sizes, a float64 reference, omega of the rows alone, and what no decoder reads."""

import json

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from batteries import CellSpec
from batteries.errors import InputError
from batteries.model.bottleneck import BOTTLENECKS, Columns
from batteries.model.patch_svae import PatchSVAE, arrays_of, untrained
from tests.support.laws import given, settings, st

SMALL = {"V": 6, "D": 4, "patch_size": 4, "hidden": 8, "cross_layers": 2}
OTHERS = ["linear", "none"]
UNDECODED = [*OTHERS, "narrow", "narrow_norm", "narrow_sphere"]


def shaken(spec: CellSpec, seed: int = 3) -> PatchSVAE:
    """An untrained model whose zero-initialised parts are not zero."""
    model, generator = untrained(spec, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def images(side: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, side, 2 * side, generator=torch.Generator().manual_seed(seed))


def reference(model: PatchSVAE, images: Tensor) -> Tensor:
    """The reconstruction of a cell without a decomposition, once more, plainly, in float64."""
    w = {name: p.detach().double() for name, p in model.named_parameters()}
    spec, p = model.spec, model.spec.patch_size

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def block(name, h):
        n = F.layer_norm(h, h.shape[-1:], w[f"{name}.0.weight"], w[f"{name}.0.bias"])
        return h + linear(f"{name}.3", F.gelu(linear(f"{name}.1", n)))

    h = F.gelu(linear("enc_in", rearrange(images.double(), "B C (gh p) (gw q) -> B (gh gw) (C p q)", p=p, q=p)))
    for i in range(spec.depth):
        h = block(f"enc_blocks.{i}", h)
    rows = linear("enc_out", h).unflatten(-1, (spec.V, spec.D))
    flat = (rows / rows.norm(dim=-1, keepdim=True)).flatten(-2)
    columns = (linear("readout", flat) if spec.readout == "linear" else flat).unflatten(-1, (spec.V, spec.D))
    lengths = columns.square().sum(dim=-2).sqrt()
    for i in range(spec.cross_layers):
        name = f"cross_attn.{i}"
        n = F.layer_norm(lengths, (spec.D,), w[f"{name}.norm.weight"], w[f"{name}.norm.bias"])
        q, k, v = linear(f"{name}.qkv", n).chunk(3, dim=-1)
        q, k, v = (rearrange(t, "B N (h d) -> B h N d", h=spec.heads) for t in (q, k, v))
        mixed = ((q @ k.mT) / (spec.D // spec.heads) ** 0.5).softmax(dim=-1) @ v
        change = torch.tanh(linear(f"{name}.out_proj", rearrange(mixed, "B h N d -> B N (h d)")))
        lengths = lengths * (1 + 0.2 * torch.sigmoid(w[f"{name}.alpha_logits"]) * change)
    h = F.gelu(linear("dec_in", (columns * lengths[..., None, :]).flatten(-2)))
    for i in range(spec.depth):
        h = block(f"dec_blocks.{i}", h)
    y = rearrange(linear("dec_out", h), "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=images.shape[2] // p, p=p, q=p, C=3)
    inner = F.gelu(F.conv2d(y, w["boundary_smooth.net.0.weight"], w["boundary_smooth.net.0.bias"], padding=1))
    return y + F.conv2d(inner, w["boundary_smooth.net.2.weight"], w["boundary_smooth.net.2.bias"], padding=1)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"readout": "linear"}, 57215),
        ({"readout": "linear", "depth": 0, "cross_layers": 0}, 40227),
        ({"readout": "none"}, 40703),
        ({"readout": "svd"}, 40703),
        ({"readout": "narrow"}, 40703 + 128 * 4 + 4 + 4 * 128 + 128),
        ({"readout": "narrow_norm"}, 41867),
        ({"readout": "narrow_sphere"}, 41867),
    ],
)
def test_parameter_counts_are_the_published_ones(changes, count):
    spec = CellSpec.preset("high", **changes)
    model = untrained(spec, 0)
    assert spec.parameters == sum(p.numel() for p in model.parameters()) == count
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == spec.tensor_shapes()


def test_a_spec_with_singular_values_is_written_as_before():
    written = json.loads(CellSpec(**SMALL).to_bytes())
    assert "readout" not in written
    for readout in UNDECODED:
        spec = CellSpec(**SMALL, readout=readout)
        assert json.loads(spec.to_bytes()) == written | {"readout": readout}
        assert f"readout={readout!r}" in repr(spec)
        assert spec not in {CellSpec(**SMALL)}
    with pytest.raises(InputError, match="readout"):
        CellSpec.preset("high", readout="qr")


@pytest.mark.parametrize(
    "spec", [CellSpec(**SMALL), CellSpec.preset("high"), CellSpec.preset("low")], ids=["small", "high", "low"]
)
@pytest.mark.parametrize("readout", OTHERS)
def test_float32_agrees_with_the_float64_reference(spec, readout):
    model = shaken(spec.model_copy(update={"readout": readout}))
    given_images = images(2 * spec.patch_size)
    out = model(given_images)
    wanted = reference(model, given_images)
    assert (out.recon - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert torch.allclose(out.S, torch.linalg.svdvals(out.M.double()).float(), atol=1e-5)
    assert torch.equal(out.omega, out.S)


@pytest.mark.parametrize("readout", BOTTLENECKS)
def test_ways_through_a_model_agree(readout):
    model = shaken(CellSpec(**SMALL, readout=readout))
    out, encoded, tokens = (run(images()) for run in (model, model.encode, model.tokens))
    recon, M = model.reconstruction(images())
    for found, wanted in ((recon, out.recon), (M, out.M), (model.decode(encoded), out.recon)):
        assert torch.equal(found, wanted)
    for name in ("M", "S", "omega"):
        assert torch.allclose(getattr(tokens, name), getattr(out, name), rtol=1e-5, atol=1e-6)
    assert (encoded.W is None) == (readout != "svd")
    assert torch.allclose(model.decode_matrices(model.received(encoded), encoded.grid), out.recon)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 2))
def test_the_identity_matrix_is_no_matrix(seed, layers):
    bare = shaken(CellSpec(**SMALL | {"cross_layers": layers}, readout="none"), seed)
    mapped = untrained(CellSpec(**SMALL | {"cross_layers": layers}, readout="linear"), 0)
    with torch.no_grad():
        mapped.load_state_dict(bare.state_dict(), strict=False)
        mapped.readout.weight.copy_(torch.eye(24))
        mapped.readout.bias.zero_()
    assert torch.allclose(mapped(images()).recon, bare(images()).recon, rtol=1e-5, atol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 99), st.floats(0.1, 10))
def test_columns_count_by_the_square_of_their_lengths(seed, scale):
    """Without attention, columns that are longer by a factor are received longer by its square, in the same direction."""
    M = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    class Bare:
        def factors(self, lengths):
            return torch.ones_like(lengths)

        def transformed(self, M):
            return scale * M

    plain, longer = (Columns(readout).gated(M, Bare()) for readout in ("none", "linear"))
    assert torch.allclose(longer.matrices(), scale**2 * plain.matrices())
    assert torch.allclose(plain.matrices().norm(dim=-2), M.norm(dim=-2) ** 2)
    product = longer.X @ longer.axes @ torch.diag_embed(longer.ratio) @ longer.axes.mT
    assert torch.allclose(product, longer.matrices())


@pytest.mark.parametrize("readout", BOTTLENECKS)
def test_a_seed_gives_the_other_layers_the_same_weights(readout):
    found, wanted = (arrays_of(untrained(CellSpec(**SMALL, readout=name), 5)) for name in (readout, "svd"))
    assert all((found[name] == wanted[name]).all() for name in wanted)


@pytest.mark.parametrize("readout", BOTTLENECKS)
def test_every_weight_is_trained(readout):
    model = shaken(CellSpec(**SMALL, readout=readout))
    recon, _ = model.reconstruction(images())
    gradients = torch.autograd.grad((recon - images()).square().mean(), list(model.parameters()))
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)


@pytest.mark.parametrize("readout", UNDECODED)
def test_derivatives_are_those_of_differences(readout):
    model = shaken(CellSpec(V=5, D=4, patch_size=2, hidden=5, readout=readout)).double()
    x = images(2).double()[:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model.reconstruction(x)[0], x)
    assert torch.autograd.gradcheck(lambda x: model.tokens(x).omega, x)


@pytest.mark.parametrize("readout", UNDECODED)
def test_a_decoder_that_reads_no_omega_says_so(readout):
    found = BOTTLENECKS[readout]
    assert not found.reads_omega
    with pytest.raises(InputError, match="does not read omega") as caught:
        found.with_omega(torch.ones(1, 6, 4), torch.ones(1, 4))
    assert caught.value.code == "OMEGA"
    assert readout in str(caught.value)
