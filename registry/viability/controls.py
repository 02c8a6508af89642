"""Negative controls: cells of the same spec that the viability test must reject, each by a named check."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from batteries.cell import weights_file
from batteries.cell.cell import Cell, file_facts
from batteries.engine.torch_settings import PINNED
from batteries.model.patch_svae import PatchSVAE, arrays_of, untrained
from batteries.packaging.package import UNTRAINED_SEED
from registry.viability.protocol import Control

NAMED_CHECK: dict[Control, str] = {
    "untrained": "error, untrained",
    "none": "radius",
    "scale": "radius",
    "rank-one": "rank",
    "shuffled": "error, claimed",
    "scrambled": "error, claimed",
    "nan": "finite",
}
CONTROLS: tuple[str, ...] = tuple(NAMED_CHECK)


class ShuffledRows(PatchSVAE):
    """A cell that decodes each row of M from another patch: every row is valid, but in the wrong place."""

    seed = 0

    def _matrices(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        M, grid = super()._matrices(images)
        patches = M.flatten(0, 1)  # (B N, V, D)
        order = torch.rand(patches.shape[:2], generator=torch.Generator().manual_seed(self.seed), **PINNED).argsort(dim=0)
        shuffled = patches.gather(0, order[:, :, None].expand_as(patches))
        return shuffled.view_as(M), grid


def control_cell(cell: Cell, control: Control, seed: int = 0) -> Cell:
    """Make a cell of the same spec that must be rejected; for ``shuffled`` the cell itself, see :func:`control_model`.

    Args:
        cell: Cell under test.
        control: Kind of control. ``untrained``: random weights. ``none`` and ``scale``: the same weights, rows of M not
            normalised, or divided by their mean length only. ``rank-one``: all rows of M equal. ``scrambled``: the
            numbers of each tensor permuted. ``nan``: one NaN among the weights.
        seed: Seed of random weights and permutations.
    """
    spec, weights = cell.spec, {name: array.copy() for name, array in cell.weights.items()}
    rng = np.random.default_rng(seed)
    match control:
        case "untrained":
            weights = arrays_of(untrained(spec, UNTRAINED_SEED + seed))
        case "none" | "scale":
            spec = spec.model_copy(update={"row_norm": control})
        case "rank-one":
            row = int(rng.integers(spec.V)) * spec.D
            for name in ("enc_out.weight", "enc_out.bias"):
                weights[name] = np.tile(weights[name][row : row + spec.D], (spec.V,) + (1,) * (weights[name].ndim - 1))
        case "scrambled":
            weights = {name: rng.permutation(array.ravel()).reshape(array.shape) for name, array in weights.items()}
        case "nan":
            name = sorted(weights)[int(rng.integers(len(weights)))]
            weights[name].flat[int(rng.integers(weights[name].size))] = np.nan
    facts = file_facts(weights_file.write(weights), weights) if control != "nan" else cell.manifest.file
    return Cell(weights, cell.manifest.model_copy(update={"spec": spec, "file": facts}))


def control_model(cell: Cell, control: Control | None, seed: int = 0) -> PatchSVAE:
    """Return the model of a control cell; for ``shuffled``, one that shuffles rows."""
    if control != "shuffled":
        return PatchSVAE.from_cell(cell)
    model = ShuffledRows.from_cell(cell)
    assert isinstance(model, ShuffledRows)
    model.seed = seed
    return model
