"""Charts of an inspection: spectrum, CV and spread along the pipeline, errors by group, a series for each size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from registry.answers.inspection import Inspected, InspectedSize, MeasuredFigure
from registry.reports.charts.chart import Axis, Chart, Look, Point, Series

LOOKS = (
    Look("cell", "circle", shift=-4.0),
    Look("untrained", "triangle", dashed=True, shift=4.0),
    Look("cell", "square", dashed=True, shift=-1.5),
    Look("untrained", "diamond", shift=1.5),
)
MOST_SIZES = len(LOOKS)  # drawn
Z95 = 1.96  # of the bars, which are to look at
SPECTRUM = (("spectrum", "Singular values S, mean over patches", "mode"), ("energy-share", "Energy share", "mode"))
PIPELINE = (
    ("cv-patches", "CV of simplices of five patches", "stage"),
    ("variation", "Coefficient of variation", "stage"),
    ("kurtosis", "Kurtosis of the decoder", "stage"),
)
ERRORS = (("mse-group", "MSE by group", "group"),)
LOGARITHMIC = ("variation", "kurtosis", "mse-group")


def charts(found: Inspected) -> list[Chart]:
    """Chart an inspection."""
    return list(_charts(found, (*SPECTRUM, *PIPELINE, *ERRORS)))


def pipeline(found: Inspected) -> list[Chart]:
    """Chart the CV of patches, the coefficient of variation and the kurtosis along the stages."""
    return list(_charts(found, PIPELINE))


def _charts(found: Inspected, drawn: Sequence[tuple[str, str, str]]) -> Iterator[Chart]:
    for key, title, axis in drawn:
        chart = _chart(found, key, title, axis, log=key in LOGARITHMIC)
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
