"""Page of the transfer of battery VAEs: errors by start, and samples and seconds to the final error of a random start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from pages import NONE, put, spread, table
from vae_transfer_jobs import ARMS, ARRAYS, BOTTLENECK, IMPLANTS, JOBS, LAW, SEEDS, SHUFFLED, Job, Result, Results

from batteries.geometry.estimates import student

TITLE = "Battery VAE: does implanting speed learning?"
CONFIDENCE = 0.95
THIRD = 1 / 3  # of the samples of the random start: the expectation


def write(found: Results, page: Path) -> None:
    """Write the tables between their comments; the rest of the page is edited by hand."""
    put(page, TITLE, "runs", report(found))


def report(found: Results) -> str:
    """Format the tables, and what is missing of them."""
    plan = JOBS[0].plan
    tables = "\n\n".join(f"## {domain.capitalize()}\n\n{_table(domain, found)}" for domain in IMPLANTS)
    missing = [job.name for job in JOBS if job not in found]
    complete = (
        f"Missing, {len(missing)} of {len(JOBS)}: {', '.join(missing)}." if missing else f"All {len(JOBS)} runs are here."
    )
    cells = "\n".join(
        f"- {domain}: implanted {', '.join(IMPLANTS[domain])}; shuffled {', '.join(SHUFFLED[domain])}." for domain in IMPLANTS
    )
    budget = f"{plan.steps} steps of {plan.batch} images of {plan.size} pixels, {plan.schedule} to {plan.rate:g}"
    return f"""Written by `python examples/vae_transfer.py`, which keeps the results in
[vae-transfer.jsonl](vae-transfer.jsonl).

A battery VAE of four sectors (codes of {BOTTLENECK} numbers, {ARRAYS} arrays a sector) learns images that no cell was
trained on: photographs of the probes (left halves to learn, right halves held out), the noise law `{LAW}`, and English-like
text as bytes. {budget}, one thread, {len(SEEDS)} seeds. Seconds are of CPU time.

{cells}
- statistics: untrained sectors, whose bottlenecks and arrays start on 32 training images as those of cells do on their own
  domain; random: all is random; single: the implant with the least error on training images, fine-tuned alone.

{tables}

- *start*, *end*: mean squared error on held-out images before the first step and after the last, mean ± standard deviation.
- *end / random*: geometric mean over seeds of the ratio to the random start's error at the end, {CONFIDENCE:.0%} interval
  (Student's t of the logarithms, paired by seed).
- *samples*, *seconds*: share of the samples and of the seconds of the whole random run after which the error is at or below the
  random start's at the end, interpolated in its logarithm; the 32 images and the seconds of a start are counted. The largest
  of the seeds is in brackets; {NONE} where a seed never gets there.

## Expectation: at most a third of the samples

{_verdicts(found)}

{complete}"""


def _table(domain: str, found: Results) -> str:
    head = ("start of the model", "parameters", "seeds", "start", "end", "end / random", "samples", "seconds")
    return table(head, [_row(domain, arm, found) for arm in ARMS])


def _row(domain: str, arm: str, found: Results) -> list[str]:
    own = {job.seed: one for job, one in found.items() if (job.domain, job.arm) == (domain, arm)}
    sizes = sorted({one.parameters for one in own.values()})
    pairs = [(one, random) for seed, one in own.items() if (random := found.get(Job(domain, "random", seed))) is not None]
    return [
        arm,
        ", ".join(f"{size:,}" for size in sizes) or NONE,
        str(len(own)),
        spread([one.errors[0] for one in own.values()]),
        spread([one.errors[-1] for one in own.values()]),
        _ratio([math.log(one.errors[-1] / random.errors[-1]) for one, random in pairs]),
        _share([reached(one, random.errors[-1], one.samples, random.samples[-1]) for one, random in pairs]),
        _share([reached(one, random.errors[-1], one.seconds, random.seconds[-1]) for one, random in pairs]),
    ]


def reached(one: Result, error: float, along: Sequence[float], whole: float) -> float | None:
    """Return the share of a whole at which a run first has an error or less; None if it never has."""
    for place, found in enumerate(one.errors):
        if found <= error:
            if place == 0:
                return along[0] / whole
            before = one.errors[place - 1]
            share = (math.log(before) - math.log(error)) / (math.log(before) - math.log(found)) if found < before else 1.0
            return (along[place - 1] + share * (along[place] - along[place - 1])) / whole
    return None


def _share(found: Sequence[float | None]) -> str:
    known = [share for share in found if share is not None]
    if not found or len(known) < len(found):
        return NONE
    return f"{mean(known):.3f} ({max(known):.3f})"


def _ratio(logarithms: Sequence[float]) -> str:
    if len(logarithms) < 2:
        return NONE
    middle, half = mean(logarithms), student(CONFIDENCE, len(logarithms) - 1) * stdev(logarithms) / math.sqrt(len(logarithms))
    return f"{math.exp(middle):.3g} ({math.exp(middle - half):.3g} to {math.exp(middle + half):.3g})"


def _verdicts(found: Results) -> str:
    """Say of every domain and of both kinds of implants whether a third of the random start's samples was enough."""
    lines = []
    for domain in IMPLANTS:
        for arm in ("implanted", "shuffled"):
            shares = [
                reached(one, random.errors[-1], one.samples, random.samples[-1])
                for job, one in found.items()
                if (job.domain, job.arm) == (domain, arm) and (random := found.get(Job(domain, "random", job.seed))) is not None
            ]
            within = sum(share is not None and share <= THIRD for share in shares)
            lines.append(f"- {domain}, {arm}: within a third of the samples in {within} of {len(shares)} seeds.")
    return "\n".join(lines)
