"""Weights of crafted cells: a spectrum that is the same for all images, and a decoder fitted to another encoder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from batteries.cell.cell import Cell
from batteries.cell.spec import CellSpec
from batteries.model.patch_svae import PatchSVAE, load_weights
from registry.viability.readouts import Ridge

PATCHES = 1024  # that a decoder is fitted to, evenly spaced over the images


def constant_spectrum(spec: CellSpec, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Change ``enc_out`` so that rows come in pairs: one of two coordinates only, and its quarter turn.

    The two rows of a pair have the same length and are orthogonal, so they add a multiple of the identity of their plane to
    M'M, for every image: S is constant, while the angle of each pair still varies with the image.
    """
    changed = dict(weights)
    for name in ("enc_out.weight", "enc_out.bias"):
        given = weights[name].reshape(spec.V, spec.D, -1)
        rows = np.zeros_like(given)
        for pair in range(spec.V // 2):
            first, second = (2 * pair) % (spec.D - spec.D % 2) + np.arange(2)
            a, b = given[2 * pair, first], given[2 * pair, second]
            rows[2 * pair, [first, second]] = a, b
            rows[2 * pair + 1, [first, second]] = -b, a
        changed[name] = rows.reshape(weights[name].shape)
    return changed


@torch.no_grad()
def decoder_fitted(cell: Cell, weights: Mapping[str, np.ndarray], images: Tensor) -> dict[str, np.ndarray]:
    """Fit ``dec_in`` to a changed encoder, by ridge regression on what the cell's own decoder receives.

    Args:
        cell: Cell whose decoder is kept.
        weights: Weights with another encoder.
        images: Images (B, channels, height, width) to fit on.
    """
    model = load_weights(PatchSVAE(cell.spec), weights)
    own = PatchSVAE.from_cell(cell)
    received = own.dec_in(_received(own, images).to(own.dec_in.weight.dtype)).double()  # (n, H)
    found = Ridge.of(_received(model, images), received)
    weight, bias = found.affine
    return {**weights, "dec_in.weight": weight.T.float().numpy().copy(), "dec_in.bias": bias.float().numpy().copy()}


def _received(model: PatchSVAE, images: Tensor) -> Tensor:
    """Return what the decoder receives (n, V D), float64, for patches evenly spaced over the images."""
    patches = model.received(model.encode(images)).flatten(2).flatten(0, 1)  # (B N, V D)
    return patches[:: max(1, len(patches) // PATCHES)].double()
