"""Comparison of two inspections, row by row, and the differences that survive Holm's correction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from batteries import short_repr
from batteries.diagnostics.contrasts import Contrast, contrast
from batteries.diagnostics.figures import Figure
from batteries.diagnostics.inspection import Column, Inspection
from batteries.errors import InputError
from batteries.geometry.multiple_testing import holm

LEVEL = 0.05  # of all rows together


@dataclass(frozen=True)
class ComparedRow:
    """A figure of two cells.

    Attributes:
        size: Side of the first and of the second cell's images, in pixels.
        first: Figure of the first cell.
        second: Figure of the second cell.
        paired: Whether both were read on the same images.
        contrast: Difference, interval and p-value; None if either figure is undefined.
        p: P-value corrected for the number of rows by Holm's method; None without a test.
        marked: Whether the difference counts: ``p`` is at most 0.05, or exact figures differ by more than rounding.

    >>> import batteries
    >>> from batteries import diagnostics
    >>> model = batteries.untrained(batteries.CellSpec.preset("high", hidden=16), seed=0)
    >>> found = diagnostics.inspect(model, batteries.probe("noise16-64").images[:4])
    >>> diagnostics.compare(found, found).rows[0].contrast.difference
    0.0
    """

    size: tuple[int, int]
    first: Figure
    second: Figure
    paired: bool
    contrast: Contrast | None
    p: float | None = None
    marked: bool = False

    __repr__ = short_repr.fields


@dataclass(frozen=True)
class Comparison:
    """Two inspections side by side.

    Attributes:
        first: Name of the first cell.
        second: Name of the second cell.
        rows: Figures of both.

    >>> import batteries
    >>> from batteries import diagnostics
    >>> images = batteries.probe("noise16-64").images[::16]
    >>> one, two = (batteries.untrained(batteries.CellSpec.preset("high", hidden=16), seed) for seed in (0, 1))
    >>> found = diagnostics.compare(diagnostics.inspect(one, images), diagnostics.inspect(two, images))
    >>> found.first, len(found.rows) > 50
    ('cell', True)
    """

    first: str
    second: str
    rows: tuple[ComparedRow, ...]

    __repr__ = short_repr.fields

    @property
    def marked(self) -> tuple[ComparedRow, ...]:
        """Rows whose difference counts."""
        return tuple(row for row in self.rows if row.marked)

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence for each marked row."""
        sizes = len({row.size for row in self.rows}) > 1
        return tuple(_sentence(row, self.first, self.second, sizes) for row in self.marked)


def compare(first: Inspection, second: Inspection) -> Comparison:
    """Compare two cells, one cell before and after training, or one cell at two sizes (:meth:`Inspection.at`).

    Columns are paired in order. Figures that were read on the same images are paired by cluster.

    Args:
        first: Inspection of the first cell.
        second: Inspection of the second cell, with as many columns.

    Raises:
        InputError: other numbers of columns (``COLUMNS``).

    >>> import batteries
    >>> from batteries import diagnostics
    >>> model = batteries.untrained(batteries.CellSpec.preset("high", hidden=16), seed=0)
    >>> found = diagnostics.inspect(model, batteries.probe("noise16-64").images[:8])
    >>> diagnostics.compare(found, found).marked
    ()
    """
    if len(first.columns) != len(second.columns):
        counts = [len(found.columns) for found in (first, second)]
        raise InputError("columns that cannot be paired", code="COLUMNS", expected="as many of both", found=counts)
    rows = [row for pair in zip(first.columns, second.columns, strict=True) for row in _rows(*pair)]
    return Comparison(first.name, second.name, tuple(_judged(rows)))


def _rows(first: Column, second: Column) -> Iterator[ComparedRow]:
    """Yield the figures of both columns, in the order of the first, then those that only the second has."""
    others = {(figure.definition.key, figure.place): figure for figure in second.figures}
    size, paired = (first.size[1], second.size[1]), first.digest == second.digest
    for figure in first.figures:
        other = others.pop((figure.definition.key, figure.place), _missing(figure, second))
        yield ComparedRow(size, figure, other, paired, contrast(figure, other, paired=paired))
    for other in others.values():
        yield ComparedRow(size, _missing(other, first), other, paired, None)


def _missing(figure: Figure, column: Column) -> Figure:
    of_group = any(figure.place == other.place for other in column.figures)
    reason = "not among its figures" if of_group else f"no {figure.place or figure.definition.title} there"
    return Figure(figure.definition, figure.place, undefined=reason)


def _judged(rows: list[ComparedRow]) -> Iterator[ComparedRow]:
    """Yield the rows with their corrected p-values and marks."""
    raw = [row.contrast.p for row in rows if row.contrast is not None and row.contrast.p is not None]
    corrected = iter(holm(raw))
    for row in rows:
        if row.contrast is None:
            yield row
        elif row.contrast.p is None:
            yield replace(row, marked=row.contrast.exceeds)
        else:
            p = next(corrected)
            yield replace(row, p=p, marked=p <= LEVEL)


def _sentence(row: ComparedRow, first: str, second: str, sizes: bool) -> str:
    found = row.contrast
    assert found is not None
    assert row.first.value is not None
    assert row.second.value is not None
    where = f" at {row.size[0]} pixels" if sizes and row.size[0] == row.size[1] else ""
    word = "higher" if found.difference > 0 else "lower"
    sides = f"{row.second.value:.4g} against {row.first.value:.4g}"
    bounds = "beyond rounding" if found.low is None else f"95% interval of the difference {found.low:.3g} to {found.high:.3g}"
    low, high = row.first.definition.margin
    margin = ""
    if (low, high) != (1.0, 1.0):
        margin = f", a ratio of {row.second.value / row.first.value:.2f}, outside {low:g} to {high:g}"
    return f"{row.first.name} is {word} in {second} than in {first}{where}: {sides}{margin}; {bounds}."
