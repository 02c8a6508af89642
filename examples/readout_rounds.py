"""Four rounds of a linear read-out: D numbers in the place of a singular value decomposition, and why three of them failed.

    python examples/readout_rounds.py                                # does the missing runs, then writes the page
    python examples/readout_rounds.py --only rounds-plain-seed-0     # one run, so that several processes can share the work
    python examples/readout_rounds.py --jobs                         # prints the commands of all runs
    python examples/readout_rounds.py --report                       # writes the page from the existing results
    batteries ablate readout-rounds --out FOLDER                     # the same runs, with reports and TensorBoard events

The runs are those of the ablation program ``readout-rounds``. The page is docs/results/readout-rounds.md, and
docs/results/readout-rounds.jsonl has every known result: a later session, on another machine too, does the missing runs only,
and several may run at once. A run takes one thread and a minute or two; one that is interrupted starts again.
"""

from __future__ import annotations

from pathlib import Path

import readout_rounds_page
from readout_rounds_jobs import JOBS, Job, Result, Store, carry_out
from run_command import obey

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "readout-rounds"
PAGE = ROOT / "docs" / "results" / "readout-rounds.md"


def run(job: Job, store: Store) -> Result:
    """Return the known result of a job, or carry it out."""
    found = store.read(job)
    if found is None:
        found = carry_out(job)
        store.write(job, found)
    return found


def write_report(store: Store, page: Path) -> list[Job]:
    """Write the page and the kept results, and return the jobs without a result."""
    found = store.all()
    readout_rounds_page.write(found, page)
    store.keep(found)
    return [job for job in JOBS if job not in found]


def _told(job: Job, result: Result) -> str:
    """Summarise the result of a job in one line."""
    largest = f"largest error {result.largest:.3g} at step {result.largest_at}"
    if result.trained is None:
        return f"{job.name}: diverged at {result.diverged}, {largest}"
    return f"{job.name}: MSE {result.trained.mse:.4g}, {largest}"


def main() -> None:
    """Run the command."""
    about = "Four rounds of a linear read-out."
    obey(about, folder=FOLDER, page=PAGE, store_of=Store, run=run, write=write_report, told=_told)


if __name__ == "__main__":
    main()
