"""Credit study: rules that train the blocks of a host, each run under an audit of the gradient.

    python examples/credit.py                                   # does the missing runs, then writes the report
    python examples/credit.py --set reference --workers 2       # one set, two processes of one thread each
    python examples/credit.py --set reference --epochs 30 --seeds 1  # a first look
    python examples/credit.py --only NAME                       # one run, by a name that --list prints
    python examples/credit.py --list                            # prints the runs that are missing
    python examples/credit.py --report                          # writes the report from the existing results

The report is docs/results/credit.md with credit.svg. A line of docs/results/credit.jsonl is written as each run ends, under a
lock: an interrupted study goes on where it was, and several programs can share it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import credit_page
from credit_jobs import EPOCHS, SEEDS, SETS, Job, Line, jobs, keep, known
from credit_runs import run

from batteries.engine import task_runner
from batteries.engine.tasks import Task
from batteries.errors import BatteriesError

PAGE = Path(__file__).parents[1] / "docs" / "results" / "credit.md"


def carry_out(wanted: Sequence[Job], lines: Path, workers: int | None) -> int:
    """Do the missing runs, baselines before what is measured against them, and return the number of failures."""
    failures = 0
    for baselines in (True, False):
        wave = [job for job in wanted if (job.rule == "frozen") is baselines]
        failures += sum(not _kept(outcome, lines) for outcome in task_runner.run(_tasks(wave, lines), workers=workers))
    return failures


def with_baselines(wanted: Sequence[Job]) -> list[Job]:
    """Add the baseline of every run, before it."""
    return list(dict.fromkeys([*(job.baseline for job in wanted), *wanted]))


def _tasks(wave: Sequence[Job], lines: Path) -> Iterator[Task]:
    found = known(lines, with_baselines(wave))
    for job in wave:
        if job in found:
            continue
        frozen = found.get(job.baseline)
        if job.rule != "frozen" and (frozen is None or frozen.baseline is None):
            print(f"{job.name}: its baseline is missing", flush=True)
            continue
        yield Task(job.name, run, (job, None if job.rule == "frozen" or frozen is None else frozen.baseline))


def _kept(outcome, lines: Path) -> bool:  # type: ignore[no-untyped-def]
    if outcome.error is not None:
        print(f"{outcome.task.name}: {outcome.error}", flush=True)
        return False
    keep(lines, outcome.value)
    print(told(outcome.value), flush=True)
    return True


def told(line: Line) -> str:
    """Summarise a result in one line."""
    if line.report is None:
        return f"{line.name}: diverged at {line.diverged}"
    cosine = f", cosine {sum(line.cosine) / len(line.cosine):+.3f}" if line.cosine else ""
    growth = line.report.of("a").value
    return f"{line.name}: {line.report.accuracy:.3f}, growth {growth:.3g}{cosine}, {line.report.verdict}, {line.seconds:.0f} s"


def main() -> None:
    """Run the command."""
    given = _parser().parse_args()
    lines = given.page.with_suffix(".jsonl")
    every = jobs(given.epochs, given.seeds)
    if given.only:
        chosen = [job for job in every if job.name == given.only]
        if not chosen:
            _parser().error(f"no such run: {given.only}; --list prints them")
    else:
        chosen = [job for job in every if given.set in (None, job.set)]
    wanted = with_baselines(chosen)
    try:
        if given.list:
            found = known(lines, wanted)
            print("\n".join(job.name for job in wanted if job not in found))
            return
        failures = 0 if given.report else carry_out(wanted, lines, given.workers)
        credit_page.write(lines, given.page, given.epochs)
        print(f"written: {given.page}")
    except BatteriesError as error:
        _parser().exit(error.exit_code, f"{error}\n")
    if failures:
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Credit rules under an audit of the gradient.")
    parser.add_argument("--set", choices=SETS, help="one set of the study")
    parser.add_argument("--only", metavar="NAME", help="one run")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over the training data; default: {EPOCHS}")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds at most")
    parser.add_argument("--workers", type=int, help="processes at a time; default: one per processor")
    parser.add_argument("--page", type=Path, default=PAGE, help="page of the report; lines and picture lie beside it")
    parser.add_argument("--list", action="store_true", help="print the names of the missing runs")
    parser.add_argument("--report", action="store_true", help="write the report alone")
    return parser


if __name__ == "__main__":
    main()
