"""Charts of a diagnosis: errors by kind, spectra, CV, sizes, signal in noise, names given to noise."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from registry.answers.diagnosis import DiagnoseAnswer, DiagnosisFigure
from registry.reports.charts.chart import Axis, Chart, Look, Point, Rule, Series
from registry.reports.charts.dot_rows import CELL, LINEAR, UNTRAINED, DotRow, DotRows
from registry.reports.charts.heatmap import Heatmap, Square
from registry.reports.number_format import number

LOOKS = (CELL, Look("untrained", "triangle", dashed=True), Look("linear", "diamond", dashed=True))


def errors(found: DiagnoseAnswer) -> DotRows:
    """Chart the share of each kind's variance that is left."""
    return _rows(
        found,
        "left",
        "Share of the variance left, by kind of images",
        "share left; 1: no better than the mean colour",
        log=True,
    )


def cv(found: DiagnoseAnswer) -> DotRows:
    """Chart the axial CV of the rows by group of kinds."""
    return _rows(found, "cv", "Axial CV of the rows, by kind of images", "axial CV")


def spectra(found: DiagnoseAnswer) -> list[Chart]:
    """Chart the mean singular values, a chart for each group of kinds."""
    modes: dict[str, list[DiagnosisFigure]] = {}
    for one in found.of_key("spectrum"):
        modes.setdefault(one.place.partition(",")[0], []).append(one)
    highest = max((one.value or 0.0 for one in found.of_key("spectrum")), default=1.0)
    about = (0.0, highest)
    return [_against(f"Mean S: {group}", "mode", "mean S", list(enumerate(of, 1)), about=about) for group, of in modes.items()]


def sizes(found: DiagnoseAnswer) -> Chart:
    """Chart the error at other sizes over that at the training size."""
    points = [(float(one.place.split()[0]), one) for one in found.of_key("size")]
    rule = Rule(f"training size: {found.size} pixels", (float(found.size),), upright=True)
    title = "Error over that at the training size"
    return _against(title, "pixels", "ratio of errors", points, log=True, about=(0.98, 1.02), rules=(rule,))


def signal(found: DiagnoseAnswer) -> Chart:
    """Chart the correlation of reconstructions of noisy photographs with the clean ones."""
    points = sorted(((float(one.place.split()[0]), one) for one in found.of_key("signal")), key=lambda point: point[0])
    noisy = sorted(((float(one.place.split()[0]), one) for one in found.of_key("noisy")), key=lambda point: point[0])
    line = tuple(Point(x, one.value) for x, one in noisy if one.value is not None)
    own = Series("the noisy image itself", Look("rule", "square", dashed=True), lines=(line,))
    title = "Correlation with the clean image"
    return _against(title, "signal to noise, dB", "correlation", points, about=(0.0, 1.0), more=(own,))


def confusion(found: DiagnoseAnswer) -> Heatmap:
    """Chart the names that omega gives to images of each known law."""
    total = max(1, max(map(sum, found.confusion), default=1))
    rows = [
        (law, [_square(law, name, count, total) for name, count in zip(found.laws, counts, strict=True)])
        for law, counts in zip(found.laws, found.confusion, strict=True)
    ]
    right = sum(counts[index] for index, counts in enumerate(found.confusion))
    words = f"{right} of {sum(map(sum, found.confusion))} held-out images got the name of their law."
    key = ((Square("", 1.0, "sure", ""), "right name"), (Square("", 1.0, "shade", ""), "another name"))
    return Heatmap(f"Names given to {total} images of each law, in rows", rows, [name[:5] for name in found.laws], words, key)


def _square(law: str, name: str, count: int, total: int) -> Square | None:
    if not count:
        return None
    return Square(str(count), count / total, "sure" if law == name else "shade", f"{law} named {name}: {count}")


def _rows(found: DiagnoseAnswer, key: str, title: str, label: str, *, log: bool = False) -> DotRows:
    """Chart a definition by place."""
    of = found.of_key(key)
    rows = [DotRow(one.place, one.value, one.low, one.high, _known(one.untrained), one.linear, _words(one)) for one in of]
    values = [value for row in rows for value in (row.value, row.linear, *row.untrained) if value is not None]
    values += [value for row in rows for value in (row.low, row.high) if value is not None]
    return DotRows(title, rows, Axis.over(label, values, log=log), f"{title}: {len(rows)} rows.", _key(found, of))


def _key(found: DiagnoseAnswer, of: Sequence[DiagnosisFigure]) -> list[tuple[Look, str]]:
    names = [(CELL, "cell, with 95% bounds")]
    names += [(UNTRAINED, f"{len(found.untrained)} untrained cells")] if any(one.untrained for one in of) else []
    return names + ([(LINEAR, f"PCA-{found.linear_width}")] if any(one.linear is not None for one in of) else [])


def _words(one: DiagnosisFigure) -> str:
    parts = [f"{one.place}: {number(one.value)}"]
    parts += [f"{number(one.low)} to {number(one.high)}"] if one.low is not None else []
    parts += [f"untrained {number(fmean(known))}"] if (known := _known(one.untrained)) else []
    return ", ".join(parts + ([f"linear {number(one.linear)}"] if one.linear is not None else []))


def _against(
    title: str,
    along: str,
    label: str,
    points: Sequence[tuple[float, DiagnosisFigure]],
    *,
    log: bool = False,
    about: Sequence[float] = (),
    rules: tuple[Rule, ...] = (),
    more: tuple[Series, ...] = (),
) -> Chart:
    """Chart figures against a number: the cell with its bounds, the mean of untrained cells, and the linear code."""
    lines = (
        [Point(x, one.value, one.low, one.high) for x, one in points if one.value is not None],
        [Point(x, fmean(_known(one.untrained))) for x, one in points if _known(one.untrained)],
        [Point(x, one.linear) for x, one in points if one.linear is not None],
    )
    names = ("cell", "mean of untrained cells", "PCA")
    series = [
        Series(name, look, tuple(dots), (tuple(dots),)) for name, look, dots in zip(names, LOOKS, lines, strict=True) if dots
    ]
    values = [*about, *(end for dot in lines[0] for end in (dot.low, dot.high) if end is not None)]
    values += [dot.y for dots in lines for dot in dots]
    x = Axis.over(along, [x for x, _ in points], log=log)
    return Chart(title, x, Axis.over(label, values), (*series, *more), rules=rules)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
