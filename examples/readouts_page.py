"""Page of the readouts: figures by band, ratios paired by seed, and what they say of the singular values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from pages import NONE, put, spread, table
from readouts_jobs import BATCHES, EVERY, JOBS, READOUTS, SIZE, STEPS, Job, Result, Results

from batteries.cell.spec import CellSpec, Preset, Readout
from batteries.geometry import attractor
from batteries.geometry.estimates import student
from registry.checks.protocol import PROFILES

TITLE = "Readouts: singular values, a matrix, or neither"
PROTOCOL = PROFILES["quick"]
UNTRAINED = 2  # untrained cells of a spec
CONFIDENCE = 0.95
FEWEST = 2  # seeds of an interval
COLUMNS = (
    "readout",
    "parameters",
    "seeds",
    "MSE",
    "CV / exact",
    "on attractor",
    "M / untrained",
    "omega / untrained",
    "ms a step",
)


@dataclass(frozen=True)
class Figure:
    """Figure of a run, the smaller the better.

    Attributes:
        name: Name in the tables.
        of: Function of a run that returns it; None if it has none.
    """

    name: str
    of: Callable[[Result], float | None]


def _error(result: Result) -> float | None:
    last = result.at(STEPS)
    return None if last is None else last.mse


FIGURES = (
    Figure("error", _error),
    Figure("read-out of M", lambda result: result.losses and result.losses.M),
    Figure("read-out of omega", lambda result: result.losses and result.losses.omega),
    Figure("time of a step", lambda result: result.step_seconds),
)


def write(found: Results, page: Path) -> None:
    """Write the tables between their comments; the rest of the page is edited by hand."""
    put(page, TITLE, "runs", report(found))


def report(found: Results) -> str:
    """Format the tables, and what is missing of them."""
    tables = "\n\n".join(f"### {band.upper()}\n\n{_table(band, found)}" for band in BATCHES)
    plan, (low, high) = JOBS[0].plan, attractor.ON_ATTRACTOR
    batches = ", ".join(f"{count} ({band})" for band, count in BATCHES.items())
    return f"""Written by `python examples/readouts.py`, which keeps the results in [readouts.jsonl](readouts.jsonl).
`python examples/readouts.py --jobs` lists the {len(JOBS)} runs as commands of their own, for several processes to share.

The presets learn the 16 noise types with each readout of a spec ([decision](../decisions/0036-readouts.md)), from the same
images and, matrix apart, from the same initial weights: {STEPS} steps of Muon at {plan.rate:g}, {plan.schedule}, at {SIZE}
pixels. Images a step: {batches}. Readings every {EVERY} steps on `noise16-{SIZE}`; figures are those of the last step, mean ±
standard deviation over seeds.

{tables}

- *CV / exact*: axial CV of the rows of M over that of points uniform on the sphere; *on attractor* from {low} to {high}.
- *M / untrained*, *omega / untrained*: loss of a read-out of M alone or of omega alone (`{PROTOCOL.name}`), over the mean of
  {UNTRAINED} untrained cells of the same spec. Omega of `linear` and `none` is S, the singular values of the rows, which their
  decoders do not read.
- *ms a step*: median CPU time of a training step on one thread, with the making of its images. Processes that share a machine
  slow each other down: read the ratios.

### Do singular values help?

{_answers(found)}

Each entry is the figure of `svd` over that of the other readout, the geometric mean over the seeds that both have with its
{CONFIDENCE:.0%} interval (Student's t of the logarithms), paired by seed. All figures are better when smaller, so that below 1
singular values *help*, above 1 they *hurt*, and with 1 in the interval they do *neither*.

{_completeness(found)}"""


def _table(band: Preset, found: Results) -> str:
    return table(COLUMNS, [_row(band, readout, found) for readout in READOUTS])


def _row(band: Preset, readout: Readout, found: Results) -> list[str]:
    own = _runs(band, readout, found)
    width = CellSpec.preset(band).D
    cvs = [cv for result in own if (last := result.at(STEPS)) is not None and (cv := last.deciding_cv[0]) is not None]
    known = [(one.losses, one.untrained) for one in own if one.losses is not None and one.untrained is not None]
    return [
        readout,
        f"{CellSpec.preset(band, readout=readout).parameters:,}",
        str(len(own)),
        spread([error for result in own if (error := _error(result)) is not None]),
        spread([cv / attractor.sphere_cv(width) for cv in cvs], 3),
        f"{sum(attractor.on_attractor(cv, width) for cv in cvs)} of {len(own)}" if own else NONE,
        spread([losses.M / null.M for losses, null in known], 3),
        spread([losses.omega / null.omega for losses, null in known], 3),
        spread([1000 * one.step_seconds for one in own if one.step_seconds is not None], 0),
    ]


def _runs(band: Preset, readout: Readout, found: Results) -> list[Result]:
    return [result for job, result in found.items() if (job.band, job.readout) == (band, readout)]


def _answers(found: Results) -> str:
    head = ("band", "against", *(figure.name for figure in FIGURES))
    rows = [
        [band, other, *(_answer(_ratios(band, other, figure, found)) for figure in FIGURES)]
        for band in BATCHES
        for other in READOUTS
        if other != "svd"
    ]
    return table(head, rows)


def _ratios(band: Preset, other: Readout, figure: Figure, found: Results) -> list[float]:
    """Return the logarithms of svd's figure over another readout's, by seed."""
    pairs = [
        (figure.of(result), figure.of(found[paired]))
        for job, result in found.items()
        if (job.band, job.readout) == (band, "svd") and (paired := Job(band, other, job.seed)) in found
    ]
    return [math.log(ours / theirs) for ours, theirs in pairs if ours and theirs]


def _answer(logarithms: Sequence[float]) -> str:
    if len(logarithms) < FEWEST:
        return NONE
    middle = mean(logarithms)
    half = student(CONFIDENCE, len(logarithms) - 1) * stdev(logarithms) / math.sqrt(len(logarithms))
    word = "helps" if middle + half < 0 else "hurts" if middle - half > 0 else "neither"
    low, value, high = (math.exp(x) for x in (middle - half, middle, middle + half))
    return f"{value:.3g} ({low:.3g} to {high:.3g}): {word}"


def _completeness(found: Results) -> str:
    """List missing and diverged runs."""
    missing = [job.name for job in JOBS if job not in found]
    words = [f"Missing, {len(missing)} of {len(JOBS)}: {', '.join(missing)}." if missing else f"All {len(JOBS)} runs are here."]
    if diverged := [job.name for job, result in found.items() if result.diverged]:
        words.append(f"Diverged, the loss no longer finite: {', '.join(diverged)}.")
    return "\n".join(words)
