"""Tables and sentences about cells, compositions and verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from batteries.cell.manifest import CvFigure, DegenerateFigure, Estimated, Triage
from registry.answers.alignment import Aligned, SwapFigure
from registry.answers.composition import ComposedNode
from registry.catalog import check_names
from registry.catalog.attestation import Attestation
from registry.catalog.figures import CheckFigure, DoseFigure
from registry.reports import figures
from registry.reports.figures import number
from registry.reports.fitted_table import FittedTable
from registry.reports.tables import AXIAL, NOTHING

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from batteries.cell.cell import Cell
    from composer.adaptation.adapted import Adapted
    from composer.adaptation.guard import AdaptMoment
    from composer.container.container import Container


def stderr() -> Console:
    """Return a console on stderr, for progress bars."""
    from rich.console import Console

    return Console(stderr=True)


def cells(found: Sequence[Cell]) -> FittedTable:
    """Tabulate cells: band, both CVs with their error, ratio to the exact attractor, error beside its baselines."""
    columns = ("cell", "band", "CV", AXIAL, "/ exact", "MSE", "PCA", "untrained", "probe")
    table = FittedTable(*columns, optional=("PCA", "band", "untrained", "/ exact", AXIAL))
    for cell in found:
        own, null = cell.manifest.own, cell.manifest.untrained.get(cell.manifest.own_probe)
        base = own.baselines
        table.add_row(
            f"{cell.name}@{cell.version}",
            own.band or NOTHING,
            _cv(own.cv),
            NOTHING if own.axial_cv is None else _cv(own.axial_cv),
            number(own.deciding_cv.ratio, 3) if isinstance(own.deciding_cv, CvFigure) else NOTHING,
            estimate(own.mse),
            f"{number(base.pca)} (k={base.pca_k})" if base else NOTHING,
            number(null.mse.value) if null else NOTHING,
            own.probe,
        )
    return table


def adaptation(found: Adapted) -> list[Any]:
    """Return what happened to a cell in a host: the host's score, the end, and a table of the looks of the guard."""
    facts = found.cell.manifest.adapted
    assert facts is not None, "an adapted cell has its adaptation in its manifest"
    table = FittedTable("step", "rate", "content", AXIAL, "rank", "|dW|/|W|", "holds")
    for moment in found.moments:
        cv = "degenerate" if moment.axial_cv is None else f"{moment.axial_cv.ratio:.3f}"
        content, rank = f"{moment.content:.4f}", f"{moment.rank.ratio:.3f}"
        table.add_row(moment.step, f"{moment.rate:g}", content, cv, rank, f"{moment.weight_change:.4f}", _yes(moment.holds))
    score = "R2" if found.task.restores else "accuracy"
    end = "finished" if found.ended == "finished" else "ended by the guard"
    words = [
        f"{facts.task}: {score} of the host {figures.estimate(facts.score, facts.score_error)}, on its test images",
        f"{end} after {facts.steps} steps and {facts.backoffs} back-offs, dose {facts.dose:.3g}",
        "CV and rank below are over those of the parent",
    ]
    return [*words, table]


def moment(found: AdaptMoment) -> dict[str, Any]:
    """Return a look of the guard as an answer has it."""
    row = asdict(found)
    return {**row, "faults": list(found.faults), "holds": found.holds}


def viability(found: Attestation) -> list[Any]:
    """Return an attestation as sentences and tables of checks, dose-response and controls."""
    checks = FittedTable("check", "passed", "value", "interval", "threshold", wrapping=("threshold",), optional=("interval",))
    for check in found.checks:
        words = check.threshold if check.passed else f"{check.threshold}: {check.reason}"
        checks.add_row(check_names.printed(check.name), _passed(check), _number(check.value), _interval(check), words)
    columns = ("subject", "rate", "trials", "|dW|/|W|", "score", found.cv_name, "rank", "retention", "kept")
    doses = FittedTable(*columns, optional=("|dW|/|W|", "score", "trials", "rank"))
    for subject, rate in dict.fromkeys((dose.subject, dose.rate) for dose in found.doses):
        at = [dose for dose in found.doses if (dose.subject, dose.rate) == (subject, rate)]
        fields = ("weight_change", "score", "deciding_cv", "rank", "retention", "kept")
        doses.add_row(subject, f"{rate:g}", len(at), *(_over(at, field) for field in fields))
    controls = FittedTable("control", "rejected", "by")
    for control in found.controls:
        controls.add_row(control.name, _yes(control.rejected), check_names.printed(control.by))
    tables = [checks, *([doses] if found.doses else []), *([controls] if found.controls else [])]
    return [f"{found.reference}, {found.protocol}, seed {found.seed}", *found.words, *tables]


def _over(doses: Sequence[DoseFigure], column: str) -> str:
    """Return the mean of a column over trials, with the standard deviation if there are several."""
    values = [getattr(dose, column) for dose in doses]
    values = [value[0] if isinstance(value, tuple) else value for value in values]
    if any(value is None for value in values):
        return "degenerate"
    spread = statistics.stdev(values) if len(values) > 1 else None
    return figures.estimate(statistics.mean(values), spread)


def triage_words(triage: Triage | None) -> str:
    """Return the reason for which triage stopped a run."""
    assert triage is not None, "only a run with a triage is stopped"
    return f"band {triage.found or 'none'} at step {triage.step}, expected {triage.expected}"


def composition(model: Container, members: Sequence[Cell], images: Tensor) -> list[dict[str, Any]]:
    """Measure each cell of a container: patches, error on the images, and agreement of its tokens with the others'."""
    import torch

    with torch.no_grad():
        parts = [model(part) for part in images.split(32)]
    error = torch.cat([part.error for part in parts]).mean(dim=0)
    rows = []
    for index, (name, cell) in enumerate(zip(model.names, members, strict=True)):
        grid = parts[0][name].grid
        row: dict[str, Any] = {"cell": name, "version": cell.version, "D": cell.spec.D, "patches": math.prod(grid)}
        row["mse"] = float(error[index])
        if model.consensus and model.consensus.scores:
            score = model.consensus.scores[index]
            fit = model.consensus.maps[index]
            row |= {"residual": float(fit.residual), "determinant": int(fit.determinant)}
            null = score.shuffled
            row |= {"r2": score.r2, "null": null.mean, "null_sd": null.sd, "lift": score.lift, "p": score.p_value}
        rows.append(row)
    return rows


def composition_table(rows: Sequence[dict[str, Any]]) -> FittedTable:
    """Tabulate the rows of :func:`composition`."""
    columns = ("cell", "D", "patches", "MSE here", "held-out R2", "shuffled", "lift", "p")
    table = FittedTable(*columns, optional=("shuffled", "patches", "held-out R2", "D"))
    for row in rows:
        table.add_row(
            f"{row['cell']}@{row['version']}",
            row["D"],
            row["patches"],
            number(row["mse"]),
            *_agreement(row),
        )
    return table


def composition_tables(rows: Sequence[dict[str, Any]], nodes: Sequence[ComposedNode]) -> list[FittedTable]:
    """Return the table of cells, and one of nodes where one of them computes something."""
    tables = [composition_table(rows)]
    if any(node.kind != "parallel" for node in nodes):
        table = FittedTable("node", "kind", "MSE here", "share of regions", wrapping=["share of regions"])
        for node in nodes:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in (node.shares or {}).items())
            table.add_row(node.name, node.kind, NOTHING if node.mse is None else number(node.mse), shares or NOTHING)
        tables.append(table)
    return tables


def _agreement(row: dict[str, Any]) -> list[str]:
    """Format the agreement of a cell's tokens with the others'; dashes for a single cell."""
    if "r2" not in row:
        return [NOTHING] * 4
    null = figures.estimate(row["null"], row["null_sd"], 3)
    return [number(row["r2"], 3), null, number(row["lift"], 3), number(row["p"], 3)]


def alignment(found: Aligned) -> list[Any]:
    """Return an alignment as its settings, a table with one row per pair, and a summary in sentences."""
    images, regions = found.images[0], math.prod(found.regions)
    asked = f"{found.tokens} of {len(found.cells)} cells on {found.probe} ({found.probe_because})"
    swaps = {(swap.source, swap.target): swap for swap in found.swaps or ()}
    columns = ["cell", "other", "lift", "95% interval", "over untrained", "p", "related", "cosine", "through"]
    optional = ("through", "cosine", "over untrained", "95% interval")
    table = FittedTable(*columns, *(["swap", "swap back"] if swaps else []), optional=optional)
    for pair in found.pairs:
        ends = pair.source, pair.target
        low, high = pair.lift_bounds
        untrained = NOTHING if pair.lift_over_untrained is None else number(pair.lift_over_untrained, 3)
        interval = f"{number(low, 3)} to {number(high, 3)}"
        scores = [number(pair.lift, 3), interval, untrained, number(pair.p, 3), _yes(pair.related)]
        shares = [_share(swaps[names]) for names in (ends, ends[::-1])] if swaps else []
        table.add_row(*ends, *scores, number(pair.cosine, 3), number(pair.through_cosine, 3), *shares)
    note = (
        ["swap: share recovered of the error that the mean tokens add; in brackets if they add almost none."] if swaps else []
    )
    size = f"{images} images, {regions} regions of each, {found.untrained} untrained cells at each end, seed {found.seed}"
    return [f"{asked}: {size}", table, *note, " ".join(found.summary)]


def _share(swap: SwapFigure) -> str:
    words = NOTHING if swap.share is None else number(swap.share, 3)
    return words if swap.carries else f"({words})"


def estimate(figure: Estimated) -> str:
    """Format a value with its standard error."""
    return figures.estimate(figure.value, figure.standard_error)


def _cv(cv: CvFigure | DegenerateFigure) -> str:
    return estimate(cv) if isinstance(cv, CvFigure) else "degenerate"


def _passed(check: CheckFigure) -> str:
    word = NOTHING if check.passed is None else _yes(check.passed)
    return word if check.decides else f"({word})"


def _interval(check: CheckFigure) -> str:
    if check.lower is None or check.upper is None or check.lower == check.upper:
        return ""
    return f"{number(check.lower)} to {number(check.upper)}"


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
