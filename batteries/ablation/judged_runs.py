"""Runs of a folder that have reports, with their verdicts and what their source states of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from batteries.ablation import program as programs
from batteries.ablation import run_report, verdicts
from batteries.ablation.driver import PROGRAM
from batteries.ablation.program import Group, Program
from batteries.ablation.run_report import TIMING, RunReport, Timing
from batteries.ablation.runs import AblationRun, runs_of
from batteries.ablation.single_reading import reading_of
from batteries.ablation.verdicts import Verdict
from batteries.cell.manifest import CvFigure
from batteries.errors import BatteriesError, NotFoundError, StoreWarning
from batteries.io import atomic_files
from batteries.io.canonical_json import load_document

MAX_TIMING = 2**16


@dataclass(frozen=True)
class Judged:
    """A run with its verdicts.

    Attributes:
        group: Group of the run.
        report: Report.
        trained: Verdict on the trained cell.
        untrained: Verdict on the cell before training.
        published: CV that the source states for it, if any.
        timing: Cost of the run, if it is known; of runs that are one computation the first alone has it.
    """

    group: Group
    report: RunReport
    trained: Verdict
    untrained: Verdict
    published: float | None
    timing: Timing | None = None

    @property
    def z(self) -> float | None:
        """Difference of the CV from the published reading in standard errors of both; None if they cannot be compared."""
        return None if self.published is None else z_of_reading(self.report, self.published)


@dataclass(frozen=True)
class Snapshot:
    """Reports of a program in a folder.

    Attributes:
        program: Program.
        text: Text of the program.
        runs: All its runs.
        judged: Runs with a report, in order.
        seconds: Time of the computations whose timing is kept.
        timed: Number of these.
    """

    program: Program
    text: bytes
    runs: tuple[AblationRun, ...]
    judged: tuple[Judged, ...]
    seconds: float
    timed: int

    @property
    def missing(self) -> list[str]:
        """Names of the runs without a report."""
        found = {one.report.name for one in self.judged}
        return [run.name for run in self.runs if run.name not in found]

    def of(self, group: str) -> list[Judged]:
        """Return the runs of a group."""
        return [one for one in self.judged if one.group.id == group]


def snapshot(folder: Path) -> Snapshot:
    """Read the reports of a folder.

    Raises:
        NotFoundError: folder without a program (``NO_RUNS``).
        ConflictError: report of another run of that name (``RUN_CHANGED``).
        FormatError: damaged report.

    Warns:
        StoreWarning: timing that cannot be read (``TIMING``), as if there were none: no verdict depends on it.
    """
    path = folder / PROGRAM
    if not run_report.exists(path):
        raise NotFoundError(
            "no ablation in this folder",
            code="NO_RUNS",
            expected=PROGRAM,
            where=folder,
            remedy="batteries ablate PROGRAM --out FOLDER carries one out.",
        )
    text = atomic_files.read(path, limit=programs.MAX_PROGRAM)
    program = programs.parse(text, where=path)
    runs = runs_of(program)
    groups = {group.id: group for group in program.groups}
    judged: list[Judged] = []
    timings: list[Timing] = []
    for run in runs:
        path = run_report.path_of(folder, run.name)
        timing = _timing(path.with_name(TIMING))
        timings += [timing] if timing else []
        if run_report.exists(path):
            report = run_report.read(path)
            run_report.refuse_other(report, run.identity_in(report.data), path)
            group = groups[run.group]
            published = group.published.get(run.variant, {}).get(run.band)
            report = run_report.named(report, run)  # one that was copied from another run of the computation
            judged.append(Judged(group, report, verdicts.of_run(report), verdicts.of_untrained(report), published, timing))
    return Snapshot(program, text, tuple(runs), tuple(judged), sum(one.seconds for one in timings), len(timings))


def _timing(path: Path) -> Timing | None:
    """Return the timing of a run, if there is one that can be read."""
    try:
        if run_report.exists(path):
            return load_document(Timing, atomic_files.read(path, limit=MAX_TIMING), where=path, limit=MAX_TIMING)
    except BatteriesError:
        remedy = "Remove the file; only a run that is carried out afresh is timed again."
        warnings.warn(StoreWarning("unreadable timing is left out", code="TIMING", where=path, remedy=remedy), stacklevel=2)
    return None


def z_of_reading(report: RunReport, reading: float) -> float | None:
    """Return the difference of a run's CV from a reading in standard errors of both; None if they cannot be compared."""
    law = reading_of(report.plan.spec)
    return law.z(reading, report.cv.value, report.cv.standard_error or 0.0) if law and isinstance(report.cv, CvFigure) else None
