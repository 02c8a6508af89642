"""PatchSVAE: a patch autoencoder whose bottleneck is a matrix with rows on a sphere.

Letters: B images, N patches of an image, V rows of M, D width, H hidden, P = channels * patch_size**2.
Modules and parameters are named as in existing public checkpoints.
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

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import InputScale
from batteries.cell.spec import CellSpec
from batteries.engine import pytrees
from batteries.engine.torch_settings import PINNED, neutral, own_draws, uncast
from batteries.errors import FormatError, InputError
from batteries.images.image_batch import check_batch, judge_scale
from batteries.model import spectral
from batteries.model.attention import attend
from batteries.model.bottleneck import BOTTLENECKS, Bottleneck
from batteries.model.inputs import taken
from batteries.model.layers import (
    BoundarySmooth,
    LayerNorm,
    NarrowReadout,
    activation_of,
    first_activation,
    hidden_block,
    initialise,
)
from batteries.model.row_norms import ROW_NORMS

ALPHA_LIMIT = 0.2  # largest relative change of a singular value by one attention layer
ALPHA_START = -2.0


@dataclass(frozen=True, eq=False)
class Tokens:
    """Representation of the patches of images by a cell.

    Attributes:
        M: Matrices (B, N, V, D), with rows of unit length under the ``sphere`` row norm.
        S: Singular values of M (B, N, D), descending.
        omega: Singular values after cross-attention (B, N, D), also called ``S_coord``; S itself if the spec's readout is not
            ``svd``.
        grid: Rows and columns of patches; their product is N.
    """

    M: Tensor
    S: Tensor
    omega: Tensor
    grid: tuple[int, int]

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class Encoded(Tokens):
    """Tokens, with the tensors that decoding needs besides.

    Attributes:
        ratio: Factor of each mode (B, N, D), omega / S; of each column if the spec's readout is not ``svd``.
        W: Right singular vectors (B, N, D, D), float64, as columns; None if the spec's readout is not ``svd``.
    """

    ratio: Tensor
    W: Tensor | None

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class Output:
    """Reconstruction, with the tokens it was made from.

    Attributes:
        recon: Reconstructed images (B, channels, height, width).
        M: Matrices (B, N, V, D).
        S: Singular values of M (B, N, D), descending.
        omega: Singular values after cross-attention (B, N, D); S itself if the spec's readout is not ``svd``.
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
    """Layer of attention over the patches of an image, which slightly scales every singular value, or length of a column."""

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.bounded = spec.bounded_alpha
        self.qkv = nn.Linear(spec.D, 3 * spec.D, **PINNED)
        self.out_proj = nn.Linear(spec.D, spec.D, **PINNED)
        self.norm = LayerNorm(spec.D, **PINNED)
        self.alpha_logits = nn.Parameter(torch.full((spec.D,), ALPHA_START, **PINNED))

    def forward(self, S: Tensor) -> Tensor:
        """Compute the factor (B, N, D) of each singular value or length (B, N, D)."""
        q, k, v = rearrange(self.qkv(self.norm(S)), "B N (three heads d) -> three B heads N d", three=3, heads=self.heads)
        mixed = attend(q, k, v)
        change = torch.tanh(self.out_proj(rearrange(mixed, "B heads N d -> B N (heads d)")))
        alpha = ALPHA_LIMIT * torch.sigmoid(self.alpha_logits) if self.bounded else F.softplus(self.alpha_logits)
        return 1 + alpha * change


class PatchSVAE(nn.Module):
    """Model of a cell, from images to reconstructions and omega tokens.

    Args:
        spec: Architecture. Weights are drawn with torch's global random state (:func:`untrained` seeds them), always in float32
            on the CPU; ``model.to(...)`` converts them.

    Attributes:
        scale: Input scale of the images, used by the warning.

    Warns:
        ScaleWarning: images whose values look as if they were on another scale; once.

    >>> import batteries, registry
    >>> model = batteries.PatchSVAE.from_cell(registry.load("low/fresnel-64"))
    >>> out = model(batteries.probe("photos-64").images[:4])
    >>> out.recon.shape, out.omega.shape
    (torch.Size([4, 3, 64, 64]), torch.Size([4, 16, 16]))
    """

    @neutral()
    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        self.spec = spec
        self.scale = InputScale(mean=(0.0,) * spec.channels, std=(1.0,) * spec.channels)
        first, activation = first_activation(spec), activation_of(spec)
        self.enc_in = nn.Linear(spec.patch_dim, spec.hidden, **PINNED)
        self.enc_blocks = nn.ModuleList(hidden_block(spec.hidden, activation) for _ in range(spec.depth))
        self.enc_out = nn.Linear(spec.hidden, spec.V * spec.D, **PINNED)
        self.dec_in = nn.Linear(spec.V * spec.D, spec.hidden, **PINNED)
        self.dec_blocks = nn.ModuleList(hidden_block(spec.hidden, activation) for _ in range(spec.depth))
        self.dec_out = nn.Linear(spec.hidden, spec.patch_dim, **PINNED)
        self.cross_attn = nn.ModuleList(CrossAttention(spec) for _ in range(spec.cross_layers))
        self.boundary_smooth = BoundarySmooth(spec)
        self.act_in, self.act = first(), activation()
        initialise(self.enc_out.weight, spec)
        if spec.readout == "linear":  # last, so that a seed gives the other layers the weights that other readouts have
            self.readout = nn.Linear(spec.V * spec.D, spec.V * spec.D, **PINNED)
        if spec.narrow:  # likewise
            self.narrow = NarrowReadout(spec)

    def __repr__(self) -> str:
        return f"PatchSVAE({self.spec!r}, {self.spec.parameters:,} parameters)"

    @classmethod
    def from_cell(cls, cell: Cell) -> PatchSVAE:
        """Make the model of a cell, with its weights, in evaluation mode.

        Images and reconstructions are on the cell's own input scale (:func:`batteries.images.to_input`,
        :func:`batteries.images.from_input`).
        """
        with own_draws():  # initial weights are drawn, then replaced
            model = load_weights(cls(cell.spec), cell.weights)
        model.scale = cell.manifest.identity.input
        return model.eval()

    def forward(self, images: Tensor) -> Output:
        """Encode and decode images (B, channels, height, width).

        Raises:
            InputError: not four axes, other channels, or sides that are not multiples of the patch size.
        """
        own = self._taken(images)
        with uncast(own.device):
            M, grid = self._matrices(own)
            gated = self.bottleneck.gated(M, self)
            S, omega = self.bottleneck.tokens(M, gated)
            recon = self.decode_matrices(gated.matrices(), grid)
        return Output(*(part.to(images.dtype) for part in (recon, M, S, omega)))

    def reconstruction(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction of images (B, channels, height, width), and M, without tokens that nothing else needs.

        Raises:
            InputError: any error of :meth:`forward`.
        """
        own = self._taken(images)
        with uncast(own.device):
            M, grid = self._matrices(own)
            recon = self.decode_matrices(self.bottleneck.gated(M, self).matrices(), grid)
        return recon.to(images.dtype), M.to(images.dtype)

    def tokens(self, images: Tensor) -> Tokens:
        """Encode images (B, channels, height, width) to M, S and omega, which is all that measures and hosts need.

        Raises:
            InputError: any error of :meth:`forward`.
        """
        own = self._taken(images)
        with uncast(own.device):
            M, grid = self._matrices(own)
            S = spectral.singular_values(M)
            omega = self.bottleneck.omega(S, self)
        M, S, omega = (part.to(images.dtype) for part in (M, S, omega))
        return Tokens(M, S, omega, grid)

    def encode(self, images: Tensor) -> Encoded:
        """Encode images (B, channels, height, width) to all that :meth:`decode` needs.

        Raises:
            InputError: any error of :meth:`forward`.
        """
        own = self._taken(images)
        with uncast(own.device):
            M, grid = self._matrices(own)
            gated = self.bottleneck.gated(M, self)
            S, omega = self.bottleneck.tokens(M, gated)
        M, S, omega, ratio = (part.to(images.dtype) for part in (M, S, omega, gated.ratio))
        return Encoded(M, S, omega, grid, ratio, None if gated.spectrum is None else gated.spectrum.W)

    def decode(self, encoded: Encoded) -> Tensor:
        """Decode the result of :meth:`encode` to images (B, channels, height, width)."""
        with uncast(encoded.M.device):
            return self.decode_matrices(self.received(encoded), encoded.grid).to(encoded.M.dtype)

    def received(self, encoded: Encoded) -> Tensor:
        """Compute the matrices (B, N, V, D) that the decoder receives for a result of :meth:`encode`."""
        M, S, ratio = (part.to(self.enc_in.weight.dtype) for part in (encoded.M, encoded.S, encoded.ratio))
        with uncast(M.device):
            return self.bottleneck.resumed(M, S, ratio, encoded.W, self).matrices()

    def decode_matrices(self, gated: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode matrices as the decoder receives them (B, N, V, D) to images (B, channels, height, width)."""
        with uncast(gated.device):
            h = self.act(self.dec_in(rearrange(gated.to(self.enc_in.weight.dtype), "B N V D -> B N (V D)")))
            for block in self.dec_blocks:
                h = h + block(h)
            p = self.spec.patch_size
            images = rearrange(self.dec_out(h), "B (gh gw) (C p q) -> B C (gh p) (gw q)", gh=grid[0], gw=grid[1], p=p, q=p)
            smoothed: Tensor = self.boundary_smooth(images)
        return smoothed.to(gated.dtype)

    @property
    def bottleneck(self) -> Bottleneck:
        """Path from M to tokens and decoder, as the spec's readout says."""
        return BOTTLENECKS[self.spec.readout]

    def factors(self, lengths: Tensor) -> Tensor:
        """Multiply the factors of all layers of cross-attention for singular values or lengths (B, N, D)."""
        ratio = torch.ones_like(lengths)
        for layer in self.cross_attn:
            ratio = ratio * layer(lengths * ratio)
        return ratio

    def transformed(self, M: Tensor) -> Tensor:
        """Map M (B, N, V, D) by the matrix of the ``linear`` readout to (B, N, V, D)."""
        return rearrange(self.readout(rearrange(M, "B N V D -> B N (V D)")), "B N (V D) -> B N V D", D=self.spec.D)

    def coded(self, M: Tensor) -> Tensor:
        """Map M (B, N, V, D) to the code (B, N, D) of a narrow readout."""
        return self.narrow.coded(M)

    def rebuilt(self, code: Tensor) -> Tensor:
        """Map the code (B, N, D) of a narrow readout to matrices (B, N, V, D)."""
        return self.narrow.rebuilt(code)

    def _taken(self, images: Tensor) -> Tensor:
        """Check images, warn about their scale, and convert them to the dtype of the weights."""
        grid_of(images, self.spec)
        judge_scale(images, self.scale)
        return taken(images, self.enc_in.weight.dtype, self.enc_in.weight.device)

    def _matrices(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Encode images to M (B, N, V, D), and return it with the grid of patches."""
        grid = grid_of(images, self.spec)
        p = self.spec.patch_size
        patches = rearrange(images, "B C (gh p) (gw q) -> B (gh gw) (C p q)", p=p, q=p)  # (B, N, P)
        return self.rows(self._hidden(patches)), grid

    def _hidden(self, patches: Tensor) -> Tensor:
        h: Tensor = self.act_in(self.enc_in(patches))  # (B, N, H)
        for block in self.enc_blocks:
            h = h + block(h)
        return h

    def rows(self, h: Tensor) -> Tensor:
        """Map hidden activations (B, N, H) to M (B, N, V, D), with rows normalised as the spec says."""
        M = rearrange(self.enc_out(h), "B N (V D) -> B N V D", D=self.spec.D)
        if self.spec.row_norm == "scale":
            return M / M.norm(dim=-1).mean().clamp_min(spectral.ROW_FLOOR)
        return ROW_NORMS[self.spec.row_norm](M)


def grid_of(images: Tensor, spec: CellSpec) -> tuple[int, int]:
    """Return the number of rows and columns of patches of images (B, channels, height, width).

    Raises:
        InputError: not a batch of images (``IMAGE_SHAPE``, ``IMAGE_DTYPE``), sides that are not multiples of the patch size,
            or a symbolic trace (``TRACER``).
    """
    if isinstance(images, Proxy):
        raise InputError(
            "symbolic trace of a cell, which depends on the image size",
            code="TRACER",
            found="torch.fx.Proxy",
            remedy="Use torch.export.export, or a Tracer with Container and PatchSVAE as leaf modules.",
        )
    check_batch(images, spec.channels)
    return spec.grid(images.shape[2], images.shape[3])


@neutral()
def untrained(spec: CellSpec, seed: int) -> PatchSVAE:
    """Make a seeded untrained model, the null of most measurements, without changing torch's global random state.

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("low"), seed=0)
    >>> model(batteries.probe("photos-64").images[:4]).recon.shape
    torch.Size([4, 3, 64, 64])
    """
    with own_draws(seed):
        return PatchSVAE(spec)


def load_weights(model: PatchSVAE, weights: Mapping[str, np.ndarray]) -> PatchSVAE:
    """Load a cell's arrays into a model, strictly.

    Raises:
        FormatError: tensors missing, unexpected or of another shape, all listed.
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
    """Copy the weights of a model to float32 arrays."""
    return {name: p.detach().cpu().float().numpy().copy() for name, p in model.named_parameters()}
