"""Rows of dots over one axis: a cell with its interval, untrained cells, and a linear code; see ``dots.html.j2``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from registry.reports.charts.chart import Axis, Look

ALONG = 420  # length of the axis, in pixels, as all lengths below
LETTER = 7.5  # average width of a letter of a label
FOOT = 46  # height of the ticks and the axis label
CELL, UNTRAINED, LINEAR = Look("cell", "circle"), Look("untrained", "triangle"), Look("linear", "diamond")


@dataclass(frozen=True)
class DotRow:
    """A figure of a cell beside that of others.

    Attributes:
        label: Label of the row.
        value: Value of the cell; None if it has none.
        low: Lower bound of the cell's interval; None without one.
        high: Upper bound of the cell's interval; None without one.
        untrained: Values of untrained cells.
        linear: Value of the linear code; None if it has none.
        words: Tooltip and text for screen readers.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    untrained: Sequence[float]
    linear: float | None
    words: str


@dataclass(frozen=True)
class DotRows:
    """Rows of dots over one axis.

    Attributes:
        title: Title of the chart.
        rows: Rows from top to bottom.
        axis: Axis of the values; values beyond it are drawn on its end.
        words: Description for screen readers.
        key: Looks that occur, each with its meaning.
    """

    row: ClassVar[int] = 20

    title: str
    rows: Sequence[DotRow]
    axis: Axis
    words: str
    key: Sequence[tuple[Look, str]]

    @property
    def left(self) -> float:
        """Left end of the axis, beside the labels."""
        return 12 + LETTER * max(len(row.label) for row in self.rows)

    @property
    def middle(self) -> float:
        """Middle of the axis."""
        return self.left + ALONG / 2

    @property
    def bottom(self) -> int:
        """Lower end of the rows."""
        return self.row * len(self.rows) + 6

    @property
    def width(self) -> str:
        """Width of the drawing."""
        return f"{self.left + ALONG + 24:.0f}"

    @property
    def height(self) -> int:
        """Height of the drawing."""
        return self.bottom + FOOT

    @property
    def beyond(self) -> int:
        """Count of the cell's values beyond the axis."""
        return sum(not self.axis.holds(row.value) for row in self.rows if row.value is not None)

    def marks(self, row: DotRow) -> list[tuple[Look, float]]:
        """Return the marks of a row, the cell's last, so that it is on top."""
        found = [(UNTRAINED, value) for value in row.untrained]
        found += [(LINEAR, row.linear)] if row.linear is not None else []
        return found + ([(CELL, row.value)] if row.value is not None else [])

    def across(self, value: float) -> float:
        """Return the horizontal coordinate of a value."""
        return self.left + ALONG * self.axis.share(value)
