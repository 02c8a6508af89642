"""Digests by block, so that several threads can check a large file. Imports no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import pairwise

BLOCK = 4 * 2**20  # bytes per digest: a few milliseconds of one core
WINDOW = 256 * 2**10  # bytes hashed and checked while they are in the processor's cache
WORKERS = 8  # threads, at most

Run = tuple[str, int, int]  # numpy's name of a dtype, and start and end of its values

# numpy is imported inside functions: a command that describes a model reads no weights


def digests(parts: Iterable[memoryview]) -> Iterator[str]:
    """Yield the digest of every block of the concatenated parts."""
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
    """Return the digest of every block, and whether its numbers are finite, using one thread per processor.

    Hashing releases the interpreter's lock, so the threads run in parallel.

    Args:
        data: Data of the file.
        rows: Dtype, start and end of each tensor in the data, in order.
    """
    runs = _runs(rows)
    starts = range(0, len(data), BLOCK)
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1, max(1, len(starts)))) as pool:
        return list(pool.map(lambda start: _look(data, start, min(start + BLOCK, len(data)), runs), starts))


def all_finite(piece: memoryview, dtype: str) -> bool:
    """Return whether all numbers are finite, from the least and the greatest, which are NaN if any number is."""
    import numpy as np

    if not piece:
        return True
    numbers = np.frombuffer(piece, dtype=dtype)
    return math.isfinite(numbers.min()) and math.isfinite(numbers.max())


def _runs(rows: Sequence[Run]) -> list[Run]:
    """Join adjacent rows of the same dtype."""
    edges = [place for place, (a, b) in enumerate(pairwise(rows), start=1) if a[0] != b[0]]
    pieces = [rows[first:last] for first, last in pairwise([0, *edges, len(rows)])]
    return [(piece[0][0], piece[0][1], piece[-1][2]) for piece in pieces if piece]


def _look(data: memoryview, start: int, end: int, runs: Sequence[Run]) -> tuple[str, bool]:
    """Hash and check one block, in windows that are read from memory once and then from the cache."""
    running, finite = sha256(), True
    for first in range(start, end, WINDOW):
        last = min(first + WINDOW, end)
        running.update(data[first:last])
        finite = finite and all(all_finite(data[max(first, a) : min(last, b)], dtype) for dtype, a, b in runs)
    return running.hexdigest(), finite
