"""Heatmaps of labelled squares, whose numbers and outlines repeat the meaning of their colour: see ``heatmap.html.j2``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Tone = Literal["sure", "shade", "unsure", "plain"]  # coloured and outlined; coloured over grey; grey; no colour

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

    @property
    def is_coloured(self) -> bool:
        """Return whether the depth of the colour has a meaning."""
        return self.tone in ("sure", "shade")

    @property
    def opacity(self) -> str:
        """Opacity of the colour."""
        return f"{DEEPEST * min(1.0, max(0.0, self.depth)):.3f}"


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

    side: ClassVar[int] = 46  # side of a square, in pixels; wide enough for its number

    title: str
    rows: Sequence[tuple[str, Sequence[Square | None]]]
    columns: Sequence[str]
    words: str
    key: Sequence[tuple[Square, str]]

    @property
    def left(self) -> float:
        """Left edge of the first column, beside the labels."""
        return 12 + LETTER * max(len(label) for label, _ in self.rows)

    @property
    def width(self) -> str:
        """Width of the drawing."""
        return f"{self.left + self.side * len(self.columns) + 2:.0f}"

    @property
    def height(self) -> str:
        """Height of the drawing."""
        return f"{self.side * (len(self.rows) + 0.6) + 2:.0f}"
