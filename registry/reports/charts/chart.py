"""Charts of points and lines: axes, ticks and coordinates. The template ``chart.html.j2`` draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from registry.reports.number_format import number, place, power

Shape = Literal["circle", "triangle", "square", "diamond"]

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

    size: ClassVar[float] = 4.5  # radius of a marker

    style: str
    shape: Shape
    dashed: bool = False
    shift: float = 0.0

    @property
    def classes(self) -> str:
        """CSS classes of the series."""
        return f"{self.style} dashed" if self.dashed else self.style

    def corners(self, x: float, y: float) -> str:
        """Return the corners of a marker with straight sides."""
        return _path((x + self.size * a, y + self.size * b) for a, b in _CORNERS[self.shape])


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
    """A chart and its key; the title names the quantity on y. Lengths are in pixels of its drawing."""

    width: ClassVar[int] = 340  # about the width of a phone, so that text keeps its size there
    height: ClassVar[int] = 236
    left: ClassVar[int] = 62
    right: ClassVar[int] = width - 20
    top: ClassVar[int] = 12
    bottom: ClassVar[int] = height - 52

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    bands: tuple[Band, ...] = ()
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """Description for screen readers."""
        parts = [f"{self.title} against {self.x.label}."]
        for series in self.series:
            found = [point.y for point in series.dots or tuple(point for line in series.lines for point in line)]
            parts.append(f"{series.name}: {len(found)} points, {number(min(found))} to {number(max(found))}.")
        names = [*(band.name for band in self.bands), *(rule.name for rule in self.rules), *self.remarks]
        return " ".join([*parts, *(f"{name}." for name in names)])

    @property
    def remarks(self) -> list[str]:
        """Notes, with the count of points that are clipped."""
        dots = [dot for series in self.series for dot in series.dots]
        beyond = sum(not self.y.holds(dot.y) or not self.x.holds(dot.x) for dot in dots)
        return [*self.notes, *([f"beyond the axis, drawn on its edge: {beyond}"] if beyond else [])]

    def across(self, value: float) -> float:
        """Return the horizontal coordinate of a value."""
        return self.left + self.x.share(value) * (self.right - self.left)

    def down(self, value: float) -> float:
        """Return the vertical coordinate of a value."""
        return self.bottom - self.y.share(value) * (self.bottom - self.top)

    def path(self, line: Sequence[Point]) -> str:
        """Return the coordinates of a line."""
        return _path((self.across(p.x), self.down(p.y)) for p in line)

    def spread(self, line: Sequence[Point]) -> str:
        """Return the outline of the intervals along a line; empty if fewer than two points have one."""
        upper = [(self.across(p.x), self.down(p.high)) for p in line if p.high is not None]
        lower = [(self.across(p.x), self.down(p.low)) for p in line if p.low is not None]
        return _path(upper + lower[::-1]) if len(upper) > 1 else ""


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


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{place(x)},{place(y)}" for x, y in points)
