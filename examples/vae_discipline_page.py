"""Page of the discipline of battery VAEs: CV over exact at every place, active units, evidence lower bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pages import NONE, put, spread, table
from vae_discipline_jobs import ARMS, JOBS, SETTINGS, Result, Results, Setting

from batteries.geometry.attractor import ON_ATTRACTOR
from composer.vae.reading_document import PLACES

TITLE = "Battery VAE: the discipline of the CV"


def write(found: Results, page: Path) -> None:
    """Write the table between its comments; the rest of the page is edited by hand."""
    put(page, TITLE, "runs", report(found))


def report(found: Results) -> str:
    """Format the table, and what is missing of it."""
    plan, (low, high) = JOBS[0].plan, ON_ATTRACTOR
    head = ("setting", "discipline", "seeds", *PLACES, "inside", "MSE", "ELBO", "active", "samples finite", "ms a step")
    rows = [_row(name, arm, found) for name in SETTINGS for arm in ARMS]
    missing = [job.name for job in JOBS if job not in found]
    named = f"Missing, {len(missing)} of {len(JOBS)}: {', '.join(missing)}."
    return f"""Written by `python examples/vae_discipline.py`, which keeps the results in
[vae-discipline.jsonl](vae-discipline.jsonl).

Cells start a battery VAE that learns the 16 noise types, at {plan.size} pixels with kl {plan.kl:g}. Readings on `noise16-64`,
before the first step too.

{_settings()}

{table(head, rows)}

- *{PLACES[0]}*, *{PLACES[1]}*, *{PLACES[2]}*: least and largest axial CV over exact, over sectors, readings and seeds, and in
  brackets those of the last reading; one reading of a sector rests on 4,096 simplices, and errs by about 1% (D = 4).
- *inside*: readings of which all sectors are at all places within {low} to {high} of exact, of all readings.
- *MSE*, *ELBO* (nats per value, with its standard error over images as the mean over seeds), *active* (share of numbers of the
  codes with a variance above 0.01): at the end, mean ± standard deviation over seeds.
- *ms a step*: median CPU time on one thread, with the making of its images.

{named if missing else f"All {len(JOBS)} runs are here."}"""


def _settings() -> str:
    return "\n".join(f"- *{one.words}*: {_words(one)}" for one in SETTINGS.values())


def _words(one: Setting) -> str:
    steps = f"{one.steps} steps of {one.batch} images, rate {one.rate:g}, a reading every {one.reading_every}"
    return f"{len(one.cells)} cells ({', '.join(one.cells)}), {steps}."


def _row(name: str, arm: str, found: Results) -> list[str]:
    own = [one for job, one in found.items() if (job.name_of_setting, job.arm) == (name, arm)]
    last = [one.readings[-1] for one in own]
    errors = [one.elbo_standard_error for one in last if one.elbo_standard_error is not None]
    inside = [_inside(one) for one in own]
    elbo = spread([one.elbo for one in last], 1)
    return [
        SETTINGS[name].words,
        f"{ARMS[arm]:g}",
        str(len(own)),
        *(_range(own, place) for place in range(len(PLACES))),
        f"{sum(count for count, _ in inside)} of {sum(of for _, of in inside)}" if own else NONE,
        spread([one.error for one in last]),
        f"{elbo} (error {sum(errors) / len(errors):.1f})" if errors else elbo,
        spread([one.active for one in last], 2),
        f"{sum(one.finite_samples for one in own)} of {len(own)}",
        spread([1000 * one.step_seconds for one in own if one.step_seconds is not None], 0),
    ]


def _range(own: Sequence[Result], place: int) -> str:
    whole = [[sector.cv[place] for sector in reading.sectors if sector.cv] for one in own for reading in one.readings]
    last = [sector.cv[place] for one in own for sector in one.readings[-1].sectors if sector.cv]
    ratios = [ratio for some in whole for ratio in some]
    return f"{min(ratios):.2f} to {max(ratios):.2f} ({min(last):.2f} to {max(last):.2f})" if ratios else NONE


def extremes(result: Result) -> tuple[float, float]:
    """Return the least and the largest CV / exact of a run."""
    ratios = [ratio for reading in result.readings for sector in reading.sectors if sector.cv for ratio in sector.cv]
    return min(ratios), max(ratios)


def _inside(result: Result) -> tuple[int, int]:
    """Count the readings of which every sector is on its attractor at every place, and all readings."""
    low, high = ON_ATTRACTOR
    whole = [[ratio for sector in reading.sectors if sector.cv for ratio in sector.cv] for reading in result.readings]
    return sum(all(low <= ratio <= high for ratio in ratios) for ratios in whole), len(whole)
