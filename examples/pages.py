"""Shared parts of the examples: tables, bounds of a share, and sections of pages that a command rewrites."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from batteries.geometry import estimates
from batteries.io import atomic_files

NONE = "-"  # figure that is not known
RESULTS = Path(__file__).parents[1] / "docs" / "results"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown, with aligned columns.

    >>> print(table(["a", "b"], [["1", "long"]]))
    | a | b    |
    |---|------|
    | 1 | long |
    """
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [" | ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])


def wilson(count: int, of: int) -> tuple[float, float]:
    """Return two-sided 95% bounds of a share of independent cases (Wilson, J. American Statistical Association 22, 1927).

    >>> [round(bound, 4) for bound in wilson(9, 10)]
    [0.5958, 0.9821]
    """
    share, squared = count / of, estimates.Z95**2
    middle, half = share + squared / (2 * of), estimates.Z95 * math.sqrt((share * (1 - share) + squared / (4 * of)) / of)
    return (middle - half) / (1 + squared / of), (middle + half) / (1 + squared / of)


def spread(values: Sequence[float], digits: int | None = None) -> str:
    """Format mean and standard deviation, by default with the mean's four digits; a single value has no deviation.

    >>> spread([1.0, 2.0]), spread([0.5], 1), spread([])
    ('1.500 ± 0.707', '0.5', '-')
    """
    if not values:
        return NONE
    middle = mean(values)
    if digits is None:
        digits = max(0, 3 - math.floor(math.log10(abs(middle)))) if middle else 3
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{middle:.{digits}f}{deviation}"


def put(page: Path, title: str, section: str, text: str) -> None:
    """Write text between ``<!-- section -->`` and ``<!-- /section -->``, which are appended to the page if missing."""
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    written = page.read_text() if page.exists() else f"# {title}\n"
    if written.count(begin) + written.count(end) not in (0, 2):
        raise SystemExit(f"{page}: {begin} without {end}, or more than once")
    block = f"{begin}\n{text}\n{end}"
    if begin in written:
        written = re.sub(f"{begin}.*?{end}", lambda _: block, written, flags=re.DOTALL)
    else:
        written = f"{written}\n{block}\n"
    atomic_files.replace(page, written.encode())
