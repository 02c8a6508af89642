"""Charts of an attestation: dose-response, trajectories, recovery, hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import median
from typing import Protocol

from batteries.cell.manifest import CLAIMED, TrainingPoint
from batteries.geometry.attractor import ON_ATTRACTOR
from batteries.geometry.estimates import HOLDS, Z95
from registry.catalog.attestation import Attestation
from registry.catalog.figures import DoseFigure, FrozenFigure, Moment
from registry.reports.charts.chart import Axis, Band, Chart, Look, Point, Rule, Series
from registry.reports.number_format import number

KEPT = 0.9  # least share of a cell's content that counts as kept
KEPT_FLOOR = -0.25  # lower end of the axis of ``kept``: all values below 0 mean no content

LOOKS = {"cell": Look("cell", "circle", shift=-4.0), "untrained": Look("untrained", "triangle", dashed=True, shift=4.0)}
LARGEST = {"cell": Look("cell", "square", dashed=True), "untrained": Look("untrained", "diamond")}

Reading = tuple[int, float | None, float | None, float]  # step, CV, its standard error, MSE
Runs = tuple[str, Look, list[list[Reading]]]  # runs of one kind


def dose_charts(found: Attestation) -> list[Chart]:
    """Chart CV, rank, content and error after each dose of a host's gradient."""
    holds = (Band(f"holds: {HOLDS[0]} to {HOLDS[1]}", *HOLDS),)
    kept = (Rule(f"least that counts as kept: {KEPT}", (KEPT,), style="exact"),)
    return [
        _dose_chart(found, f"{found.cv_name}, after over before", lambda dose: dose.deciding_cv, HOLDS, bands=holds),
        _dose_chart(found, "Effective rank, after over before", lambda dose: dose.rank, HOLDS, bands=holds),
        _dose_chart(found, "Content kept, as a share", lambda dose: (dose.kept,), (KEPT, 1.0), rules=kept, floor=KEPT_FLOOR),
        _dose_chart(found, "Retention: error, after over before", lambda dose: (dose.retention,), (1.0,), log=True),
    ]


class Trained(Protocol):
    """Cell with readings along its training: an attestation, or a manifest with its exact attractor."""

    @property
    def attractor(self) -> float | None:
        """Exact CV of its width."""

    @property
    def cv_name(self) -> str:
        """Name of the CV of its readings."""

    @property
    def trajectory(self) -> tuple[TrainingPoint, ...]:
        """Readings along its training."""


def training_charts(found: Trained) -> list[Chart]:
    """Chart CV and error along the cell's training."""
    line: list[Reading] = [(p.step, *p.deciding_cv, p.mse) for p in found.trajectory]
    return _along(found, f"training, {CLAIMED}", [("cell", LOOKS["cell"], [line])])


def trial_charts(found: Attestation) -> list[Chart]:
    """Chart CV and error along the trials at the deciding and the largest dose."""
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
    """Chart CV and error under reconstruction training, with the steps at which a cell recovered."""
    runs: list[Runs] = [
        (name, look, [_readings(r.moments) for r in found.returns if r.subject == name]) for name, look in LOOKS.items()
    ]
    back = {name: tuple(r.steps for r in found.returns if r.subject == name and r.steps is not None) for name in LOOKS}
    rules = tuple(Rule(f"{name} is back", at, upright=True, style=f"{name} back") for name, at in back.items() if at)
    return _along(found, "reconstruction training", runs, rules)


def frozen_charts(found: Attestation) -> list[Chart]:
    """Chart the scores of the cell and of untrained cells, one chart per task and host."""
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
    """Chart a figure against the dose; its axis always covers ``about``."""
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


def _along(found: Trained, where: str, runs: Sequence[Runs], rules: tuple[Rule, ...] = ()) -> list[Chart]:
    """Chart CV and error against steps; no chart without readings."""
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
    cvs = Axis.over(found.cv_name, [*bounds, *(cv for _, cv, _, _ in readings if cv is not None)])
    errors = Axis.over("MSE", [mse for _, _, _, mse in readings], log=True)
    return [
        Chart(f"{found.cv_name} along {where}", steps, cvs, _lines(runs, _cv_point), band, (*target, *rules), degenerate),
        Chart(
            f"Error (MSE) along {where}", steps, errors, _lines(runs, lambda reading: Point(reading[0], reading[3])), (), rules
        ),
    ]


def _readings(moments: Iterable[Moment]) -> list[Reading]:
    return [(moment.step, *moment.deciding_cv, moment.mse) for moment in moments]


def _lines(runs: Sequence[Runs], point: Callable[[Reading], Point | None]) -> tuple[Series, ...]:
    """Make each run a line with dots at its ends, broken where the reading is degenerate."""
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
    """Chart the scores on one task, each subject in its own lane."""
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
