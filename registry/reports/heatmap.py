"""Heatmaps of labelled squares, whose numbers and outlines repeat the meaning of their colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from registry.reports.html import figure
from registry.reports.markup import Markup, element, text

Tone = Literal["sure", "shade", "unsure", "plain"]  # coloured and outlined; coloured over grey; grey; no colour

SIDE = 46  # side of a square, in pixels; wide enough for its number
LETTER = 7.5  # average width of a letter of a label
DEEPEST = 0.5  # largest opacity at which the number stays legible


@dataclass(frozen=True)
class Square:
    """A number in a square.

    Attributes:
        label: Text in the square.
        depth: Depth of the colour, clipped to 0 to 1.
        tone: ``sure`` (coloured, outlined, bold), ``shade`` (coloured over grey), ``unsure`` (grey) or ``plain`` (no colour).
        words: Tooltip and text for screen readers.
    """

    label: str
    depth: float
    tone: Tone
    words: str


@dataclass(frozen=True)
class Heatmap:
    """Rows of squares.

    Attributes:
        title: Name of the numbers.
        rows: Label and squares of each row; None for an empty place.
        columns: Labels of the columns.
        words: Description for screen readers.
        key: Sample squares, each with its meaning.
    """

    title: str
    rows: Sequence[tuple[str, Sequence[Square | None]]]
    columns: Sequence[str]
    words: str
    key: Sequence[tuple[Square, str]]

    def figure(self) -> Markup:
        """Return the heatmap as a scrollable figure with its key below."""
        left = 12 + LETTER * max(len(label) for label, _ in self.rows)
        width, height = left + SIDE * len(self.columns) + 2, SIDE * (len(self.rows) + 0.6) + 2
        marks = [
            element("text", text(label), x=left + SIDE * (place + 0.5), y=SIDE * 0.38)
            for place, label in enumerate(self.columns)
        ]
        for place, (label, squares) in enumerate(self.rows):
            top = SIDE * (place + 0.6)
            marks.append(element("text", text(label), x=left - 8, y=top + SIDE / 2 + 5, class_="left"))
            marks += [_drawn(one, left + SIDE * column, top) for column, one in enumerate(squares) if one is not None]
        head = (element("title", text(self.title)), element("desc", text(self.words)))
        box = f"0 0 {width:.0f} {height:.0f}"
        drawing = element(
            "svg", *head, *marks, role="img", class_="heat", viewBox=box, width=f"{width:.0f}", height=f"{height:.0f}"
        )
        items = (element("li", _swatch(square), text(meaning)) for square, meaning in self.key)
        return figure(self.title, drawing, items)


def _drawn(square: Square, x: float, y: float) -> Markup:
    label = element("text", text(square.label), x=x + SIDE / 2, y=y + SIDE / 2 + 5)
    shape = _shape(square, x + 1, y + 1, SIDE - 2, SIDE - 2)
    return element("g", element("title", text(square.words)), *shape, label, class_=square.tone)


def _swatch(square: Square) -> Markup:
    shape = element("g", *_shape(square, 1, 1, 26, 14), class_=square.tone)
    return element("svg", shape, class_="heat", viewBox="0 0 28 16", aria_hidden="true")


def _shape(square: Square, x: float, y: float, width: float, height: float) -> list[Markup]:
    place = {"x": x, "y": y, "width": width, "height": height}
    if square.tone in ("unsure", "plain"):
        return [element("rect", **place)]
    depth = f"{DEEPEST * min(1.0, max(0.0, square.depth)):.3f}"
    base = [element("rect", **place, class_="base")] if square.tone == "shade" else []
    return [*base, element("rect", **place, class_="fill", fill_opacity=depth)]
