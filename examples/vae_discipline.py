"""Does the Cayley-Menger discipline hold every sector of a battery VAE on its attractor, and does its absence let go?

    python examples/vae_discipline.py                              # does the missing runs, then writes the report
    python examples/vae_discipline.py --only without-tenfold-1     # one run
    python examples/vae_discipline.py --report                     # writes the report from the existing results

The report is docs/results/vae-discipline.md, and docs/results/vae-discipline.jsonl has every known result, written as each run
ends. A run takes one thread.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import torch
import vae_discipline_page
from run_command import obey
from vae_discipline_jobs import ARRAYS, BOTTLENECK, JOBS, Job, Result, Store

import batteries
import registry
from batteries.engine.threads import threads
from batteries.errors import PolicyError
from composer import BatteryVAE
from composer import vae as vaes

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "vae-discipline"
PAGE = ROOT / "docs" / "results" / "vae-discipline.md"
PROBE = "noise16-64"
SAMPLES = 16


class Clock:
    """Watcher that keeps the CPU seconds of every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since = time.process_time()

    def stepped(self, step: int, found: vaes.StepTerms) -> None:
        """Keep the seconds of a step."""
        now = time.process_time()
        self.seconds.append(now - self._since)
        self._since = now

    def read(self, reading: vaes.VaeReading) -> None:
        """Leave out the time of a reading."""
        self._since = time.process_time()


def run(job: Job, store: Store) -> Result:
    """Return the known result of a job, or train its model."""
    found = store.read(job)
    if found is None:
        with threads(1):
            found = _trained(job)
        store.write(job, found)
    return found


def _trained(job: Job) -> Result:
    plan, source, clock = job.plan, batteries.NoiseSource(), Clock()
    vae = BatteryVAE.from_cells(registry.pull(*job.setting.cells), bottleneck=BOTTLENECK, arrays=ARRAYS, seed=job.seed)
    first = vaes.read(vae, batteries.probe(PROBE), plan.kl)
    diverged = None
    try:
        vaes.train(vae, plan, source, PROBE, watchers=[clock])
    except PolicyError as error:
        diverged = str(error.where)
    readings = vae.history[-1].readings if vae.history else ()
    samples = vae.sample(SAMPLES, torch.Generator().manual_seed(job.seed))
    return Result(
        name=job.name,
        plan=job.plan_digest,
        data=str(source.facts.digest),
        trajectory=(),
        diverged=diverged,
        step_seconds=median(clock.seconds) if clock.seconds else None,
        parameters=vae.cost().parameters,
        readings=(first, *readings),
        finite_samples=bool(samples.isfinite().all()),
    )


def write_report(store: Store, page: Path) -> list[Job]:
    """Write the page and the kept results, and return the jobs without a result."""
    found = store.all()
    vae_discipline_page.write(found, page)
    store.keep(found)
    return [job for job in JOBS if job not in found]


def _told(job: Job, result: Result) -> str:
    last = result.readings[-1]
    low, high = vae_discipline_page.extremes(result)
    return f"{job.name}: error {last.error:.4g}, CV / exact from {low:.3f} to {high:.3f}, active {last.active:.0%}"


def main() -> None:
    """Run the command."""
    about = "Does the Cayley-Menger discipline hold every sector of a battery VAE on its attractor?"
    obey(about, folder=FOLDER, page=PAGE, store_of=Store, run=run, write=write_report, told=_told)


if __name__ == "__main__":
    main()
