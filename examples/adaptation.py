"""A host's gain against the content that its cell keeps: raw gradient, each term of a hold, all of them, and the guard.

    python examples/adaptation.py                     # the missing runs, then docs/results/adaptation.md
    python examples/adaptation.py --only high/johanna-64/naming --seeds 1 --arms frozen,raw,held
    python examples/adaptation.py --report            # the page, from the existing runs

``docs/results/adaptation.jsonl`` has every known run, written as each ends: another session, on another machine too, does the
missing ones only. A run of another plan or of another version of a cell does not count.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

import torch
from adaptation_page import write
from pages import RESULTS

import composer
import registry
from batteries.engine import task_runner
from batteries.engine.tasks import Task
from batteries.engine.torch_settings import neutral
from batteries.io import atomic_files, canonical_json
from composer.adaptation import Hold, denoising, naming, own_domain
from composer.adaptation.adapt import RATES, SCHEDULE, plan_of
from composer.adaptation.adapting import Job, learn
from composer.hosts import FrozenCell, TaskSize, residual_host
from composer.hosts.host_training import Watched, make_host, score
from composer.hosts.host_training import learn as learn_frozen

KNOWN = RESULTS / "adaptation.jsonl"
CELLS = ("high/johanna-64", "high/fresnel-64", "low/johanna-64", "low/fresnel-64")
TASKS = ("naming", "denoising", "strong denoising")
STRONG = 1.0  # standard deviation of the strong noise; by default it is 0.25
FEW = {"frozen", "raw", "held"}  # arms of the default noise, with Adam: there the raw gradient gains its host nothing
OPTIMISERS = ("adam", "muon")
SEEDS = range(5)
STEPS, BATCH, HOST_RATE = 250, 32, 2e-3
SIZES = {  # a standard error of the accuracy of 0.011; small images for cells of small patches, of which there are 64 then
    "high": TaskSize(size=32, train=2400, test=1600),
    "low": TaskSize(size=64, train=2400, test=1600),
}
NOTHING = {"reconstruction": 0.0, "cv": 0.0, "anchor": 0.0}
ALONE = {"every": 125, "guarded": False}
ARMS: dict[str, Hold | None] = {
    "frozen": None,  # of the cell, which the host's gradient does not reach
    "raw": None,
    "reconstruction": Hold(**{**NOTHING, "reconstruction": Hold().reconstruction, **ALONE}),
    "cv": Hold(**{**NOTHING, "cv": Hold().cv, **ALONE}),
    "anchor": Hold(**{**NOTHING, "anchor": 3.0, **ALONE}),
    "all": Hold(**{"anchor": 3.0, **ALONE}),
    "held": Hold(),  # the default: reconstruction, Cayley-Menger term, and the guard
}


@dataclass(frozen=True)
class Wanted:
    """A run to be made."""

    cell: str
    task: str
    arm: str
    optimiser: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the run."""
        return "-".join([*self.cell.split("/"), *self.task.split(), self.arm, self.optimiser, str(self.seed)])

    @property
    def size(self) -> TaskSize:
        """Numbers of the task's images."""
        size = SIZES[self.cell.partition("/")[0]]
        return replace(size, sigma=STRONG) if self.task == "strong denoising" else size

    @property
    def plan(self) -> str:
        """SHA-256 of all numbers that the result depends on."""
        hold = ARMS[self.arm]
        numbers = {"steps": STEPS, "batch": BATCH, "host_rate": HOST_RATE, "size": asdict(self.size), "arm": self.arm}
        numbers |= {"rate": RATES[self.optimiser], "schedule": SCHEDULE, "hold": asdict(hold) if hold else None}  # type: ignore[index]  # of the table
        return canonical_json.sha256(canonical_json.dump(numbers))[:16]


@dataclass(frozen=True)
class Ran:
    """Result of a run.

    Attributes:
        cell: Reference of the cell.
        task: Task of the host.
        arm: Terms.
        optimiser: Optimiser of the cell's weights.
        seed: Seed of the run.
        plan: SHA-256 of its numbers.
        digest: Digest of the cell.
        score: Accuracy, or R2 of images restored.
        score_error: Standard error of the score.
        content: Share of content kept.
        axial_cv: Axial CV over that before, with both 95% bounds; None if degenerate.
        rank: Effective rank over that before, likewise.
        holds: True if CV and rank hold and the content kept is at least that of the guard.
        weight_change: Change of the weights.
        dose: Sum of the learning rates.
        backoffs: Returns of the guard.
        steps: Steps to the state that was kept.
        seconds: Time of the run.
    """

    cell: str
    task: str
    arm: str
    optimiser: str
    seed: int
    plan: str
    digest: str
    score: float
    score_error: float
    content: float
    axial_cv: tuple[float, float, float] | None
    rank: tuple[float, float, float]
    holds: bool
    weight_change: float
    dose: float
    backoffs: int
    steps: int
    seconds: float

    @property
    def wanted(self) -> Wanted:
        """Run that it is the result of."""
        return Wanted(self.cell, self.task, self.arm, self.optimiser, self.seed)


@neutral()
@torch.enable_grad()
def run(wanted: Wanted) -> Ran:
    """Make a run."""
    began = time.monotonic()
    cell = registry.load(wanted.cell)
    task = (naming if wanted.task == "naming" else denoising)(wanted.seed, wanted.size)
    plan = plan_of(cell, wanted.optimiser, rate=None, steps=STEPS, batch=BATCH, seed=wanted.seed, size=64)
    job = Job(cell, residual_host(), task, own_domain(cell), ARMS[wanted.arm], plan, HOST_RATE)
    whole = (1.0, 1.0, 1.0)
    facts = {**asdict(wanted), "plan": wanted.plan, "digest": cell.digest}
    if wanted.arm == "frozen":
        watched = Watched(FrozenCell(composer.compose(cell)))
        host = make_host(job.factory, watched, task, wanted.seed)
        learn_frozen(host, task, wanted.seed, watched, steps=STEPS, batch=job.batch, rate=HOST_RATE, schedule=plan.schedule)
        found = score(host, task, watched)[0]
        figures = {"content": 1.0, "axial_cv": whole, "rank": whole, "holds": True, "weight_change": 0.0, "dose": 0.0}
        figures |= {"backoffs": 0, "steps": STEPS}
    else:
        learned = learn(job)
        found, last = learned.score, learned.last
        axial = last.axial_cv and (last.axial_cv.ratio, last.axial_cv.lower, last.axial_cv.upper)
        rank = (last.rank.ratio, last.rank.lower, last.rank.upper)
        figures = {"content": last.content, "axial_cv": axial, "rank": rank, "holds": last.holds}
        figures |= {"weight_change": last.weight_change, "dose": learned.dose, "backoffs": learned.backoffs, "steps": last.step}
    seconds = round(time.monotonic() - began, 1)
    return Ran(**facts, score=found.value, score_error=found.standard_error, **figures, seconds=seconds)  # type: ignore[arg-type]  # by name


def everything() -> list[Wanted]:
    """Return all runs, those that say most first."""
    order = ("frozen", "raw", "held", "reconstruction", "all", "cv", "anchor")
    rows = product(OPTIMISERS, SEEDS, order, TASKS, CELLS)
    return [
        Wanted(cell, task, arm, optimiser, seed) for optimiser, seed, arm, task, cell in rows if _tells(task, arm, optimiser)
    ]


def _tells(task: str, arm: str, optimiser: str) -> bool:
    """Tell whether a run says what no other does: no optimiser reaches a frozen cell."""
    if optimiser != OPTIMISERS[0]:
        return arm != "frozen" and task != "denoising"
    return task != "denoising" or arm in FEW


def known() -> list[Ran]:
    """Return the runs of the file that are of today's plans and cells."""
    lines = KNOWN.read_text().splitlines() if KNOWN.exists() else []
    found = [
        Ran(**{**row, "axial_cv": row["axial_cv"] and tuple(row["axial_cv"]), "rank": tuple(row["rank"])})
        for row in map(json.loads, lines)
    ]
    digests = {name: registry.load(name).digest for name in CELLS}
    return [one for one in found if one.arm in ARMS and (one.plan, one.digest) == (one.wanted.plan, digests.get(one.cell))]


def keep(found: Sequence[Ran]) -> None:
    """Write the file, a line for each run."""
    order = {wanted: place for place, wanted in enumerate(everything())}
    rows = sorted(found, key=lambda one: order[one.wanted])
    atomic_files.replace(KNOWN, "".join(json.dumps(asdict(one)) + "\n" for one in rows).encode())


def chosen(only: str | None, seeds: int, arms: Iterable[str], optimisers: Iterable[str]) -> list[Wanted]:
    """Return the runs that the options ask for."""
    return [
        one
        for one in everything()
        if (only is None or f"{one.cell}/{one.task}".startswith(only))
        and one.seed < seeds
        and one.arm in arms
        and (one.optimiser in optimisers or one.arm == "frozen")
    ]


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Measure a host's gain against the content that its cell keeps.")
    parser.add_argument("--report", action="store_true", help="only write the page")
    parser.add_argument("--only", help="cell, or cell/task")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds")
    parser.add_argument("--arms", default=",".join(ARMS), help="arms, with commas")
    parser.add_argument("--optimisers", default=",".join(OPTIMISERS), help="optimisers, with commas")
    parser.add_argument("--workers", type=int, default=None, help="runs at a time")
    given = parser.parse_args(words)
    found = known()
    have = {one.wanted for one in found}
    asked = [] if given.report else chosen(given.only, given.seeds, given.arms.split(","), given.optimisers.split(","))
    tasks = [Task(one.name, run, (one,)) for one in asked if one not in have]
    for outcome in task_runner.run(tasks, workers=given.workers):
        if outcome.error is not None:
            print(f"{outcome.task.name}: {outcome.error}", file=sys.stderr, flush=True)
            continue
        one = outcome.value
        found.append(one)
        keep(found)
        print(f"{outcome.task.name}: {one.score:.3f}, content {one.content:.3f}, {one.seconds:.0f} s", flush=True)
    if found:
        write(found, len(everything()))
    left = len(everything()) - len(found)
    print(f"runs: {len(found)}, missing: {left}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
