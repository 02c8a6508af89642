"""A table that fits its terminal: columns are left out, in a given order, before a cell wraps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from batteries.text import plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

GAP = 2  # columns of the terminal between two columns of a table
NARROWEST = 12  # to which a column that may wrap is narrowed


class FittedTable:
    """A table of plain text. Markup and control characters in cells, headings and title have no effect.

    Args:
        columns: Headings; a table whose headings are all empty is printed without them.
        optional: Headings of columns that may be left out, the most dispensable first.
        wrapping: Headings of columns that wrap; other cells stay on one line, and the last is cut if nothing else fits.
        title: Line above the table.
    """

    def __init__(
        self, *columns: str, optional: Sequence[str] = (), wrapping: Collection[str] = (), title: str | None = None
    ) -> None:
        self.columns = tuple(map(plain, columns))  # may be names of a manifest, such as those of its probes
        self.optional = tuple(map(plain, optional))
        self.wrapping = set(map(plain, wrapping))
        self.title = None if title is None else plain(title)
        self.rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: object) -> None:
        """Add a row, one cell per column."""
        self.rows.append(tuple(plain(str(cell)) for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Render the columns that fit, with a note of those that do not."""
        shown, widths = self._fitting(options.max_width)
        if self.title is not None:
            yield _text(self.title, "bold")
        yield self._table(shown, widths)
        if left := [self.columns[index] for index in range(len(self.columns)) if index not in shown]:
            yield _text(f"left out for width: {', '.join(left)}; --wide shows them", "dim")

    def _fitting(self, width: int) -> tuple[list[int], list[int]]:
        """Choose the columns to show and their widths."""
        from rich.cells import cell_len

        lines = (self.columns, *self.rows)
        natural = [max(cell_len(line[index]) for line in lines) for index in range(len(self.columns))]
        shown = [index for index, heading in enumerate(self.columns) if heading not in self.optional]
        for heading in reversed(self.optional):
            more = sorted([*shown, self.columns.index(heading)])
            shown = more if _total(natural, more) <= width else shown
        for index in reversed([i for i in shown if self.columns[i] in self.wrapping] or shown[-1:]):
            over = _total(natural, shown) - width
            if over > 0:
                natural[index] = max(natural[index] - over, min(natural[index], NARROWEST))
        return shown, [natural[index] for index in shown]

    def _table(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), show_header=any(self.columns))
        for index, width in zip(shown, widths, strict=True):
            wraps = self.columns[index] in self.wrapping
            table.add_column(
                _text(self.columns[index]), width=width, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis"
            )
        for row in self.rows:
            table.add_row(*(_text(row[index]) for index in shown))
        return table


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[index] for index in shown) + GAP * (len(shown) - 1)


def _text(value: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(value, style=style)
