"""Figures of a manifest against the same figures measured again, and readings of a history against each other.

The effect of rounding on other machines was measured over every shipped cell, on both its probes: with one thread and two, with
and without AVX2, AVX-512, oneDNN and our compiled kernels, and entirely in float64. Root mean square errors moved by at most
1.7e-7, and by 2e-8 if the code is narrower than the patch; mean singular values by 4e-8; CV and rank by 2e-8, relative.
Each tolerance is at least ten times that. Root mean square errors are compared instead of mean squares, because they move by no
more than the reconstruction does, however small they are.

A CV may differ within its own 99% interval and by 1%, since earlier versions estimate it without the correction for few rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from batteries.cell.manifest import (
    Baselines,
    CvFigure,
    DegenerateFigure,
    Estimated,
    HeldFigure,
    Manifest,
    Measured,
    TrainingPoint,
)
from batteries.cell.spec import CellSpec
from batteries.geometry import attractor, estimates
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate

ROOT = 2e-6  # tolerance of a root mean square error, relative above 1
ROOT_NARROW = 2e-7  # if the code is narrower than the patch: rounding hardly affects the part that the decoder cannot reach
SPECTRUM = 1e-6  # tolerance of a mean singular value, relative above 1
RELATIVE = 1e-6  # relative tolerance of an effective rank, and of a ratio of claimed figures
SPREAD = 1e-3  # relative tolerance of the standard error of an error or a rank, and of a linear code's error
# Relative tolerance of a CV: earlier versions lack the correction for few rows, of 0.1% to 0.9% in seven cells that ship.
CORRECTION = 0.01
CV_SPREAD = 2.0  # factor by which the standard error of a CV may differ
RADIUS = 1e-6  # tolerance of the length of a row, relative above 1: float32 rows measure 2e-7
VANISHED = 1e-12  # error of a linear code without a bottleneck: rounding in float64
Z99 = 2.5758293035489004  # two-sided 99%

AnyCv = Estimate | Degenerate | CvFigure | DegenerateFigure


@dataclass(frozen=True)
class Difference:
    """A figure that a measurement contradicts.

    Attributes:
        figure: Name of the figure.
        claimed: Value in the manifest.
        measured: Value found.
        tolerance: Largest difference allowed, in words.
    """

    figure: str
    claimed: object
    measured: object
    tolerance: str

    def __str__(self) -> str:
        claimed, measured = (f"{v:.9g}" if isinstance(v, float) else str(v) for v in (self.claimed, self.measured))
        return f"{self.figure} {claimed} claimed, {measured} measured, tolerance {self.tolerance}"


def differences(claimed: Measured, found: Measured, spec: CellSpec, *, exact: bool = False) -> list[Difference]:
    """Compare all figures of a cell on a probe but ``held`` and ``baselines``.

    Args:
        claimed: Figures in the manifest.
        found: Figures measured again.
        spec: Spec of the cell.
        exact: Whether to allow no tolerance at all.
    """
    root = 0.0 if exact else root_tolerance(spec)
    rows = [
        *_same(claimed, found, ("probe", "probe_version", "probe_digest", "band")),
        *_estimated("MSE", claimed.mse, found.mse, mse_tolerance(found.mse.value, root), exact),
        *_groups(claimed.mse_by_group, found.mse_by_group, root),
        *_spectrum(claimed.spectrum, found.spectrum, exact),
        *_estimated("effective rank", claimed.effective_rank, found.effective_rank, _rank_tolerance(found, exact), exact),
        _near("radius error", claimed.radius_error, found.radius_error, _unless(exact, RADIUS * max(1.0, found.radius_error))),
        *_cv("CV", claimed.cv, found.cv, exact),
        *(_cv("axial CV", claimed.axial_cv, found.axial_cv, exact) if claimed.axial_cv and found.axial_cv else ()),
    ]
    return [row for row in rows if row is not None]


def baseline_differences(claimed: Baselines, found: Baselines, *, exact: bool = False) -> list[Difference]:
    """Compare the errors of linear codes, fitted again on the same training images."""
    rows = [*_same(claimed, found, ("pca_k", "bottleneck", "fitted_on"))]
    for name in ("mean", "pca", "pca_width"):
        a, b = getattr(claimed, name), getattr(found, name)
        rows.append(_near(f"baseline {name}", a, b, _unless(exact, max(SPREAD * b, VANISHED))))
    return [row for row in rows if row is not None]


def history_differences(manifest: Manifest) -> list[Difference]:
    """Compare triage and second flag of a manifest with the readings of its own trajectory."""
    training, D = manifest.training, manifest.spec.D
    steps = [point.step for point in training.trajectory]
    found = [] if steps == sorted(set(steps)) else [Difference("order of readings", steps, sorted(set(steps)), "none")]
    if (triage := training.triage) is not None:
        point = reading_at(manifest, triage.step)
        value = point.deciding_cv[0] if point else None
        label = None if value is None else attractor.band(value, D)
        rows = (
            _equal(f"band at triage, step {triage.step}", triage.found, label if point else "no reading"),
            _equal("triage passed", triage.passed, triage.found == triage.expected),
        )
        found += [row for row in rows if row is not None]
    return found + (_held(manifest, manifest.own.held) if manifest.own.held else [])


def last_reading_differences(manifest: Manifest, published: AnyCv, axial: AnyCv, mse: float) -> list[Difference]:
    """Compare the last reading of a trajectory, if there is one, with the finished cell on its own probe.

    Args:
        manifest: Manifest with the trajectory.
        published: Published CV of the cell.
        axial: Axial CV of the cell, for readings that have one.
        mse: Measured error.
    """
    training = manifest.training
    if not training.trajectory:
        return []
    last = training.trajectory[-1]
    rows = [
        None if training.steps is None else _equal("step of the last reading", last.step, training.steps),
        _near("MSE of the last reading", last.mse, mse, mse_tolerance(mse, root_tolerance(manifest.spec))),
    ]
    found, (claimed, _), name = published if last.axial_cv is None else axial, last.deciding_cv, f"{last.cv_name}, last reading"
    if claimed is None or isinstance(found, Degenerate | DegenerateFigure):
        rows.append(_equal(name, claimed, None if isinstance(found, Degenerate | DegenerateFigure) else found.value))
    else:
        rows.append(_near(name, claimed, found.value, cv_tolerance(found.value, found.standard_error)))
    return [row for row in rows if row is not None]


def root_tolerance(spec: CellSpec) -> float:
    """Return the tolerance of a root mean square error of at most 1."""
    return ROOT_NARROW if min(spec.hidden, spec.V * (spec.D - 1)) < spec.patch_dim else ROOT


def mse_tolerance(mse: float, root: float) -> float:
    """Return the tolerance of a mean squared error, from that of its root."""
    size = math.sqrt(max(mse, 0.0))
    most = root * max(1.0, size)
    return most * (2 * size + most)


def cv_tolerance(cv: float, error: float | None) -> float:
    """Return the tolerance of a CV: half its 99% interval, and at least the correction that earlier versions lack."""
    return max(CORRECTION * cv, Z99 * (error or 0.0))


def reading_at(manifest: Manifest, step: int) -> TrainingPoint | None:
    """Return the reading at a step of training, if there is one."""
    return next((point for point in manifest.training.trajectory if point.step == step), None)


def _held(manifest: Manifest, held: HeldFigure) -> list[Difference]:
    """Compare the second flag with the CVs that it is the ratio of; its bounds are paired by image, and cannot be derived."""
    before, own = reading_at(manifest, held.since_step), manifest.own.deciding_cv
    value = before.deciding_cv[0] if before else None
    if value is None or not isinstance(own, CvFigure):
        return [Difference("held, ratio", held.ratio, f"no reading of a CV at step {held.since_step}", "none")]
    ratio = own.value / value
    holds = estimates.HOLDS[0] <= held.lower and held.upper <= estimates.HOLDS[1]
    rows = (
        _near("held, ratio", held.ratio, ratio, RELATIVE * ratio),
        _equal("held, ratio between its bounds", held.lower <= held.ratio <= held.upper, True),
        _equal("held", held.holds, holds),
    )
    return [row for row in rows if row is not None]


def _cv(
    name: str, claimed: CvFigure | DegenerateFigure, found: CvFigure | DegenerateFigure, exact: bool
) -> Iterator[Difference | None]:
    if not isinstance(claimed, CvFigure) or not isinstance(found, CvFigure):
        a, b = (cv.value if isinstance(cv, CvFigure) else cv.degenerate for cv in (claimed, found))
        yield None if type(claimed) is type(found) else Difference(name, a, b, "none")
        return
    yield _near(name, claimed.value, found.value, _unless(exact, cv_tolerance(found.value, found.standard_error)))
    yield _cv_spread(name, claimed.standard_error, found.standard_error, exact)
    ratio = claimed.value * (found.ratio / found.value)
    yield _near(f"{name} / exact CV", claimed.ratio, ratio, RELATIVE * ratio)
    yield from _same(claimed, found, ("on_attractor", "matrices", "images", "draws", "seed", "corrected"))


def _cv_spread(of: str, claimed: float | None, found: float | None, exact: bool) -> Difference | None:
    name = f"standard error of the {of}"
    if exact or claimed is None or found is None:
        return _equal(name, claimed, found)
    if found / CV_SPREAD <= claimed <= found * CV_SPREAD:
        return None
    return Difference(name, claimed, found, f"a factor of {CV_SPREAD:g}")


def _estimated(name: str, claimed: Estimated, found: Estimated, tolerance: float, exact: bool) -> Iterator[Difference | None]:
    yield _near(name, claimed.value, found.value, tolerance)
    a, b = claimed.standard_error, found.standard_error
    if a is None or b is None:
        yield _equal(f"standard error of the {name}", a, b)
    else:
        yield _near(f"standard error of the {name}", a, b, _unless(exact, max(SPREAD * b, tolerance)))


def _groups(claimed: dict[str, float], found: dict[str, float], root: float) -> Iterator[Difference | None]:
    if set(claimed) != set(found):
        yield Difference("groups", sorted(claimed), sorted(found), "none")
        return
    for group, mse in found.items():
        yield _near(f"MSE of {group}", claimed[group], mse, mse_tolerance(mse, root))


def _spectrum(claimed: tuple[float, ...], found: tuple[float, ...], exact: bool) -> Iterator[Difference | None]:
    if len(claimed) != len(found):
        yield Difference("width", len(claimed), len(found), "none")
        return
    for i, (a, b) in enumerate(zip(claimed, found, strict=True)):
        yield _near(f"S[{i}]", a, b, _unless(exact, SPECTRUM * max(1.0, b)))


def _rank_tolerance(found: Measured, exact: bool) -> float:
    return _unless(exact, RELATIVE * found.effective_rank.value)


def _unless(exact: bool, tolerance: float) -> float:
    return 0.0 if exact else tolerance


def _same(claimed: object, found: object, names: tuple[str, ...]) -> Iterator[Difference | None]:
    for name in names:
        yield _equal(name.replace("_", " "), getattr(claimed, name), getattr(found, name))


def _equal(name: str, claimed: object, found: object) -> Difference | None:
    return None if claimed == found else Difference(name, claimed, found, "none")


def _near(name: str, claimed: float, found: float, tolerance: float) -> Difference | None:
    # "not <=" instead of ">", so that NaN counts as different
    return None if abs(claimed - found) <= tolerance else Difference(name, claimed, found, f"{tolerance:.2g}")
