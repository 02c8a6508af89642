"""Muon beside Adam over all rates and seeds of the front: error, distance from the attractor, and content of omega."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import fmean

from front_jobs import BATCHES, DATA, RATES, STEPS, Band, Job, Result, Results, ratio_of
from pages import NONE, spread

from batteries.cell.manifest import Domain

Runs = Sequence[tuple[Job, Result]]

COLUMNS = (
    *("data", "band", "Muon's worst MSE / Adam's best", "farthest from 1, Adam", "farthest from 1, Muon"),
    *("omega / untrained, Adam", "omega / untrained, Muon", "Muon's lower, of pairs", "spread of S, Muon / Adam"),
)
WORDS = """All rates and seeds together. *farthest from 1*: the CV / exact of a run at its end that is farthest from 1. *omega /
untrained*: mean and standard deviation over runs. *pairs*: of a run with Muon and one with Adam, those in which Muon's omega
has the lower loss; half of them if the optimiser made no difference."""


def rows(found: Results) -> list[list[str]]:
    """Return a row for each band and kind of data."""
    return [_row(data, band, found) for data in DATA for band in BATCHES]


def _row(data: Domain, band: Band, found: Results) -> list[str]:
    adam, muon = (
        [
            (job, result)
            for job, result in found.items()
            if (job.setting.data, job.setting.band, job.setting.optimiser) == (data, band, optimiser) and not result.diverged
        ]
        for optimiser in RATES
    )
    if not adam or not muon:
        return [data, band, *[NONE] * (len(COLUMNS) - 2)]
    errors = [[point.mse for _, result in side if (point := result.at(STEPS))] for side in (adam, muon)]
    omegas = [
        [content.losses.omega / content.untrained.omega for _, result in side if (content := result.content)]
        for side in (adam, muon)
    ]
    spreads = [[content.spread for _, result in side if (content := result.content)] for side in (adam, muon)]
    return [
        *(data, band, f"{max(errors[1]) / min(errors[0]):.3f}" if all(errors) else NONE),
        *map(_farthest, (adam, muon)),
        *(spread(values, 3) for values in omegas),
        f"{sum(more > less for more, less in product(*omegas))} of {len(omegas[0]) * len(omegas[1])}",
        f"{fmean(spreads[1]) / fmean(spreads[0]):.2f}" if all(spreads) else NONE,
    ]


def _farthest(side: Runs) -> str:
    """Format the CV / exact that is farthest from 1 of those at the end of runs."""
    ratios = [ratio for job, result in side if (point := result.at(STEPS)) and (ratio := ratio_of(job, point)) is not None]
    return f"{max(ratios, key=lambda ratio: abs(ratio - 1)):.3f}" if ratios else NONE
