"""Does a teacher speed training up? MID taught by LOW, and LOW by MID, against the same budget without, over five seeds.

    python examples/distillation.py            # the missing runs of thirty, then docs/results/distillation.md
    python examples/distillation.py --report   # the page, from the existing runs

A run is 600 steps of 32 noise images with Muon; the teacher is the shipped *johanna* cell. Runs are made on all processors, and
``docs/results/distillation.jsonl`` has every known one: another session, on another machine too, does the missing ones only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import kept_lines
from pages import RESULTS, table
from panels import Curve, Panel, drawn

import batteries
import registry
from batteries.engine import task_runner
from batteries.engine.tasks import Task
from batteries.geometry import estimates
from batteries.io import atomic_files
from registry.reports.charts.chart import Axis

PAGE, KNOWN = RESULTS / "distillation.md", RESULTS / "distillation.jsonl"
TEACHERS = {"mid": "low/johanna-64", "low": "mid/johanna-64"}
SHARES = (0.0, 0.5, 1.0)
COLOURS = dict(zip(SHARES, ("#999999", "#0072b2", "#d55e00"), strict=True))  # distinct for the colour-blind
SEEDS = range(5)
STEPS, BATCH, READINGS = 600, 32, 24
PROBE = "noise16-64"
TARGET_STEP = 3 * STEPS // 4  # an error that the runs without a teacher have reached there is the one to be reached

HEAD = """# Distillation

Written by `python examples/distillation.py`: {steps} steps of {batch} images of the 16 noise types, Muon, seeds {seeds};
the target is the image, moved towards the teacher's reconstruction by *share*; a share of 0 is the same budget without a
teacher. Errors are those of images on {probe}, not of the target. *images to the error*: training images until a reading
is at most the mean error that runs without a teacher have after {target} steps; readings are {every} apart, and between two
of them the error is taken as linear. Means over seeds ± standard error; *difference*: from the runs without a teacher of the
same seeds, with the 95% interval of its mean (Student, {freedom} degrees of freedom)."""


@dataclass(frozen=True)
class Taught:
    """Readings of a run.

    Attributes:
        band: Preset of the student.
        share: Share of the teacher in the target.
        seed: Seed of the run.
        teacher: Digest of the teacher.
        mse: Error on the probe at each reading.
        axial_cv: Axial CV at the end, over the exact one.
    """

    band: str
    share: float
    seed: int
    teacher: str
    mse: tuple[float, ...]
    axial_cv: float

    @property
    def key(self) -> tuple[str, float, int, str]:
        """Identity of the run."""
        return self.band, self.share, self.seed, self.teacher


def run(band: str, share: float, seed: int) -> Taught:
    """Train a student."""
    teacher = registry.load(TEACHERS[band])
    plan = batteries.Plan(
        spec=batteries.CellSpec.preset(band),  # type: ignore[arg-type]  # the bands of the table
        size=64,
        steps=STEPS,
        batch=BATCH,
        optimiser="muon",
        seed=seed,
        reading_every=STEPS // READINGS,
        triage_step=STEPS + 1,
        teacher=teacher.digest if share else None,
        distil=share,
    )
    found = batteries.train(plan, batteries.NoiseSource(), PROBE, teacher=teacher if share else None)
    exact = batteries.geometry.sphere_cv(plan.spec.D)
    last = found.trajectory[-1].axial_cv
    assert last is not None
    return Taught(band, share, seed, teacher.digest, tuple(point.mse for point in found.trajectory), last / exact)


def known(path: Path = KNOWN) -> list[Taught]:
    """Return the runs of a file."""
    return of_lines(kept_lines.read(path))


def of_lines(lines: bytes) -> list[Taught]:
    """Return the runs of kept lines."""
    return [Taught(**{**row, "mse": tuple(row["mse"])}) for row in map(json.loads, lines.splitlines())]


def keep(one: Taught, path: Path = KNOWN) -> None:
    """Write a run among the kept lines, in place of an earlier one of its identity."""

    def merged(lines: bytes) -> bytes:
        found = {each.key: each for each in (*of_lines(lines), one)}
        return "".join(json.dumps(asdict(found[key])) + "\n" for key in sorted(found)).encode()

    kept_lines.merge(path, merged)


def current(found: Sequence[Taught]) -> list[Taught]:
    """Return the runs of the teachers that ship; a file may have some of earlier ones."""
    digests = teachers()
    return [one for one in found if one.teacher == digests[one.band]]


def teachers() -> dict[str, str]:
    """Return the digests of the teachers that ship, by the band of the student."""
    return {band: registry.load(name).digest for band, name in TEACHERS.items()}


def missing(found: Sequence[Taught]) -> list[tuple[str, float, int]]:
    """Return the runs that no known one is, of the teachers that ship."""
    digests = teachers()
    have = {one.key for one in found}
    wanted = [(band, share, seed) for seed in SEEDS for band in TEACHERS for share in SHARES]
    return [one for one in wanted if (*one, digests[one[0]]) not in have]


def images_to(error: float, mse: Sequence[float]) -> float | None:
    """Return the training images until an error is reached, linearly between readings; None if it never is.

    >>> images_to(0.5, [0.9, 0.7, 0.3]) / (STEPS // READINGS * BATCH)
    2.5
    """
    before = mse[0]
    for place, value in enumerate(mse, start=1):
        if value <= error:
            part = (before - error) / (before - value) if place > 1 else 1.0
            return (place - 1 + part) * (STEPS // READINGS) * BATCH
        before = value
    return None


def difference(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences, with its 95% bounds."""
    apart = [first - second for first, second in zip(one, other, strict=True)]
    middle = statistics.mean(apart)
    reach = estimates.student(0.95, len(apart) - 1) * statistics.stdev(apart) / len(apart) ** 0.5
    return middle, middle - reach, middle + reach


def report(found: Sequence[Taught]) -> str:
    """Format the page."""
    rows, said = [], []
    for band, teacher in TEACHERS.items():
        of = {share: sorted((r for r in found if (r.band, r.share) == (band, share)), key=lambda r: r.seed) for share in SHARES}
        error = statistics.mean(r.mse[TARGET_STEP // (STEPS // READINGS) - 1] for r in of[0.0])
        images = {share: [images_to(error, r.mse) for r in runs] for share, runs in of.items()}
        for share, runs in of.items():
            ends, reached = [r.mse[-1] for r in runs], [count for count in images[share] if count is not None]
            row = [band, teacher, f"{share:g}", mean(ends, 4), f"{len(reached)} of {len(runs)}", mean(reached, 0)]
            row.append(mean([r.axial_cv for r in runs], 3))
            if share:
                row.append("{:+.4f} ({:+.4f} to {:+.4f})".format(*difference(ends, [r.mse[-1] for r in of[0.0]])))
                said.append(sentence(band, share, images[share], images[0.0]))
            rows.append([*row, *[""] * (8 - len(row))])
    head = (
        "student",
        "teacher",
        "share",
        "final error",
        "reached",
        "images to the error",
        "CV / exact",
        "difference of final error",
    )
    words = HEAD.format(
        steps=STEPS,
        batch=BATCH,
        seeds=f"{SEEDS[0]} to {SEEDS[-1]}",
        probe=PROBE,
        target=TARGET_STEP,
        every=STEPS // READINGS,
        freedom=len(SEEDS) - 1,
    )
    image = "![Error of every run along training images](distillation.svg)"
    return "\n\n".join([words, table(head, rows), image, "\n".join(f"- {line}" for line in said)])


def sentence(band: str, share: float, taught: Sequence[float | None], alone: Sequence[float | None]) -> str:
    """Say whether a teacher saves training images."""
    pairs = [(one, two) for one, two in zip(taught, alone, strict=True) if one is not None and two is not None]
    who = f"{band.upper()} with a share of {share:g}"
    if len(pairs) < len(taught):
        return f"{who}: {len(taught) - len(pairs)} of {len(taught)} runs do not reach the error."
    middle, low, high = difference(*map(list, zip(*pairs, strict=True)))
    verdict = "fewer images" if high < 0 else "more images" if low > 0 else "no difference shown"
    return f"{who}: {middle:+.0f} images to the error ({low:+.0f} to {high:+.0f}): {verdict}."


def mean(values: Sequence[float], digits: int) -> str:
    """Format a mean with its standard error."""
    if len(values) < 2:
        return "-"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


def picture(found: Sequence[Taught]) -> str:
    """Draw the error of every run along training images: a panel per student, a colour per share."""
    panels = []
    for band, teacher in TEACHERS.items():
        curves = [
            Curve(colour, [((place + 1) * STEPS // READINGS * BATCH, mse) for place, mse in enumerate(one.mse)], 0)
            for share, colour in COLOURS.items()
            for one in found
            if (one.band, one.share) == (band, share)
        ]
        points = [point for curve in curves for point in curve.path]
        x, y = (Axis.over("training images", [at for at, _ in points]), Axis.over("", [mse for _, mse in points], log=True))
        panels.append(Panel(f"{band} taught by {teacher}: MSE, log axis", x, y, curves, 280))
    shapes = [(f"share {share:g}", colour, 0) for share, colour in COLOURS.items()]
    return drawn("Distillation", "MSE along training images, one line a run, by share of the teacher.", [panels], shapes, "")


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Compare training with and without a teacher.")
    parser.add_argument("--report", action="store_true", help="only write the page")
    given = parser.parse_args(words)
    jobs = [] if given.report else missing(known())
    tasks = [Task(f"{band}-{share:g}-{seed}", run, (band, share, seed)) for band, share, seed in jobs]
    for outcome in task_runner.run(tasks):
        one = outcome.result()
        keep(one)
        print(f"{outcome.task.name}: {one.mse[-1]:.4f}", flush=True)
    found = known()  # with those of other sessions
    left = missing(found)
    if left:
        print(f"missing: {len(left)} runs", file=sys.stderr)
        return 1
    atomic_files.replace(PAGE.with_suffix(".svg"), picture(current(found)).encode())
    atomic_files.replace(PAGE, f"{report(current(found))}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
