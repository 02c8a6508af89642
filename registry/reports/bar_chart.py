"""Bar charts of shares: one row per bar, from zero, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.reports.chart import Axis
from registry.reports.html import figure
from registry.reports.markup import Markup, element, number, text

ROW, BAR = 22, 12  # heights in pixels, as all lengths below
ALONG = 340  # length of the axis
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
        key: Meaning of an informative bar, and of a grey one.
    """

    title: str
    bars: Sequence[Bar]
    axis: Axis
    words: str
    key: tuple[str, str]

    def figure(self) -> Markup:
        """Return the chart as a scrollable figure with its key below."""
        left = 12 + LETTER * max(len(bar.label) for bar in self.bars)
        width, bottom = left + ALONG + 20, ROW * len(self.bars) + 6
        marks = []
        for value, label in self.axis.ticks:
            x = left + ALONG * self.axis.share(value)
            marks.append(element("line", x1=x, y1=0, x2=x, y2=bottom, class_="axis" if value == 0 else "grid"))
            marks.append(element("text", text(label), x=x, y=bottom + 17))
        marks.append(element("text", text(self.axis.label), x=left + ALONG / 2, y=bottom + 38))
        marks += [self._bar(bar, left, ROW * place + 3) for place, bar in enumerate(self.bars)]
        head = (element("title", text(self.title)), element("desc", text(self.words)))
        size = {"width": f"{width:.0f}", "height": f"{bottom + FOOT}"}
        box = f"0 0 {size['width']} {size['height']}"
        drawing = element("svg", *head, *marks, role="img", class_="bars", viewBox=box, **size)
        items = [
            element(
                "li",
                element("svg", _rect(1, 2, 26, sure), class_="bars", viewBox="0 0 28 16", aria_hidden="true"),
                text(meaning),
            )
            for sure, meaning in zip((True, False), self.key, strict=True)
        ]
        beyond = sum(not self.axis.holds(bar.value) for bar in self.bars if bar.value is not None)
        if beyond:
            items.append(element("li", text(f"beyond the axis, drawn to its end: {number(beyond)}"), class_="note"))
        return figure(self.title, drawing, items)

    def _bar(self, bar: Bar, left: float, top: float) -> Markup:
        """Draw the label, the bar from zero, and the interval as a line through it."""
        parts = [element("title", text(bar.words)), element("text", text(bar.label), x=left - 8, y=top + 13, class_="left")]
        if bar.value is not None:
            zero, end = (left + ALONG * self.axis.share(value) for value in (0.0, bar.value))
            parts.append(_rect(min(zero, end), top + (ROW - BAR) / 2 - 2, abs(end - zero), bar.sure))
        if bar.low is not None and bar.high is not None:
            ends = [left + ALONG * self.axis.share(value) for value in (bar.low, bar.high)]
            middle = top + ROW / 2 - 2
            parts.append(element("line", x1=ends[0], y1=middle, x2=ends[1], y2=middle, class_="rod"))
        return element("g", *parts)


def _rect(x: float, y: float, width: float, sure: bool) -> Markup:
    return element("rect", x=x, y=y, width=width, height=BAR, class_="sure" if sure else "unsure")
