"""Replay of a cell's measurements on the probes of its manifest, and the figures that changed. Imports torch.

The effect of rounding on other machines was measured over every shipped cell, on both its probes: with one thread and two, with
and without AVX2, AVX-512, oneDNN and our compiled kernels, and entirely in float64. Root mean square errors moved by at most
1.7e-7, and by 2e-8 if the code is narrower than the patch; mean singular values by 4e-8; CV and rank by 2e-8, relative.
Each tolerance is at least ten times that. Root mean square errors are compared instead of mean squares, because they move by no
more than the reconstruction does, however small they are.

Smaller changes cannot be told from rounding. In the cells trained on photographs attention has so little effect that permuting
its tensors moves the errors by 1e-8 to 1e-6 only. The biases of its keys cancel in the softmax.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from batteries.cell.cell import Cell
from batteries.cell.manifest import CvFigure, DegenerateFigure, Measured
from batteries.cell.spec import CellSpec
from batteries.data.probes import Probe, probe
from batteries.errors import InputError
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate
from batteries.measurement.measure import Reading, read
from batteries.model.patch_svae import PatchSVAE

ROOT = 2e-6  # tolerance of a root mean square error, relative above 1
ROOT_NARROW = 2e-7  # if the code is narrower than the patch: rounding hardly affects the part that the decoder cannot reach
SPECTRUM = 1e-6  # tolerance of a mean singular value, relative above 1
RELATIVE = 1e-6  # relative tolerance of a CV or an effective rank

Row = tuple[str, float, float, float]  # name, value in the manifest, value found, tolerance


def measure_again(cell: Cell, *, exact: bool) -> Iterator[tuple[str, list[str]]]:
    """Measure a cell on every probe of its manifest that this package has with the same digest; the cell's own first.

    Args:
        cell: Cell to measure.
        exact: Whether to allow no tolerance at all.

    Yields:
        Name of each probe, with the figures that differ by more than the tolerance, in words.

    >>> import registry
    >>> name, differences = next(registry.measure_again(registry.load("mid/fresnel-64"), exact=False))
    >>> name, differences
    ('photos-64', [])
    """
    model, manifest = PatchSVAE.from_cell(cell), cell.manifest
    for name in sorted(manifest.measured, key=lambda name: name != manifest.own_probe):
        wanted = manifest.measured[name]
        on = _probe_of(name, wanted, cell.spec)
        if on is None:
            continue
        found = read(model, on.images, on.cluster, manifest.identity.input)
        rows = [*_rows(wanted, found, on, cell.spec)]
        wrong = _too_far(rows, exact) if rows else ["figures of other groups, or of another width"]
        if not wrong and name == manifest.own_probe:
            wrong = _cvs_differences(wanted, found, exact)  # last, because it takes as long as all the rest
        yield name, wrong


def _probe_of(name: str, wanted: Measured, spec: CellSpec) -> Probe | None:
    """Return the probe of some figures, if this package has it with the same digest and fitting channels."""
    try:
        found = probe(name)
    except InputError:
        return None
    return found if found.digest == wanted.probe_digest and found.images.shape[1] == spec.channels else None


def _rows(wanted: Measured, found: Reading, probe: Probe, spec: CellSpec) -> Iterator[Row]:
    """Yield errors, spectrum and rank; nothing if groups or width differ."""
    if set(wanted.mse_by_group) != set(probe.groups) or len(wanted.spectrum) != spec.D:
        return
    most = ROOT_NARROW if min(spec.hidden, spec.V * (spec.D - 1)) < spec.patch_dim else ROOT
    errors = {"MSE": (wanted.mse.value, found.error().value)}
    for i, group in enumerate(probe.groups):
        errors[f"MSE of {group}"] = (wanted.mse_by_group[group], float(found.mse[probe.group == i].mean()))
    for what, (promised, error) in errors.items():
        root = math.sqrt(error)
        yield f"root {what}", math.sqrt(promised) if promised >= 0 else math.nan, root, most * max(1.0, root)
    for i, (promised, S) in enumerate(zip(wanted.spectrum, found.S.double().mean(dim=(0, 1)).tolist(), strict=True)):
        yield f"S[{i}]", promised, S, SPECTRUM * max(1.0, S)
    rank = found.effective_rank().value
    yield "effective rank", wanted.effective_rank.value, rank, RELATIVE * rank


def _cvs_differences(wanted: Measured, found: Reading, exact: bool) -> list[str]:
    """Compare the published CV, corrected or not as in the manifest, and the axial one, which older manifests lack."""
    corrected = isinstance(wanted.cv, CvFigure) and wanted.cv.corrected
    wrong = _cv_differences("CV", wanted.cv, found.cv(corrected=corrected), exact)
    if wanted.axial_cv is not None:
        wrong += _cv_differences("axial CV", wanted.axial_cv, found.axial_cv(), exact)
    return wrong


def _cv_differences(name: str, promised: CvFigure | DegenerateFigure, cv: Estimate | Degenerate, exact: bool) -> list[str]:
    if isinstance(cv, Degenerate):
        return [f"a {name} of {promised.value:.7g} where {cv.reason}"] if isinstance(promised, CvFigure) else []
    if not isinstance(promised, CvFigure):
        return [f"a {name} of {cv.value:.7g} where there should be none"]
    return _too_far([(name, promised.value, cv.value, RELATIVE * cv.value)], exact)


def _too_far(rows: list[Row], exact: bool) -> list[str]:
    # "not <=" instead of ">", so that NaN counts as different
    return [f"{what} {b:.9g} instead of {a:.9g}" for what, a, b, most in rows if not abs(a - b) <= (0.0 if exact else most)]
