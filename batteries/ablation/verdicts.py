"""Verdicts on a run: its band as the published program judged it, and the flags of this package with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from batteries.ablation.run_report import RunReport
from batteries.cell.manifest import CvFigure, DegenerateFigure, Measured
from batteries.cell.spec import CellSpec
from batteries.geometry import attractor
from batteries.geometry.estimates import student
from batteries.training.trainer import expected_band

Flag = Literal["on", "off", "undecided", "degenerate", "diverged"]
BULK = ("none", "scale")  # norms that leave the rows of a Gaussian matrix Gaussian


@dataclass(frozen=True)
class Verdict:
    """Two verdicts on a run, or on its cell before training.

    Attributes:
        expected: Band of the spec's width.
        band: Band of the reading, by the published windows; None if there is no reading.
        matched: Whether this is the expected band: the published verdict.
        ratio: CV / exact CV on the sphere; None if degenerate or diverged.
        lower: Lower 95% bound of the ratio; None without a standard error.
        upper: Upper 95% bound of the ratio, likewise.
        flag: ``on`` the attractor if both bounds lie in [0.85, 1.25], ``off`` if the whole interval lies outside, else
            ``undecided``; or the reason why there is no ratio.
    """

    expected: str | None
    band: str | None
    matched: bool
    ratio: float | None
    lower: float | None
    upper: float | None
    flag: Flag

    @property
    def disagree(self) -> bool:
        """True if one verdict is good and the other is not."""
        return self.matched != (self.flag == "on")


def of_run(report: RunReport) -> Verdict:
    """Judge the trained cell, its band by the published CV-EMA where the run has one."""
    return _verdict(report.plan.spec, report.measured, report.cv_average)


def of_untrained(report: RunReport) -> Verdict:
    """Judge the cell before training, its band by its CV."""
    return _verdict(report.plan.spec, report.untrained, None)


def exact_of(spec: CellSpec) -> tuple[float | None, str]:
    """Return the exact CV of the attractor that a row norm implies, and its name; None where there is none in closed form.

    Rows without norm, or divided by one number, are Gaussian at their start; LayerNorm puts them on a sphere of one dimension
    less.

    >>> from batteries import CellSpec
    >>> exact_of(CellSpec.preset("mid", row_norm="layernorm"))
    (0.41488..., 'sphere of 7 dimensions')
    """
    if spec.row_norm in BULK:
        return (attractor.bulk_cv(spec.D), "Gaussian rows") if spec.D >= attractor.SIMPLEX else (None, "degenerate")
    if spec.row_norm == "row_max":
        return None, "no closed form"
    width = spec.D - (spec.row_norm != "sphere")
    if width < attractor.SIMPLEX:
        return None, "degenerate"
    return attractor.sphere_cv(width), f"sphere of {width} dimensions"


def bounds(cv: CvFigure) -> tuple[float, float] | None:
    """Return the 95% bounds of a CV, clustered by image; None without a standard error."""
    if cv.standard_error is None:
        return None
    reach = student(0.95, cv.images - 1) * cv.standard_error
    return cv.value - reach, cv.value + reach


def _verdict(spec: CellSpec, measured: Measured | None, average: float | None) -> Verdict:
    expected = expected_band(spec)
    if measured is None:
        return Verdict(expected, None, False, None, None, None, "diverged")
    reading = average if average is not None else _value(measured.cv)
    band = None if reading is None else attractor.band(reading, spec.D)
    cv = measured.deciding_cv
    if isinstance(cv, DegenerateFigure):
        return Verdict(expected, band, band is not None and band == expected, None, None, None, "degenerate")
    exact = attractor.sphere_cv(spec.D)
    if (reach := bounds(cv)) is None:
        return Verdict(expected, band, band == expected, cv.ratio, None, None, "undecided")
    low, high = (bound / exact for bound in reach)
    inside = [attractor.ON_ATTRACTOR[0] <= value <= attractor.ON_ATTRACTOR[1] for value in (low, cv.ratio, high)]
    apart = high < attractor.ON_ATTRACTOR[0] or low > attractor.ON_ATTRACTOR[1]
    flag: Flag = "on" if all(inside) else "off" if apart else "undecided"
    return Verdict(expected, band, band == expected, cv.ratio, low, high, flag)


def _value(cv: CvFigure | DegenerateFigure) -> float | None:
    return cv.value if isinstance(cv, CvFigure) else None
