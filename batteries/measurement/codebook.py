"""Codebook of a cell on a probe: its axes, their deviation with its error, and errors with quantised rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from batteries import short_repr
from batteries.data.probes import Probe, probe_of
from batteries.engine import parallel
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from batteries.geometry import estimates
from batteries.geometry.codebook import Codebook
from batteries.geometry.estimates import Estimate
from batteries.images.image_batch import unjudged
from batteries.measurement.measure import PATCHES_AT_ONCE
from batteries.model.patch_svae import PatchSVAE, grid_of


@dataclass(frozen=True, eq=False)
class CodebookReading:
    """Codebook of a model, and its figures on the probe that it was extracted from.

    Attributes:
        codebook: Axes of the mean rows.
        standard_error: Standard error of ``codebook.deviation``: jackknife over images, or photographs.
        constancy: Mean length of the mean rows: 1 if rows are the same for all patches, near 0 if they point anywhere.
        angle: Angle between a row and its quantised one, in radians.
        mse: Mean squared error of the reconstruction.
        quantised_mse: Mean squared error of the reconstruction from quantised rows.

    >>> import batteries
    >>> spec = batteries.CellSpec.preset("high", patch_size=16, hidden=16, smooth_width=4)
    >>> reading = batteries.codebook(batteries.untrained(spec, seed=0), "photos-64")
    >>> reading.codebook.axes.shape[1], abs(reading.codebook.deviation) < 0.05  # as clean as published, and untrained
    (4, True)
    """

    codebook: Codebook
    standard_error: float
    constancy: float
    angle: Estimate
    mse: Estimate
    quantised_mse: Estimate

    __repr__ = short_repr.fields


@neutral()
@torch.no_grad()
def codebook(model: PatchSVAE, probe: Probe | str) -> CodebookReading:
    """Extract the codebook of a model, and quantise the rows of every patch of a probe with it.

    Args:
        model: Model of a cell whose images have mean 0 and standard deviation 1 of the plain scale.
        probe: Probe, or its name.

    Raises:
        InputError: unknown probe (``PROBE``, ``NO_PROBE``), one whose images do not fit the cell, a cell without unit rows
            (``ROW_NORM``), or a mean row without a direction (``NO_AXIS``).

    >>> import batteries, registry
    >>> model = batteries.PatchSVAE.from_cell(registry.load("low/fresnel-64"))
    >>> reading = batteries.codebook(model, "photos-64")
    >>> reading.quantised_mse.value > reading.mse.value
    True
    """
    probe = probe_of(probe)
    if model.spec.row_norm != "sphere":
        raise InputError("rows of other lengths than 1", code="ROW_NORM", expected="sphere", found=model.spec.row_norm)
    means = torch.cat([model.tokens(part).M.double().mean(dim=1) for part in _parts(model, probe)])  # (B, V, D)
    found = Codebook.of_rows(means.mean(dim=0))
    errors = torch.cat([_errors(model, found, part) for part in _parts(model, probe)])  # (B, 3)
    angle, mse, quantised = (estimates.clustered_mean(error, probe.cluster) for error in errors.T)
    constancy = float(means.mean(dim=0).norm(dim=1).mean())
    return CodebookReading(found, _standard_error(means, probe.cluster), constancy, angle, mse, quantised)


def _parts(model: PatchSVAE, probe: Probe) -> Iterator[Tensor]:
    rows, columns = grid_of(probe.images, model.spec)
    for part in probe.images.split(max(1, PATCHES_AT_ONCE // (rows * columns))):
        parallel.leave_if_failed()
        with unjudged():
            yield part


def _errors(model: PatchSVAE, found: Codebook, images: Tensor) -> Tensor:
    """Return mean angle of rows, and errors with rows as they are and quantised, of each image: (B, 3), float64."""
    encoded = model.encode(images)
    rows = found.quantise(encoded.M)
    cosines = (encoded.M.double() * rows.double()).sum(dim=-1).clamp(-1, 1)  # (B, N, V)
    quantised = model.decode_matrices(model.bottleneck.gated(rows, model).matrices(), encoded.grid)
    recons = (model.decode(encoded), quantised)
    errors = [(recon - images).double().square().mean(dim=(1, 2, 3)) for recon in recons]
    return torch.stack([cosines.acos().mean(dim=(1, 2)), *errors], dim=1)


def _standard_error(means: Tensor, cluster: Tensor) -> float:
    """Return the jackknife standard error of the deviation, from mean rows (B, V, D) of images in clusters (B,)."""
    kinds = cluster.unique()
    if len(kinds) < 2:
        return math.inf
    without = torch.tensor([Codebook.of_rows(means[cluster != kind].mean(dim=0)).deviation for kind in kinds])
    return float((without - without.mean()).square().sum() * (len(kinds) - 1) / len(kinds)) ** 0.5
