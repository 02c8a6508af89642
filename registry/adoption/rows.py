"""Rows of checkpoints, one after another: files are read, arrays are taken apart, and a refusal is a row."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from batteries import packaging
from batteries.errors import BatteriesError, InputError
from batteries.packaging.measurable import refuse_unmeasurable
from batteries.packaging.shelf import ShelfItem, cells_of
from batteries.text import unicode
from registry.adoption.cell_names import expected_reference
from registry.answers.adoption import AdoptedFile, AdoptedModel
from registry.answers.answer import Fault

USAGE = InputError.exit_code
Row = tuple[AdoptedFile | AdoptedModel, int]  # with its exit code


class Rows(ABC):
    """Rows of checkpoints with their exit codes: one for each file, or for each bank of an array.

    Attributes:
        items: Checkpoints.
        total: Number of cells: of a file that is not read yet, one.
    """

    def __init__(self, items: Sequence[ShelfItem]) -> None:
        self.items = items
        self.total = len(items)

    def __iter__(self) -> Iterator[Row]:
        for item in self.items:
            yield from self._of_file(item)

    def _of_file(self, item: ShelfItem) -> Iterator[Row]:
        """Yield the rows of a file, which is in memory meanwhile."""
        started = time.monotonic()
        try:
            cells = cells_of(item, packaging.opened(item.file))
        except BatteriesError as error:
            yield self._refused(item, error, started)
            return
        self.total += len(cells) - 1
        for cell in cells:
            yield self._of_cell(cell, started)
            started = time.monotonic()
        yield from self.after(item, cells)

    def _of_cell(self, item: ShelfItem, started: float) -> Row:
        try:
            facts, code = self.row(item)
        except BatteriesError as error:
            return self._refused(item, error, started)
        return self._row(item, started, facts), code

    @abstractmethod
    def row(self, item: ShelfItem) -> tuple[dict[str, Any], int]:
        """Return the fields of a cell's row, and its exit code.

        Raises:
            BatteriesError: any reason of a refusal.
        """

    def after(self, item: ShelfItem, cells: Sequence[ShelfItem]) -> Iterator[Row]:
        """Yield the rows that follow those of a file's cells."""
        return iter(())

    def _refused(self, item: ShelfItem, error: BatteriesError, started: float) -> Row:
        return self._row(item, started, {"state": "refused", "error": Fault.of(error)}), error.exit_code

    def _row(self, item: ShelfItem, started: float, facts: dict[str, Any]) -> AdoptedFile:
        bank = item.options.key if item.array else None
        return AdoptedFile(file=unicode(item.file), bank=bank, seconds=time.monotonic() - started, **facts)


class DryRun(Rows):
    """Rows of checkpoints that are read and not measured, with the exit codes that measuring them would begin with."""

    def row(self, item: ShelfItem) -> tuple[dict[str, Any], int]:
        """Return spec, sources and missing options of a cell."""
        options = item.options
        found = packaging.adoptable(
            item.opened or item.file, key=options.key, size=options.size, width=options.width, options=options.of_the_function
        )
        data = found.claimed.dataset if found.claimed else None
        refuse_unmeasurable(found.spec, found.size, item.where, any_width=True, data=data)
        facts = {
            "state": "incomplete" if options.missing else "ready",
            "reference": expected_reference(item) if options.name else None,
            "spec": found.spec,
            "reading": found.lines,
            "missing": options.missing,
        }
        return facts, USAGE if options.missing else 0
