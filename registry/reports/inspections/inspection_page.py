"""Inspection of a cell as a page of HTML: tables by stage, spectrum and CV along the pipeline as charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from registry.answers.inspection import Inspected, InspectedSize, MeasuredFigure
from registry.reports.charts.chart import Axis, Chart, Look, Point, Series
from registry.reports.inspections import inspection_tables
from registry.reports.templating import render

LOOKS = (
    Look("cell", "circle", shift=-4.0),
    Look("untrained", "triangle", dashed=True, shift=4.0),
    Look("cell", "square", dashed=True, shift=-1.5),
    Look("untrained", "diamond", shift=1.5),
)
MOST_SIZES = len(LOOKS)  # drawn
Z95 = 1.96  # of the bars, which are to look at


def inspected_page(found: Inspected) -> str:
    """Return the page of an inspection; the same answer gives the same bytes."""
    return render(
        "inspection.html.j2",
        found=found,
        sizes=[f"{size.height} x {size.width}" for size in found.sizes],
        stages=inspection_tables.stages(found.definitions),
        rows=inspection_tables.rows,
        cells=lambda figures: [inspection_tables.name_of(figures), *map(inspection_tables.value, figures)],
        drawn=list(_charts(found)),
        undefined=[(size, figure) for size in found.sizes for figure in size.figures if figure.undefined],
    )


def _charts(found: Inspected) -> Iterator[Chart]:
    for key, title, axis in (
        ("spectrum", "Singular values S, mean over patches", "mode"),
        ("energy-share", "Energy share", "mode"),
        ("cv-patches", "CV of simplices of five patches", "stage"),
        ("variation", "Coefficient of variation", "stage"),
        ("kurtosis", "Kurtosis of the decoder", "stage"),
        ("mse-group", "MSE by group", "group"),
    ):
        chart = _chart(found, key, title, axis, log=key in ("variation", "kurtosis", "mse-group"))
        if chart is not None:
            yield chart


def _chart(found: Inspected, key: str, title: str, axis: str, *, log: bool) -> Chart | None:
    """Chart a figure over its places, a series for each size."""
    drawn = found.sizes[:MOST_SIZES]
    places = list(dict.fromkeys(figure.place for size in drawn for figure in size.figures if figure.key == key))
    series = [
        Series(f"{size.height} x {size.width} pixels", look, dots, (dots,) if axis != "group" else ())
        for size, look in zip(drawn, LOOKS, strict=False)
        if (dots := tuple(_points(size, key, places)))
    ]
    if not series:
        return None
    points = [point for one in series for point in one.dots]
    values = [bound for point in points for bound in (point.y, point.low, point.high) if bound is not None]
    step = max(1, len(places) // 8)
    ticks = tuple((float(index), str(index)) for index in range(0, len(places), step))
    across = Axis(axis, -0.6, len(places) - 0.4, False, ticks)
    notes = () if axis == "mode" else (", ".join(f"{index} {place}" for index, place in enumerate(places)),)
    return Chart(title, across, Axis.over(title, values, log=log), tuple(series), notes=notes)


def _points(size: InspectedSize, key: str, places: Sequence[str]) -> Iterator[Point]:
    for figure in size.figures:
        if figure.key == key and figure.value is not None:
            yield _point(figure, places.index(figure.place))


def _point(figure: MeasuredFigure, x: int) -> Point:
    assert figure.value is not None
    if figure.standard_error is None:
        return Point(x, figure.value)
    reach = Z95 * figure.standard_error
    return Point(x, figure.value, figure.value - reach, figure.value + reach)
