"""PatchSVAE: a patch autoencoder whose bottleneck is a matrix with rows on a sphere, read through its singular values.

Legend: B images, N patches of an image, V rows, D width, H hidden, P = channels * patch_size**2.
Names of modules and parameters are those of the existing public checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from batteries.cell.cell import Cell
from batteries.cell.manifest import InputScale
from batteries.cell.spec import CellSpec
from batteries.engine import pytrees
from batteries.engine.torch_settings import PINNED, neutral, seed_cpu, uncast
from batteries.errors import FormatError, InputError
from batteries.images.image_batch import check_batch, judge_scale
from batteries.io import short_repr
from batteries.model import spectral
from batteries.model.attention import attend
from batteries.model.inputs import taken
from batteries.model.layers import ACTIVATIONS as ACTIVATIONS
from batteries.model.layers import BoundarySmooth, LayerNorm, hidden_block, initialise, normed

ALPHA_LIMIT = 0.2  # largest relative change of a singular value by one attention layer
ALPHA_START = -2.0


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a cell makes of its patches.

    Attributes:
        M: (B, N, V, D), rows of unit length under the ``sphere`` row norm.
        S: (B, N, D), singular values of M, descending.
        omega: (B, N, D), the same after cross-attention (``S_coord``).
        grid: Rows and columns of patches; their product is N.
    """

    M: Tensor
    S: Tensor
    omega: Tensor
    grid: tuple[int, int]

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class Encoded(Tokens):
    """Tokens, and what decoding needs beside them.

    Attributes:
        ratio: (B, N, D), omega / S.
        W: (B, N, D, D) float64, right singular vectors as columns.
    """

    ratio: Tensor
    W: Tensor

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class Output:
    """A reconstruction and what it was made from.

    Attributes:
        recon: (B, channels, height, width).
        M: (B, N, V, D).
        S: (B, N, D).
        omega: (B, N, D).
    """

    recon: Tensor
    M: Tensor
    S: Tensor
    omega: Tensor

    __repr__ = short_repr.fields


pytrees.register_fields(Tokens, ("M", "S", "omega"), ("grid",))
pytrees.register_fields(Encoded, ("M", "S", "omega", "ratio", "W"), ("grid",))
pytrees.register_fields(Output, ("recon", "M", "S", "omega"))


class CrossAttention(nn.Module):
    """One layer of attention over the patches of an image, which scales every singular value a little."""

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.bounded = spec.bounded_alpha
        self.qkv = nn.Linear(spec.D, 3 * spec.D, **PINNED)
        self.out_proj = nn.Linear(spec.D, spec.D, **PINNED)
        self.norm = LayerNorm(spec.D, **PINNED)
        self.alpha_logits = nn.Parameter(torch.full((spec.D,), ALPHA_START, **PINNED))

    def forward(self, S: Tensor) -> Tensor:
        """Factor of each singular value: (B, N, D) -> (B, N, D)."""
        q, k, v = rearrange(self.qkv(self.norm(S)), "B N (three heads d) -> three B heads N d", three=3, heads=self.heads)
        mixed = attend(q, k, v)
        change = torch.tanh(self.out_proj(rearrange(mixed, "B heads N d -> B N (heads d)")))
        alpha = ALPHA_LIMIT * torch.sigmoid(self.alpha_logits) if self.bounded else F.softplus(self.alpha_logits)
        return 1 + alpha * change


class PatchSVAE(nn.Module):
    """A battery: images in, reconstructions and omega tokens out.

    Args:
        spec: The architecture. Weights start from torch's global random state; :func:`untrained` seeds them. They are float32
            on the CPU whatever the default dtype and device are; ``model.to(...)`` takes them elsewhere.

    Attributes:
        scale: The input scale of its images, by which a warning judges them.

    Warns:
        ScaleWarning: when it is given images whose values look as if they were on another scale; once.
    """

    @neutral()
    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        self.spec = spec
        self.scale = InputScale(mean=(0.0,) * spec.channels, std=(1.0,) * spec.channels)
        activation = ACTIVATIONS[spec.activation]
        self.enc_in = nn.Linear(spec.patch_dim, spec.hidden, **PINNED)
        self.enc_blocks = nn.ModuleList(hidden_block(spec.hidden, activation) for _ in range(spec.depth))
        self.enc_out = nn.Linear(spec.hidden, spec.V * spec.D, **PINNED)
        self.dec_in = nn.Linear(spec.V * spec.D, spec.hidden, **PINNED)
        self.dec_blocks = nn.ModuleList(hidden_block(spec.hidden, activation) for _ in range(spec.depth))
        self.dec_out = nn.Linear(spec.hidden, spec.patch_dim, **PINNED)
        self.cross_attn = nn.ModuleList(CrossAttention(spec) for _ in range(spec.cross_layers))
        self.boundary_smooth = BoundarySmooth(spec)
        self.act = activation()
        initialise(self.enc_out.weight, spec)

    def __repr__(self) -> str:
        return f"PatchSVAE({self.spec!r}, {self.spec.parameters:,} parameters)"

    @classmethod
    def from_cell(cls, cell: Cell) -> PatchSVAE:
        """Model of a cell, with its weights, in evaluation mode.

        It takes and gives images on the cell's own input scale: :func:`batteries.images.to_input` and :func:`batteries.images.from_input`.
        """
        with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and replaced
            model = load_weights(cls(cell.spec), cell.weights)
        model.scale = cell.manifest.identity.input
        return model.eval()

    def forward(self, images: Tensor) -> Output:
        """Encode and decode images (B, channels, height, width).

        Raises:
            InputError: not four axes, other channels, or sides that the patch does not divide.
        """
        encoded = self._encoded(images)
        found = self._decoded(encoded), encoded.M, encoded.S, encoded.omega
        return Output(*(part.to(images.dtype) for part in found))

    def tokens(self, images: Tensor) -> Tokens:
        """Images (B, channels, height, width) to M, S and omega and no further: what measuring, read-outs and hosts need.

        Raises:
            InputError: as :meth:`forward`.
        """
        own = self._taken(images)
        with uncast(own.device):
            M, grid = self._matrices(own)
            S = spectral.singular_values(M)
            omega = S * self._attend(S)
        M, S, omega = (part.to(images.dtype) for part in (M, S, omega))
        return Tokens(M, S, omega, grid)

    def encode(self, images: Tensor) -> Encoded:
        """As :meth:`tokens`, with what :meth:`decode` needs.

        Raises:
            InputError: as :meth:`forward`.
        """
        found = self._encoded(images)
        M, S, omega, ratio = (part.to(images.dtype) for part in (found.M, found.S, found.omega, found.ratio))
        return Encoded(M, S, omega, found.grid, ratio, found.W)

    def decode(self, encoded: Encoded) -> Tensor:
        """Reconstruction (B, channels, height, width) of what :meth:`encode` returned."""
        return self._decoded(encoded).to(encoded.M.dtype)

    def decode_matrices(self, gated: Tensor, grid: tuple[int, int]) -> Tensor:
        """Image (B, channels, height, width) of M_hat (B, N, V, D)."""
        with uncast(gated.device):
            h = self.act(self.dec_in(rearrange(gated.to(self.enc_in.weight.dtype), "B N V D -> B N (V D)")))
            for block in self.dec_blocks:
                h = h + block(h)
            p = self.spec.patch_size
            images = rearrange(self.dec_out(h), "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=grid[0], gw=grid[1], p=p, q=p)
            smoothed: Tensor = self.boundary_smooth(images)
        return smoothed.to(gated.dtype)

    def _encoded(self, images: Tensor) -> Encoded:
        """What decoding needs, in the dtype of the weights."""
        own = self._taken(images)
        with uncast(own.device):
            M, grid = self._matrices(own)
            found = spectral.spectrum(M)
            ratio = self._attend(found.S)
            return Encoded(M, found.S, found.S * ratio, grid, ratio, found.W)

    def _decoded(self, encoded: Encoded) -> Tensor:
        """Reconstruction in the dtype of the weights."""
        M, S, ratio = (part.to(self.enc_in.weight.dtype) for part in (encoded.M, encoded.S, encoded.ratio))
        with uncast(M.device):
            return self.decode_matrices(spectral.gate(M, spectral.Spectrum(S, encoded.W), ratio), encoded.grid)

    def _taken(self, images: Tensor) -> Tensor:
        """Images in the dtype of the weights, checked and judged as they were given."""
        grid_of(images, self.spec)
        judge_scale(images, self.scale)
        return taken(images, self.enc_in.weight.dtype, self.enc_in.weight.device)

    def _matrices(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Images to M (B, N, V, D), and the grid of patches."""
        grid = grid_of(images, self.spec)
        p = self.spec.patch_size
        patches = rearrange(images, "B C (gh p) (gw q) -> B (gh gw) (C p q)", p=p, q=p)  # (B, N, P)
        return self._rows(self._hidden(patches)), grid

    def _hidden(self, patches: Tensor) -> Tensor:
        h: Tensor = self.act(self.enc_in(patches))  # (B, N, H)
        for block in self.enc_blocks:
            h = h + block(h)
        return h

    def _rows(self, h: Tensor) -> Tensor:
        """Hidden (B, N, H) to M (B, N, V, D), its rows normalised as the spec says."""
        M = rearrange(self.enc_out(h), "B N (V D) -> B N V D", D=self.spec.D)
        match self.spec.row_norm:
            case "sphere":
                return spectral.unit_rows(M)
            case "layernorm":
                return normed(M)
            case "scale":
                return M / M.norm(dim=-1).mean().clamp_min(spectral.ROW_FLOOR)
            case "none":
                return M

    def _attend(self, S: Tensor) -> Tensor:
        """Product of the layers' factors: (B, N, D) -> (B, N, D)."""
        ratio = torch.ones_like(S)
        for layer in self.cross_attn:
            ratio = ratio * layer(S * ratio)
        return ratio


def grid_of(images: Tensor, spec: CellSpec) -> tuple[int, int]:
    """Rows and columns of patches of images (B, channels, height, width).

    Raises:
        InputError: no batch of images (``IMAGE_SHAPE``, ``IMAGE_DTYPE``), or sides that the patch does not divide; or a
            symbolic trace (``TRACER``).
    """
    if isinstance(images, Proxy):
        raise InputError(
            "a symbolic trace through a cell, whose work depends on the images' size",
            code="TRACER",
            found="torch.fx.Proxy",
            remedy="torch.export.export follows cells; or let a Tracer take Container and PatchSVAE as leaf modules.",
        )
    check_batch(images, spec.channels)
    return spec.grid(images.shape[2], images.shape[3])


@neutral()
def untrained(spec: CellSpec, seed: int) -> PatchSVAE:
    """Seeded cell that never learned: the null of most measurements. Torch's global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        seed_cpu(seed)
        return PatchSVAE(spec)


def load_weights(model: PatchSVAE, weights: Mapping[str, np.ndarray]) -> PatchSVAE:
    """Put a cell's arrays into a model, strictly.

    Raises:
        FormatError: a tensor missing, unexpected or of another shape; all of them are listed.
    """
    wanted = model.spec.tensor_shapes()
    wrong = [f"{name}: missing" for name in wanted if name not in weights]
    wrong += [f"{name}: unexpected" for name in weights if name not in wanted]
    wrong += [
        f"{name}: {array.shape} instead of {wanted[name]}"
        for name, array in weights.items()
        if name in wanted and tuple(array.shape) != wanted[name]
    ]
    if wrong:
        raise FormatError("weights that do not fit the spec", code="TENSORS", found="; ".join(wrong))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(np.array(weights[name])))
    return model


def arrays_of(model: PatchSVAE) -> dict[str, np.ndarray]:
    """Weights of a model as float32 arrays, copied."""
    return {name: p.detach().cpu().float().numpy().copy() for name, p in model.named_parameters()}
