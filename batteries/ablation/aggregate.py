"""Tables over the reports of a program: band matrix, anomalies, groups, uniformity; and what the snapshot consists of."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from batteries import __version__
from batteries.ablation import program as programs
from batteries.ablation import run_report, verdicts
from batteries.ablation.driver import PROGRAM
from batteries.ablation.program import Group, Program
from batteries.ablation.run_report import TIMING, RunReport, Timing
from batteries.ablation.runs import AblationRun, distinct, runs_of
from batteries.ablation.single_reading import reading_of
from batteries.ablation.verdicts import Verdict, exact_of
from batteries.cell.manifest import CvFigure, DegenerateFigure, Measured
from batteries.errors import NotFoundError
from batteries.geometry import attractor
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import load_document

MAX_TIMING = 2**16
Z95 = 1.96
Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """A run with its verdicts.

    Attributes:
        group: Group of the run.
        report: Report.
        trained: Verdict on the trained cell.
        untrained: Verdict on the cell before training.
        published: CV that the source states for it, if any.
    """

    group: Group
    report: RunReport
    trained: Verdict
    untrained: Verdict
    published: float | None

    @property
    def z(self) -> float | None:
        """Difference of the CV from the published reading in standard errors of both; None if they cannot be compared."""
        return None if self.published is None else _z_of_reading(self.report, self.published)


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
    judged, timings = [], []
    for run in runs:
        path = run_report.path_of(folder, run.name)
        if run_report.exists(path):
            report = run_report.read(path)
            run_report.refuse_other(report, run.identity, path)
            group = groups[run.group]
            published = group.published.get(run.variant, {}).get(run.band)
            report = run_report.named(report, run)  # one that was copied from another run of the computation
            judged.append(Judged(group, report, verdicts.of_run(report), verdicts.of_untrained(report), published))
        if run_report.exists(timing := path.with_name(TIMING)):
            timings.append(load_document(Timing, atomic_files.read(timing, limit=MAX_TIMING), where=timing, limit=MAX_TIMING))
    return Snapshot(program, text, tuple(runs), tuple(judged), sum(one.seconds for one in timings), len(timings))


def write_tables(found: Snapshot, folder: Path) -> list[Path]:
    """Write the tables into a folder; the same reports give the same bytes."""
    tables = {
        "band_matrix.csv": band_matrix(found),
        "anomalies.csv": anomalies(found),
        "group_summaries.csv": group_summaries(found),
        "uniformity_diagnostic.csv": uniformity(found),
    }
    for name, rows in tables.items():
        atomic_files.replace(folder / name, _csv(rows).encode())
    atomic_files.replace(folder / "snapshot_meta.json", canonical_json.dump(snapshot_meta(found), indent=2))
    return [folder / name for name in (*tables, "snapshot_meta.json")]


def band_matrix(found: Snapshot) -> list[Row]:
    """Return a row for each run: figures, both verdicts, and those of the untrained cell."""
    return [
        {
            **_key(one.report),
            "outcome": one.report.outcome,
            "steps": one.report.steps,
            "D": one.report.plan.spec.D,
            **_cv_columns("cv", one.report.cv),
            **_cv_columns("axial_cv", one.report.axial_cv),
            "cv_ema": one.report.cv_average,
            "exact_sphere": _sphere(one.report.plan.spec.D),
            "ratio": one.trained.ratio,
            "ratio_lower": one.trained.lower,
            "ratio_upper": one.trained.upper,
            "flag": one.trained.flag,
            "band_published_rule": one.trained.band,
            "matched": one.trained.matched,
            "disagree": one.trained.disagree,
            **_mse_columns("mse", one.report.measured),
            "untrained_cv": _value(one.report.untrained.cv),
            "untrained_flag": one.untrained.flag,
            "untrained_matched": one.untrained.matched,
            **_mse_columns("untrained_mse", one.report.untrained),
            "published_cv": one.published,
            "published_z": one.z,
            "computation": one.report.identity[:12],
        }
        for one in found.judged
    ]


def anomalies(found: Snapshot) -> list[Row]:
    """Return a row for each thing that is not as a run in its band has it."""
    rows = []
    for one in found.judged:
        cv = one.report.cv
        average = one.report.cv_average
        checks = {
            "diverged": (one.report.outcome == "diverged", f"loss not finite at step {one.report.steps}"),
            "out of band": (
                one.report.outcome == "finished" and not one.trained.matched,
                f"{one.trained.band or 'no band'}, expected {one.trained.expected or 'no band'}",
            ),
            "not on the attractor": (one.trained.flag in ("off", "undecided", "degenerate"), one.trained.flag),
            "verdicts disagree": (one.trained.disagree, f"matched {one.trained.matched}, flag {one.trained.flag}"),
            "CV-EMA apart from CV": (_apart(one.report, average), f"CV-EMA {average}, CV {_value(cv)}"),
            "published figure not reproduced": (one.z is not None and abs(one.z) > Z95, f"z {one.z}"),
        }
        rows += [{**_key(one.report), "anomaly": name, "detail": detail} for name, (holds, detail) in checks.items() if holds]
    return rows


def group_summaries(found: Snapshot) -> list[Row]:
    """Return a row for each group: match rates, flags, controls, and whether the verdict can fail there at all."""
    return [_summary(found, group) for group in found.program.groups]


def uniformity(found: Snapshot) -> list[Row]:
    """Return a row for each finished run: the distance of its rows from uniform, and from its norm's own attractor."""
    rows = []
    for one in found.judged:
        if (measured := one.report.measured) is None:
            continue
        spec = one.report.plan.spec
        exact, name = exact_of(spec)
        cv = measured.axial_cv if isinstance(measured.axial_cv, CvFigure) else None
        rows.append(
            {
                **_key(one.report),
                "row_norm": spec.row_norm,
                **_cv_columns("axial_cv", measured.axial_cv),
                "exact_sphere": _sphere(spec.D),
                "z_sphere": _z(cv, _sphere(spec.D)),
                "exact_of_norm": exact,
                "attractor_of_norm": name,
                "z_of_norm": _z(cv, exact),
                "effective_rank": measured.effective_rank.value,
                "effective_rank_se": measured.effective_rank.standard_error,
                "largest_radius_error": measured.radius_error,
            }
        )
    return rows


def snapshot_meta(found: Snapshot) -> Row:
    """Return what the snapshot consists of."""
    theirs = {group.id for group in found.program.groups if not group.ours}
    return {
        "program": found.program.name,
        "program_sha256": canonical_json.sha256(found.text),
        "source": found.program.source,
        "runs": len(found.runs),
        "runs_of_the_source": sum(run.group in theirs for run in found.runs),
        "computations": len(distinct(found.runs)),
        "reports": len(found.judged),
        "reports_of_the_source": sum(one.group.id in theirs for one in found.judged),
        "missing": found.missing,
        "diverged": [one.report.name for one in found.judged if one.report.outcome == "diverged"],
        "hours_timed": round(found.seconds / 3600, 3),
        "computations_timed": found.timed,
        "package": __version__,
        "torch": torch.__version__,
    }


def _summary(found: Snapshot, group: Group) -> Row:
    judged = found.of(group.id)
    flags = [one.trained.flag for one in judged]
    matched = sum(one.trained.matched for one in judged)
    controls = sum(one.untrained.matched for one in judged)
    return {
        "group": group.id,
        "title": group.title,
        "ours": group.ours,
        "runs": sum(run.group == group.id for run in found.runs),
        "reports": len(judged),
        "matched": matched,
        "match_rate": matched / len(judged) if judged else None,
        "published_rate": group.matched,
        **{flag: flags.count(flag) for flag in ("on", "undecided", "off", "degenerate", "diverged")},
        "disagreements": sum(one.trained.disagree for one in judged),
        "untrained_matched": controls,
        "untrained_on": sum(one.untrained.flag == "on" for one in judged),
        "can_fail": controls < len(judged) if judged else None,
        "published_figures": sum(one.published is not None for one in judged),
        "reproduced": sum(one.z is not None and abs(one.z) <= Z95 for one in judged),
    }


def _key(report: RunReport) -> Row:
    return {"group": report.group, "variant": report.variant, "band": report.band}


def _cv_columns(name: str, cv: CvFigure | DegenerateFigure | None) -> Row:
    known = cv if isinstance(cv, CvFigure) else None
    return {name: known and known.value, f"{name}_se": known and known.standard_error}


def _mse_columns(name: str, measured: Measured | None) -> Row:
    return {name: measured and measured.mse.value, f"{name}_se": measured and measured.mse.standard_error}


def _value(cv: CvFigure | DegenerateFigure | None) -> float | None:
    return cv.value if isinstance(cv, CvFigure) else None


def _sphere(D: int) -> float | None:
    return attractor.sphere_cv(D) if D >= attractor.SIMPLEX else None


def _z(cv: CvFigure | None, exact: float | None) -> float | None:
    return None if cv is None or exact is None or not cv.standard_error else (cv.value - exact) / cv.standard_error


def _z_of_reading(report: RunReport, reading: float) -> float | None:
    law = reading_of(report.plan.spec)
    return law.z(reading, report.cv.value, report.cv.standard_error or 0.0) if law and isinstance(report.cv, CvFigure) else None


def _apart(report: RunReport, average: float | None) -> bool:
    """Return True if an average of single readings is farther from the CV than a single reading would be."""
    z = None if average is None else _z_of_reading(report, average)
    return z is not None and abs(z) > Z95


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    columns = list(rows[0]) if rows else ["group", "variant", "band"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
