"""All intermediate results of a cell, from images to reconstructions.

Letters: B images, N patches of an image, V rows of M, D width, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from batteries import short_repr
from batteries.engine.torch_settings import neutral, uncast
from batteries.images.image_batch import unjudged
from batteries.model.bottleneck import Gated
from batteries.model.patch_svae import PatchSVAE, grid_of


@dataclass(frozen=True, eq=False)
class Stages:
    """Intermediate results for a batch of images.

    Attributes:
        enc_in: Activations after the first layer (B, N, H).
        enc_blocks: Activations after each residual block of the encoder, each (B, N, H).
        M: Matrices (B, N, V, D).
        gated: Matrices that the decoder receives, with their decomposition.
        lengths: Input of cross-attention (B, N, D): singular values of M, or lengths of columns if the readout is
            not ``svd``.
        layers: Factors (B, N, D) of each layer of cross-attention; their product is that of all layers.
        S: Singular values of M (B, N, D), descending.
        omega: Omega tokens (B, N, D).
        dec_in: Activations after the first layer of the decoder (B, N, H).
        dec_blocks: Activations after each residual block of the decoder, each (B, N, H).
        recon: Reconstructed images (B, channels, height, width).

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("low"), seed=0)
    >>> found = batteries.diagnostics.stages(model, batteries.probe("photos-64").images[:1])
    >>> isinstance(found, batteries.diagnostics.Stages)
    True
    """

    enc_in: Tensor
    enc_blocks: tuple[Tensor, ...]
    M: Tensor
    gated: Gated
    lengths: Tensor
    layers: tuple[Tensor, ...]
    S: Tensor
    omega: Tensor
    dec_in: Tensor
    dec_blocks: tuple[Tensor, ...]
    recon: Tensor

    __repr__ = short_repr.fields


@neutral()
@torch.no_grad()
def stages(model: PatchSVAE, images: Tensor) -> Stages:
    """Run images (B, channels, height, width), on the model's own scale, and keep every intermediate result.

    Raises:
        InputError: images that do not fit the cell.

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("high"), seed=0)
    >>> found = batteries.diagnostics.stages(model, batteries.probe("noise16-64").images[:2])
    >>> found.enc_in.shape, found.M.shape, len(found.layers)
    (torch.Size([2, 256, 64]), torch.Size([2, 256, 32, 4]), 1)
    """
    grid = grid_of(images, model.spec)
    weight, p = model.enc_in.weight, model.spec.patch_size
    with unjudged(), uncast(weight.device):
        patches = rearrange(images.to(weight), "B C (gh p) (gw q) -> B (gh gw) (C p q)", p=p, q=p)  # (B, N, P)
        enc_in = model.act_in(model.enc_in(patches))
        enc_blocks = _residual(model.enc_blocks, enc_in)
        M = model.rows(enc_blocks[-1] if enc_blocks else enc_in)
        recorded = _Recorded(model)
        gated = model.bottleneck.gated(M, recorded)
        S, omega = model.bottleneck.tokens(M, gated)
        received = gated.matrices()
        dec_in = model.act(model.dec_in(rearrange(received, "B N V D -> B N (V D)")))
        dec_blocks = _residual(model.dec_blocks, dec_in)
        recon = model.decode_matrices(received, grid)
    return Stages(enc_in, enc_blocks, M, gated, recorded.lengths, tuple(recorded.layers), S, omega, dec_in, dec_blocks, recon)


def _residual(blocks: nn.ModuleList, h: Tensor) -> tuple[Tensor, ...]:
    """Return the activations (B, N, H) after each residual block."""
    found = []
    for block in blocks:
        h = h + block(h)
        found.append(h)
    return tuple(found)


class _Recorded:
    """Layers of a model for its bottleneck, which keep the factors of each layer of cross-attention.

    Attributes:
        lengths: Lengths that were attended to (B, N, D).
        layers: Factors (B, N, D) of each layer, which reads lengths scaled by the layers before.
    """

    def __init__(self, model: PatchSVAE) -> None:
        self._model = model
        self.layers: list[Tensor] = []

    def factors(self, lengths: Tensor) -> Tensor:
        """Multiply the factors of all layers, as the model does."""
        self.lengths, ratio = lengths, torch.ones_like(lengths)
        for layer in self._model.cross_attn:
            self.layers.append(layer(lengths * ratio))
            ratio = ratio * self.layers[-1]
        return ratio

    def transformed(self, M: Tensor) -> Tensor:
        """Map M by the matrix of the ``linear`` readout."""
        return self._model.transformed(M)
