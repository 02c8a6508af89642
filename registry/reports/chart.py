"""Charts as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from registry.reports.markup import Markup, element, number, place, power, text

Shape = Literal["circle", "triangle", "square", "diamond"]

WIDTH, HEIGHT = 340, 236  # about the width of a phone, so that text keeps its size there
LEFT, RIGHT, TOP, BOTTOM = 62, 20, 12, 52
SIZE = 4.5  # radius of a marker
REACH = 9  # largest power of ten on an axis, either way: extreme figures are clipped

_CORNERS: dict[Shape, tuple[tuple[float, float], ...]] = {
    "triangle": ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
}


@dataclass(frozen=True)
class Axis:
    """An axis, linear or logarithmic.

    Attributes:
        label: Quantity on the axis.
        low: Start; its exponent if logarithmic.
        high: End; its exponent if logarithmic.
        log: Whether the axis is logarithmic.
        ticks: Value and label of each tick.
    """

    label: str
    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def over(cls, label: str, values: Iterable[float], *, log: bool = False, floor: float = -math.inf, steps: int = 4) -> Axis:
        """Make an axis with a margin around the values, of which those below ``floor`` are clipped."""
        known = [_warp(value, log) for value in values if value > 0 or not log] or [0.0]
        low, high = max(min(known), floor), max(*known, floor)
        room = max(high - low, 0.3 if log else 0.02 * max(abs(low), abs(high), 1e-6))
        low, high = (low + high) / 2 - 0.57 * room, (low + high) / 2 + 0.57 * room
        ticks = _log_ticks(low, high) if log else _ticks(low, high, steps)
        return cls(label, low, high, log, tuple(ticks))

    def share(self, value: float) -> float:
        """Return the position of a value along the axis, 0 to 1; values beyond it are clipped."""
        return min(1.0, max(0.0, (_warp(value, self.log) - self.low) / (self.high - self.low)))

    def holds(self, value: float) -> bool:
        """Tell whether a value lies on the axis."""
        return self.low <= _warp(value, self.log) <= self.high


@dataclass(frozen=True)
class Point:
    """A point, with the bounds of its interval, if any."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Look:
    """Look of a series: its CSS class, which sets the colour, marker, line and horizontal shift."""

    style: str
    shape: Shape
    dashed: bool = False
    shift: float = 0.0


@dataclass(frozen=True)
class Series:
    """Points of one kind: dots with error bars, and lines with error bands."""

    name: str
    look: Look
    dots: tuple[Point, ...] = ()
    lines: tuple[tuple[Point, ...], ...] = ()


@dataclass(frozen=True)
class Rule:
    """Straight lines of one meaning across a chart: at x if upright, else at y."""

    name: str
    at: tuple[float, ...]
    upright: bool = False
    style: str = "rule"


@dataclass(frozen=True)
class Band:
    """A shaded range of y."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """A chart and its key; the title names the quantity on y."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    bands: tuple[Band, ...] = ()
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()

    def figure(self) -> Markup:
        """Return the chart as a figure with its key below."""
        marks = [
            *(self._band(band) for band in self.bands),
            *self._grid(),
            *(line for rule in self.rules for line in self._rule(rule)),
            *(self._line(series, line) for series in self.series for line in series.lines),
            *(self._dot(series, dot) for series in self.series for dot in series.dots),
        ]
        head = (element("title", text(self.title)), element("desc", text(self._description())))
        drawing = element("svg", *head, *marks, role="img", viewBox=f"0 0 {WIDTH} {HEIGHT}")
        return element("figure", element("figcaption", text(self.title)), drawing, self._key())

    def _description(self) -> str:
        parts = [f"{self.title} against {self.x.label}."]
        for series in self.series:
            found = [point.y for point in series.dots or tuple(point for line in series.lines for point in line)]
            parts.append(f"{series.name}: {len(found)} points, {number(min(found))} to {number(max(found))}.")
        names = [*(band.name for band in self.bands), *(rule.name for rule in self.rules), *self._notes()]
        return " ".join([*parts, *(f"{name}." for name in names)])

    def _notes(self) -> list[str]:
        dots = [dot for series in self.series for dot in series.dots]
        beyond = sum(not self.y.holds(dot.y) or not self.x.holds(dot.x) for dot in dots)
        return [*self.notes, *([f"beyond the axis, drawn on its edge: {beyond}"] if beyond else [])]

    def _key(self) -> Markup:
        """List the series, rules and bands, each with a small drawing."""
        rows = [(_swatch(series), series.name) for series in self.series]
        rows += [(_swatch_of_rule(rule), rule.name) for rule in self.rules]
        rows += [(element("rect", class_="band", x=2, y=1, width=24, height=14), band.name) for band in self.bands]
        items = [element("li", _small(drawing), text(name)) for drawing, name in rows]
        return element("ul", *items, *(element("li", text(note), class_="note") for note in self._notes()), class_="key")

    def _x(self, value: float) -> float:
        return LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)

    def _grid(self) -> list[Markup]:
        parts = []
        for value, label in self.y.ticks:
            parts.append(_segment(LEFT, self._y(value), WIDTH - RIGHT, self._y(value), "grid"))
            parts.append(element("text", text(label), x=LEFT - 7, y=self._y(value) + 5, class_="left"))
        for value, label in self.x.ticks:
            parts.append(_segment(self._x(value), HEIGHT - BOTTOM, self._x(value), HEIGHT - BOTTOM + 4, "axis"))
            parts.append(element("text", text(label), x=self._x(value), y=HEIGHT - BOTTOM + 19))
        parts.append(_segment(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
        parts.append(element("text", text(self.x.label), x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 10))
        return parts

    def _band(self, band: Band) -> Markup:
        top, bottom = self._y(band.high), self._y(band.low)
        return element("rect", class_="band", x=LEFT, y=top, width=WIDTH - LEFT - RIGHT, height=bottom - top)

    def _rule(self, rule: Rule) -> list[Markup]:
        if rule.upright:
            return [_segment(self._x(at), TOP, self._x(at), HEIGHT - BOTTOM, rule.style) for at in rule.at]
        return [_segment(LEFT, self._y(at), WIDTH - RIGHT, self._y(at), rule.style) for at in rule.at]

    def _line(self, series: Series, line: Sequence[Point]) -> Markup:
        """Draw a line through points, over the band of their intervals."""
        upper = [(self._x(p.x), self._y(p.high)) for p in line if p.high is not None]
        lower = [(self._x(p.x), self._y(p.low)) for p in line if p.low is not None]
        spread = element("polygon", points=_path(upper + lower[::-1]), class_="spread")
        drawn = element("polyline", points=_path([(self._x(p.x), self._y(p.y)) for p in line]), class_="line")
        return element("g", *([spread] if len(upper) > 1 else []), drawn, class_=_classes(series.look))

    def _dot(self, series: Series, dot: Point) -> Markup:
        """Draw a marker, and its interval as an upright bar."""
        x, parts = self._x(dot.x) + series.look.shift, []
        if dot.low is not None and dot.high is not None:
            parts.append(_segment(x, self._y(dot.low), x, self._y(dot.high), "bar"))
        return element("g", *parts, _marker(series.look.shape, x, self._y(dot.y)), class_=_classes(series.look))


def _warp(value: float, log: bool) -> float:
    """Clip a value, or take its logarithm; values without one become -inf."""
    if log:
        return min(float(REACH), max(-float(REACH), math.log10(value))) if value > 0 else -math.inf
    return min(10.0**REACH, max(-(10.0**REACH), value))


def _ticks(low: float, high: float, steps: int) -> list[tuple[float, str]]:
    """Choose about ``steps`` round numbers from ``low`` to ``high``."""
    wanted = (high - low) / steps
    power = 10 ** math.floor(math.log10(wanted))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= wanted * 0.999)
    values = [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, number(value)) for value in values]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Choose powers of ten between two exponents; also 2 and 5 times them if those are few."""
    powers = range(math.ceil(low), math.floor(high) + 1)
    if len(powers) > 2:
        values = [10.0**power for power in powers[:: math.ceil(len(powers) / 5)]]
    else:
        values = [k * 10.0**power for power in range(math.floor(low), math.ceil(high)) for k in (1, 2, 5)]
        values = [value for value in values if low <= math.log10(value) <= high]
    if len(values) < 2:
        return _ticks(10**low, 10**high, 4)
    if all(1e-4 <= value <= 1e4 for value in values):
        return [(value, number(value)) for value in values]
    return [(value, power(*f"{value:.0e}".split("e")).replace(" ", "")) for value in values]


def _marker(shape: Shape, x: float, y: float) -> Markup:
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=SIZE, class_="mark")
    return element("polygon", points=_path([(x + SIZE * a, y + SIZE * b) for a, b in _CORNERS[shape]]), class_="mark")


def _swatch(series: Series) -> Markup:
    lines = [_segment(0, 8, 28, 8, "line")] if series.lines else []
    markers = [_marker(series.look.shape, 14, 8)] if series.dots else []
    return element("g", *lines, *markers, class_=_classes(series.look))


def _swatch_of_rule(rule: Rule) -> Markup:
    return _segment(14, 0, 14, 16, rule.style) if rule.upright else _segment(0, 8, 28, 8, rule.style)


def _small(drawing: Markup) -> Markup:
    return element("svg", drawing, viewBox="0 0 28 16", aria_hidden="true")


def _segment(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def _classes(look: Look) -> str:
    return f"{look.style} dashed" if look.dashed else look.style


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{place(x)},{place(y)}" for x, y in points)
