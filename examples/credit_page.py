"""Page of the credit study: tables over seeds, thresholds, strategies, expectations, and a picture along training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from credit_expectations import expectations
from credit_jobs import MLP, RULES, SETS, Line, Lines, jobs, known
from pages import NONE, put, table
from panels import Curve, Panel, drawn

from batteries.geometry.estimates import student
from batteries.io import atomic_files
from composer import audit
from registry.reports.charts.chart import Axis

TITLE = "Credit rules under an audit"
CONFIDENCE = 0.95
COLOURS = {  # distinct for the colour-blind (Okabe and Ito 2008)
    "bp": "#000000",
    "frozen": "#999999",
    "fa": "#0072b2",
    "dfa": "#d55e00",
    "dfa+0.0001": "#e69f00",
    "dfa+0.01": "#cc79a7",
    "ep": "#009e73",
    "state-bridge": "#56b4e9",
    "credit-bridge": "#8c6d00",
}
FIGURES: dict[str, Callable[[Line], float | None]] = {
    "accuracy": lambda line: line.report and line.report.accuracy,
    "norm of h_L": lambda line: line.report and line.report.states[-1].norm,
    "a: growth": lambda line: line.report and line.report.of("a").value,
    "b: gradient": lambda line: line.report and line.report.of("b").value,
    "b / first": lambda line: line.report and line.report.relative,
    "c: stability": lambda line: line.report and line.report.of("c").value,
    "d: margin": lambda line: line.report and line.report.of("d").value,
    "deep cosine": lambda line: fmean(line.cosine) if line.cosine else None,
    "nudging": lambda line: fmean(line.nudging) if line.nudging else None,
    "decrease": lambda line: line.decrease,
}


def write(path: Path, page: Path, epochs: int) -> None:
    """Write the page's section of these epochs and its picture; the rest of the page is edited by hand."""
    found = known(path, jobs(epochs))
    put(page, TITLE, f"epochs {epochs}", report(found, epochs))
    if chosen := _pictured(found):
        atomic_files.replace(page.with_name(picture(epochs)), drawn_panels(chosen).encode())


def _pictured(found: Lines) -> Lines:
    return {job: line for job, line in found.items() if (job.set, job.host) == ("reference", MLP) and line.moments}


def picture(epochs: int) -> str:
    """Return the name of the picture."""
    return f"credit-{epochs}.svg"


def report(found: Lines, epochs: int) -> str:
    """Format all tables."""
    sets = "\n\n".join(f"### Set: {name}\n\n{_set(name, found)}" for name in SETS if any(job.set == name for job in found))
    reports = [line.report for line in found.values() if line.report is not None]
    planned = [job.set for job in jobs(epochs)]
    here = ", ".join(f"{name} {sum(job.set == name for job in found)} of {planned.count(name)}" for name in SETS)
    shown = f"![Audits along the training of the reference setting]({picture(epochs)})\n\n" if _pictured(found) else ""
    diverged = [job.name for job, line in found.items() if line.diverged]
    return f"""## {epochs} epochs

Written by `python examples/credit.py --epochs {epochs}`, which keeps every run in [credit.jsonl](credit.jsonl).
Runs: {here}. Diverged: {", ".join(diverged) or "none"}.

Values are means over seeds with 95% intervals (Student's t); a value of one seed has none. Definitions and limits:
[docs/audit.md](../audit.md), [rationale](../decisions/0045-credit.md). *nudging*, *decrease*: shares of what the true
gradient reaches.

{shown}{sets}

### Expectations

{table(("expected", "measured", "holds"), expectations(found))}

### First epochs

{_first(found)}

### Null of the deep cosine

{_nulls(found)}

### Sensitivity to thresholds

{_sensitivity(reports)}

### Decision utility

{_utility(found)}"""


def interval(values: Sequence[float]) -> str:
    """Format a mean with its interval.

    >>> interval([0.5]), interval([1.0, 1.2, 1.1]), interval([])
    ('0.5', '1.1 (0.852 to 1.35)', '-')
    """
    if not values:
        return NONE
    middle = fmean(values)
    if len(values) == 1:
        return f"{middle:.3g}"
    reach = student(CONFIDENCE, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return f"{middle:.3g} ({middle - reach:.3g} to {middle + reach:.3g})"


def _set(name: str, found: Lines) -> str:
    own = {job: line for job, line in found.items() if job.set == name}
    groups = list(dict.fromkeys((job.task, job.host, job.rule) for job in own))
    groups.sort(key=lambda group: (group[0], group[1], RULES.index(group[2])))
    rows = []
    for group in groups:
        lines = [line for job, line in own.items() if (job.task, job.host, job.rule) == group]
        figures = [interval([value for line in lines if (value := read(line)) is not None]) for read in FIGURES.values()]
        rows.append([*group, str(len(lines)), *figures, _verdicts(lines)])
    return table(("task", "host", "rule", "seeds", *FIGURES, "verdicts"), rows)


def _verdicts(lines: Sequence[Line]) -> str:
    words = [line.report.verdict if line.report is not None else "diverged" for line in lines]
    return "; ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def _first(found: Lines) -> str:
    rows = []
    for task, host, rule in dict.fromkeys((job.task, job.host, job.rule) for job in found):
        lines = [line for job, line in found.items() if (job.task, job.host, job.rule) == (task, host, rule)]
        epochs = [[line.first.get(key) for line in lines] for key in "abcd"]
        if rule != "frozen" and any(epoch is not None for of_key in epochs for epoch in of_key):
            rows.append([task, host, rule, *(", ".join("never" if e is None else str(e) for e in of) for of in epochs)])
    words = "Epoch at which each diagnostic fired first, a number a seed; of (d) that from which on it fired to the end."
    return f"{words} Rules that never fired are left out.\n\n{table(('task', 'host', 'rule', 'a', 'b', 'c', 'd'), rows)}"


def _nulls(found: Lines) -> str:
    rows = []
    for rule in RULES:
        lines = [
            line for job, line in found.items() if (job.set, job.rule) == ("reference", rule) and line.null_own is not None
        ]
        if lines:
            names = ("null_own", "null_mean", "null_deviation", "null_z")
            rows.append([rule, *(interval([getattr(line, name) for line in lines]) for name in names)])
    head = ("rule", "own feedback", "fresh: mean", "fresh: deviation", "z")
    return f"Twenty fresh draws a run, on the reference setting.\n\n{table(head, rows)}"


def _sensitivity(reports: Sequence[audit.AuditReport]) -> str:
    rows = [
        [
            one.threshold,
            f"{one.value:g}",
            _range(one.lower, one.upper),
            _range(one.own_lower, one.own_upper),
        ]
        for one in audit.sensitivity(reports, audit.Thresholds())
    ]
    head = ("threshold", "value", "no verdict changes", "the diagnostic changes for no run")
    return f"Over {len(reports)} audits, one threshold moved at a time.\n\n{table(head, rows)}"


def _range(low: float | None, high: float | None) -> str:
    ends = ["no bound" if end is None else f"{end:.3g}" for end in (low, high)]
    return " to ".join(ends)


def _utility(found: Lines) -> str:
    chance = {"digits": 1 / 10}
    runs = [
        audit.AuditedRun(line.report, chance.get(job.task, 1 / 16), fmean(line.cosine) if line.cosine else None)
        for job, line in found.items()
        if line.report is not None and job.rule != "frozen"
    ]
    rows = [
        [one.strategy, str(one.accepted), str(one.walked_back), str(one.missed), str(one.withheld)]
        for one in audit.utility(runs)
    ]
    words = "*Missed*: accepted, and walked back by the whole audit; *withheld*: not accepted, and trustworthy by it."
    head = ("strategy", "accepted", "walked back", "missed", "withheld")
    return f"{len(runs)} runs but for baselines. {words}\n\n{table(head, rows)}"


def drawn_panels(found: Lines) -> str:
    """Draw accuracy, growth and gradient along the epochs, a line a run."""
    what = (
        "Accuracy, largest growth of a block and gradient's norm along the training of the reference setting; one line a run."
    )
    panels = [
        _panel("accuracy", found, lambda moment: moment.accuracy, log=False),
        _panel("a: largest growth, log axis", found, lambda moment: moment.growth, also=(50.0,)),
        _panel("b: gradient's norm, log axis", found, lambda moment: moment.gradient),
    ]
    present = [rule for rule in RULES if any(job.rule == rule for job in found)]
    shapes = [(rule, COLOURS[rule], 0) for rule in present]
    return drawn("Credit rules along training", what, [panels], shapes, "")


def _panel(title: str, found: Lines, read, *, log: bool = True, also: Sequence[float] = ()) -> Panel:  # type: ignore[no-untyped-def]
    curves = [
        Curve(COLOURS[job.rule], [(float(moment.epoch), read(moment)) for moment in line.moments], 0)
        for job, line in found.items()
    ]
    points = [point for curve in curves for point in curve.path]
    x = Axis.over("epoch", [0.0, *(across for across, _ in points)])
    return Panel(title, x, Axis.over(title, [*also, *(down for _, down in points)], log=log), curves, 280)
