"""Panels of curves over axes, drawn as one SVG by ``panels.svg.j2``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from registry.reports.charts.chart import Axis

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

INK, GRID, SHADE = "#333333", "#dddddd", "#e3ece5"
MARK = 4  # radius of a marker
KEY = 28  # height of the key below the panels
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 30, 44  # margins of a panel


@dataclass(frozen=True)
class Curve:
    """A run along training: its points, the marker at its end, and the interval of its last x."""

    colour: str
    path: list[tuple[float, float]]
    shape: int
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Panel:
    """Axes of a panel, which map values to coordinates, and its curves; a range of x may be shaded."""

    width: ClassVar[int] = 330
    left: ClassVar[int] = LEFT
    right: ClassVar[int] = width - RIGHT
    top: ClassVar[int] = TOP

    title: str
    x: Axis
    y: Axis
    curves: list[Curve]
    height: int
    shaded: tuple[float, float] | None = None

    @property
    def bottom(self) -> int:
        """Lower end of the y axis."""
        return self.height - BOTTOM

    def across(self, value: float) -> float:
        """Return the coordinate of a value on x."""
        return self.left + self.x.share(value) * (self.right - self.left)

    def down(self, value: float) -> float:
        """Return the coordinate of a value on y."""
        return self.bottom - self.y.share(value) * (self.bottom - self.top)


def drawn(title: str, what: str, rows: list[list[Panel]], shapes: list[tuple[str, str, int]], note: str) -> str:
    """Draw rows of panels with one key: words, colour and shape of each kind of curve, and a note."""
    return TEMPLATES.get_template("panels.svg.j2").render(
        title=title,
        what=what,
        rows=rows,
        shapes=shapes,
        note=note,
        swatch=rows[0][0].shaded is not None,
        **{"ink": INK, "grid": GRID, "shade": SHADE, "mark": MARK, "key": KEY, "left": LEFT},
    )
