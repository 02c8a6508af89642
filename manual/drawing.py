"""Small SVG pictures: shapes, text, and a frame with axes. White ground, so that they read in dark pages too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

INK, GREY, SHADE = "#333333", "#8a8a8a", "#e3ece5"
COLOURS = ("#2f6f4f", "#b5542c", "#3b5b92", "#8a6d1d")


@dataclass
class Drawing:
    """Picture that is drawn shape by shape.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        title: Title, which screen readers read.
        parts: Shapes as SVG.
    """

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, *, size: int = 13, anchor: str = "middle", colour: str = INK) -> None:
        """Write a line of text."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, *, fill: str = "none", stroke: str = INK) -> None:
        """Draw a rectangle."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" stroke="{stroke}"/>'
        )

    def dot(self, x: float, y: float, *, radius: float = 4, fill: str = INK, stroke: str = "none") -> None:
        """Draw a disc."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{stroke}"/>')

    def path(self, points: Sequence[tuple[float, float]], *, colour: str = INK, dashed: bool = False) -> None:
        """Draw a line through points."""
        dashes = ' stroke-dasharray="4 4"' if dashed else ""
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>')

    def arrow(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """Draw an arrow."""
        angle = math.atan2(to_y - y, to_x - x)
        self.path([(x, y), (to_x, to_y)])
        sides = [(to_x - 8 * math.cos(angle + turn), to_y - 8 * math.sin(angle + turn)) for turn in (0.4, -0.4)]
        self.path([sides[0], (to_x, to_y), sides[1]])

    def svg(self) -> str:
        """Return the picture as SVG."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" role="img" font-family="sans-serif">'
        )
        ground = f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", ground, *self.parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class Frame:
    """Axes in a drawing: ranges of values, and the rectangle that they are mapped to.

    Attributes:
        drawing: Drawing that the frame is in.
        left: Left side in pixels.
        top: Upper side in pixels.
        right: Right side in pixels.
        bottom: Lower side in pixels.
        x: Range of x.
        y: Range of y.
        log: Whether y is logarithmic.
    """

    drawing: Drawing
    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a pair of values."""
        low, high, value = (math.log(one) for one in (*self.y, y)) if self.log else (*self.y, y)
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (value - low) / (high - low)
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def axes(self, xs: Sequence[float], ys: Sequence[float], x_name: str, y_name: str) -> None:
        """Draw the frame, its ticks and its names."""
        self.drawing.box(self.left, self.top, self.right - self.left, self.bottom - self.top)
        for value in xs:
            place, _ = self.at(value, self.y[0])
            self.drawing.text(place, self.bottom + 18, f"{value:g}")
        for value in ys:
            _, place = self.at(self.x[0], value)
            self.drawing.text(self.left - 6, place + 4, f"{value:g}", anchor="end")
            self.drawing.path([(self.left, place), (self.right, place)], colour="#dddddd")
        self.drawing.text((self.left + self.right) / 2, self.bottom + 38, x_name)
        self.drawing.text(self.left, self.top - 10, y_name, anchor="start")
