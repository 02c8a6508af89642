"""The published ablation as carried out here, beside what its source published: docs/results/ablation.md.

batteries ablate published --out docs/results/ablation   # carries out what has no report yet
batteries ablate report docs/results/ablation            # the tables beside the reports
python examples/ablation.py                              # this page
"""

from __future__ import annotations

import sys

from pages import NONE, RESULTS, table

from batteries import ablation
from batteries.ablation import aggregate
from batteries.ablation.judged_runs import Judged, Snapshot
from batteries.ablation.verdicts import exact_of
from batteries.cell.manifest import CvFigure
from batteries.io import atomic_files

FOLDER, PAGE = RESULTS / "ablation", RESULTS / "ablation.md"

HEAD = """# The published ablation, again

Written by `python examples/ablation.py` from the reports of `batteries ablate published --out docs/results/ablation`:
{reports} of {runs} reports of the source's runs, and {ours} of our own groups. All runs are {computations} computations, since
the usual run is a variant of eleven groups; {timed} of them are timed, {hours} hours of one thread in all. Tables:
[band_matrix.csv](ablation/band_matrix.csv), [group_summaries.csv](ablation/group_summaries.csv),
[anomalies.csv](ablation/anomalies.csv), [uniformity_diagnostic.csv](ablation/uniformity_diagnostic.csv),
[snapshot_meta.json](ablation/snapshot_meta.json).

*matched*: the published rule, a band by the windows of the CV-EMA. *on*, *undecided*, *off*: whether the 95% interval of
axial CV over exact CV lies within 0.85 to 1.25, across an edge, or outside. *untrained*: how many of the same cells match
before their first step; a rule that all of them match cannot fail."""
FIGURES = """## Figures of the source

A published CV is one reading of 200 simplices; its bias and standard deviation are measured here, for each row norm, V and D
(`batteries/ablation/single_reading.py`). *reproduced*: within 1.96 standard errors of both. *exact* is that of the attractor
which the row norm implies."""
DISAGREE = """## Where the two verdicts disagree"""


def report(found: Snapshot) -> str:
    """Format the page."""
    meta = aggregate.snapshot_meta(found)
    head = HEAD.format(
        reports=meta["reports_of_the_source"],
        runs=meta["runs_of_the_source"],
        ours=meta["reports"] - meta["reports_of_the_source"],
        computations=meta["computations"],
        hours=f"{meta['hours_timed']:.1f}",
        timed=meta["computations_timed"],
    )
    parts = [head, groups(found), FIGURES, figures(found), *sentences(found), DISAGREE, disagreements(found)]
    if found.missing:
        parts.append(f"Runs not carried out yet, which snapshot_meta.json lists: {len(found.missing)}.")
    return "\n\n".join(parts)


def groups(found: Snapshot) -> str:
    """Tabulate the groups that have reports."""
    head = (
        "group",
        "subject",
        "reports",
        "matched",
        "published",
        "on",
        "undecided",
        "off",
        "degenerate",
        "diverged",
        "untrained",
    )
    rows = []
    for one in aggregate.group_summaries(found):
        if one["reports"]:
            published = NONE if one["published_rate"] is None else f"{one['published_rate']:.0%}"
            flags = [str(one[flag]) for flag in ("on", "undecided", "off", "degenerate", "diverged")]
            title = f"{one['title']}{' (ours)' if one['ours'] else ''}"
            count = f"{one['matched']} ({one['match_rate']:.0%})"
            rows.append(
                (
                    one["group"],
                    title,
                    f"{one['reports']} of {one['runs']}",
                    count,
                    published,
                    *flags,
                    str(one["untrained_matched"]),
                )
            )
    return table(head, rows)


def figures(found: Snapshot) -> str:
    """Tabulate the published CVs beside ours."""
    rows = []
    for one in found.judged:
        if one.published is not None:
            exact, name = exact_of(one.report.plan.spec)
            rows.append(
                (
                    one.report.name,
                    f"{one.published:g}",
                    cv_of(one),
                    NONE if exact is None else f"{exact:.4f}, {name}",
                    said(one),
                )
            )
    return table(("run", "published", "CV here", "exact", "verdict"), rows)


def cv_of(one: Judged) -> str:
    """Format the published CV of a run's cell."""
    cv = one.report.cv
    return f"{cv.value:.4f} ± {cv.standard_error or 0:.4f}" if isinstance(cv, CvFigure) else one.trained.flag


def said(one: Judged) -> str:
    """Say whether a published figure is reproduced."""
    if one.z is None:
        return "undefined: every 4-volume is zero" if one.trained.flag == "degenerate" else one.trained.flag
    return f"{'reproduced' if abs(one.z) <= aggregate.Z95 else 'contradicted'}, z {one.z:+.1f}"


def sentences(found: Snapshot) -> list[str]:
    """Say which groups have a rule that cannot fail, and what LayerNorm and no norm do."""
    summaries = [one for one in aggregate.group_summaries(found) if one["reports"]]
    deaf = [one["group"] for one in summaries if not one["can_fail"]]
    lines = [f"- In {len(deaf)} of {len(summaries)} groups every untrained cell matches its band: {', '.join(deaf) or 'none'}."]
    drift = [one for one in found.judged if one.trained.flag in ("off", "undecided")]
    lines.append(f"- Not on the sphere's attractor: {', '.join(one.report.name for one in drift) or 'none'}.")
    return ["\n".join(lines)]


def disagreements(found: Snapshot) -> str:
    """Tabulate the runs on which the verdicts disagree."""
    rows = [
        (
            one.report.name,
            one.trained.band or "no band",
            one.trained.flag,
            NONE if one.report.cv_average is None else f"{one.report.cv_average:.4f}",
            cv_of(one),
        )
        for one in found.judged
        if one.trained.disagree
    ]
    return table(("run", "published rule", "flag", "CV-EMA", "CV"), rows) if rows else "Nowhere."


def main() -> int:
    """Run the command."""
    found = ablation.snapshot(FOLDER)
    ablation.write_tables(found, FOLDER)
    atomic_files.replace(PAGE, f"{report(found)}\n".encode())
    print(f"{len(found.judged)} of {len(found.runs)} runs: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
