"""Negative controls: cells of the same spec that the viability test must reject, each by a named check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from batteries.cell import weights_file
from batteries.cell.cell import Cell, file_facts
from batteries.cell.manifest import Manifest
from batteries.data.probes import Probe
from batteries.engine.torch_settings import PINNED
from batteries.model.patch_svae import Output, PatchSVAE, arrays_of, untrained
from batteries.packaging.package import UNTRAINED_SEED
from registry.checks.protocol import Control
from registry.viability.surgery import constant_spectrum, decoder_fitted

NAMED_CHECK: dict[Control, str] = {
    "untrained": "error, untrained",
    "none": "radius",
    "scale": "radius",
    "rank-one": "rank",
    "doubled-rows": "rows",
    "shuffled": "error, claimed",
    "scrambled": "error, claimed",
    "forgetful": "error, worst image",
    "memorised": "error, mirrored",
    "random-encoder": "read-out, M",
    "constant-S": "read-out, omega",
    "nan": "finite",
}
CONTROLS: tuple[str, ...] = tuple(NAMED_CHECK)
OF_MODEL: frozenset[Control] = frozenset({"shuffled", "forgetful", "memorised"})  # the weights are those of the cell
FORGOTTEN = 20  # a forgetful cell fails on one image in so many
MARKS = 32  # values that tell a probe's image from all others


class ShuffledRows(PatchSVAE):
    """A cell that decodes each row of M from another patch: every row is valid, but in the wrong place."""

    seed = 0

    def _matrices(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        M, grid = super()._matrices(images)
        patches = M.flatten(0, 1)  # (B N, V, D)
        order = torch.rand(patches.shape[:2], generator=torch.Generator().manual_seed(self.seed), **PINNED).argsort(dim=0)
        shuffled = patches.gather(0, order[:, :, None].expand_as(patches))
        return shuffled.view_as(M), grid


class Forgetful(PatchSVAE):
    """A cell that answers a small share of images with a constant."""

    def forward(self, images: Tensor) -> Output:
        """Encode and decode images (B, channels, height, width), but for every twentieth."""
        out = super().forward(images)
        recon = out.recon.clone()
        recon[::FORGOTTEN] = 0
        return replace(out, recon=recon)


class Memorised(PatchSVAE):
    """A cell that knows the probe: it answers the probe's own images with half of its error."""

    known = torch.zeros(0, MARKS)

    def forward(self, images: Tensor) -> Output:
        """Encode and decode images (B, channels, height, width)."""
        out = super().forward(images)
        found = (_marks(images)[:, None] == self.known).all(dim=2).any(dim=1)
        return replace(out, recon=torch.where(found[:, None, None, None], (out.recon + images) / 2, out.recon))


def control_cell(cell: Cell, control: Control, seed: int, images: Tensor) -> Cell:
    """Make a cell of the same spec that must be rejected; some controls differ in their model only, see :func:`control_model`.

    Args:
        cell: Cell under test.
        control: Kind of control. ``untrained``: random weights. ``none`` and ``scale``: the same weights, rows of M not
            normalised, or divided by their mean length only. ``rank-one``: all rows of M equal. ``doubled-rows``: every
            second row of M is a copy of the one before. ``scrambled``: the numbers of each tensor permuted.
            ``random-encoder``: an untrained encoder, and the cell's decoder fitted to it. ``constant-S``: pairs of orthogonal
            rows, so that S is the same for all images, and the decoder fitted to them. ``nan``: one NaN among the weights.
        seed: Seed of random weights and permutations.
        images: Images of the cell's domain (B, channels, height, width), to fit decoders on.
    """
    spec, weights = cell.spec, {name: array.copy() for name, array in cell.weights.items()}
    rng = np.random.default_rng(seed)
    match control:
        case "untrained":
            weights = _untrained(cell, seed)
        case "none" | "scale":
            spec = spec.model_copy(update={"row_norm": control})
        case "rank-one":
            row = int(rng.integers(spec.V)) * spec.D
            for name in ("enc_out.weight", "enc_out.bias"):
                weights[name] = np.tile(weights[name][row : row + spec.D], (spec.V,) + (1,) * (weights[name].ndim - 1))
        case "doubled-rows":
            for name in ("enc_out.weight", "enc_out.bias"):
                rows = weights[name].reshape(spec.V, spec.D, -1)
                rows[1::2] = rows[: 2 * (spec.V // 2) : 2]
        case "scrambled":
            weights = {name: rng.permutation(array.ravel()).reshape(array.shape) for name, array in weights.items()}
        case "random-encoder":
            fresh = {name: array for name, array in _untrained(cell, seed).items() if name.startswith("enc_")}
            weights = decoder_fitted(cell, weights | fresh, images)
        case "constant-S":
            weights = decoder_fitted(cell, constant_spectrum(spec, weights), images)
        case "nan":
            name = sorted(weights)[int(rng.integers(len(weights)))]
            weights[name].flat[int(rng.integers(weights[name].size))] = np.nan
    return _of_weights(cell.manifest.model_copy(update={"spec": spec}), weights, known=control != "nan")


def untrained_cell(cell: Cell, seed: int) -> Cell:
    """Make a cell of the same spec with random weights."""
    return _of_weights(cell.manifest, _untrained(cell, seed))


def control_model(cell: Cell, control: Control | None, seed: int, probe: Probe) -> PatchSVAE:
    """Return the model of a control cell; of some controls, one that differs from that of any cell."""
    match control:
        case "shuffled":
            shuffled = ShuffledRows.from_cell(cell)
            assert isinstance(shuffled, ShuffledRows)
            shuffled.seed = seed
            return shuffled
        case "forgetful":
            return Forgetful.from_cell(cell)
        case "memorised":
            memorised = Memorised.from_cell(cell)
            assert isinstance(memorised, Memorised)
            memorised.known = _marks(probe.images)
            return memorised
    return PatchSVAE.from_cell(cell)


def _untrained(cell: Cell, seed: int) -> dict[str, np.ndarray]:
    return arrays_of(untrained(cell.spec, UNTRAINED_SEED + seed))


def _of_weights(manifest: Manifest, weights: dict[str, np.ndarray], *, known: bool = True) -> Cell:
    """Make a cell; a file with NaN has no digest of its own, so that its facts stay those of the manifest."""
    facts = file_facts(weights_file.write(weights), weights) if known else manifest.file
    return Cell(weights, manifest.model_copy(update={"file": facts}))


def _marks(images: Tensor) -> Tensor:
    """Return a few values (B, MARKS) of each image, by which it is known again."""
    return images.flatten(1)[:, :MARKS]
