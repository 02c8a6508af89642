"""Pictures of the front: error against distance from the attractor, and error along samples and along CPU time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from front_jobs import BATCHES, DATA, RATES, Band, Job, Optimiser, Result, Results, best, exact, of_setting
from panels import Curve, Panel, drawn

from batteries.cell.manifest import Domain
from batteries.geometry import attractor, estimates
from registry.reports.charts.chart import Axis

COLOURS: dict[Optimiser, str] = {"adam": "#0072b2", "muon": "#d55e00"}  # distinct for the colour-blind (Okabe and Ito 2008)


def front(found: Results) -> str:
    """Draw error against distance from the attractor: a panel per band and kind of data, a path per run."""
    rows = [[_front_panel(band, data, found) for band in BATCHES] for data in DATA]
    shapes = [(f"{kind} {rate:g}", COLOURS[kind], shape) for kind in RATES for shape, rate in enumerate(RATES[kind])]
    what = "MSE against CV over exact CV; one path a run along training, a marker at its end with the 95% interval of its CV."
    low, high = attractor.ON_ATTRACTOR
    return drawn("Error against distance from the attractor", what, rows, shapes, f"on the attractor: {low} to {high}")


def samples(found: Results) -> str:
    """Draw error along images seen and along CPU time, for the best rate of each optimiser."""
    ways: tuple[tuple[str, Callable[[Job, Result], float | None]], ...] = (
        ("images seen", lambda job, result: float(BATCHES[job.setting.band])),
        ("CPU seconds", lambda job, result: result.step_seconds),
    )
    rows = [[_along(band, data, words, unit, found) for band in BATCHES] for data in DATA for words, unit in ways]
    shapes = [(kind, COLOURS[kind], 0) for kind in RATES]
    what = "MSE along images seen and along CPU time of training, for the best rate of each optimiser; one line a run."
    return drawn("Error along samples and along time", what, rows, shapes, "y: MSE, log axis")


def path_of(job: Job, result: Result) -> list[tuple[float, float, float | None]]:
    """Return CV / exact, MSE and the ratio's standard error along a run, without degenerate readings."""
    whole = exact(job.setting.band)
    readings = [(*point.deciding_cv, point.mse) for point in result.trajectory]
    return [(cv / whole, mse, None if error is None else error / whole) for cv, error, mse in readings if cv is not None]


def _front_panel(band: Band, data: Domain, found: Results) -> Panel:
    paths = {job: path_of(job, result) for job, result in found.items() if (job.setting.band, job.setting.data) == (band, data)}
    curves = [_front_curve(job, path) for job, path in paths.items() if path]
    ends = attractor.ON_ATTRACTOR
    return _panel(f"{band}, {data}: MSE, log axis", "CV / exact CV", curves, 280, also=ends, shaded=ends)


def _front_curve(job: Job, path: Sequence[tuple[float, float, float | None]]) -> Curve:
    ratio, _, error = path[-1]
    interval = None if error is None else (ratio - estimates.Z95 * error, ratio + estimates.Z95 * error)
    kind = job.setting.optimiser
    return Curve(COLOURS[kind], [(ratio, mse) for ratio, mse, _ in path], RATES[kind].index(job.setting.rate), interval)


def _along(band: Band, data: Domain, words: str, unit: Callable[[Job, Result], float | None], found: Results) -> Panel:
    """Draw the runs of the best rates; ``unit`` is the length of a step along x, None if it is not known."""
    curves = []
    for kind in RATES:
        setting = best(band, data, kind, found)
        for job, result in of_setting(setting, found).items() if setting else ():
            if (step := unit(job, result)) is not None:
                curves.append(Curve(COLOURS[kind], [(point.step * step, point.mse) for point in result.trajectory], 0))
    rates = ", ".join(f"{kind} {setting.rate:g}" for kind in RATES if (setting := best(band, data, kind, found)))
    return _panel(f"{band}, {data}" + (f": {rates}" if rates else ""), words, curves, 220, also=(0.0,))


def _panel(
    title: str, words: str, curves: list[Curve], height: int, also: Sequence[float], shaded: tuple[float, float] | None = None
) -> Panel:
    """Make a panel whose x axis holds its curves and ``also``."""
    points = [point for curve in curves for point in curve.path]
    x = Axis.over(words, [*also, *(across for across, _ in points)])
    y = Axis.over("MSE", [down for _, down in points], log=True)
    return Panel(title, x, y, curves, height, shaded)
