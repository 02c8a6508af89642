"""Public cells made by plain code: tensors under the public names, configs in the public words, a float64 forward pass.

Written from docs/decisions/0035-foreign-checkpoints.md, without anything of the package under test.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch.nn import functional as F

ACTIVATIONS = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
    "mish": F.mish,
}


def mean_length(M):
    return M / M.norm(dim=-1).mean()


ROW_NORMS = {
    "sphere": lambda M: F.normalize(M, dim=-1),
    "none": lambda M: M,
    "layernorm": lambda M: (M - M.mean(-1, keepdim=True)) / M.std(-1, keepdim=True),  # of D - 1 degrees of freedom
    "biased": lambda M: F.layer_norm(M, M.shape[-1:]),
    "scale": lambda M: M / M.abs().amax(-1, keepdim=True),
    "mean": mean_length,
}


@dataclass(frozen=True)
class Public:
    """A public cell: its sizes, and what no tensor tells."""

    V: int = 12
    D: int = 4
    patch: int = 4
    hidden: int = 10
    depth: int = 1
    cross: int = 1
    heads: int = 2
    middle: int = 6
    channels: int = 3
    activations: dict = field(default_factory=dict)
    row_norm: str = "sphere"
    readout: str = "svd"
    float32: bool = False
    seed: int = 0

    def shapes(self):
        H, VD, P, D = self.hidden, self.V * self.D, self.channels * self.patch**2, self.D
        linear = {"enc_in": (H, P), "enc_out": (VD, H), "dec_in": (H, VD), "dec_out": (P, H)}
        linear |= {f"{half}_blocks.{i}.{k}": (H, H) for half in ("enc", "dec") for i in range(self.depth) for k in (1, 3)}
        norms = {f"{half}_blocks.{i}.0": (H,) for half in ("enc", "dec") for i in range(self.depth)}
        for i in range(self.cross):
            linear |= {f"cross_attn.{i}.qkv": (3 * D, D), f"cross_attn.{i}.out_proj": (D, D)}
            norms |= {f"cross_attn.{i}.norm": (D,)}
        linear |= {"readout": (VD, VD)} if self.readout == "linear" else {}
        convs = {0: (self.middle, self.channels, 3, 3), 2: (self.channels, self.middle, 3, 3)}
        linear |= {f"boundary_smooth.net.{i}": shape for i, shape in convs.items()}
        shapes = {f"{name}.weight": shape for name, shape in {**linear, **norms}.items()}
        shapes |= {f"{name}.bias": shape[:1] for name, shape in {**linear, **norms}.items()}
        return shapes | {f"cross_attn.{i}.alpha_logits": (D,) for i in range(self.cross)}

    def state(self):
        """Every tensor random, so that none may be left out."""
        generator = torch.Generator().manual_seed(self.seed)
        weights = {}
        for name, shape in self.shapes().items():
            values = torch.randn(shape, generator=generator)
            if name.endswith("alpha_logits"):
                weights[name] = values + 1
            elif len(shape) > 1:
                weights[name] = 1.5 * values / math.sqrt(math.prod(shape[1:]))
            else:
                weights[name] = (1.0 if name.endswith("weight") else 0.0) + 0.2 * values
        return weights

    def forward(self, weights, images):
        """Omega (B, N, D) and reconstruction of images, in float64."""
        w = {name: tensor.double() for name, tensor in weights.items()}
        act = {site: ACTIVATIONS[self.activations.get(site, "gelu")] for site in SITES}

        def linear(h, name):
            return F.linear(h, w[f"{name}.weight"], w[f"{name}.bias"])

        def norm(h, name):
            return F.layer_norm(h, h.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

        def blocks(h, half):
            for i in range(self.depth):
                inner = act[f"{half}_block_inner"](linear(norm(h, f"{half}_blocks.{i}.0"), f"{half}_blocks.{i}.1"))
                h = h + linear(inner, f"{half}_blocks.{i}.3")
            return h

        def attention(S, name):
            parts = linear(norm(S, f"{name}.norm"), f"{name}.qkv").unflatten(-1, (3, self.heads, -1))
            q, k, v = parts.permute(2, 0, 3, 1, 4)
            mixed = torch.softmax(q @ k.mT / math.sqrt(self.D // self.heads), dim=-1) @ v
            alpha = 0.2 * torch.sigmoid(w[f"{name}.alpha_logits"])
            return S * (1 + alpha * torch.tanh(linear(mixed.transpose(1, 2).flatten(2), f"{name}.out_proj")))

        patches = F.unfold(images.double(), self.patch, stride=self.patch).mT
        h = blocks(act["enc_in"](linear(patches, "enc_in")), "enc")
        M = ROW_NORMS[self.row_norm](linear(h, "enc_out").unflatten(-1, (self.V, self.D)))
        U, S, Vt = self.modes(M, linear)
        for i in range(self.cross):
            S = attention(S, f"cross_attn.{i}")
        h = blocks(act["dec_in"](linear(((U * S[..., None, :]) @ Vt).flatten(2), "dec_in")), "dec")
        image = F.fold(linear(h, "dec_out").mT, images.shape[2:], self.patch, stride=self.patch)
        first, last = ((w[f"boundary_smooth.net.{i}.weight"], w[f"boundary_smooth.net.{i}.bias"]) for i in (0, 2))
        omega = S if self.readout == "svd" else torch.linalg.svdvals(M)  # ours: the lengths of the columns are no spectrum
        return omega, image + F.conv2d(act["boundary_smooth"](F.conv2d(image, *first, padding=1)), *last, padding=1)

    def modes(self, M, linear):
        if self.readout == "svd":
            G = M.mT @ M + 1e-12 * torch.eye(self.D, dtype=torch.float64)
            values, vectors = torch.linalg.eigh(G.float() if self.float32 else G)
            values, vectors = values.double().flip(-1), vectors.double().flip(-1)
            S = values.clamp(min=1e-24).sqrt()
            return M @ vectors / S[..., None, :], S, vectors.mT
        U = linear(M.flatten(2), "readout").unflatten(-1, (self.V, self.D)) if self.readout == "linear" else M
        return U, U.norm(dim=-2), torch.eye(self.D, dtype=torch.float64)

    def config(self, **more):
        """The config that the general trainer writes."""
        return {
            "V": self.V,
            "D": self.D,
            "patch_size": self.patch,
            "hidden": self.hidden,
            "depth": self.depth,
            "n_cross_layers": self.cross,
            "n_heads": self.heads,
            "smooth_mid": self.middle,
            "channels": self.channels,
            "target_cv": 0.125,
            "dataset": "omega_noise",
            "img_size": 64,
            "lr": 1e-4,
            **more,
        }

    def usual(self):
        """The cell of the same sizes with everything as published: what a reader without a config takes it for."""
        heads = 2 if self.D <= 8 else 4
        return replace(self, heads=heads if self.D % heads == 0 else 1, activations={}, row_norm="sphere", readout="svd")


SITES = ("enc_in", "enc_block_inner", "dec_in", "dec_block_inner", "boundary_smooth")
