"""Thresholds of the four diagnostics, with their sources."""

from __future__ import annotations

from typing import Literal

from batteries.cell.manifest import Text
from batteries.io.canonical_json import Document

Key = Literal["a", "b", "c", "d"]
ThresholdName = Literal["growth", "gradient", "relative", "stability", "margin"]

STUDY = "published study of feedback alignment"
OURS = "ours"


class Threshold(Document):
    """A threshold.

    Attributes:
        value: Value at which a diagnostic fires.
        healthy: Range of healthy runs, in words.
        failing: Range of degenerate runs, in words.
        source: Source of the three.
    """

    value: float
    healthy: Text
    failing: Text
    source: Text


class Thresholds(Document):
    """Thresholds of an audit.

    Attributes:
        growth: Largest growth of the stream's norm over one block; (a) fires above it.
        gradient: Floor of the gradient's norm, per sample; (b) fires below it.
        relative: Floor of that norm over the same before the first step; (b) fires below it.
        stability: Ceiling of the cross-batch stability; (c) fires above it.
        margin: Accuracy less that of the baseline; (d) fires below it.
        weak: Margin up to which a host that passes (d) is called weak.

    >>> from composer import audit
    >>> audit.Thresholds().growth.value
    50.0
    """

    growth: Threshold = Threshold(value=50.0, healthy="below 25", failing="from 100", source=STUDY)
    gradient: Threshold = Threshold(value=1e-7, healthy="about 1e-4", failing="about 1e-9", source=STUDY)
    relative: Threshold = Threshold(value=1e-2, healthy="0.09 to 4", failing="about 1e-3", source=OURS)
    stability: Threshold = Threshold(value=0.3, healthy="about 0.1", failing="-0.005 to 0.99", source=STUDY)
    margin: Threshold = Threshold(value=0.0, healthy="about 0.25", failing="below 0", source=STUDY)
    weak: float = 0.02

    def moved(self, name: ThresholdName, value: float) -> Thresholds:
        """Return these thresholds with another value of one of them."""
        return self.model_copy(update={name: getattr(self, name).model_copy(update={"value": value})})
