"""Blocks: bytes under one digest each, so that many threads can compare a large file. No torch here."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise

BLOCK = 4 * 2**20  # bytes under one digest: some milliseconds of one core
WINDOW = 256 * 2**10  # bytes that are looked at before they leave the processor's cache
WORKERS = 8  # threads, at most

Run = tuple[str, int, int]  # numpy's name of a type, and where numbers of it start and end

# Functions import numpy themselves: a command that shows what a model is reads no weights.


def digests(parts: Iterable[memoryview]) -> Iterator[str]:
    """Digest of every block of some bytes that come in parts."""
    running, room = sha256(), BLOCK
    for part in parts:
        while part:
            running.update(part[:room])
            taken = min(room, len(part))
            part, room = part[taken:], room - taken
            if not room:
                yield running.hexdigest()
                running, room = sha256(), BLOCK
    if room < BLOCK:
        yield running.hexdigest()


def look(data: memoryview, rows: Sequence[Run]) -> list[tuple[str, bool]]:
    """Digest of every block, and whether its numbers are finite, by as many threads as there are processors.

    Hashing needs no lock of the interpreter's, so the threads do run beside one another.

    Args:
        data: All of it.
        rows: What is in it, one after the other.
    """
    runs = _runs(rows)
    starts = range(0, len(data), BLOCK)
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1, max(1, len(starts)))) as pool:
        return list(pool.map(lambda start: _look(data, start, min(start + BLOCK, len(data)), runs), starts))


def all_finite(piece: memoryview, dtype: str) -> bool:
    """Whether all numbers are: by the least and the greatest, each of which is NaN where one number is."""
    import numpy as np

    if not piece:
        return True
    numbers = np.frombuffer(piece, dtype=dtype)
    return math.isfinite(numbers.min()) and math.isfinite(numbers.max())


def _runs(rows: Sequence[Run]) -> list[Run]:
    """Stretches of one type."""
    edges = [place for place, (a, b) in enumerate(pairwise(rows), start=1) if a[0] != b[0]]
    pieces = [rows[first:last] for first, last in pairwise([0, *edges, len(rows)])]
    return [(piece[0][0], piece[0][1], piece[-1][2]) for piece in pieces if piece]


def _look(data: memoryview, start: int, end: int, runs: Sequence[Run]) -> tuple[str, bool]:
    """One block, in windows that are read once from memory, and then from the processor's cache."""
    running, finite = sha256(), True
    for first in range(start, end, WINDOW):
        last = min(first + WINDOW, end)
        running.update(data[first:last])
        finite = finite and all(all_finite(data[max(first, a) : min(last, b)], dtype) for dtype, a, b in runs)
    return running.hexdigest(), finite
