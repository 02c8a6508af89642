"""Tables of inspections and comparisons for a terminal: one table for each stage of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from registry.answers.inspection import ComparedCells, ComparedFigure, DefinedFigure, Inspected, MeasuredFigure
from registry.reports.fitted_table import FittedTable
from registry.reports.number_format import interval, number

NOTHING = "\N{EN DASH}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def inspection(found: Inspected) -> list[Any]:
    """Return the tables of an inspection: figures of each stage by size, reasons of undefined ones, and definitions."""
    sizes = [f"{size.height} x {size.width}" for size in found.sizes]
    images = ", ".join(f"{size.images} of {words}" for size, words in zip(found.sizes, sizes, strict=True))
    parts: list[Any] = [f"{found.cell} on {found.probe}: {images}"]
    for stage in stages(found.definitions):
        table = FittedTable("figure", *sizes, wrapping=("figure",), title=stage)
        for figures in rows(found, stage):
            table.add_row(name_of(figures), *map(value, figures))
        parts.append(table)
    return [*parts, *_undefined(found), _definitions(found.definitions)]


def comparison(found: ComparedCells) -> list[Any]:
    """Return the sentences and tables of a comparison; marked rows have a star."""
    keys = {definition.key: definition for definition in found.definitions}
    parts: list[Any] = [f"{found.first} and {found.second} on {found.probe}: {found.marked} of {len(found.figures)} differ"]
    parts += ["\n".join(found.sentences)] if found.sentences else []
    for stage in stages(found.definitions):
        columns = ("", "figure", "size", "first", "second", "difference", "95%")
        table = FittedTable(*columns, wrapping=("figure",), optional=("size", "95%"), title=stage)
        for row in found.figures:
            if keys[row.first.key].stage == stage:
                table.add_row(*_compared(row))
        parts.append(table)
    return parts


def stages(definitions: Sequence[DefinedFigure]) -> list[str]:
    """Return the stages of figures, in order."""
    return list(dict.fromkeys(definition.stage for definition in definitions))


def rows(found: Inspected, stage: str) -> Iterator[list[MeasuredFigure | None]]:
    """Yield the figures of a stage, one for each size; None where a size lacks it."""
    keys = {definition.key for definition in found.definitions if definition.stage == stage}
    by_size = [{(f.key, f.place): f for f in size.figures if f.key in keys} for size in found.sizes]
    for place in dict.fromkeys(place for figures in by_size for place in figures):
        yield [figures.get(place) for figures in by_size]


def name_of(figures: Sequence[MeasuredFigure | None]) -> str:
    """Return the name of a row."""
    return next(figure.name for figure in figures if figure is not None)


def value(figure: MeasuredFigure | None) -> str:
    """Format a value with its error, or an exact one with the largest that rounding explains."""
    if figure is None:
        return NOTHING
    if figure.value is None:
        return "undefined"
    if figure.tolerance is not None:
        return number(figure.value) if figure.tolerance == 0 else f"{number(figure.value)} (< {_short(figure.tolerance)})"
    if figure.standard_error is None:
        return f"{number(figure.value)}, one cluster"
    return f"{number(figure.value)} {PLUS_MINUS} {_short(figure.standard_error)}"


def _short(error: float) -> str:
    """Format an error with two digits."""
    return number(float(f"{error:.1e}"))


def _compared(row: ComparedFigure) -> tuple[str, ...]:
    sizes = dict.fromkeys((row.first_size, row.second_size))
    return (
        "*" if row.marked else "",
        row.first.name,
        "/".join(map(str, sizes)),
        *("undefined" if side.value is None else number(side.value) for side in (row.first, row.second)),
        number(row.difference),
        interval(row.low, row.high),
    )


def _undefined(found: Inspected) -> Iterator[FittedTable]:
    table = FittedTable("figure", "reason", wrapping=("figure", "reason"), title="Undefined")
    for size in found.sizes:
        for figure in size.figures:
            if figure.undefined:
                table.add_row(f"{figure.name} at {size.height} x {size.width}", figure.undefined)
    if table.rows:
        yield table


def _definitions(definitions: Sequence[DefinedFigure]) -> FittedTable:
    table = FittedTable("figure", "formula", wrapping=("figure", "formula"), title="Definitions")
    for definition in definitions:
        table.add_row(definition.title, definition.formula)
    return table
