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
        gated: What the decoder receives, with its decomposition.
        lengths: What cross-attention reads (B, N, D): singular values of M, or lengths of columns if the readout is
            not ``svd``.
        layers: Factors (B, N, D) of each layer of cross-attention; their product is that of all layers.
        S: Singular values of M (B, N, D), descending.
        omega: Omega tokens (B, N, D).
        dec_in: Activations after the first layer of the decoder (B, N, H).
        dec_blocks: Activations after each residual block of the decoder, each (B, N, H).
        recon: Reconstructed images (B, channels, height, width).
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
    """
    grid = grid_of(images, model.spec)
    weight, p = model.enc_in.weight, model.spec.patch_size
    with unjudged(), uncast(weight.device):
        patches = rearrange(images.to(weight), "B C (gh p) (gw q) -> B (gh gw) (C p q)", p=p, q=p)  # (B, N, P)
        enc_in = model.act_in(model.enc_in(patches))
        enc_blocks = _residual(model.enc_blocks, enc_in)
        M = model.rows(enc_blocks[-1] if enc_blocks else enc_in)
        gated = model.bottleneck.gated(M, model)
        S, omega = model.bottleneck.tokens(M, gated)
        lengths = gated.spectrum.S if gated.spectrum else gated.X.norm(dim=-2)
        received = gated.matrices()
        dec_in = model.act(model.dec_in(rearrange(received, "B N V D -> B N (V D)")))
        dec_blocks = _residual(model.dec_blocks, dec_in)
        recon = model.decode_matrices(received, grid)
        layers = _factors(model, lengths)
    return Stages(enc_in, enc_blocks, M, gated, lengths, layers, S, omega, dec_in, dec_blocks, recon)


def _residual(blocks: nn.ModuleList, h: Tensor) -> tuple[Tensor, ...]:
    """Return the activations (B, N, H) after each residual block."""
    found = []
    for block in blocks:
        h = h + block(h)
        found.append(h)
    return tuple(found)


def _factors(model: PatchSVAE, lengths: Tensor) -> tuple[Tensor, ...]:
    """Return the factors (B, N, D) of each layer of cross-attention, each of which reads lengths scaled by those before."""
    found = []
    for layer in model.cross_attn:
        found.append(layer(lengths))
        lengths = lengths * found[-1]
    return tuple(found)
