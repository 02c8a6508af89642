"""Tables over the reports of a program: band matrix, anomalies, groups, uniformity; and what the snapshot consists of."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from batteries import __version__
from batteries.ablation.judged_runs import Snapshot, z_of_reading
from batteries.ablation.program import Group
from batteries.ablation.run_report import RunReport
from batteries.ablation.runs import distinct
from batteries.ablation.verdicts import exact_of
from batteries.cell.manifest import CvFigure, DegenerateFigure, Measured
from batteries.geometry import attractor
from batteries.io import atomic_files, canonical_json

Z95 = 1.96
Row = dict[str, Any]


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


def _apart(report: RunReport, average: float | None) -> bool:
    """Return True if an average of single readings is farther from the CV than a single reading would be."""
    z = None if average is None else z_of_reading(report, average)
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
