"""Ladder of widths: axial CV after 1,000 steps by D, and whether D = 32 is a band of its own.

batteries ablate d-ladder --out docs/results/d-ladder   # carries out what has no report yet
python examples/d_ladder.py                             # docs/results/d-ladder.md and .svg, from the reports
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pages import NONE, RESULTS, spread, table
from panels import Curve, Panel, drawn

from batteries import ablation
from batteries.ablation.run_report import RunReport
from batteries.cell.manifest import CvFigure
from batteries.geometry import attractor, estimates
from batteries.io import atomic_files
from registry.reports.charts.chart import Axis

FOLDER, PAGE = RESULTS / "d-ladder", RESULTS / "d-ladder.md"
COLOUR, EXACT = "#0072b2", "#d55e00"

HEAD = """# Ladder of widths

Written by `python examples/d_ladder.py` from the reports of `batteries ablate d-ladder --out docs/results/d-ladder`: cells of
the LOW preset with other widths D of their rows, {steps} steps of {batch} images of the published noise mix, Adam; {seeds}
seeds. Means over seeds ± standard deviation; an axial CV of a run has a standard error of at most {error:.4f}. Below D = 4 five
points span no 4-volume, and there is no CV.

![Axial CV by D, with the exact CV of uniform rows](d-ladder.svg)"""


@dataclass(frozen=True)
class Rung:
    """Runs of one width.

    Attributes:
        D: Width.
        reports: Reports of its seeds.
    """

    D: int
    reports: tuple[RunReport, ...]

    @property
    def exact(self) -> float | None:
        """Exact CV of uniform rows; None below 4."""
        return attractor.sphere_cv(self.D) if self.D >= attractor.SIMPLEX else None

    @property
    def cvs(self) -> list[CvFigure]:
        """Axial CVs of the seeds that have one."""
        return [report.axial_cv for report in self.reports if isinstance(report.axial_cv, CvFigure)]

    @property
    def untrained(self) -> list[float]:
        """Axial CVs of the same cells before training."""
        figures = [report.untrained.axial_cv for report in self.reports]
        return [cv.value for cv in figures if isinstance(cv, CvFigure)]

    @property
    def row(self) -> tuple[str, ...]:
        """Row of the table."""
        measured = [report.measured for report in self.reports if report.measured]
        ratios = [cv.ratio for cv in self.cvs]
        return (
            str(self.D),
            NONE if self.exact is None else f"{self.exact:.4f}",
            spread([cv.value for cv in self.cvs], 4) if self.cvs else "degenerate",
            spread(ratios, 3) if ratios else NONE,
            spread(self.untrained, 4) if self.untrained else NONE,
            spread([one.mse.value for one in measured], 4),
            spread([one.effective_rank.value for one in measured], 2),
        )


def rungs(found: ablation.Snapshot) -> list[Rung]:
    """Return the runs by width."""
    widths = sorted({one.report.plan.spec.D for one in found.judged})
    return [Rung(D, tuple(one.report for one in found.judged if one.report.plan.spec.D == D)) for D in widths]


def answer(ladder: Sequence[Rung]) -> list[str]:
    """Say whether wide rows sit on the attractor of their width, and what D = 32 is."""
    known = [rung for rung in ladder if rung.exact is not None]
    on = [rung for rung in known if all(attractor.on_attractor(cv.value, rung.D) for cv in rung.cvs)]
    before = [rung for rung in known if all(attractor.on_attractor(value, rung.D) for value in rung.untrained)]
    said = [
        f"Within 0.85 to 1.25 of the exact CV of their own width, in every seed: {len(on)} of {len(known)} widths after "
        f"training, {len(before)} before."
    ]
    for one, other in pairwise([rung for rung in ladder if rung.D in (16, 24, 32) and rung.cvs]):
        low, high = interval(one, other)
        said.append(f"The CV at D = {one.D} is {low:.3f} to {high:.3f} times that at D = {other.D} (95%).")
    if wide := next((rung for rung in ladder if rung.D == 32 and rung.cvs), None):
        value, (_, low, high) = statistics.mean(cv.value for cv in wide.cvs), attractor.WINDOWS[16]
        where = "in" if low <= value < high else "outside"
        said.append(f"Is D = 32 a new band? Its CV is {value:.4f}, {where} LOW's window ({low:g} to {high:g}).")
        if wide in on and wide in before:
            said.append("It lies on the attractor of its width, as it did before training: a band names a width.")
    return said


def interval(one: Rung, other: Rung) -> tuple[float, float]:
    """Return 95% bounds of the ratio of two mean CVs, over seeds (Student)."""
    first, second = ([cv.value for cv in rung.cvs] for rung in (one, other))
    relative = [statistics.stdev(values) / statistics.mean(values) / len(values) ** 0.5 for values in (first, second)]
    error = sum(part**2 for part in relative) ** 0.5
    reach = estimates.student(0.95, min(len(first), len(second)) - 1) * error
    ratio = statistics.mean(first) / statistics.mean(second)
    return ratio * (1 - reach), ratio * (1 + reach)


def report(found: ablation.Snapshot) -> str:
    """Format the page."""
    ladder = rungs(found)
    plan = found.judged[0].report.plan
    error = max(cv.standard_error or 0.0 for rung in ladder for cv in rung.cvs)
    head = HEAD.format(steps=plan.steps, batch=plan.batch, seeds=len(ladder[0].reports), error=error)
    columns = ("D", "exact CV", "axial CV", "/ exact", "untrained", "MSE", "effective rank")
    parts = [head, table(columns, [rung.row for rung in ladder]), "\n".join(f"- {line}" for line in answer(ladder))]
    if found.missing:
        parts.append(f"Not carried out yet: {', '.join(found.missing)}.")
    return "\n\n".join(parts)


def picture(ladder: Sequence[Rung]) -> str:
    """Draw measured and exact CVs against D, both on logarithmic axes."""
    exact = [(float(rung.D), rung.exact) for rung in ladder if rung.exact is not None]
    runs = [Curve(COLOUR, [(float(rung.D), cv.value)], 0) for rung in ladder for cv in rung.cvs]
    curves = [Curve(EXACT, exact, 1), *runs]
    points = [point for curve in curves for point in curve.path]
    x = Axis.over("D, log axis", [across for across, _ in points], log=True)
    y = Axis.over("axial CV", [down for _, down in points], log=True)
    panel = Panel("axial CV after training, log axis", x, y, curves, 280)
    what = "Axial CV of every run against D, and the exact CV of uniform rows."
    return drawn("Ladder of widths", what, [[panel]], [("a run", COLOUR, 0), ("exact", EXACT, 1)], "")


def main() -> int:
    """Run the command."""
    found = ablation.snapshot(FOLDER)
    ablation.write_tables(found, FOLDER)
    atomic_files.replace(PAGE, f"{report(found)}\n".encode())
    atomic_files.replace(PAGE.with_suffix(".svg"), picture(rungs(found)).encode())
    print(f"{len(found.judged)} of {len(found.runs)} runs: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
