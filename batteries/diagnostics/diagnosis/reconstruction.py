"""Error, spectrum and CV of a coder on every kind of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from batteries import short_repr
from batteries.diagnostics.diagnosis.coders import Coder
from batteries.diagnostics.diagnosis.findings import Finding, positive
from batteries.diagnostics.diagnosis.kinds import Kind
from batteries.diagnostics.error_figures import MSE as IMAGES_MSE
from batteries.diagnostics.error_figures import RELATIVE, variances
from batteries.diagnostics.figures import Definition, Figure, estimated
from batteries.geometry import estimates, simplex_cv, strata
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from batteries.measurement.measure import CV_SEED, Reading

STAGE = "kinds"
MSE = Definition("mse", "MSE", STAGE, IMAGES_MSE.formula)
LEFT = Definition("left", "share left", STAGE, RELATIVE.formula)
SPECTRUM = Definition("spectrum", "mean S", STAGE, "mean over images and patches of each singular value of M")
CV = Definition("cv", "axial CV of rows", STAGE, "axial CV of the volumes of simplices of rows of M")
POOLED = ("known laws", "unseen laws")  # groups with a mean over their kinds, which are strata


@dataclass(frozen=True, eq=False)
class KindErrors:
    """Errors of a coder on kinds and on pooled groups.

    Attributes:
        mse: Mean squared error by name of a kind or of a pooled group.
        left: Share left by name.
        findings: Both, and spectrum and CV of a model, as findings.
    """

    mse: dict[str, Estimate]
    left: dict[str, Estimate]
    findings: tuple[Finding, ...]

    __repr__ = short_repr.fields


@dataclass(frozen=True, eq=False)
class _Part:
    """Errors (B,) of the images of a kind, or of all kinds of a group, and their mean's estimator."""

    name: str
    errors: Tensor
    differences: Tensor
    mean: Callable[[Tensor], Estimate]


def kind_errors(coder: Coder, kinds: Sequence[Kind]) -> KindErrors:
    """Measure a coder on kinds of images."""
    found = [(kind, *coder.errors(kind.images, kind.fold)) for kind in kinds]
    errors = {kind.name: mse for kind, mse, _ in found}
    differences = {kind.name: variances(kind.images) for kind in kinds}
    parts = []
    for group in POOLED:
        if of := [kind.name for kind in kinds if kind.group == group]:
            strata_of = torch.arange(len(of)).repeat_interleave(torch.tensor([len(errors[name]) for name in of]))
            mse, spread = (torch.cat([values[name] for name in of]) for values in (errors, differences))
            parts.append(_Part(group, mse, spread, partial(strata.stratified_mean, stratum=strata_of)))
    parts += [
        _Part(kind.name, errors[kind.name], differences[kind.name], partial(estimates.clustered_mean, image=kind.cluster))
        for kind in kinds
    ]
    means = {part.name: part.mean(part.errors.double()) for part in parts}
    left = {part.name: strata.share(part.errors, part.differences, part.mean) for part in parts}
    findings = [positive(MSE, one, name) for name, one in means.items()]
    findings += [positive(LEFT, one, name) for name, one in left.items()]
    readings = [(kind, reading) for kind, _, reading in found if reading is not None]
    return KindErrors(means, left, (*findings, *_geometry(readings)))


def _geometry(readings: Sequence[tuple[Kind, Reading]]) -> list[Finding]:
    """Return spectrum and CV by group of kinds."""
    findings = []
    for group in dict.fromkeys(kind.group for kind, _ in readings):
        of = [(kind, reading) for kind, reading in readings if kind.group == group]
        starts = torch.tensor([0, *(int(kind.cluster.max()) + 1 for kind, _ in of)]).cumsum(0)
        cluster = torch.cat([kind.cluster + start for (kind, _), start in zip(of, starts.tolist(), strict=False)])
        S = torch.cat([reading.S.double().mean(dim=1) for _, reading in of])  # (B, D)
        for mode, values in enumerate(S.unbind(1), 1):
            findings.append(positive(SPECTRUM, estimates.clustered_mean(values, cluster), f"{group}, mode {mode}"))
        findings.append(_cv(group, of, starts))
    return findings


def _cv(group: str, of: Sequence[tuple[Kind, Reading]], starts: Tensor) -> Finding:
    """Return the axial CV of up to about 256 matrices, evenly chosen of the kinds of a group."""
    few = max(1, 256 // len(of))
    M, image = [], []
    for (kind, reading), start in zip(of, starts.tolist(), strict=False):
        chosen = torch.linspace(0, len(reading.matrices) - 1, min(few, len(reading.matrices))).long()
        M.append(reading.matrices[chosen])
        image.append(kind.cluster[reading.matrix_cluster[chosen]] + start)
    found = simplex_cv.axial_cv(torch.cat(M), torch.cat(image), seed=CV_SEED)
    if isinstance(found, Degenerate):
        return Finding(Figure(CV, group, undefined=found.reason))
    return Finding(estimated(CV, found, group), *found.interval())
