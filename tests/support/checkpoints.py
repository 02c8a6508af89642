"""Public checkpoints made by hand, and the published forward pass of them."""

import math
from collections import OrderedDict

import torch
from torch.nn import functional as F

import batteries
from batteries import CellSpec, InputScale, Label, NoiseSource

SPEC = CellSpec.preset("high", V=12, hidden=8, smooth_width=4)
WIDE = CellSpec.preset("low", V=20, hidden=24, depth=3, cross_layers=2, smooth_width=8)
PLAIN = InputScale()
LABEL = Label(name="mine-64", version="1.0.0", family="mine", license="unknown", description="")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def state(spec=SPEC, seed=0):
    """A state dict under the public names, every tensor of it random, so that none may be left out."""
    generator = torch.Generator().manual_seed(seed)
    tensors = OrderedDict()
    for name, shape in spec.tensor_shapes().items():
        values = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        if "norm.weight" in name or (name.endswith(".0.weight") and len(shape) == 1):
            values = 1 + 0.1 * values
        elif name.endswith("alpha_logits"):
            values = values - 1
        tensors[name] = values if len(shape) > 1 or "logits" in name or "weight" in name else 0.1 * values
    return tensors


def reference(weights, images, patch, heads):
    """The published forward pass, written from its description alone."""

    def linear(h, name):
        return F.linear(h, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(h, name):
        return F.layer_norm(h, h.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    def blocks(h, side):
        for i in range(sum(name.startswith(f"{side}_blocks") and name.endswith(".0.weight") for name in weights)):
            inner = F.gelu(linear(norm(h, f"{side}_blocks.{i}.0"), f"{side}_blocks.{i}.1"))
            h = h + linear(inner, f"{side}_blocks.{i}.3")
        return h

    def attention(S, name):
        B, N, D = S.shape
        q, k, v = linear(norm(S, f"{name}.norm"), f"{name}.qkv").reshape(B, N, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.mT / math.sqrt(D // heads), dim=-1) @ v
        alpha = 0.2 * torch.sigmoid(weights[f"{name}.alpha_logits"])
        return S * (1 + alpha * torch.tanh(linear(mixed.transpose(1, 2).reshape(B, N, D), f"{name}.out_proj")))

    D = weights["cross_attn.0.alpha_logits"].shape[0]
    patches = F.unfold(images, patch, stride=patch).mT  # (B, N, C * p * p)
    h = blocks(F.gelu(linear(patches, "enc_in")), "enc")
    M = linear(h, "enc_out").unflatten(-1, (-1, D))
    M = M / M.norm(dim=-1, keepdim=True)
    G = M.double().mT @ M.double() + 1e-12 * torch.eye(D, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(G)
    S, V = values.flip(-1).clamp(min=1e-24).sqrt(), vectors.flip(-1)
    U = M.double() @ V / S.clamp(min=1e-16)[..., None, :]
    omega = S.to(M.dtype)
    for i in range(sum(name.endswith("alpha_logits") for name in weights)):
        omega = attention(omega, f"cross_attn.{i}")
    gated = (U @ torch.diag_embed(omega.double()) @ V.mT).to(M.dtype)
    h = blocks(F.gelu(linear(gated.flatten(2), "dec_in")), "dec")
    stitched = F.fold(linear(h, "dec_out").mT, images.shape[2:], patch, stride=patch)
    first, last = "boundary_smooth.net.0", "boundary_smooth.net.2"
    middle = F.gelu(F.conv2d(stitched, weights[f"{first}.weight"], weights[f"{first}.bias"], padding=1))
    return stitched + F.conv2d(middle, weights[f"{last}.weight"], weights[f"{last}.bias"], padding=1)


def adopt(path, **options):
    return batteries.adopt(path, **{"label": LABEL, "input": PLAIN, "source": NoiseSource(), **options})


def saved(folder, content, name="checkpoint.pt"):
    torch.save(content, folder / name)
    return folder / name
