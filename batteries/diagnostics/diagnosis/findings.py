"""A finding: a figure of a cell with its bounds, and the same figure of untrained cells and of a linear code beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from batteries import short_repr
from batteries.diagnostics.figures import Definition, Figure
from batteries.geometry import strata
from batteries.geometry.estimates import Estimate, student


@dataclass(frozen=True)
class Finding:
    """A figure, its 95% bounds, and the same figure of other coders.

    Attributes:
        figure: Figure of the cell.
        low: Lower 95% bound; None of an exact figure, and of one that is undefined.
        high: Upper 95% bound; None as ``low``.
        untrained: Values of untrained cells, in the order of their seeds; None where it is undefined or was not asked.
        linear: Value of the linear code; None if it has none.

    >>> from batteries import diagnostics
    >>> definition = diagnostics.Definition("mse", "MSE", "kinds", "mean of (reconstruction - image)^2")
    >>> found = diagnostics.Finding(diagnostics.Figure(definition, "text", 0.5), low=0.4, high=0.6, linear=0.7)
    >>> found.key, found.low, found.linear
    ('mse text', 0.4, 0.7)
    """

    figure: Figure
    low: float | None = None
    high: float | None = None
    untrained: tuple[float | None, ...] = ()
    linear: float | None = None

    __repr__ = short_repr.fields

    @property
    def key(self) -> str:
        """Key of the definition and place, which is one of a kind in a diagnosis."""
        return f"{self.figure.definition.key} {self.figure.place}"


def positive(definition: Definition, estimate: Estimate, place: str = "") -> Finding:
    """Convert a positive mean, with bounds of its logarithm; without them if its error is unknown or the mean is 0."""
    if not math.isfinite(estimate.value):
        return Finding(Figure(definition, place, undefined="not finite on these images"))
    figure = Figure(definition, place, estimate.value, estimate.standard_error, by_cluster=estimate.by_image)
    if estimate.value <= 0 or not math.isfinite(estimate.standard_error):
        return Finding(figure)
    return Finding(figure, *strata.bounds(estimate))


def plain(figure: Figure) -> Finding:
    """Add bounds by Student's quantile, with one degree of freedom less than there are clusters."""
    if figure.value is None or figure.standard_error is None or not math.isfinite(figure.standard_error):
        return Finding(figure)
    reach = student(0.95, max(1, len(figure.by_cluster) - 1)) * figure.standard_error
    return Finding(figure, figure.value - reach, figure.value + reach)


def exact(definition: Definition, value: float, place: str = "") -> Finding:
    """Convert a figure without an error."""
    return Finding(Figure(definition, place, value))
