"""Bar charts of shares: one row per bar, from zero, with intervals; see ``bars.html.j2``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from registry.reports.charts.chart import Axis

ALONG = 340  # length of the axis, in pixels, as all lengths below
LETTER = 7.5  # average width of a letter of a label
FOOT = 46  # height of the ticks and the axis label


@dataclass(frozen=True)
class Bar:
    """A share and its interval.

    Attributes:
        label: Label of the row.
        value: Share; None if there is none.
        low: Lower bound of the interval; None without one.
        high: Upper bound of the interval; None without one.
        sure: Whether the share is informative; drawn grey if not.
        words: Tooltip and text for screen readers.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    sure: bool
    words: str


@dataclass(frozen=True)
class Bars:
    """Rows of bars over one axis.

    Attributes:
        title: Title of the chart.
        bars: Bars from top to bottom.
        axis: Axis of shares; values beyond it are drawn to its end.
        words: Description for screen readers.
        key: Informative and grey bars, each with its meaning.
    """

    row: ClassVar[int] = 22
    thickness: ClassVar[int] = 12

    title: str
    bars: Sequence[Bar]
    axis: Axis
    words: str
    key: Sequence[tuple[bool, str]]

    @property
    def left(self) -> float:
        """Left end of the axis, beside the labels."""
        return 12 + LETTER * max(len(bar.label) for bar in self.bars)

    @property
    def middle(self) -> float:
        """Middle of the axis."""
        return self.left + ALONG / 2

    @property
    def bottom(self) -> int:
        """Lower end of the rows."""
        return self.row * len(self.bars) + 6

    @property
    def width(self) -> str:
        """Width of the drawing."""
        return f"{self.left + ALONG + 20:.0f}"

    @property
    def height(self) -> int:
        """Height of the drawing."""
        return self.bottom + FOOT

    @property
    def beyond(self) -> int:
        """Count of values beyond the axis."""
        return sum(not self.axis.holds(bar.value) for bar in self.bars if bar.value is not None)

    def across(self, value: float) -> float:
        """Return the horizontal coordinate of a share."""
        return self.left + ALONG * self.axis.share(value)
