"""The published ablation as carried out here, beside what its source published: docs/results/ablation.md.

batteries ablate published --out docs/results/ablation   # carries out what has no report yet
batteries ablate report docs/results/ablation            # the tables beside the reports
python examples/ablation.py                              # this page
"""

from __future__ import annotations

import math
import sys
from statistics import mean, stdev

import torch
from pages import NONE, RESULTS, spread, table

from batteries import ablation
from batteries.ablation import aggregate
from batteries.ablation.judged_runs import Judged, Snapshot
from batteries.ablation.single_reading import reading_of
from batteries.ablation.verdicts import exact_of
from batteries.cell.manifest import CvFigure, DegenerateFigure
from batteries.geometry import estimates
from batteries.geometry.attractor import SIMPLEX
from batteries.io import atomic_files
from batteries.training.soft_hand import DRAWS, EMA_DECAY

FOLDER, PAGE = RESULTS / "ablation", RESULTS / "ablation.md"
MISFIRE = ("B/gaussian/high", 0.7533, 0.9504)  # run that the source has out of its band: its CV-EMA, and its CV
MATRICES, POINTS = 200, SIMPLEX + 1  # that the CV of rounding errors is measured on, and points of a simplex
DRAWN_ANEW = ("A", "B")  # groups whose runs differ from the first reading on

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
(`batteries/ablation/single_reading.py`), and corrected for in *published / exact*. *reproduced*: within 1.96 standard errors of
both. *exact* is that of the attractor which the row norm implies; *untrained* is the same cell's CV before its first step. ±:
standard error."""
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
                    *shares(one, one.published, exact),
                    said(one),
                )
            )
    head = ("run", "published", "CV here", "exact", "published / exact", "here / exact", "untrained / exact", "verdict")
    return table(head, rows)


def shares(one: Judged, published: float, exact: float | None) -> tuple[str, str, str]:
    """Format the published CV, ours, and the untrained cell's over the exact one: which of them has left the attractor."""
    law = reading_of(one.report.plan.spec)
    if exact is None or law is None:
        return NONE, NONE, NONE
    read = law.share * exact
    theirs = f"{published / read:.3f} ± {law.deviation / read:.3f}"
    return theirs, share_of(one.report.cv, exact), share_of(one.report.untrained.cv, exact)


def share_of(cv: CvFigure | DegenerateFigure | None, exact: float) -> str:
    """Format a CV over the exact one."""
    return f"{cv.value / exact:.3f} ± {(cv.standard_error or 0) / exact:.3f}" if isinstance(cv, CvFigure) else NONE


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
    """Say which groups have a rule that cannot fail, which runs are not on the sphere's attractor, and what misfired."""
    summaries = [one for one in aggregate.group_summaries(found) if one["reports"]]
    deaf = [one["group"] for one in summaries if not one["can_fail"]]
    lines = [f"- In {len(deaf)} of {len(summaries)} groups every untrained cell matches its band: {', '.join(deaf) or 'none'}."]
    same = sum(one.trained.matched == one.untrained.matched for one in found.judged)
    lines.append(f"- In {same} of {len(found.judged)} runs the published verdict is that on the cell before its first step.")
    drift = [one for one in found.judged if one.trained.flag in ("off", "undecided")]
    lines.append(f"- Not on the sphere's attractor: {', '.join(one.report.name for one in drift) or 'none'}.")
    return ["\n".join([*lines, *misfire(found), *hyperplane(found)])]


def misfire(found: Snapshot) -> list[str]:
    """Compare the published average of a run out of its band with those of all runs of its band; nothing if it has none."""
    name, published, cv = MISFIRE
    band = name.rsplit("/", 1)[-1]
    of = [one.report for one in found.judged if one.report.band == band and one.group.id in DRAWN_ANEW]
    averages = list({one.identity: one.cv_average for one in of if one.cv_average is not None}.values())
    here = next((one for one in of if one.name == name), None)
    if here is None or here.cv_average is None or not isinstance(here.cv, CvFigure) or len(averages) < 2:
        return []
    first = EMA_DECAY ** (here.steps - 1)  # weight of the first reading at the end
    freedom = len(averages) - 1
    t = (published - mean(averages)) / (stdev(averages) * math.sqrt(1 + 1 / len(averages)))  # of one more run of their law
    verdict = "reproduced" if abs(t) <= estimates.student(0.95, freedom) else "contradicted"
    return [
        f"- {name} is the one published mismatch outside of G: a CV-EMA of {published:g} beside a CV of {cv:g}. Here it is "
        f"{here.cv_average:.4f} beside {here.cv.value:.4f}, and {len(averages)} {band.upper()} runs of groups "
        f"{' and '.join(DRAWN_ANEW)}, which differ in seed or noise, have {spread(averages, 3)} (standard deviation): "
        f"{verdict}, t {t:+.1f} ({freedom} degrees of freedom). After {here.steps} steps of decay "
        f"{EMA_DECAY:g} the first reading still weighs {first:.0%}. An average that begins at "
        f"{(published - (1 - first) * cv) / first:.2f} ends at the published one; how the source's begins is not known."
    ]


def hyperplane(found: Snapshot) -> list[str]:
    """Say what a published CV of rows without a 4-volume may have measured; nothing if there is none."""
    lines = []
    for one in found.judged:
        spec = one.report.plan.spec
        if one.published is None or one.trained.flag != "degenerate" or spec.row_norm != "layernorm":
            continue
        middle, deviation, kept = rounding(spec.V, spec.D)
        lines.append(
            f"- {one.report.name}: rows that sum to zero lie in a hyperplane, where every 4-volume is zero. A CV of them is "
            f"one of rounding errors: {DRAWS} Cayley-Menger determinants in float32 of such random rows, of which "
            f"{1 - kept:.0%} are negative and left out, have a CV of {middle:.2f} ± {deviation:.2f} (standard deviation of a "
            f"reading). The published {one.published:g} is z {(one.published - middle) / deviation:+.1f} from it; the source's "
            "own formula is not known."
        )
    return lines


def rounding(V: int, D: int) -> tuple[float, float, float]:
    """Return the mean and standard deviation of CVs of rounding errors, and the share of determinants that are positive.

    Rows are random ones after LayerNorm; the 4-volume squared is minus the Cayley-Menger determinant over 9216.
    """
    generator = torch.Generator().manual_seed(0)
    found, positive = [], 0
    for _ in range(MATRICES):
        rows = torch.nn.functional.layer_norm(torch.randn(V, D, generator=generator), (D,))
        points = rows[torch.stack([torch.randperm(V, generator=generator)[:POINTS] for _ in range(DRAWS)])]
        bordered = torch.ones(DRAWS, POINTS + 1, POINTS + 1)
        bordered[:, 0, 0] = 0
        bordered[:, 1:, 1:] = (points[:, :, None] - points[:, None]).square().sum(-1)
        squares = -torch.linalg.det(bordered) / 9216
        volumes = squares[squares > 0].sqrt()
        positive += len(volumes)
        found.append((volumes.std() / volumes.mean()).item())
    return mean(found), stdev(found), positive / (MATRICES * DRAWS)


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
