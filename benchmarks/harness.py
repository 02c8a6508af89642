"""Pairs of callables, timed in alternation: the ratio survives a busy machine, the times do not."""

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

REPEATS = 7  # counted, after one of each that is not
SHORTEST = 0.05  # seconds a timed stretch lasts at least, by running a short callable several times
LONGEST = 20.0  # seconds after which a pair stops at its fewest repeats
FEWEST = 5


@dataclass(frozen=True)
class Pair:
    """One line of a table.

    Attributes:
        name: What is done.
        ours: Our way.
        reference: The other way.
        target: The ratio reference / ours that is wanted, or None.
        measure: The cost of one call, seconds if left out; such as peak memory. Nothing is repeated within it then.
        unit: Of ``measure``.
    """

    name: str
    ours: Callable[[], object]
    reference: Callable[[], object]
    target: float | None = None
    measure: Callable[[Callable[[], object]], float] | None = None
    unit: str = "ms"


@dataclass(frozen=True)
class Row:
    """A pair's medians: costs in its unit, ratios reference / ours with the least and the greatest."""

    pair: Pair
    ours: float
    reference: float
    ratio: float
    least: float
    greatest: float

    @property
    def missed(self) -> bool:
        """Whether the median ratio is below the target."""
        return self.pair.target is not None and self.ratio < self.pair.target


def smoke(pair: Pair) -> None:
    """Runs both once: that it runs is all that is asked."""
    pair.ours()
    pair.reference()


def compare(pair: Pair) -> Row:
    """Runs a pair, ours and the reference in turn, each first every other time."""
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
    """How often both are called within a timed stretch: the same number, from the faster of the two."""
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
    """Processor, cores, threads and versions: what a ratio depends on."""
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
    """Subject's rows in Markdown."""
    lines = ["| what | ours | reference | ratio | least - greatest | target |", "|---|---|---|---|---|---|"]
    for row in rows:
        wanted = "-" if row.pair.target is None else f">= {row.pair.target:g}{' **missed**' if row.missed else ''}"
        costs = f"{row.ours:.3g} {row.pair.unit} | {row.reference:.3g} {row.pair.unit}"
        lines.append(f"| {row.pair.name} | {costs} | {row.ratio:.2f} | {row.least:.2f} - {row.greatest:.2f} | {wanted} |")
    return "\n".join(lines)
