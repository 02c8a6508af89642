"""Ablation report as a page of HTML: groups with their verdicts, a chart each, the matrix, and the source's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batteries.ablation import aggregate
from batteries.ablation.judged_runs import Judged, Snapshot
from batteries.ablation.program import Group
from batteries.ablation.verdicts import exact_of
from batteries.cell.manifest import CvFigure, DegenerateFigure
from batteries.geometry.attractor import ON_ATTRACTOR
from registry.reports.charts.bar_chart import Bar, Bars
from registry.reports.charts.chart import Axis
from registry.reports.charts.heatmap import Heatmap, Square
from registry.reports.number_format import interval, number
from registry.reports.templating import render

TONES = {"on": "good", "undecided": "none", "off": "bad", "degenerate": "none", "diverged": "bad"}
MINUS = "\N{MINUS SIGN}"
AXIS = Axis(  # farther ends are drawn to its edge
    "axial CV / exact CV on the sphere, less 1", -0.5, 1.0, False, ((-0.5, f"{MINUS}0.5"), (0.0, "0"), (0.5, "0.5"), (1.0, "1"))
)


def snapshot_page(found: Snapshot) -> str:
    """Return the page of a program's reports; the same reports give the same bytes."""
    return render(
        "ablation.html.j2",
        found=found,
        meta=aggregate.snapshot_meta(found),
        summaries=aggregate.group_summaries(found),
        anomalies=aggregate.anomalies(found),
        matrix=_matrix(found),
        sections=[_section(found, group) for group in found.program.groups if found.of(group.id)],
        published=[one for one in found.judged if one.published is not None],
        compared=_compared,
        tones=TONES,
        flags=tuple(TONES),
        counts=lambda summary: tuple(summary[flag] for flag in TONES),
        window=ON_ATTRACTOR,
    )


def _matrix(found: Snapshot) -> Heatmap:
    """Draw CV / exact CV of every run: variants down, bands across."""
    of = {(one.report.group, one.report.variant, one.report.band): one for one in found.judged}
    rows = [
        (f"{group.id} {variant}", [_square(of.get((group.id, variant, band))) for band in found.program.bands])
        for group in found.program.groups
        for variant in group.variants
    ]
    on = sum(one.trained.flag == "on" for one in found.judged)
    key = ((Square("", 1.0, "sure", ""), "on the attractor"), (Square("", 0.0, "unsure", ""), "not shown to be"))
    told = f"Axial CV over the exact CV of {len(found.judged)} runs; {on} are on their attractor."
    return Heatmap("Axial CV / exact CV on the sphere", rows, list(found.program.bands), told, key)


def _square(one: Judged | None) -> Square | None:
    if one is None:
        return None
    ratio, flag = one.trained.ratio, one.trained.flag
    label = f"{ratio:.2f}" if ratio is not None else "flat" if flag == "degenerate" else "div."
    return Square(label, 0.5, "sure" if flag == "on" else "unsure", f"{one.report.name}: {label}, {flag}")


@dataclass(frozen=True)
class _Section:
    """A group on the page.

    Attributes:
        group: The group.
        chart: Chart of its trained cells.
        rows: Rows of its table: name, flag and figures.
        cannot_fail: Whether every untrained cell has the published verdict too.
    """

    group: Group
    chart: Bars
    rows: Sequence[tuple[str, str, tuple[str, ...]]]
    cannot_fail: bool


def _section(found: Snapshot, group: Group) -> _Section:
    judged = found.of(group.id)
    rows = [(_label(one), one.trained.flag, _figures(one)) for one in judged]
    return _Section(group, _chart(group, judged), rows, all(one.untrained.matched for one in judged))


def _label(one: Judged) -> str:
    return f"{one.report.variant} {one.report.band}"


def _figures(one: Judged) -> tuple[str, ...]:
    """Return the figures of a run's row: CVs, exact value, ratio, bands, errors, and those of the untrained cell."""
    report, measured = one.report, one.report.measured
    exact, name = exact_of(report.plan.spec)
    return (
        _cv(report.cv),
        _cv(report.axial_cv),
        "" if exact is None else f"{number(exact)}, {name}",
        interval(one.trained.lower, one.trained.upper),
        number(report.cv_average),
        f"{one.trained.band or 'none'}{'' if one.trained.matched else ', not matched'}",
        "" if measured is None else f"{number(measured.mse.value)} ± {number(measured.mse.standard_error)}",
        _cv(report.untrained.cv),
        f"{one.untrained.flag}{', matched' if one.untrained.matched else ''}",
    )


def _cv(cv: CvFigure | DegenerateFigure | None) -> str:
    if isinstance(cv, CvFigure):
        return f"{number(cv.value)} ± {number(cv.standard_error)}"
    return "" if cv is None else "degenerate"


def _chart(group: Group, judged: Sequence[Judged]) -> Bars:
    """Chart the distance of every trained cell from its exact attractor."""
    bars = [_bar(one) for one in judged]
    on = sum(one.trained.flag == "on" for one in judged)
    low, high = (f"{bound - 1:+.0%}".replace("-", MINUS) for bound in ON_ATTRACTOR)
    return Bars(
        f"{group.title}: distance from the attractor",
        bars,
        AXIS,
        f"Distance from the attractor of {len(bars)} runs of group {group.id}; {on} are on it.",
        ((True, f"on the attractor: interval within {low} to {high}"), (False, "not shown to be")),
    )


def _bar(one: Judged) -> Bar:
    verdict = one.trained
    if verdict.ratio is None or verdict.lower is None or verdict.upper is None:
        return Bar(_label(one), None, None, None, False, f"{_label(one)}: {verdict.flag}")
    words = f"{_label(one)}: {verdict.ratio - 1:+.1%}, 95% {interval(verdict.lower - 1, verdict.upper - 1)}, {verdict.flag}"
    return Bar(_label(one), verdict.ratio - 1, verdict.lower - 1, verdict.upper - 1, verdict.flag == "on", words)


def _compared(one: Judged) -> tuple[Any, ...]:
    """Return the row of a figure that the source states: theirs, ours, the exact value, and whether they agree."""
    exact, name = exact_of(one.report.plan.spec)
    if one.z is None:
        said = "degenerate here: every 4-volume is zero" if one.trained.flag == "degenerate" else "cannot be compared"
    else:
        said = f"{'reproduced' if abs(one.z) <= aggregate.Z95 else 'contradicted'}, z {one.z:+.1f}".replace(
            "-", "\N{MINUS SIGN}"
        )
    return (
        number(one.published),
        _cv(one.report.cv),
        "" if exact is None else f"{number(exact)}, {name}",
        said,
    )
