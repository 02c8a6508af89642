"""PatchSVAE: published sizes and names, the float64 reference, shapes, errors, seeds."""

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

import batteries
from batteries import CellSpec, PatchSVAE
from batteries.errors import FormatError, InputError
from batteries.model.patch_svae import arrays_of, load_weights, untrained

PRESETS = ["low", "mid", "high"]


@pytest.mark.parametrize(("preset", "count"), [("low", 250211), ("mid", 183339), ("high", 40703)])
def test_parameter_counts_are_the_published_ones(preset, count):
    model = batteries.PatchSVAE(batteries.CellSpec.preset(preset))
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.spec.parameters == count


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("changes", [{}, {"depth": 3, "cross_layers": 2}, {"depth": 0, "cross_layers": 0}, {"channels": 1}])
def test_the_spec_knows_every_tensor(preset, changes):
    spec = CellSpec.preset(preset, **changes)
    assert {name: tuple(p.shape) for name, p in PatchSVAE(spec).named_parameters()} == spec.tensor_shapes()


def reference(model, images):
    """The architecture once more, plainly, in float64, through torch.linalg.svd."""
    w = {name: p.detach().double() for name, p in model.named_parameters()}
    spec, p = model.spec, model.spec.patch_size

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def block(name, h):
        n = F.layer_norm(h, h.shape[-1:], w[f"{name}.0.weight"], w[f"{name}.0.bias"])
        return h + linear(f"{name}.3", F.gelu(linear(f"{name}.1", n)))

    x = rearrange(images.double(), "B C (gh p) (gw q) -> B (gh gw) (C p q)", p=p, q=p)
    h = F.gelu(linear("enc_in", x))
    for i in range(spec.depth):
        h = block(f"enc_blocks.{i}", h)
    M = rearrange(linear("enc_out", h), "B N (V D) -> B N V D", D=spec.D)
    M = M / M.norm(dim=-1, keepdim=True)
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    coordinated = S
    for i in range(spec.cross_layers):
        name = f"cross_attn.{i}"
        n = F.layer_norm(coordinated, (spec.D,), w[f"{name}.norm.weight"], w[f"{name}.norm.bias"])
        q, k, v = linear(f"{name}.qkv", n).chunk(3, dim=-1)
        q, k, v = (rearrange(t, "B N (h d) -> B h N d", h=spec.heads) for t in (q, k, v))
        scores = (q @ k.mT / (spec.D // spec.heads) ** 0.5).softmax(dim=-1)
        mixed = linear(f"{name}.out_proj", rearrange(scores @ v, "B h N d -> B N (h d)"))
        coordinated = coordinated * (1 + 0.2 * torch.sigmoid(w[f"{name}.alpha_logits"]) * torch.tanh(mixed))
    gated = U @ torch.diag_embed(coordinated) @ Vt
    h = F.gelu(linear("dec_in", rearrange(gated, "B N V D -> B N (V D)")))
    for i in range(spec.depth):
        h = block(f"dec_blocks.{i}", h)
    gh, gw = images.shape[2] // p, images.shape[3] // p
    y = rearrange(linear("dec_out", h), "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=gh, gw=gw, p=p, q=p)
    inner = F.gelu(F.conv2d(y, w["boundary_smooth.net.0.weight"], w["boundary_smooth.net.0.bias"], padding=1))
    return y + F.conv2d(inner, w["boundary_smooth.net.2.weight"], w["boundary_smooth.net.2.bias"], padding=1), S, coordinated


def shaken(preset, **changes):
    """An untrained model whose zero-initialised parts are not zero."""
    model = untrained(CellSpec.preset(preset, **changes), 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    return model


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_float32_agrees_with_the_float64_reference(preset, size):
    model = shaken(preset, cross_layers=2)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    out = model(images)
    recon, S, omega = reference(model, images)
    for wanted, found in ((recon, out.recon), (S, out.S), (omega, out.omega)):
        assert ((wanted - found).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.parametrize("preset", PRESETS)
def test_squares_of_singular_values_sum_to_the_rows(preset):
    model = shaken(preset)
    S = model.tokens(torch.randn(2, 3, 64, 64)).S
    assert torch.allclose(S.square().sum(dim=-1), torch.tensor(float(model.spec.V)), rtol=1e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_weight_gradients_agree_with_float64_autograd(preset):
    model = shaken(preset)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    wide = untrained(model.spec, 0).double()
    wide.load_state_dict(model.state_dict())
    for m, x in ((model, images), (wide, images.double())):
        (m(x).recon - x).square().mean().backward()
    for (name, found), wanted in zip(model.named_parameters(), wide.parameters(), strict=True):
        scale = wanted.grad.abs().max().clamp_min(1e-12)
        assert ((found.grad - wanted.grad).abs().max() / scale) < 2e-3, name


@pytest.mark.parametrize(
    ("norm", "check"),
    [("sphere", 1e-6), *((norm, None) for norm in ("layernorm", "layernorm_unbiased", "scale", "row_max", "none"))],
)
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu", "tanh", "identity"])
def test_every_option_runs(norm, check, activation):
    model = untrained(CellSpec.preset("high", row_norm=norm, activation=activation, bounded_alpha=False), 0)
    out = model(torch.randn(1, 3, 16, 16))
    assert torch.isfinite(out.recon).all()
    if check:
        assert (out.M.norm(dim=-1) - 1).abs().max() < check
    if norm == "scale":
        assert out.M.norm(dim=-1).mean().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("init", ["orthogonal", "kaiming_normal", "xavier_uniform", "small_normal"])
def test_inits_differ_and_orthogonal_is_orthogonal(init):
    weight = untrained(CellSpec.preset("high", init=init), 0).enc_out.weight
    gram = weight.T @ weight
    assert torch.allclose(gram, torch.eye(64), atol=1e-5) == (init == "orthogonal")


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (1, 3, 64, 8), (1, 3, 0, 64)])
def test_a_size_the_patch_does_not_divide_is_refused(shape):
    with pytest.raises(InputError, match="multiples of 16") as caught:
        untrained(CellSpec.preset("low"), 0)(torch.zeros(shape))
    assert caught.value.code == "IMAGE_SIZE"


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64)])
def test_other_axes_are_refused(shape):
    with pytest.raises(InputError, match=r"\(batch, 3, height, width\)"):
        untrained(CellSpec.preset("low"), 0)(torch.zeros(shape))


def test_untrained_is_seeded_and_leaves_the_global_state_alone():
    spec = CellSpec.preset("high")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, two, other = untrained(spec, 7), untrained(spec, 7), untrained(spec, 8)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.enc_in.weight, two.enc_in.weight)
    assert not torch.equal(one.enc_in.weight, other.enc_in.weight)


def test_weights_go_in_and_out_and_misfits_are_all_listed():
    model = untrained(CellSpec.preset("high"), 0)
    arrays = arrays_of(model)
    assert torch.equal(load_weights(untrained(model.spec, 1), arrays).dec_out.bias, model.dec_out.bias)
    arrays["stray"] = arrays.pop("enc_in.bias")
    arrays["enc_out.bias"] = arrays["enc_out.bias"][:3]
    with pytest.raises(FormatError, match=r"enc_in.bias: missing; stray: unexpected; enc_out.bias: \(3,\)"):
        load_weights(untrained(model.spec, 1), arrays)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"D": 6, "heads": 4}, "heads must divide D"), ({"V": 3}, "greater than or equal to 5"), ({"colour": 3}, "Extra inputs")],
)
def test_a_bad_spec_says_what_is_wrong(changes, words):
    with pytest.raises(ValueError, match=words):
        CellSpec.preset("high", **changes)
