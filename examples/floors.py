"""Error against samples and against seconds inside each attractor, by optimiser: docs/results/floors.md.

batteries ablate floors --out docs/results/floors   # carries out what has no report yet
python examples/floors.py                           # the page and its picture, from the reports there are
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, variance

from pages import NONE, RESULTS, spread, table
from panels import Curve, Panel, drawn

from batteries import ablation
from batteries.ablation.judged_runs import Judged, Snapshot
from batteries.errors import BatteriesError
from batteries.geometry import attractor, estimates
from batteries.io import atomic_files
from registry.reports.charts.chart import Axis

FOLDER, PAGE = RESULTS / "floors", RESULTS / "floors.md"
COLOURS = ("#0072b2", "#56b4e9", "#999999", "#d55e00", "#009e73", "#e69f00", "#cc79a7")  # Okabe and Ito 2008, in turn

HEAD = """# {title}

Written by `python examples/floors.py` from the reports of `batteries ablate {program} --out {folder}`: {done} of {runs} runs,
of which {diverged} diverged. *samples*: images of all steps, each counted once a step, however many gradients a step takes;
with one batch for all steps they are the same images again. *seconds*: the median time of a step (`timing.json`) times the
steps, on one thread of the machine that made the run; {timed} of the runs are timed. *MSE*: on the run's own probe.
*CV / exact*: the axial CV over that of uniform rows; on the attractor: from {low} to {high}. Mean ± standard deviation over
seeds. *at equal samples*, *at equal seconds*: the MSE at the largest number that all optimisers of the band reach, between
readings by a straight line in the logarithm of the error; an untrained cell is the reading at 0."""


@dataclass(frozen=True)
class Course:
    """A finished run along training.

    Attributes:
        samples: Images seen at each reading, 0 first.
        mse: Error at each reading; the first is that of the untrained cell.
        ratios: CV over the exact one at each reading but the first; None if degenerate.
        sample_seconds: Seconds per image; None if the run is not timed.
    """

    samples: tuple[float, ...]
    mse: tuple[float, ...]
    ratios: tuple[float | None, ...]
    sample_seconds: float | None

    @classmethod
    def of(cls, one: Judged) -> Course:
        """Return the course of a run."""
        report, plan = one.report, one.report.plan
        exact = attractor.sphere_cv(plan.spec.D)
        cvs = [point.deciding_cv[0] for point in report.trajectory]
        step = one.timing.step_seconds if one.timing else None
        return cls(
            (0.0, *(float(point.step * plan.batch) for point in report.trajectory)),
            (report.untrained.mse.value, *(point.mse for point in report.trajectory)),
            tuple(None if cv is None else cv / exact for cv in cvs),
            None if step is None else step / plan.batch,
        )

    def at(self, samples: float) -> float:
        """Return the error after so many samples, of those of the run.

        >>> round(Course((0.0, 10.0), (1.0, 0.01), (1.0,), None).at(5.0), 6)
        0.1
        """
        for (first, before), (last, after) in pairwise(zip(self.samples, self.mse, strict=True)):
            if samples <= last:
                share = (samples - first) / (last - first)
                return math.exp((1 - share) * math.log(before) + share * math.log(after))
        return self.mse[-1]


Courses = dict[str, list[Course]]  # by title of the group


def courses(found: Snapshot, band: str) -> Courses:
    """Return the finished runs of a band by optimiser, without optimisers that have none."""
    made = {
        group.title: [Course.of(one) for one in found.of(group.id) if one.report.band == band and one.report.trajectory]
        for group in found.program.groups
    }
    return {title: runs for title, runs in made.items() if runs}


def equal_samples(of: Courses) -> float:
    """Return the largest number of samples that every run reaches."""
    return min(run.samples[-1] for runs in of.values() for run in runs)


def equal_seconds(of: Courses) -> float | None:
    """Return the longest time that every run reaches; None if one is not timed."""
    ends = [seconds(run) for runs in of.values() for run in runs]
    return None if None in ends else min(end for end in ends if end is not None)


def seconds(run: Course) -> float | None:
    """Return the time of a run's steps; None if it is not timed."""
    return None if run.sample_seconds is None else run.samples[-1] * run.sample_seconds


def errors_at(of: Courses, time: float | None, samples: float) -> dict[str, list[float]]:
    """Return the errors at a time, or else at a number of samples."""
    if time is None:
        return {title: [run.at(samples) for run in runs] for title, runs in of.items()}
    return {title: [run.at(time / (run.sample_seconds or math.inf)) for run in runs] for title, runs in of.items()}


def rows(of: Courses) -> list[list[str]]:
    """Return a row per optimiser."""
    samples, time = equal_samples(of), equal_seconds(of)
    equal, timed = errors_at(of, None, samples), errors_at(of, time, samples) if time is not None else {}
    made = []
    for title, runs in of.items():
        lasts = [run.ratios[-1] for run in runs]
        ends = [end for run in runs if (end := seconds(run)) is not None]
        low, high = attractor.ON_ATTRACTOR
        made.append(
            [
                title,
                str(len(runs)),
                f"{mean(run.samples[-1] for run in runs):,.0f}",
                spread(ends),
                spread([run.mse[-1] for run in runs]),
                spread([ratio for ratio in lasts if ratio is not None], 3),
                f"{sum(ratio is not None and low <= ratio <= high for ratio in lasts)} of {len(runs)}",
                spread(equal[title]),
                spread(timed.get(title, [])),
            ]
        )
    return made


def compared(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the ratio of geometric means with its 95% bounds, Student's with a common variance; None of single runs.

    >>> compared([1.0, 1.0], [2.0, 2.0])
    (0.5, 0.5, 0.5)
    """
    first, second = ([math.log(value) for value in values] for values in (one, other))
    freedom = len(first) + len(second) - 2
    if min(len(first), len(second)) < 2:
        return None
    common = sum((len(logs) - 1) * variance(logs) for logs in (first, second)) / freedom
    reach = estimates.student(0.95, freedom) * math.sqrt(common * (1 / len(first) + 1 / len(second)))
    middle = mean(first) - mean(second)
    return math.exp(middle), math.exp(middle - reach), math.exp(middle + reach)


def sentences(band: str, of: Courses) -> list[str]:
    """Say which optimiser has the lowest error at equal samples and at equal seconds, and against the next."""
    samples, time = equal_samples(of), equal_seconds(of)
    ways = [(f"{samples:,.0f} samples", errors_at(of, None, samples))]
    if time is not None:
        ways.append((f"{time:.3g} seconds", errors_at(of, time, samples)))
    said = [_best(f"{band.upper()} after {words}", errors) for words, errors in ways]
    low, high = attractor.ON_ATTRACTOR
    lasts = {title: [run.ratios[-1] for run in runs] for title, runs in of.items()}
    off = [title for title, ends in lasts.items() if any(end is None or not low <= end <= high for end in ends)]
    said.append(f"{band.upper()}, optimisers with a run that ends off the attractor: {', '.join(off) or 'none'}.")
    return said


def _best(where: str, errors: dict[str, list[float]]) -> str:
    ranked = sorted(errors, key=lambda title: mean(map(math.log, errors[title])))
    first = f"{where}, the lowest error is that of {ranked[0]}, {spread(errors[ranked[0]])}"
    if len(ranked) == 1:
        return f"{first}; no other optimiser has a run yet."
    found = compared(errors[ranked[0]], errors[ranked[1]])
    if found is None:
        return f"{first}, before {ranked[1]}; single runs have no interval."
    verdict = "lower" if found[2] < 1 else "no difference shown"
    return f"{first}; {{:.3g}} ({{:.3g}} to {{:.3g}}) times that of {ranked[1]}: {verdict}.".format(*found)


def picture(found: Snapshot) -> str:
    """Draw error along samples and along seconds, and CV / exact along samples; a column per band, a colour per optimiser."""
    colours = {group.title: COLOURS[place % len(COLOURS)] for place, group in enumerate(found.program.groups)}
    bands = {band: of for band in found.program.bands if (of := courses(found, band))}
    ways: list[tuple[str, str, Callable[[Course], list[tuple[float, float]]], bool]] = [
        ("MSE, log axis", "samples, log axis", lambda run: list(zip(run.samples[1:], run.mse[1:], strict=True)), True),
        ("MSE, log axis", "seconds, log axis", _along_seconds, True),
        ("CV / exact", "samples, log axis", _ratios, False),
    ]
    panels = [
        [
            _panel(f"{band}: {title}", label, {name: [draw(run) for run in runs] for name, runs in of.items()}, colours, log)
            for band, of in bands.items()
        ]
        for title, label, draw, log in ways
    ]
    shapes = [(group.id, colours[group.title], 0) for group in found.program.groups]
    return drawn(found.program.title, "Error along samples and along seconds, and CV over exact CV.", panels, shapes, "")


def _along_seconds(run: Course) -> list[tuple[float, float]]:
    if run.sample_seconds is None:
        return []
    return [(samples * run.sample_seconds, mse) for samples, mse in zip(run.samples[1:], run.mse[1:], strict=True)]


def _ratios(run: Course) -> list[tuple[float, float]]:
    return [(at, ratio) for at, ratio in zip(run.samples[1:], run.ratios, strict=True) if ratio is not None]


def _panel(
    title: str, words: str, drawn_by: dict[str, list[list[tuple[float, float]]]], colours: dict[str, str], log: bool
) -> Panel:
    curves = [Curve(colours[name], path, 0) for name, paths in drawn_by.items() for path in paths if path]
    points = [point for curve in curves for point in curve.path]
    x = Axis.over(words, [across for across, _ in points], log=True)
    return Panel(title, x, Axis.over("", [down for _, down in points], log=log), curves, 240)


def report(found: Snapshot, folder: Path, stem: str) -> str:
    """Format the page, whose picture has its stem."""
    program = found.program
    head = (
        "optimiser",
        "runs",
        "samples",
        "seconds",
        "MSE",
        "CV / exact",
        "on attractor",
        "at equal samples",
        "at equal seconds",
    )
    low, high = attractor.ON_ATTRACTOR
    place = folder.relative_to(RESULTS.parents[1]) if folder.is_relative_to(RESULTS.parents[1]) else folder
    words = HEAD.format(
        title=program.title,
        program=program.name,
        folder=place,
        done=len(found.judged),
        runs=len(found.runs),
        diverged=sum(one.report.outcome == "diverged" for one in found.judged),
        timed=sum(one.timing is not None for one in found.judged),
        low=low,
        high=high,
    )
    bands = {band: of for band in program.bands if (of := courses(found, band))}
    said = [f"- {sentence}" for band, of in bands.items() for sentence in sentences(band, of)]
    tables = [f"## {band.upper()}\n\n{table(head, rows(of))}" for band, of in bands.items()]
    image = f"![Error along samples and along seconds, and CV over exact CV]({stem}.svg)"
    shown = ["\n".join(said), image, *tables] if bands else ["No run has ended yet."]
    missing = f"Runs without a report, which `batteries ablate` carries out: {len(found.missing) or NONE}."
    return "\n\n".join([words, *shown, missing])


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Error against samples and against seconds, by optimiser.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the reports; default: docs/results/floors")
    parser.add_argument(
        "--page", type=Path, default=PAGE, help="page to write, with its picture; default: docs/results/floors.md"
    )
    given = parser.parse_args(words)
    try:
        found = ablation.snapshot(given.folder)
    except BatteriesError as error:
        parser.exit(error.exit_code, f"{error}\n")
    if any(courses(found, band) for band in found.program.bands):
        atomic_files.replace(given.page.with_suffix(".svg"), picture(found).encode())
    atomic_files.replace(given.page, f"{report(found, given.folder, given.page.stem)}\n".encode())
    print(f"{len(found.judged)} of {len(found.runs)} runs: {given.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
