"""The page of the front: tables of gain against content kept, a picture, and what follows for each cell and task."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from pages import NONE, RESULTS, table
from panels import Curve, Panel, drawn

from batteries.geometry import estimates
from batteries.io import atomic_files
from registry.reports.charts.chart import Axis

if TYPE_CHECKING:
    from adaptation import Ran

PAGE, PICTURE = RESULTS / "adaptation.md", RESULTS / "adaptation.svg"
CONTENT, SHARE, SEEDS = 0.95, 0.9, 4  # least content, least share of the raw gain, least number of seeds of five
COLOURS = {  # distinct for the colour-blind (Okabe and Ito 2008)
    "raw": "#333333",
    "reconstruction": "#0072b2",
    "cv": "#e69f00",
    "anchor": "#cc79a7",
    "all": "#009e73",
    "held": "#d55e00",
}

HEAD = """# A host's gain against the content its cell keeps

Written by `python examples/adaptation.py` ({done} of {planned} runs). A host learns a task around a cell: *naming* the 16 noise
types, or *denoising* photographs, whose noise has a standard deviation of 0.25, or of 1 (*strong denoising*). *gain*: its score
(accuracy, or R2) over that of the same host around the frozen cell, of the same seed. *content*: share kept of the variance
that the cell explained beyond the mean, on held-out images of its own domain.
*CV*, *rank*: axial CV and effective rank over those before. *holds*: seeds of which CV and rank hold (ratio and both 95%
bounds in [0.85, 1.15]) and content is at least {content}. Means over seeds ± standard error; *seconds*: median. Terms without a
guard: *raw* none, *reconstruction*, *cv* (Cayley-Menger), *anchor* alone, *all* three; *held*: reconstruction, Cayley-Menger
term and guard, the default of `batteries adapt`. Front: the higher and the farther right, the better."""


def write(found: Sequence[Ran], planned: int) -> None:
    """Write page and picture."""
    atomic_files.replace(PAGE, f"{report(found, planned)}\n".encode())
    atomic_files.replace(PICTURE, picture(found).encode())


def report(found: Sequence[Ran], planned: int) -> str:
    """Format the page."""
    parts = [HEAD.format(done=len(found), planned=planned, content=CONTENT), "![gain against content](adaptation.svg)"]
    said = []
    for cell, task in places(found):
        of = [one for one in found if (one.cell, one.task) == (cell, task)]
        rows = [row for arm, optimiser in kinds(of) if (row := _row(of, arm, optimiser))]
        head = ("terms", "optimiser", "seeds", "score", "gain", "content", "CV", "rank", "change", "holds", "seconds")
        parts += [f"## {cell}, {task}", table(head, [_frozen_row(of), *rows])]
        said += [sentence(of, cell, task, optimiser) for optimiser in ("adam", "muon")]
    return "\n\n".join([*parts, "## What follows", "\n".join(f"- {line}" for line in said if line)])


def places(found: Sequence[Ran]) -> list[tuple[str, str]]:
    """Return cells and tasks with runs, in the order of the runs."""
    return list(dict.fromkeys((one.cell, one.task) for one in found))


def kinds(of: Sequence[Ran]) -> list[tuple[str, str]]:
    """Return arms and optimisers, but for the frozen cell."""
    have = {(one.arm, one.optimiser) for one in of}
    return [kind for kind in product(COLOURS, ("adam", "muon")) if kind in have]


def gains(of: Sequence[Ran], arm: str, optimiser: str) -> dict[int, float]:
    """Return the gain over the frozen cell by seed."""
    frozen = {one.seed: one.score for one in of if one.arm == "frozen"}
    runs = [one for one in of if (one.arm, one.optimiser) == (arm, optimiser)]
    return {one.seed: one.score - frozen[one.seed] for one in runs if one.seed in frozen}


def sentence(of: Sequence[Ran], cell: str, task: str, optimiser: str) -> str:
    """Say whether the held cell has most of the raw gain and keeps its content; empty without runs."""
    held = {one.seed: one for one in of if (one.arm, one.optimiser) == ("held", optimiser)}
    raw, own = gains(of, "raw", optimiser), gains(of, "held", optimiser)
    seeds = sorted(raw.keys() & own.keys())
    if not seeds:
        return ""
    holding = [seed for seed in seeds if held[seed].holds and held[seed].content >= CONTENT]
    enough = [seed for seed in holding if own[seed] >= SHARE * raw[seed]]
    raws, owns = ([gain[seed] for seed in seeds] for gain in (raw, own))
    verdict = f"{len(enough)} of {len(seeds)} seeds have at least {SHARE:.0%} of the raw gain, hold, and keep {CONTENT}"
    verdict += f" (wanted: {SEEDS} of 5)" if len(seeds) == 5 else ""
    if len(seeds) > 1 and interval(raws)[0] <= 0:  # a share of nothing is no measure
        verdict = f"the raw gradient gains its host nothing; {len(holding)} of {len(seeds)} held cells hold, and keep {CONTENT}"
    lost = [one.content for one in of if (one.arm, one.optimiser) == ("raw", optimiser)]
    words = f"gain {mean(owns)} held, {mean(raws)} raw; difference {mean([a - b for a, b in zip(owns, raws, strict=True)])}"
    return f"{cell}, {task}, {optimiser}: {verdict}; {words}; raw keeps {mean(lost)}."


def picture(found: Sequence[Ran]) -> str:
    """Draw gain against content: a panel for each cell and task, a marker for each run."""
    panels = [_panel(found, cell, task) for cell, task in places(found)]
    rows = [panels[place : place + 2] for place in range(0, len(panels), 2)]
    shapes = [(arm, colour, 0) for arm, colour in COLOURS.items()]
    what = "Gain of the host over that of the frozen cell against the share of content kept; circles Adam, others Muon."
    return drawn("Gain against content kept", what, rows, shapes, f"content of at least {CONTENT}")


def mean(values: Sequence[float], digits: int = 3) -> str:
    """Format a mean with its standard error, from two values on."""
    if not values:
        return NONE
    middle = f"{statistics.mean(values):.{digits}f}"
    return middle if len(values) < 2 else f"{middle} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of a mean (Student), of two values or more."""
    reach = estimates.student(0.95, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - reach, statistics.mean(values) + reach


def _frozen_row(of: Sequence[Ran]) -> list[str]:
    runs = [one for one in of if one.arm == "frozen"]
    seconds = f"{statistics.median(one.seconds for one in runs):.0f}" if runs else NONE
    return ["frozen", "", str(len(runs)), mean([one.score for one in runs]), *[NONE] * 6, seconds]


def _row(of: Sequence[Ran], arm: str, optimiser: str) -> list[str]:
    runs = [one for one in of if (one.arm, one.optimiser) == (arm, optimiser)]
    return [
        arm,
        optimiser,
        str(len(runs)),
        mean([one.score for one in runs]),
        mean([*gains(of, arm, optimiser).values()]),
        mean([one.content for one in runs]),
        mean([one.axial_cv[0] for one in runs if one.axial_cv]),
        mean([one.rank[0] for one in runs]),
        mean([one.weight_change for one in runs]),
        f"{sum(one.holds for one in runs)} of {len(runs)}",
        f"{statistics.median(one.seconds for one in runs):.0f}",
    ]


def _panel(found: Sequence[Ran], cell: str, task: str) -> Panel:
    of = [one for one in found if (one.cell, one.task) == (cell, task)]
    curves = []
    for arm, optimiser in kinds(of):
        gain = gains(of, arm, optimiser)
        runs = [one for one in of if (one.arm, one.optimiser) == (arm, optimiser) and one.seed in gain]
        shape = 0 if optimiser == "adam" else 1
        curves += [Curve(COLOURS[arm], [(max(one.content, -1.0), gain[one.seed])], shape) for one in runs]
    points = [point for curve in curves for point in curve.path]
    x = Axis.over("content kept (at least -1)", [CONTENT, 1.0, *(across for across, _ in points)])
    y = Axis.over("gain", [0.0, *(up for _, up in points)])
    return Panel(f"{cell}, {task}", x, y, curves, 260, (CONTENT, 1.0))
