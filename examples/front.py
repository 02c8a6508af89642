"""Front of error against distance from the attractor: bands, noise and photographs, Adam and Muon, peak rates, seeds.

    python examples/front.py                                 # does the missing runs, then writes the report
    python examples/front.py --only low-noise-muon-0.02-1    # one run, so that several processes can share the work
    python examples/front.py --jobs                          # prints these 108 commands
    python examples/front.py --report                        # writes the report from the existing results

The report is docs/results/front.md with its pictures, and docs/results/front.jsonl with every known result: a later session,
on another machine too, does the missing runs only. An interrupted run resumes from its checkpoint in ``runs/front``; a finished
run leaves a small JSON file there, and its weights for swaps with the cells of other seeds. A run takes one thread.
"""

from __future__ import annotations

import functools
from pathlib import Path

import front_page
from front_content import add_shares, content_of, probe_of
from front_jobs import JOBS, MIX, SETTINGS, STEPS, Job, Result, Store, ratio_of
from run_command import obey
from run_training import trained

import batteries
import registry
from batteries import path_patterns
from batteries.cell.manifest import Domain
from batteries.data.sources import Source
from batteries.errors import NotFoundError
from batteries.training.recipe import Recipe

PHOTOGRAPHS = "low/fresnel-64"  # cell whose training photographs these are

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "front"
PAGE = ROOT / "docs" / "results" / "front.md"


def run(job: Job, store: Store) -> Result:
    """Return the known result of a job, or train its cell."""
    if (found := store.read(job)) is None:
        store.write(job, _trained(job, store.folder))
        add_shares(job.setting, store)
        found = store.read(job)
    assert found is not None
    return found


def _trained(job: Job, folder: Path) -> Result:
    source = source_of(job.setting.data)
    found = trained(job.plan, source, probe_of(job.setting), folder / job.name)
    return Result(
        name=job.name,
        plan=job.plan_digest,
        data=source.facts.digest,
        trajectory=found.trajectory,
        diverged=found.diverged,
        step_seconds=found.step_seconds,
        content=None if found.model is None else content_of(job, found.model, folder),
    )


@functools.cache
def source_of(data: Domain) -> Source:
    """Return the training images: noise, or the photographs of the shipped cell with a share of noise.

    Raises:
        NotFoundError: a place of photographs without any (``NO_PHOTOGRAPHS``).
    """
    if data == "noise":
        return batteries.NoiseSource()
    recipe = Recipe.parse(registry.load(PHOTOGRAPHS).manifest.training.command)
    if empty := [place for place in recipe.photos if not _held_at(Path(place))]:
        raise NotFoundError(
            "no photographs to train on",
            code="NO_PHOTOGRAPHS",
            expected=f"those that {PHOTOGRAPHS} records",
            where=", ".join(empty),
            remedy=f"Install them: {recipe.data_source}.",
        )
    return recipe.model_copy(update={"mix": MIX}).source(batteries.read_photos(*recipe.photos))


def _held_at(place: Path) -> bool:
    folder, found = (place, path_patterns.below(place)) if place.is_dir() else path_patterns.matching(place)
    return folder.is_dir() and any(True for _ in found)


def write_report(store: Store, page: Path) -> list[Job]:
    """Write the page, its pictures and the kept results, and return the jobs without a result."""
    for setting in SETTINGS:
        add_shares(setting, store)
    found = store.all()
    front_page.write(found, page)
    store.keep(found)
    return [job for job in JOBS if job not in found]


def _told(job: Job, result: Result) -> str:
    """Summarise the result of a job in one line."""
    last = result.at(STEPS)
    if last is None:
        return f"{job.name}: diverged at {result.diverged}"
    ratio = ratio_of(job, last)
    words = [f"MSE {last.mse:.4g}", f"CV / exact {'degenerate' if ratio is None else f'{ratio:.3f}'}"]
    words += [f"worth of omega {result.content.worth:.4g}"] if result.content else []
    return f"{job.name}: {', '.join(words)}"


def main() -> None:
    """Run the command."""
    about = "Front of error against distance from the attractor."
    obey(about, folder=FOLDER, page=PAGE, store_of=Store, run=run, write=write_report, told=_told)


if __name__ == "__main__":
    main()
