"""The charts of an attestation as inline SVG, and the markup they are made of.

Only :func:`text` and :func:`element` make :data:`Markup`, and both escape: a type checker then finds text that was not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from statistics import median
from typing import Literal, NewType

from batteries.attractor import ON_ATTRACTOR
from batteries.geometry import HOLDS, Z95
from registry.attestation import Attestation, DoseFigure, FrozenFigure, Moment
from registry.console import plain

Markup = NewType("Markup", str)
Shape = Literal["circle", "triangle", "square", "diamond"]

WIDTH, HEIGHT = 340, 236  # a phone is little wider, so that text keeps its size there
LEFT, RIGHT, TOP, BOTTOM = 62, 20, 12, 52
SIZE = 4.5  # of a marker, from its centre
KEPT = 0.9  # least share of a cell's content that counts as kept
KEPT_FLOOR = -0.25  # where the axis of ``kept`` ends: less than nothing is no content, however much less
REACH = 9  # powers of ten that an axis covers at most, either way: a figure may be absurd, a drawing not

_CORNERS: dict[Shape, tuple[tuple[float, float], ...]] = {
    "triangle": ((0, -1.2), (1.15, 0.9), (-1.15, 0.9)),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def text(value: object) -> Markup:
    """A value as text that is nothing but text, without what could turn its direction."""
    return Markup(escape(plain(str(value))))


def element(name: str, *inner: Markup, **attributes: object) -> Markup:
    """An element. ``_`` in a name stands for ``-`` and one at the end for nothing; an attribute of None is left out."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    opening = "".join(f' {key}="{text(_place(value) if isinstance(value, float) else value)}"' for key, value in pairs)
    return Markup(f"<{name}{opening}>{''.join(inner)}</{name}>")


def number(value: float | None) -> str:
    """Four digits, with powers of ten where they are shorter.

    >>> number(0.21431), number(20000.0), number(1e-05), number(-3.25e-07), number(None)
    ('0.2143', '20,000', '10⁻⁵', '−3.25 × 10⁻⁷', '–')
    """
    if value is None:
        return "\N{EN DASH}"
    if abs(value) < 10**6 and value == int(value):
        return f"{value:,.0f}".replace("-", "\N{MINUS SIGN}")
    value = max(-sys.float_info.max, min(sys.float_info.max, value))  # a count may have more digits than a float holds
    mantissa, _, exponent = f"{value:.4g}".replace("-", "\N{MINUS SIGN}", int(value < 0)).partition("e")
    return _power(mantissa, exponent) if exponent else mantissa


def _power(mantissa: str, exponent: str) -> str:
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa} \N{MULTIPLICATION SIGN} {power}"


@dataclass(frozen=True)
class Axis:
    """One axis; where it is logarithmic, ``low`` and ``high`` are exponents.

    Attributes:
        label: What it counts.
        low: Its start.
        high: Its end.
        log: Whether it is logarithmic.
        ticks: Value and label of each.
    """

    label: str
    low: float
    high: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def over(cls, label: str, values: Iterable[float], *, log: bool = False, floor: float = -math.inf, steps: int = 4) -> Axis:
        """An axis on which the values have room, and which shows nothing below ``floor``."""
        known = [_warp(value, log) for value in values if value > 0 or not log] or [0.0]
        low, high = max(min(known), floor), max(*known, floor)
        room = max(high - low, 0.3 if log else 0.02 * max(abs(low), abs(high), 1e-6))
        low, high = (low + high) / 2 - 0.57 * room, (low + high) / 2 + 0.57 * room
        ticks = _log_ticks(low, high) if log else _ticks(low, high, steps)
        return cls(label, low, high, log, tuple(ticks))

    def share(self, value: float) -> float:
        """How far along a value lies, 0 to 1: what is beyond the axis lies at its end."""
        return min(1.0, max(0.0, (_warp(value, self.log) - self.low) / (self.high - self.low)))

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= _warp(value, self.log) <= self.high


@dataclass(frozen=True)
class Point:
    """A point, with the bounds of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Look:
    """How a series is told apart: a class with a colour of its own, a marker, a kind of line."""

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
    """Straight lines of one meaning across a chart: upright ones at x, others at y."""

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
    """A chart and its key. The title says what y is."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    bands: tuple[Band, ...] = ()
    rules: tuple[Rule, ...] = ()
    notes: tuple[str, ...] = ()

    def figure(self) -> Markup:
        """The chart as a figure, its key in words below it."""
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
        """A list in words, with a small drawing for each."""
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
        """A line through points, over the band of their intervals."""
        upper = [(self._x(p.x), self._y(p.high)) for p in line if p.high is not None]
        lower = [(self._x(p.x), self._y(p.low)) for p in line if p.low is not None]
        spread = element("polygon", points=_path(upper + lower[::-1]), class_="spread")
        drawn = element("polyline", points=_path([(self._x(p.x), self._y(p.y)) for p in line]), class_="line")
        return element("g", *([spread] if len(upper) > 1 else []), drawn, class_=_classes(series.look))

    def _dot(self, series: Series, dot: Point) -> Markup:
        """A marker, and its interval as an upright bar."""
        x, parts = self._x(dot.x) + series.look.shift, []
        if dot.low is not None and dot.high is not None:
            parts.append(_segment(x, self._y(dot.low), x, self._y(dot.high), "bar"))
        return element("g", *parts, _marker(series.look.shape, x, self._y(dot.y)), class_=_classes(series.look))


LOOKS = {"cell": Look("cell", "circle", shift=-4.0), "untrained": Look("untrained", "triangle", dashed=True, shift=4.0)}
LARGEST = {"cell": Look("cell", "square", dashed=True), "untrained": Look("untrained", "diamond")}

Reading = tuple[int, float | None, float | None, float]  # step, CV, its standard error, MSE
Runs = tuple[str, Look, list[list[Reading]]]  # of one kind


def dose_charts(found: Attestation) -> list[Chart]:
    """CV, rank, content and error after each dose of a host's gradient."""
    holds = (Band(f"holds: {HOLDS[0]} to {HOLDS[1]}", *HOLDS),)
    kept = (Rule(f"least that counts as kept: {KEPT}", (KEPT,), style="exact"),)
    return [
        _dose_chart(found, "CV, after over before", lambda dose: dose.cv, HOLDS, bands=holds),
        _dose_chart(found, "Effective rank, after over before", lambda dose: dose.rank, HOLDS, bands=holds),
        _dose_chart(found, "Content kept, as a share", lambda dose: (dose.kept,), (KEPT, 1.0), rules=kept, floor=KEPT_FLOOR),
        _dose_chart(found, "Retention: error, after over before", lambda dose: (dose.retention,), (1.0,), log=True),
    ]


def training_charts(found: Attestation) -> list[Chart]:
    """CV and error along the cell's training."""
    line: list[Reading] = [(p.step, p.cv, p.cv_standard_error, p.mse) for p in found.trajectory]
    return _along(found, "training", [("cell", LOOKS["cell"], [line])])


def trial_charts(found: Attestation) -> list[Chart]:
    """CV and error along the trials at the deciding and at the largest dose."""
    largest = max((dose.rate for dose in found.doses), default=found.reference_rate)
    kinds = {found.reference_rate: LOOKS} | ({largest: LARGEST} if largest != found.reference_rate else {})
    runs: list[Runs] = [
        (
            f"{subject}, dose {number(rate)}",
            look,
            [_readings(d.moments) for d in found.doses if (d.subject, d.rate) == (subject, rate)],
        )
        for rate, looks in kinds.items()
        for subject, look in looks.items()
    ]
    return _along(found, "trials under a host's gradient", runs)


def return_charts(found: Attestation) -> list[Chart]:
    """CV and error under reconstruction training, with the steps after which a cell was back."""
    runs: list[Runs] = [
        (name, look, [_readings(r.moments) for r in found.returns if r.subject == name]) for name, look in LOOKS.items()
    ]
    back = {name: tuple(r.steps for r in found.returns if r.subject == name and r.steps is not None) for name in LOOKS}
    rules = tuple(Rule(f"{name} is back", at, upright=True, style=f"{name} back") for name, at in back.items() if at)
    return _along(found, "reconstruction training", runs, rules)


def frozen_charts(found: Attestation) -> list[Chart]:
    """Scores of the cell and of untrained cells, a chart for each task and host."""
    groups = dict.fromkeys((trial.task, trial.host) for trial in found.frozen)
    return [_strip(key, [trial for trial in found.frozen if (trial.task, trial.host) == key]) for key in groups]


def _dose_chart(
    found: Attestation,
    title: str,
    read: Callable[[DoseFigure], tuple[float, ...] | None],
    about: Sequence[float],
    *,
    log: bool = False,
    floor: float = float("-inf"),
    bands: tuple[Band, ...] = (),
    rules: tuple[Rule, ...] = (),
) -> Chart:
    """One figure against the dose; ``about`` is what its axis shows in any case."""
    series, degenerate = [], 0
    for subject, look in LOOKS.items():
        readings = [(dose.rate, read(dose)) for dose in found.doses if dose.subject == subject]
        dots = tuple(Point(rate, *reading) for rate, reading in readings if reading is not None)
        degenerate += len(readings) - len(dots)
        if dots:
            series.append(Series(subject, look, dots, (_medians(dots),)))
    return Chart(
        title,
        Axis.over("dose: rate on the cell's weights", [found.reference_rate, *(d.rate for d in found.doses)], log=True),
        Axis.over(title, [*about, *(dot.y for one in series for dot in one.dots)], log=log, floor=floor),
        tuple(series),
        bands,
        (*rules, Rule(f"the dose that decides: {number(found.reference_rate)}", (found.reference_rate,), upright=True)),
        _degenerate(degenerate),
    )


def _medians(dots: Iterable[Point]) -> tuple[Point, ...]:
    rates = groupby(sorted(dots, key=lambda dot: dot.x), key=lambda dot: dot.x)
    return tuple(Point(rate, median(dot.y for dot in group)) for rate, group in rates)


def _along(found: Attestation, where: str, runs: Sequence[Runs], rules: tuple[Rule, ...] = ()) -> list[Chart]:
    """CV and error against steps; nothing where nothing was read."""
    readings = [reading for _, _, lines in runs for line in lines for reading in line]
    if not readings:
        return []
    exact = found.attractor
    target = () if exact is None else (Rule(f"exact attractor: {number(exact)}", (exact,), style="exact"),)
    bounds = () if exact is None else tuple(bound * exact for bound in ON_ATTRACTOR)
    low, high = ON_ATTRACTOR
    band = () if exact is None else (Band(f"on the attractor: {low} to {high} of it", *bounds),)
    steps = Axis.over("step", [0.0, *(step for step, _, _, _ in readings), *(at for rule in rules for at in rule.at)], steps=3)
    degenerate = _degenerate(sum(cv is None for _, cv, _, _ in readings))
    cvs = Axis.over("CV", [*bounds, *(cv for _, cv, _, _ in readings if cv is not None)])
    errors = Axis.over("MSE", [mse for _, _, _, mse in readings], log=True)
    return [
        Chart(f"CV along {where}", steps, cvs, _lines(runs, _cv_point), band, (*target, *rules), degenerate),
        Chart(
            f"Error (MSE) along {where}", steps, errors, _lines(runs, lambda reading: Point(reading[0], reading[3])), (), rules
        ),
    ]


def _readings(moments: Iterable[Moment]) -> list[Reading]:
    return [(moment.step, moment.cv, moment.cv_error, moment.mse) for moment in moments]


def _lines(runs: Sequence[Runs], point: Callable[[Reading], Point | None]) -> tuple[Series, ...]:
    """Each run as lines with a dot at either end, broken where there is no reading."""
    series = []
    for name, look, found in runs:
        runs_of_points = [[point(reading) for reading in run] for run in found]
        lines = [tuple(p for p in part if p) for run in runs_of_points for known, part in groupby(run, key=bool) if known]
        ends = tuple(Point(end.x, end.y) for line in lines for end in (line[0], line[-1]))
        if lines:
            series.append(Series(name, replace(look, shift=0.0), ends, tuple(lines)))
    return tuple(series)


def _cv_point(reading: Reading) -> Point | None:
    step, cv, error, _ = reading
    if cv is None or error is None:
        return None if cv is None else Point(step, cv)
    return Point(step, cv, cv - Z95 * error, cv + Z95 * error)


def _strip(key: tuple[str, str], trials: Sequence[FrozenFigure]) -> Chart:
    """Scores on one task, each subject in a lane of its own."""
    series = []
    for lane, (subject, look) in enumerate(LOOKS.items()):
        own = [trial for trial in trials if trial.subject == subject]
        apart = min(0.12, 0.8 / max(1, len(own)))
        dots = [(lane + (place - (len(own) - 1) / 2) * apart, t.score, Z95 * t.score_error) for place, t in enumerate(own)]
        series.append(Series(subject, look, tuple(Point(x, y, y - error, y + error) for x, y, error in dots)))
    lanes = Axis("hosts around", -0.6, 1.6, False, ((0.0, "cell"), (1.0, "untrained")))
    reach = [bound for one in series for dot in one.dots for bound in (dot.low, dot.high) if bound is not None]
    title = f"{key[0]}: {key[1]}"
    return Chart(title, lanes, Axis.over(title, reach), tuple(one for one in series if one.dots))


def _degenerate(count: int) -> tuple[str, ...]:
    return (f"degenerate, not drawn: {count}",) if count else ()


def _warp(value: float, log: bool) -> float:
    """A value as an axis counts it; what has no logarithm lies below everything."""
    if log:
        return min(float(REACH), max(-float(REACH), math.log10(value))) if value > 0 else -math.inf
    return min(10.0**REACH, max(-(10.0**REACH), value))


def _ticks(low: float, high: float, steps: int) -> list[tuple[float, str]]:
    """Round numbers from ``low`` to ``high``, about ``steps`` of them."""
    wanted = (high - low) / steps
    power = 10 ** math.floor(math.log10(wanted))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= wanted * 0.999)
    values = [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, number(value)) for value in values]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten between two exponents; between them too where there are few."""
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
    return [(value, _power(*f"{value:.0e}".split("e")).replace(" ", "")) for value in values]


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
    return " ".join(f"{_place(x)},{_place(y)}" for x, y in points)


def _place(value: float) -> str:
    """A coordinate to a tenth."""
    return f"{value:.1f}"
