"""Pairs of callables timed in alternation, so that their ratio is robust against other load on the machine."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

REPEATS = 7  # timed repeats, after one warm-up of each
SHORTEST = 0.05  # least seconds of a timed stretch, which repeats a short callable
LONGEST = 20.0  # seconds after which a pair stops once it has the fewest repeats
FEWEST = 5  # repeats of a slow pair


@dataclass(frozen=True)
class Pair:
    """Two implementations to compare, one line of a table.

    Attributes:
        name: Description of the work.
        ours: Implementation of this package.
        reference: Implementation to compare with.
        target: Least ratio reference / ours wanted, or None.
        measure: Function that returns the cost of a call made once, such as peak memory; by default its time in milliseconds.
        unit: Unit of the cost.
    """

    name: str
    ours: Callable[[], object]
    reference: Callable[[], object]
    target: float | None = None
    measure: Callable[[Callable[[], object]], float] | None = None
    unit: str = "ms"


@dataclass(frozen=True)
class Row:
    """Medians of a pair: costs in its unit, and the ratio reference / ours with its minimum and maximum."""

    pair: Pair
    ours: float
    reference: float
    ratio: float
    least: float
    greatest: float

    @property
    def missed(self) -> bool:
        """True if the median ratio is below the target."""
        return self.pair.target is not None and self.ratio < self.pair.target


def smoke(pair: Pair) -> None:
    """Run both implementations once, to test that they run."""
    pair.ours()
    pair.reference()


def compare(pair: Pair) -> Row:
    """Time a pair, alternating which implementation runs first."""
    smoke(pair)
    calls = _calls(pair)
    measure = pair.measure or (lambda call: _milliseconds(call, calls))
    ours: list[float] = []
    reference: list[float] = []
    began = time.perf_counter()
    for repeat in range(REPEATS):
        if repeat >= FEWEST and time.perf_counter() - began > LONGEST:
            break
        turns = [(ours, pair.ours), (reference, pair.reference)]
        for costs, call in turns if repeat % 2 else reversed(turns):
            costs.append(measure(call))
    ratios = [theirs / mine for theirs, mine in zip(reference, ours, strict=True)]
    middle = statistics.median
    return Row(pair, middle(ours), middle(reference), middle(ratios), min(ratios), max(ratios))


def _calls(pair: Pair) -> int:
    """Return the number of calls in a timed stretch, the same for both, from the faster one."""
    if pair.measure:
        return 1
    fastest = min(_milliseconds(pair.ours, 1), _milliseconds(pair.reference, 1)) / 1e3
    return max(1, round(SHORTEST / max(fastest, 1e-6)))


def _milliseconds(call: Callable[[], object], calls: int) -> float:
    gc.collect()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) * 1e3 / calls


def surroundings() -> str:
    """Describe processor, cores, threads and versions, which ratios depend on."""
    return (
        f"{_processor()}, {os.cpu_count()} cores; torch {torch.__version__} on {_threads()}, "
        f"Python {platform.python_version()}, {platform.system()}"
    )


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} threads" if count > 1 else "one thread"


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table(rows: list[Row]) -> str:
    """Format the rows of a subject as a Markdown table."""
    lines = ["| what | ours | reference | ratio | least - greatest | target |", "|---|---|---|---|---|---|"]
    for row in rows:
        wanted = "-" if row.pair.target is None else f">= {row.pair.target:g}{' **missed**' if row.missed else ''}"
        costs = f"{row.ours:.3g} {row.pair.unit} | {row.reference:.3g} {row.pair.unit}"
        lines.append(f"| {row.pair.name} | {costs} | {row.ratio:.2f} | {row.least:.2f} - {row.greatest:.2f} | {wanted} |")
    return "\n".join(lines)
