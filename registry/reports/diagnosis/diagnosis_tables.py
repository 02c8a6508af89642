"""Table of a diagnosis in the terminal: a row for each figure, kinds of noise as their groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from registry.answers.diagnosis import DiagnoseAnswer, DiagnosisFigure
from registry.reports.figures import estimate, number
from registry.reports.fitted_table import FittedTable
from registry.reports.tables import NOTHING

ROWS = ("known laws", "unseen laws", "photographs", "text", "gradients", "contrast-0.05", "contrast-0.25", "contrast-4")
SECTIONS = ("verdict", "kinds", "resolution", "tiles", "survival", "compression", "fingerprint")


def diagnosed(found: DiagnoseAnswer) -> FittedTable:
    """Return the table, without single noise laws, singular values and the error of a single kind."""
    table = FittedTable("figure", "of", "cell", "untrained", "PCA", wrapping=("figure",), optional=("PCA",))
    for one in shown(found):
        own = "undefined" if one.value is None else value(one)
        table.add_row(one.title, one.place, own, untrained(one.untrained), _number(one.linear))
    return table


def shown(found: DiagnoseAnswer) -> Iterator[DiagnosisFigure]:
    """Yield the figures that a table shows."""
    for section in SECTIONS:
        for one in found.section(section):
            if section != "kinds" or (one.key == "left" and one.place in ROWS) or one.key == "cv":
                yield one


def value(one: DiagnosisFigure) -> str:
    """Format the value of a cell, with its standard error."""
    return f"undefined: {one.undefined}" if one.value is None else estimate(one.value, one.standard_error)


def untrained(values: Sequence[float | None]) -> str:
    """Format the mean of untrained cells.

    >>> untrained([0.5, None, 1.0]), untrained([])
    ('0.7500', '-')
    """
    known = [value for value in values if value is not None]
    return _number(fmean(known) if known else None)


def _number(value: float | None) -> str:
    return NOTHING if value is None else number(value)
