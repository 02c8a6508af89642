"""Readouts of a spec: do singular values help, hurt or neither, by band, over five seeds?

    python examples/readouts.py                         # does the missing runs, then writes the report
    python examples/readouts.py --only high-linear-1    # one run, so that several processes can share the work
    python examples/readouts.py --jobs                  # prints these 45 commands
    python examples/readouts.py --report                # writes the report from the existing results

The report is docs/results/readouts.md, and docs/results/readouts.jsonl has every known result: a later session, on another
machine too, does the missing runs only, and several may run at once. An interrupted run resumes from its checkpoint in
``runs/readouts``; a finished run leaves a small JSON file there. A run takes one thread.
"""

from __future__ import annotations

from pathlib import Path

import readouts_page
from readouts_jobs import JOBS, SIZE, STEPS, Job, Result, Store
from readouts_page import PROTOCOL, UNTRAINED
from run_command import obey
from run_training import losses, trained, untrained_losses

import batteries
from batteries.geometry import attractor
from registry.viability.tasks import own_tasks

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "readouts"
PAGE = ROOT / "docs" / "results" / "readouts.md"
PROBE = f"noise16-{SIZE}"


def run(job: Job, store: Store) -> Result:
    """Return the known result of a job, or train its cell."""
    found = store.read(job)
    if found is None:
        found = _trained(job, store.folder)
        store.write(job, found)
    return found


def _trained(job: Job, folder: Path) -> Result:
    source, probe = batteries.NoiseSource(), batteries.probe(PROBE)
    found = trained(job.plan, source, probe, folder / job.name)
    result = Result(
        name=job.name,
        plan=job.plan_digest,
        data=source.facts.digest,
        parameters=job.plan.spec.parameters,
        trajectory=found.trajectory,
        diverged=found.diverged,
        step_seconds=found.step_seconds,
    )
    if found.model is None:
        return result
    (task,) = own_tasks(probe, PROTOCOL, 0)
    null = untrained_losses(job.plan.spec, task, UNTRAINED, folder / f"untrained-{job.band}-{job.readout}.json")
    return result.model_copy(update={"losses": losses(found.model, task), "untrained": null})


def write_report(store: Store, page: Path) -> list[Job]:
    """Write the page and the kept results, and return the jobs without a result."""
    found = store.all()
    readouts_page.write(found, page)
    store.keep(found)
    return [job for job in JOBS if job not in found]


def _told(job: Job, result: Result) -> str:
    """Summarise the result of a job in one line."""
    last = result.at(STEPS)
    if last is None:
        return f"{job.name}: diverged at {result.diverged}"
    cv, _ = last.deciding_cv
    ratio = "degenerate" if cv is None else f"{cv / attractor.sphere_cv(job.plan.spec.D):.3f}"
    words = [f"MSE {last.mse:.4g}", f"CV / exact {ratio}"]
    if result.losses and result.untrained:
        words.append(f"losses over untrained: M {result.losses.M / result.untrained.M:.3f}")
        words.append(f"omega {result.losses.omega / result.untrained.omega:.3f}")
    return f"{job.name}: {', '.join(words)}"


def main() -> None:
    """Run the command."""
    about = "Readouts of a spec: singular values, a matrix, or neither."
    obey(about, folder=FOLDER, page=PAGE, store_of=Store, run=run, write=write_report, told=_told)


if __name__ == "__main__":
    main()
