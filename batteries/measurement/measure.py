"""Figures of a model on a probe: CV with its error, reconstruction error, effective rank, spectrum, row radius."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from batteries import short_repr
from batteries.cell.manifest import CvFigure, DegenerateFigure, Estimated, HeldFigure, InputScale, Measured
from batteries.cell.spec import CellSpec
from batteries.data.probes import Probe, probe_of
from batteries.engine import parallel
from batteries.engine.torch_settings import PINNED, neutral
from batteries.geometry import attractor, estimates, jackknife, row_figures, simplex_cv
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from batteries.images.image_batch import unjudged
from batteries.images.rescaling import from_input, to_input
from batteries.measurement.baselines import LinearCode, baselines
from batteries.model.patch_svae import PatchSVAE, grid_of

CV_SEED = 5
MATRICES = 256  # matrices sampled from a probe, spread evenly over its images
PATCHES_AT_ONCE = 2048  # patches in one chunk; larger ones take up to 1.4 times as long, in page faults


@dataclass(frozen=True, eq=False)
class Reading:
    """Results of one pass over images.

    Attributes:
        mse: Mean squared error of each image (B,).
        cluster: Cluster of each image (B,).
        matrices: Seeded sample of M (n, V, D), about 256, equally many from each image.
        matrix_cluster: Cluster of each sampled matrix (n,).
        S: Singular values of every patch (B, N, D).
        radius_error: Largest distance of a row's length from 1, over all patches.
    """

    mse: Tensor
    cluster: Tensor
    matrices: Tensor
    matrix_cluster: Tensor
    S: Tensor
    radius_error: float

    __repr__ = short_repr.fields

    def cv(self, *, corrected: bool = True) -> Estimate | Degenerate:
        """Estimate the published CV of the sampled matrices; figures from before its correction lack it."""
        return simplex_cv.cv(self.matrices, self.matrix_cluster, seed=CV_SEED, corrected=corrected)

    def axial_cv(self) -> Estimate | Degenerate:
        """Estimate the axial CV of the sampled matrices, which band and flags rest on."""
        return simplex_cv.axial_cv(self.matrices, self.matrix_cluster, seed=CV_SEED)

    def effective_rank(self) -> Estimate:
        """Estimate the mean over patches of exp(entropy of S)."""
        ranks = row_figures.effective_rank(self.S)  # (B, N)
        return estimates.clustered_mean(ranks.flatten(), self.cluster[:, None].expand_as(ranks).flatten())

    def error(self) -> Estimate:
        """Estimate the mean squared error."""
        return estimates.clustered_mean(self.mse, self.cluster)


@neutral()
@torch.no_grad()
def read(model: PatchSVAE, images: Tensor, cluster: Tensor, input: InputScale | None = None) -> Reading:
    """Run images (B, channels, height, width) in clusters (B,) through a model, in chunks, without gradients.

    With an input scale, images are converted to it and reconstructions converted back before the error is computed, so that
    errors of cells of different scales are comparable.
    """
    grid = grid_of(images, model.spec)
    patches = grid[0] * grid[1]
    generator = torch.Generator().manual_seed(CV_SEED)
    mse, matrices, S, radius = [], [], [], 0.0
    order = torch.rand(len(images), patches, generator=generator, **PINNED).argsort(dim=1)
    chosen = order[:, : max(1, MATRICES // len(images))]
    for part in torch.arange(len(images)).split(max(1, PATCHES_AT_ONCE // patches)):
        parallel.leave_if_failed()
        with unjudged():
            out = model(images[part] if input is None else to_input(images[part], input))
        recon = out.recon if input is None else from_input(out.recon, input)
        mse.append((recon - images[part]).double().square().mean(dim=(1, 2, 3)))
        matrices.append(out.M[torch.arange(len(part))[:, None], chosen[part]])  # (b, few, V, D)
        S.append(out.S)
        radius = max(radius, row_figures.radius_error(out.M))
    picked = torch.cat(matrices)
    of_matrix = cluster[:, None].expand(picked.shape[:2])
    return Reading(torch.cat(mse), cluster, picked.flatten(0, 1), of_matrix.flatten(), torch.cat(S), radius)


@neutral()
def measure(
    model: PatchSVAE,
    probe: Probe | str,
    *,
    code: LinearCode | None = None,
    held: HeldFigure | None = None,
    input: InputScale | None = None,
    like: Measured | None = None,
) -> Measured:
    """Measure a model on a probe, for its manifest.

    Args:
        model: Model of the cell, in training or evaluation mode.
        probe: Probe, or its name.
        code: Linear code fitted on training images, for the baselines.
        held: Second flag, if a trajectory is known.
        input: Scale of the model's images (``cell.manifest.identity.input``); by default mean 0 and std 1. Errors are always
            on the probe's own scale.
        like: Figures of a manifest to compare with: without axial CV, or without correction for the number of rows, as these.

    Raises:
        InputError: unknown probe (``PROBE``, ``NO_PROBE``), or one whose images do not fit the cell.

    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("low", hidden=16), seed=0)
    >>> measured = batteries.measure(model, "photos-64")
    >>> measured.band, measured.axial_cv.on_attractor  # of an untrained cell: its CV says nothing by itself
    ('low', True)
    """
    probe = probe_of(probe)
    found = read(model, probe.images, probe.cluster, input)
    corrected = jackknife.suits(model.spec.V) and (like is None or _is_corrected(like.cv))
    cv = found.cv(corrected=corrected)
    axial = None if like is not None and like.axial_cv is None else found.axial_cv()
    deciding = cv if axial is None else axial
    return Measured(
        probe=probe.name,
        probe_version=probe.version,
        probe_digest=probe.digest,
        cv=cv_figure(cv, model.spec, corrected=corrected),
        axial_cv=None if axial is None else cv_figure(axial, model.spec, corrected=jackknife.suits(model.spec.V)),
        band=attractor.band_of(deciding.value if isinstance(deciding, Estimate) else None, model.spec.D),
        held=held,
        mse=estimated(found.error()),
        mse_by_group={name: float(found.mse[probe.group == i].mean()) for i, name in enumerate(probe.groups)},
        baselines=baselines(code, probe.images, model.spec) if code else None,
        effective_rank=estimated(found.effective_rank()),
        spectrum=tuple(found.S.double().mean(dim=(0, 1)).tolist()),
        radius_error=found.radius_error,
    )


def cv_figure(cv: Estimate | Degenerate, spec: CellSpec, *, corrected: bool) -> CvFigure | DegenerateFigure:
    """Convert a CV to its form in a manifest, which says whether it is corrected for the number of rows."""
    if isinstance(cv, Degenerate):
        return DegenerateFigure(degenerate=cv.reason)
    return CvFigure(
        value=cv.value,
        standard_error=finite_or_none(cv.standard_error),
        matrices=cv.matrices,
        images=cv.images,
        draws=simplex_cv.DRAWS,
        seed=CV_SEED,
        ratio=cv.value / attractor.sphere_cv(spec.D),
        on_attractor=attractor.on_attractor(cv.value, spec.D),
        corrected=corrected,
    )


def _is_corrected(cv: CvFigure | DegenerateFigure) -> bool:
    return isinstance(cv, CvFigure) and cv.corrected


def estimated(estimate: Estimate) -> Estimated:
    """Convert an estimate to its form in a manifest."""
    return Estimated(value=estimate.value, standard_error=finite_or_none(estimate.standard_error))


def held_figure(before: Estimate, after: Estimate, since_step: int) -> HeldFigure:
    """Compute the second flag in its form in a manifest."""
    held = estimates.holds(before, after)
    return HeldFigure(since_step=since_step, ratio=held.ratio, lower=held.lower, upper=held.upper, holds=held.holds)


def finite_or_none(value: float) -> float | None:
    """Replace infinity, an unknown spread, with None, since JSON has no infinity."""
    return value if value < float("inf") else None
