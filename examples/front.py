"""Front of error against distance from the attractor: three bands, three peak rates, three seeds.

    python examples/front.py                      # does the missing runs, then writes docs/results/front.md and front.svg
    python examples/front.py --only low 0.001 1   # one run, so that several processes can share the work
    python examples/front.py --jobs               # prints these 27 commands
    python examples/front.py --report             # writes the report from the existing results

An interrupted run resumes from its checkpoint in ``runs/front``; a finished run leaves a small JSON file there.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import ClassVar, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import batteries
from batteries.cell.manifest import Sha256, Text, TrainingPoint
from batteries.cell.spec import PRESETS
from batteries.errors import PolicyError
from batteries.geometry import attractor, estimates
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import Document, load_document
from registry.reports.charts.chart import Axis

Band = Literal["low", "mid", "high"]

BATCHES: dict[Band, int] = {"low": 32, "mid": 32, "high": 16}
RATES = (1e-3, 3e-3, 1e-2)
SEEDS = (1, 2, 3)
STEPS = 1000
SHOWN = (400, STEPS)  # steps that the table shows
EVERY = 200  # steps between readings
PROBE = "noise16-64"
SIZE = 64  # pixels a side
MAX_RESULT = 2**16  # bytes

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "front"
PAGE = ROOT / "docs" / "results" / "front.md"

TEMPLATES = Environment(
    loader=FileSystemLoader(ROOT / "examples"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)

RECIPE = re.compile("<!-- recipe -->.*?<!-- /recipe -->", re.DOTALL)
NO_RECIPE = "<!-- recipe -->\nNo recipe is chosen yet.\n<!-- /recipe -->"

WIDTH, HEIGHT, KEY = 320, 280, 28  # size of a panel, and height of the key below the panels
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 44
MARK = 4.5  # radius of a marker
INK, GRID, SHADE = "#333333", "#dddddd", "#e3ece5"
COLOURS = ("#0072b2", "#d55e00", "#009e73")  # one per rate; distinct for the colour-blind (Okabe and Ito 2008)


@dataclass(frozen=True)
class Job:
    """One run of the front."""

    band: Band
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.band}-{self.rate:g}-{self.seed}"

    @property
    def command(self) -> str:
        """Command that does this run alone."""
        return f"python examples/front.py --only {self.band} {self.rate:g} {self.seed}"

    @property
    def plan(self) -> batteries.Plan:
        """Training plan, which with the noise determines the result."""
        return batteries.Plan(
            spec=batteries.CellSpec.preset(self.band),
            size=SIZE,
            steps=STEPS,
            batch=BATCHES[self.band],
            rate=self.rate,
            schedule="onecycle",
            seed=self.seed,
            reading_every=EVERY,
            checkpoint_every=500,
        )

    @property
    def plan_digest(self) -> str:
        """SHA-256 of the plan without its empty fields; results of other plans are ignored."""
        return canonical_json.sha256(canonical_json.dump(self.plan.model_dump(mode="json", exclude_none=True)))


JOBS = tuple(Job(band, rate, seed) for band in BATCHES for rate in RATES for seed in SEEDS)


class Result(Document):
    """Result of a job.

    Attributes:
        plan: SHA-256 of the plan.
        trajectory: Readings along training; empty if the run diverged.
        diverged: Step at which the loss was no longer finite; None if it did not diverge.
    """

    plan: Sha256
    trajectory: tuple[TrainingPoint, ...]
    diverged: Text | None = None

    def at(self, step: int) -> TrainingPoint | None:
        """Return the reading at a step, if any."""
        return next((point for point in self.trajectory if point.step == step), None)


Results = dict[Job, Result]


def run(job: Job, folder: Path) -> Result:
    """Return the stored result of a job, or train its cell."""
    found = read(job, folder)
    if found is None:
        found = _trained(job, folder / job.name)
        atomic_files.replace(_path(job, folder), found.to_bytes())
    return found


def read(job: Job, folder: Path) -> Result | None:
    """Read the result of a job; None if it is missing or of another plan."""
    path = _path(job, folder)
    if not path.exists():
        return None
    found = load_document(Result, atomic_files.read(path, limit=MAX_RESULT), where=path, limit=MAX_RESULT)
    return found if found.plan == job.plan_digest else None


def _path(job: Job, folder: Path) -> Path:
    return folder / f"{job.name}.json"


def _trained(job: Job, folder: Path) -> Result:
    try:
        found = batteries.train(job.plan, batteries.NoiseSource(), batteries.probe(PROBE), folder=folder)
    except PolicyError as error:
        if error.code != "DIVERGED":
            raise
        return Result(plan=job.plan_digest, trajectory=(), diverged=str(error.where))
    return Result(plan=job.plan_digest, trajectory=tuple(found.trajectory))


def write_report(folder: Path, page: Path) -> list[Job]:
    """Write the page and its picture, and return the jobs without a result."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    found = {job: result for job in JOBS if (result := read(job, folder)) is not None}
    words = report(found, recipe(old))
    atomic_files.replace(page.with_suffix(".svg"), picture(found).encode())
    atomic_files.replace(page, words.encode())
    return [job for job in JOBS if job not in found]


def recipe(page: str) -> str:
    """Return the part of a page that is edited by hand, with its comments.

    Raises:
        ValueError: one of the two comments is missing, so that a rewrite would lose the part.
    """
    found = RECIPE.search(page)
    if found is None and ("<!-- recipe -->" in page or "<!-- /recipe -->" in page):
        raise ValueError("the recipe needs both of its comments, <!-- recipe --> before <!-- /recipe -->")
    return found[0] if found else NO_RECIPE


def report(found: Results, kept: str) -> str:
    """Format the page, with the part ``kept`` from the old one."""
    _, schedule, hand = JOBS[0].plan.describe()
    exact = ", ".join(f"{_exact(band):.5f} ({band})" for band in BATCHES)
    batches = ", ".join(f"{count} ({band})" for band, count in BATCHES.items())
    low, high = attractor.ON_ATTRACTOR
    return f"""# Error against distance from the attractor

Written by `python examples/front.py`; not edited by hand, but for the recipe at its end.
`python examples/front.py --jobs` lists the {len(JOBS)} runs as commands of their own, for several processes to share.

Cells of the presets learn the 16 noise types at {SIZE} pixels: {STEPS} steps of Adam without weight decay, {schedule},
gradient norm at most {JOBS[0].plan.clip:g}, soft hand with {hand}. Images a step: {batches}.
Read every {EVERY} steps on the probe `{PROBE}`, the same images for all.

Distance from the attractor is CV / exact CV, exact CV being that of points uniform on the sphere: {exact}.
On the attractor: from {low} to {high}. Figures are mean ± standard deviation over seeds.

![MSE against CV over exact CV, one path a run along training]({PAGE.stem}.svg)

{_table(found)}

{_completeness(found)}

## Recipe

{kept}
"""


def _exact(band: Band) -> float:
    return attractor.sphere_cv(PRESETS[band]["D"])


def _table(found: Results) -> str:
    columns = ["band", "peak rate", "runs"]
    columns += [f"{what}, step {step}" for step in SHOWN for what in ("MSE", "CV / exact", "on attractor")]
    rows = [_row(band, rate, found) for band in BATCHES for rate in RATES]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


def _row(band: Band, rate: float, found: Results) -> list[str]:
    own = [result for job, result in found.items() if (job.band, job.rate) == (band, rate)]
    cells = [band, f"{rate:g}", str(len(own))]
    for step in SHOWN:
        points = [point for result in own if (point := result.at(step)) is not None]
        cvs = [cv for cv, _ in (point.deciding_cv for point in points) if cv is not None]
        on = sum(attractor.on_attractor(cv, PRESETS[band]["D"]) for cv in cvs)
        cells += [_spread([point.mse for point in points], 4), _spread([cv / _exact(band) for cv in cvs], 3)]
        cells.append(f"{on} of {len(own)}" if own else "-")
    return cells


def _spread(values: Sequence[float], digits: int) -> str:
    """Format mean and standard deviation; a single value has none."""
    if not values:
        return "-"
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def _completeness(found: Results) -> str:
    """List missing and diverged runs, and the largest standard error of a ratio."""
    missing = [job for job in JOBS if job not in found]
    words = [f"Missing, {len(missing)} of {len(JOBS)}: {_names(missing)}." if missing else f"All {len(JOBS)} runs are here."]
    diverged = [job for job, result in found.items() if result.diverged]
    if diverged:
        words.append(f"Diverged, the loss no longer finite: {_names(diverged)}.")
    errors = [error for job, result in found.items() for _, _, error in _ratios(job, result) if error is not None]
    if errors:
        words.append(f"A single CV / exact has a standard error of at most {max(errors):.3f}.")
    return "\n".join(words)


def _names(jobs: Iterable[Job]) -> str:
    return ", ".join(job.name for job in jobs)


def _ratios(job: Job, result: Result) -> list[tuple[float, float, float | None]]:
    """Return CV / exact, MSE and the ratio's standard error along a run, without degenerate readings."""
    exact = _exact(job.band)
    readings = [(*point.deciding_cv, point.mse) for point in result.trajectory]
    return [(cv / exact, mse, None if error is None else error / exact) for cv, error, mse in readings if cv is not None]


def picture(found: Results) -> str:
    """Draw the front as SVG: a panel per band, a path per run, a marker with its 95% interval at its end."""
    panels = [_panel(band, {job: result for job, result in found.items() if job.band == band}) for band in BATCHES]
    low, high = attractor.ON_ATTRACTOR
    return TEMPLATES.get_template("front.svg.j2").render(
        panels=panels, rates=RATES, colours=COLOURS, band=f"{low} to {high}", ink=INK, grid=GRID, shade=SHADE, mark=MARK
    )


@dataclass(frozen=True)
class Curve:
    """A run along training, and the interval of its last reading."""

    rate: int
    path: list[tuple[float, float]]
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Panel:
    """Axes of a panel, which map values to coordinates, and its runs."""

    width: ClassVar[int] = WIDTH
    height: ClassVar[int] = HEIGHT
    key: ClassVar[int] = KEY
    left: ClassVar[int] = LEFT
    right: ClassVar[int] = WIDTH - RIGHT
    top: ClassVar[int] = TOP
    bottom: ClassVar[int] = HEIGHT - BOTTOM
    attractor: ClassVar[tuple[float, float]] = attractor.ON_ATTRACTOR

    title: str
    x: Axis
    y: Axis
    curves: list[Curve]

    def across(self, ratio: float) -> float:
        """Return the x coordinate of a ratio."""
        return self.left + self.x.share(ratio) * (self.right - self.left)

    def down(self, mse: float) -> float:
        """Return the y coordinate of an error."""
        return self.bottom - self.y.share(mse) * (self.bottom - self.top)


def _panel(band: Band, own: Results) -> Panel:
    paths = {job: _ratios(job, result) for job, result in own.items()}
    points = [point for path in paths.values() for point in path]
    x = Axis.over("CV / exact CV", [*attractor.ON_ATTRACTOR, *(ratio for ratio, _, _ in points)])
    y = Axis.over("MSE", [mse for _, mse, _ in points], log=True)
    curves = [_curve(job, path) for job, path in paths.items() if path]
    return Panel(f"{band}, D = {PRESETS[band]['D']}: MSE, log axis", x, y, curves)


def _curve(job: Job, path: Sequence[tuple[float, float, float | None]]) -> Curve:
    ratio, _, error = path[-1]
    interval = None if error is None else (ratio - estimates.Z95 * error, ratio + estimates.Z95 * error)
    return Curve(RATES.index(job.rate), [(ratio, mse) for ratio, mse, _ in path], interval)


def _chosen(given: Sequence[str], parser: argparse.ArgumentParser) -> Job:
    """Return the job that ``--only`` names, with its rate in any notation."""
    band, rate, seed = given
    try:
        named = [job for job in JOBS if (job.band, job.rate, job.seed) == (band, float(rate), int(seed))]
    except ValueError:
        named = []
    if not named:
        parser.error(f"no such run: {' '.join(given)}; --jobs lists them")
    return named[0]


def _told(job: Job, result: Result) -> str:
    """Summarise the result of a job in one line."""
    last = result.at(STEPS)
    if last is None:
        return f"{job.name}: diverged at {result.diverged}"
    cv, _ = last.deciding_cv
    ratio = "degenerate" if cv is None else f"{cv / _exact(job.band):.3f}"
    return f"{job.name}: MSE {last.mse:.4f}, CV / exact {ratio}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Front of error against distance from the attractor.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of results and checkpoints; default: runs/front")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--only", nargs=3, metavar=("BAND", "RATE", "SEED"), help="do one run")
    ways.add_argument("--jobs", action="store_true", help="print the commands of all runs")
    ways.add_argument("--report", action="store_true", help="write the report from the existing results")
    given = parser.parse_args()
    if given.jobs:
        print("\n".join(job.command for job in JOBS))
        return
    if not given.report:
        for job in (_chosen(given.only, parser),) if given.only else JOBS:
            print(_told(job, run(job, given.folder)), flush=True)
    if not given.only:
        missing = write_report(given.folder, PAGE)
        print(f"written: {PAGE}; missing: {_names(missing) or 'nothing'}")


if __name__ == "__main__":
    main()
