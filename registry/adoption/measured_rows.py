"""Adoption of checkpoints, one after another: each is measured, or its figures are recalled, and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import batteries
from batteries.cell.cell import Cell
from batteries.cell.input_scale import of_text
from batteries.errors import BatteriesError, ConflictError, InputError, PolicyError
from batteries.packaging.shelf import Options, ShelfItem
from batteries.text import unicode
from composer.artifact.model.manifest import MODEL
from registry.adoption import array_model
from registry.adoption.cell_names import BAND, filled_name, label_of, wanted_name
from registry.adoption.rows import Row, Rows
from registry.answers.adoption import AdoptedModel
from registry.answers.answer import Fault
from registry.catalog.reference import Reference

if TYPE_CHECKING:
    from batteries.data.sources import Source
    from batteries.packaging import SharedFigures


class Adoption(Rows):
    """Rows of checkpoints that are adopted, and a row for the model of an array's cells after them.

    Args:
        items: Checkpoints.
        out: Folder of the cells.
        shared: Figures that the adoptions share.
        source_of: Function from options to the images of a cell's own domain.
    """

    def __init__(
        self, items: Sequence[ShelfItem], out: Path, shared: SharedFigures, source_of: Callable[[Options], Source]
    ) -> None:
        super().__init__(items)
        self._out, self._shared, self._source_of = out, shared, source_of
        self._written: dict[Path, str] = {}
        self._cells: list[Cell] = []  # of the file that is read

    def adopt(self, item: ShelfItem) -> tuple[Cell, Callable[[], Path]]:
        """Measure the cell of a checkpoint, or recall its figures; return it with a function that writes it.

        Raises:
            InputError: options that are missing (``USAGE``) or invalid.
            PolicyError: another band than that of its name (``BAND_DENIED``). Its figures are kept.
            BatteriesError: any error of :func:`batteries.adopt`.
        """
        options = item.options
        wanted = wanted_name(item)
        if options.missing:
            raise InputError("missing options", code="USAGE", expected=", ".join(options.missing), where=item.where)
        assert options.input is not None, "it is not missing"
        cell = batteries.adopt(
            item.opened or item.file,
            label=label_of(options, wanted),
            input=of_text(options.input, where="--input"),
            source=self._source_of(options),
            key=options.key,
            size=options.size,
            width=options.width,
            command=options.model_copy(update={"name": filled_name(item)}).command(str(item.file)),
            shared=self._shared,
            **options.of_the_function,
        )
        _refuse_other_band(cell, item, wanted)
        return cell, lambda: self._write(cell, item)

    def row(self, item: ShelfItem) -> tuple[dict[str, Any], int]:
        """Adopt a cell and write it."""
        measured = self._shared.measured
        cell, write = self.adopt(item)
        path = write()
        self._cells.append(cell)
        facts = {
            "state": "adopted" if self._shared.measured > measured else "kept",
            "reference": f"{cell.name}@{cell.version}",
            "path": unicode(path),
            "spec": cell.spec,
            "reading": cell.manifest.training.reading,
        }
        return facts, 0

    def after(self, item: ShelfItem, cells: Sequence[ShelfItem]) -> Iterator[Row]:
        """Compose the adopted cells of a whole array."""
        members, self._cells = self._cells, []
        if members and item.options.key is None and (array := cells[0].array):
            yield self._composed(item, array, len(cells), members)

    def _composed(self, item: ShelfItem, array: str, banks: int, members: Sequence[Cell]) -> Row:
        """Write the model of an array's adopted cells; return its row."""
        started = time.monotonic()
        facts: dict[str, Any] = {"file": unicode(item.file), "banks": banks, "cells": len(members)}
        try:
            label = array_model.label_of(item, array, members)
            path = array_model.path_of(self._out, item, label)
            self._refuse_second(path, item)
            array_model.write(members, path, label)
        except BatteriesError as error:
            fault, seconds = Fault.of(error), time.monotonic() - started
            return AdoptedModel(**facts, state="refused", error=fault, seconds=seconds), error.exit_code
        reference, seconds = f"{MODEL.name}/{label.name}@{label.version}", time.monotonic() - started
        return AdoptedModel(**facts, state="composed", reference=reference, path=unicode(path), seconds=seconds), 0

    def _write(self, cell: Cell, item: ShelfItem) -> Path:
        """Write a cell; phases of a run have a folder each, since they have one name."""
        folder = self._out / cell.manifest.identity.band / (item.version or "")
        self._refuse_second(folder / cell.manifest.identity.name, item)
        return cell.write(folder)

    def _refuse_second(self, path: Path, item: ShelfItem) -> None:
        if path in self._written:
            raise ConflictError(
                "two checkpoints of one name",
                code="OUT_CLASH",
                found=f"{path} of {self._written[path]}",
                where=item.where,
                remedy="Use {stem} or {parent} in --name, as in '{band}/{parent}-{stem}'.",
            )
        self._written[path] = item.where


def _refuse_other_band(cell: Cell, item: ShelfItem, wanted: Reference) -> None:
    band = cell.manifest.identity.band
    if BAND not in (item.options.name or "") and band != wanted.band:
        raise PolicyError(
            "band does not match the CV",
            code="BAND_DENIED",
            expected=band,
            found=wanted.band,
            where=str(wanted),
            remedy=f"Name it {band}/{wanted.name}, or '{BAND}/{wanted.name}', which measures nothing again; "
            "or check the input scale, the width and the row norm.",
        )
