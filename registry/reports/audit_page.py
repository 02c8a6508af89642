"""Audit of a host's gradient as a page of HTML: the verdict, four panels, and the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from batteries.errors import InputError
from composer.audit.report import AuditReport, Diagnostic, StateReading
from composer.audit.thresholds import Key
from registry.reports.charts.chart import Axis, Chart, Look, Point, Rule, Series
from registry.reports.number_format import interval, number
from registry.reports.templating import render

HOST = Look("cell", "circle")
REACH = 1e-5  # least ratio of a threshold to the values with which it shares an axis
TITLES: dict[Key, str] = {
    "a": "(a) Growth of the stream over a block",
    "b": "(b) Gradient's norm, per sample",
    "c": "(c) Cross-batch stability",
    "d": "(d) Score, and that of frozen blocks",
}


def audit_page(found: AuditReport | Mapping[int, AuditReport]) -> str:
    """Return the page of an audit, or of the audits along a training; the same audits give the same bytes.

    Args:
        found: Audit, or audits by epoch, as :attr:`composer.audit.AuditWatcher.reports`. The verdict is that of the last.

    Raises:
        InputError: no audit (``NO_AUDIT``).

    >>> import torch
    >>> from composer import audit, hosts
    >>> from registry import reports
    >>> host = hosts.ResidualMLP(8, 3, hosts.StreamForm(width=32, blocks=2))
    >>> report = audit.audit(host, audit.batched(torch.randn(90, 8), torch.arange(90) % 3, size=30))
    >>> "trustworthy" in reports.audit_page(report)
    True
    """
    along = {0: found} if isinstance(found, AuditReport) else dict(sorted(found.items()))
    if not along:
        raise InputError("no audit to show", code="NO_AUDIT", expected="one audit or more")
    last = along[max(along)]
    charts = _along(along) if len(along) > 1 else _by_block(last)
    return render(
        "audit.html.j2",
        last=last,
        charts_shown=charts,
        epochs=list(along) if len(along) > 1 else [],
        rows=[_row(one) for one in last.diagnostics],
        states=[_state(state) for state in last.states],
    )


def _row(one: Diagnostic) -> tuple[str, ...]:
    limit = one.threshold
    fired = {None: "not measured", True: "fired", False: "no"}[one.fired]
    return (
        f"({one.key}) {one.name}",
        fired + (", unclear" if one.clear is False else ""),
        number(one.value),
        interval(one.lower, one.upper),
        f"{number(limit.value)} ({limit.source})",
        f"healthy {limit.healthy}, failing {limit.failing}",
        one.reason,
    )


def _state(state: StateReading) -> tuple[str, ...]:
    return (
        state.name,
        number(state.norm),
        number(state.growth),
        interval(state.growth_lower, state.growth_upper),
        number(state.gradient),
        interval(state.gradient_lower, state.gradient_upper),
    )


def _by_block(report: AuditReport) -> list[Chart]:
    """Chart growth and gradient over the blocks, and the other two as a point each."""
    growth = [
        Point(place, s.growth, s.growth_lower, s.growth_upper) for place, s in enumerate(report.states) if s.growth is not None
    ]
    gradient = [Point(place, s.gradient, s.gradient_lower, s.gradient_upper) for place, s in enumerate(report.states)]
    blocks = Axis.over("block", [0.0, float(len(report.states) - 1)], steps=4)
    alone = Axis("this audit", -1.0, 1.0, False, ((0.0, report.host),))
    stability, score = report.of("c"), Point(0, report.accuracy, report.accuracy_lower, report.accuracy_upper)
    return [
        _chart("a", blocks, report, [growth], log=True),
        _chart("b", blocks, report, [gradient], log=True),
        _chart("c", alone, report, [_points([(0, stability)])]),
        _scores(alone, report, [score]),
    ]


def _along(reports: Mapping[int, AuditReport]) -> list[Chart]:
    """Chart every diagnostic along the epochs."""
    epochs = Axis.over("epoch", [float(epoch) for epoch in reports], steps=4)
    last = reports[max(reports)]
    lines = {key: _points([(epoch, report.of(key)) for epoch, report in reports.items()]) for key in TITLES}
    scores = [Point(epoch, one.accuracy, one.accuracy_lower, one.accuracy_upper) for epoch, one in reports.items()]
    return [
        _chart("a", epochs, last, [lines["a"]], log=True),
        _chart("b", epochs, last, [lines["b"]], log=True),
        _chart("c", epochs, last, [lines["c"]]),
        _scores(epochs, last, scores),
    ]


def _points(found: Sequence[tuple[int, Diagnostic]]) -> list[Point]:
    return [Point(x, one.value, one.lower, one.upper) for x, one in found if one.value is not None]


def _chart(key: Key, x: Axis, report: AuditReport, lines: Sequence[Sequence[Point]], *, log: bool = False) -> Chart:
    """Chart points with the threshold of a diagnostic; its axis covers the threshold unless that is far away."""
    limit = report.of(key).threshold
    values = [point.y for line in lines for point in line]
    near = [limit.value] if not log or _within_reach(limit.value, values) else []
    y = Axis.over(TITLES[key], [*near, *values], log=log)
    words = f"threshold: {number(limit.value)}"
    rules = (Rule(words, (limit.value,), style="exact"),) if near else ()
    notes = () if near else (f"{words}, beyond the axis",)
    return Chart(TITLES[key], x, y, _series(report.host, lines), (), rules, notes)


def _scores(x: Axis, report: AuditReport, points: Sequence[Point]) -> Chart:
    baseline = report.baseline
    rules = () if baseline is None else (Rule(f"frozen blocks: {number(baseline)}", (baseline,), style="exact"),)
    notes = ("no baseline was given",) if baseline is None else ()
    reach = [bound for point in points for bound in (point.low, point.high) if bound is not None]
    y = Axis.over(TITLES["d"], [*reach, *([] if baseline is None else [baseline])])
    return Chart(TITLES["d"], x, y, _series(report.host, [points]), (), rules, notes)


def _series(name: str, lines: Sequence[Sequence[Point]]) -> tuple[Series, ...]:
    points = tuple(point for line in lines for point in line)
    return (Series(name, HOST, points, tuple(tuple(line) for line in lines if len(line) > 1)),)


def _within_reach(limit: float, values: Sequence[float]) -> bool:
    """Tell whether a threshold is within five powers of ten of the values, so that these stay apart on a common axis."""
    known = [value for value in values if value > 0]
    return not known or (limit / max(known) > REACH and limit / min(known) < 1 / REACH)
