"""Page of the front: its tables, what is missing, and the recipe, which is edited by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean

import front_pictures
import front_sides
from front_content import EVERY_IMAGE, PROTOCOL, UNTRAINED, probe_of
from front_jobs import (
    BATCHES,
    DATA,
    EVERY,
    JOBS,
    MIX,
    RATES,
    SEEDS,
    SETTINGS,
    SIZE,
    STEPS,
    Band,
    Content,
    Job,
    Result,
    Results,
    Setting,
    best,
    ends_on,
    exact,
    mean_errors,
    mean_step,
    of_setting,
    ratio_of,
)
from pages import NONE, spread

from batteries.cell.manifest import Domain
from batteries.geometry import attractor
from batteries.io import atomic_files
from composer.alignment.swap import HARDLY

SHOWN = (STEPS // 2, STEPS)  # steps whose error the tables show
TITLES: dict[Domain, str] = {"noise": "Noise", "photos": "Photographs"}
RECIPE = re.compile("<!-- recipe -->.*?<!-- /recipe -->", re.DOTALL)
NO_RECIPE = "<!-- recipe -->\nNo recipe is chosen yet.\n<!-- /recipe -->"

COLUMNS = (
    *("band", "optimiser", "peak rate", "runs"),
    *(f"MSE, step {step}" for step in SHOWN),
    *("CV / exact", "on attractor", "ms a step", "omega / untrained", "M / untrained", "spread of S", "worth", "swap share"),
)
BEST_COLUMNS = ("data", "band", "rate, Adam", "MSE", "rate, Muon", "MSE", "steps to Adam's MSE", "CPU time to it")


def write(found: Results, page: Path) -> None:
    """Write the page and its pictures."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    words = report(found, recipe(old), page.stem)
    atomic_files.replace(page.with_suffix(".svg"), front_pictures.front(found).encode())
    atomic_files.replace(page.with_name(f"{page.stem}-samples.svg"), front_pictures.samples(found).encode())
    atomic_files.replace(page, words.encode())


def recipe(page: str) -> str:
    """Return the part of a page that is edited by hand, with its comments.

    Raises:
        ValueError: one of the two comments is missing, so that a rewrite would lose the part.
    """
    found = RECIPE.search(page)
    if found is None and ("<!-- recipe -->" in page or "<!-- /recipe -->" in page):
        raise ValueError("the recipe needs both of its comments, <!-- recipe --> before <!-- /recipe -->")
    return found[0] if found else NO_RECIPE


def report(found: Results, kept: str, stem: str = "front") -> str:
    """Format the page, with the part ``kept`` from the old one."""
    plan = JOBS[0].plan
    _, schedule, hand = plan.describe()
    exact_cvs = ", ".join(f"{exact(band):.5f} ({band})" for band in BATCHES)
    batches = ", ".join(f"{count} ({band})" for band, count in BATCHES.items())
    probes = " and ".join(f"`{probe_of(setting).name}`" for setting in (SETTINGS[0], SETTINGS[-1]))
    low, high = attractor.ON_ATTRACTOR
    tables = "\n\n".join(f"## {TITLES[data]}\n\n{_table(data, found)}" for data in DATA)
    return f"""# Error against distance from the attractor

Written by `python examples/front.py`, which keeps the results in [{stem}.jsonl]({stem}.jsonl); not edited by hand, but for the
recipe at its end. `python examples/front.py --jobs` lists the {len(JOBS)} runs as commands of their own, for several processes
to share.

Cells of the presets learn the 16 noise types, or photographs with {MIX:.0%} noise (those that `low/fresnel-64` records, in
[cells](cells.md)), at {SIZE} pixels: {STEPS} steps of Adam, or of Muon on the matrices and Adam on the rest
([decision](../decisions/0034-optimisers.md)), {schedule}, gradient norm at most {plan.clip:g}, soft hand with
{hand}. Images a step: {batches}.
Read every {EVERY} steps on the probes {probes}, the same images for all.

Distance from the attractor is CV / exact CV, the axial CV over that of points uniform on the sphere:
{exact_cvs}. On the attractor: from {low} to {high}. Figures are mean ± standard deviation over seeds.

![MSE against CV over exact CV, one path a run along training]({stem}.svg)

{tables}

{_key()}

## Along samples and along time

{_best(found)}

![MSE along images seen and along CPU time, for the best rate of each optimiser]({stem}-samples.svg)

## All rates

{front_sides.WORDS}

{_formatted(front_sides.COLUMNS, front_sides.rows(found))}

{_completeness(found)}

## Recipe

{kept}
"""


def _key() -> str:
    """Explain the columns."""
    noise, photos = (len(probe_of(one).images[:: EVERY_IMAGE[one.data]]) for one in (SETTINGS[0], SETTINGS[-1]))
    asked = f"{PROTOCOL.readout.value:g} or less"
    return f"""- *ms a step*: median CPU time of a training step on one thread, with the making of its images; in brackets its
  ratio to the mean of Adam's runs of the same band and data. Processes that share a machine slow each other down: read the
  ratios.
- *omega / untrained*, *M / untrained*: loss of a read-out of omega alone or of M alone (`{PROTOCOL.name}`), over the mean of
  {UNTRAINED} untrained cells. Below 1 the cell carries more than an untrained one; the viability test asks for {asked}.
- *spread of S*: standard deviation over mean of a singular value over all patches of the probe, averaged over the D values.
- *worth*: error with the mean omega in the place of the cell's own, over that with its own: 1 if omega carries nothing.
- *swap share*: share of that cost that the omega of another seed's cell recovers, mapped by a similarity (`composer.swap`,
  {noise} images of noise, {photos} of photographs): mean over pairs of seeds, and the outermost of their 95% bounds. Left out
  where the mean costs less than {HARDLY:.0%} of the error, since a share of so little says little."""


def _table(data: Domain, found: Results) -> str:
    rows = [_row(setting, found) for setting in SETTINGS if setting.data == data]
    return _formatted(COLUMNS, rows)


def _formatted(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _row(setting: Setting, found: Results) -> list[str]:
    own = of_setting(setting, found)
    errors = [[point.mse for result in own.values() if (point := result.at(step)) is not None] for step in SHOWN]
    last = [(job, point) for job, result in own.items() if (point := result.at(STEPS)) is not None]
    ratios = [ratio for job, point in last if (ratio := ratio_of(job, point)) is not None]
    return [
        *(setting.band, setting.optimiser, f"{setting.rate:g}", str(len(own))),
        *map(spread, errors),
        spread(ratios, 3),
        f"{sum(ends_on(*run) for run in own.items())} of {len(own)}" if own else NONE,
        _milliseconds(setting, found),
        *_contents(own.values()),
        _shares(own.values()),
    ]


def _milliseconds(setting: Setting, found: Results) -> str:
    """Format the CPU time of a step, with its ratio to Adam's of the same band and data."""
    own = mean_step(of_setting(setting, found).values())
    adam = mean_step(found[job] for job in found if _is_adam_of(job.setting, setting))
    if own is None:
        return NONE
    return f"{1000 * own:.0f}" + (f" ({own / adam:.2f})" if adam else "")


def _is_adam_of(one: Setting, other: Setting) -> bool:
    return (one.band, one.data, one.optimiser) == (other.band, other.data, "adam")


def _contents(results: Iterable[Result]) -> list[str]:
    contents = [result.content for result in results if result.content is not None]
    figures: tuple[tuple[Callable[[Content], float], int | None], ...] = (
        (lambda content: content.losses.omega / content.untrained.omega, 3),
        (lambda content: content.losses.M / content.untrained.M, 3),
        (lambda content: content.spread, 4),
        (lambda content: content.worth, None),
    )
    return [spread([figure(content) for content in contents], digits) for figure, digits in figures]


def _shares(results: Iterable[Result]) -> str:
    """Format the mean swap score of the pairs whose omega carries something, and the outermost of their bounds."""
    carrying = [share for result in results for share in result.shares if share.worth >= 1 + HARDLY and share.share is not None]
    if not carrying:
        return NONE
    bounds = [share.bounds for share in carrying if share.bounds is not None]
    outermost = min((low for low, _ in bounds), default=0), max((high for _, high in bounds), default=0)
    known = " ({:.3f} to {:.3f})".format(*outermost) if len(bounds) == len(carrying) else ""
    return f"{mean(share.share for share in carrying if share.share is not None):.3f}{known}"


def _best(found: Results) -> str:
    """Compare the best rates of both optimisers: a table, and what it rests on."""
    rows = [_best_row(band, data, found) for data in DATA for band in BATCHES]
    words = f"""The best rate of an optimiser is that of least final error among the rates with all runs here, each of them
ending on the attractor. *steps*: the first reading, one every {EVERY} steps, at which Muon's mean error is not above Adam's
after {STEPS}; *CPU time*: that of these steps as a share of Adam's {STEPS}. All follow the schedule of {STEPS} steps: a run
planned for fewer may do better in them."""
    return f"{words}\n\n{_formatted(BEST_COLUMNS, rows)}"


def _best_row(band: Band, data: Domain, found: Results) -> list[str]:
    row = [data, band]
    settings = [best(band, data, optimiser, found) for optimiser in RATES]
    runs = [list(of_setting(setting, found).values()) if setting else [] for setting in settings]
    for setting, own in zip(settings, runs, strict=True):
        finals = [point.mse for result in own if (point := result.at(STEPS)) is not None]
        row += [f"{setting.rate:g}" if setting else NONE, spread(finals)]
    return [*row, *_reached(*runs)]


def _reached(adam: Sequence[Result], muon: Sequence[Result]) -> tuple[str, str]:
    """Format the steps that Muon takes to Adam's final error, and their CPU time as a share of Adam's."""
    if not adam or not muon:
        return NONE, NONE
    goal = mean_errors(adam)[STEPS]
    step = next((step for step, error in mean_errors(muon).items() if error <= goal), None)
    times = mean_step(adam), mean_step(muon)
    if step is None:
        return "not reached", NONE
    return str(step), f"{step * times[1] / (STEPS * times[0]):.0%}" if times[0] and times[1] else NONE


def _completeness(found: Results) -> str:
    """List missing and diverged runs, other photographs, and the largest standard error of a ratio."""
    missing = [job for job in JOBS if job not in found]
    words = [f"Missing, {len(missing)} of {len(JOBS)}: {_names(missing)}." if missing else f"All {len(JOBS)} runs are here."]
    if diverged := [job for job, result in found.items() if result.diverged]:
        words.append(f"Diverged, the loss no longer finite: {_names(diverged)}.")
    if len({result.data for job, result in found.items() if job.setting.data == "photos"}) > 1:
        words.append("The runs on photographs did not all have the same photographs.")
    if errors := [error for run in found.items() for _, _, error in front_pictures.path_of(*run) if error is not None]:
        words.append(f"A single CV / exact has a standard error of at most {max(errors):.3f}.")
    return "\n".join(words)


def _names(jobs: Iterable[Job]) -> str:
    """List jobs by setting, each with its seeds."""
    seeds: dict[Setting, list[str]] = {}
    for job in jobs:
        seeds.setdefault(job.setting, []).append(str(job.seed))
    return ", ".join(setting.name + (f" ({', '.join(own)})" if len(own) < len(SEEDS) else "") for setting, own in seeds.items())
