"""Scatter of error against CV / exact: a point for each cell, which is a link to its page. ``scatter.html.j2`` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from batteries.cell.manifest import BANDS
from batteries.geometry.attractor import ON_ATTRACTOR
from registry.reports.charts.chart import Axis
from registry.reports.number_format import number
from registry.site.contents import CellEntry
from registry.transfer.query import row_of

MARKS = {  # of each band, around the point
    "low": "M-6,0a6,6 0 1,0 12,0a6,6 0 1,0 -12,0z",
    "mid": "M-5.5,-5.5h11v11h-11z",
    "high": "M0,-7.5L7,5.5H-7z",
    "open": "M0,-7.5L7.5,0L0,7.5L-7.5,0z",
    "off": "M-6,-4L-4,-6L0,-2L4,-6L6,-4L2,0L6,4L4,6L0,2L-4,6L-6,4L-2,0z",
}


@dataclass(frozen=True)
class Dot:
    """A point of the chart.

    Attributes:
        place: Number of the cell's row in the table.
        x: Horizontal coordinate.
        y: Vertical coordinate.
        entry: Cell.
        filled: True if the cell is viable.
        words: Figures in words.
    """

    place: int
    x: float
    y: float
    entry: CellEntry
    filled: bool
    words: str


@dataclass(frozen=True)
class Scatter:
    """The chart. Lengths are in pixels of its drawing.

    Attributes:
        x: Axis of CV / exact.
        y: Axis of the error.
        dots: Points, those of the newest versions last.
        left_out: Number of cells without a point: of a degenerate CV, or without an error.
    """

    width: ClassVar[int] = 900
    height: ClassVar[int] = 440
    left: ClassVar[int] = 96
    right: ClassVar[int] = width - 20
    top: ClassVar[int] = 14
    bottom: ClassVar[int] = height - 68
    window: ClassVar[tuple[float, float]] = ON_ATTRACTOR

    x: Axis
    y: Axis
    dots: tuple[Dot, ...]
    left_out: int

    @property
    def bands(self) -> list[str]:
        """Bands that occur."""
        found = {dot.entry.manifest.identity.band for dot in self.dots}
        return [band for band in BANDS if band in found]

    def across(self, value: float) -> float:
        """Return the horizontal coordinate of a ratio."""
        return self.left + self.x.share(value) * (self.right - self.left)

    def down(self, value: float) -> float:
        """Return the vertical coordinate of an error."""
        return self.bottom - self.y.share(value) * (self.bottom - self.top)


def scatter(entries: Sequence[CellEntry]) -> Scatter | None:
    """Return the chart of cells, in the order of the table; None if none of them has both figures."""
    known = [(place, one) for place, one in enumerate(entries) if _ratio(one) is not None and one.manifest.own.mse.value > 0]
    if not known:
        return None
    ratios = [_ratio(one) or 0.0 for _, one in known]
    empty = Scatter(
        Axis.over("CV / exact CV of the width", [*ratios, *ON_ATTRACTOR], steps=6),
        Axis.over("error (MSE)", [one.manifest.own.mse.value for _, one in known], log=True),
        (),
        len(entries) - len(known),
    )
    dots = [_dot(empty, *row) for row in known]
    return Scatter(empty.x, empty.y, tuple(sorted(dots, key=lambda dot: dot.entry.newest)), empty.left_out)


def _ratio(entry: CellEntry) -> float | None:
    return entry.located.cell_release.summary.ratio


def _dot(chart: Scatter, place: int, entry: CellEntry) -> Dot:
    row, ratio, mse = row_of(entry.located), _ratio(entry), entry.manifest.own.mse.value
    assert ratio is not None, "cells without it have no point"
    verdict = "yanked" if entry.yanked is not None else str(row["verdict"] or "not tested")
    words = f"{entry.reference}: MSE {number(mse)} on {entry.manifest.own_probe}, CV / exact {number(ratio)}, {verdict}"
    return Dot(place, chart.across(ratio), chart.down(mse), entry, row["viable"] is True and entry.yanked is None, words)
