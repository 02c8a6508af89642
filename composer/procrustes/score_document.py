"""Scores and their nulls, as computed, as stored in files of models and maps, and as reported. Imports no torch.

Source: bounds of a difference from those of both terms, Zou and Donner, Statistics in Medicine 27 (2008).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from statistics import NormalDist
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticKnownError

from batteries.cell.manifest import Count, Positive

LEVEL = 0.05
Z95 = NormalDist().inv_cdf(1 - LEVEL / 2)
BETWEEN_SETS = 0.5  # of a null's sd: most that its mean varies over sets of images (docs/results/coverage-alignment.md)
CLOSED = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, config=CLOSED)
class Null:
    """Held-out R2 of pairs that are known to be unrelated.

    Attributes:
        mean: Mean over draws.
        sd: Standard deviation over draws; 0 for a single one.
        draws: Number of draws.
        exceeding: Number of draws as high as the observed value.

    >>> from composer import procrustes
    >>> procrustes.Null(mean=0.02, sd=0.01, draws=199, exceeding=0).p_value
    0.005
    """

    mean: float
    sd: float
    draws: Positive
    exceeding: Count

    @property
    def p_value(self) -> float:
        """P-value (1 + exceeding) / (1 + draws), exact if the observed pair is exchangeable with the draws.

        Besag and Clifford's sequential p-value, h / l where draw l was the h-th as high, is the same: h is 1 + exceeding, and
        l is 1 + draws.
        """
        return (1 + self.exceeding) / (1 + self.draws)


def lift_bounds(r2: float, low: float, high: float, null: Null) -> tuple[float, float]:
    """Return 95% bounds of ``r2``, itself within ``low`` and ``high``, less the mean of a null on the same images.

    >>> lift_bounds(0.5, 0.25, 0.75, Null(mean=0.25, sd=0.0, draws=199, exceeding=0))
    (0.0, 0.5)
    """
    lift, error = r2 - null.mean, Z95 * null.sd * math.hypot(BETWEEN_SETS, 1 / math.sqrt(null.draws))
    return lift - math.hypot(r2 - low, error), lift + math.hypot(high - r2, error)


@dataclass(frozen=True, config=CLOSED)
class Score:
    """Held-out score of the prediction of one cell's tokens from another's.

    Attributes:
        r2: Share of variance explained on held-out images; negative where the mean predicts better.
        cosine: Mean cosine of predicted and true tokens of held-out images, both less the mean of the fitted images.
        low: Lower 95% bound of the mean of r2 over other sets of as many images, with maps fitted anew; see
            :mod:`composer.procrustes.intervals`. In simulations both bounds hold it in 0.94 to 0.98 of sets from 16 images
            or clusters on; in up to 1 at 8, the fewest tried, and where R2 is near chance. Not a bound of the best map,
            which unlimited images would fit and whose R2 is higher.
        high: Upper 95% bound of the same.
        samples_per_dimension: Rows of the smaller fit, divided by the larger width of the two cells.
        shuffled: Null of pairings shuffled by image.
        untrained: Null of pairs of untrained cells, if any were given.

    >>> import torch
    >>> from composer import procrustes
    >>> one, other = torch.randn(2, 12, 16, 4, generator=torch.Generator().manual_seed(0))
    >>> found = procrustes.score(one, other)
    >>> found.related(), found.low < found.r2 < found.high
    (False, True)
    """

    r2: float
    cosine: float
    low: float
    high: float
    samples_per_dimension: float
    shuffled: Null
    untrained: Null | None = None

    @property
    def lift(self) -> float:
        """Excess of r2 over the mean of shuffled pairings."""
        return self.r2 - self.shuffled.mean

    @property
    def lift_bounds(self) -> tuple[float, float]:
        """95% bounds of the mean of the lift over other sets of as many images.

        The variation of the shuffled mean over sets is taken as half of the standard deviation of single shuffled pairings,
        which in simulations it reaches at eight images; with more the bounds are wider than they need to be.
        """
        return lift_bounds(self.r2, self.low, self.high, self.shuffled)

    @property
    def p_value(self) -> float:
        """P-value of pairings shuffled by image."""
        return self.shuffled.p_value

    @property
    def lift_over_untrained(self) -> float | None:
        """Excess of r2 over the mean of untrained pairs; None without these."""
        return None if self.untrained is None else self.r2 - self.untrained.mean

    def related(self, level: float = LEVEL) -> bool:
        """Return whether all nulls are rejected at a level, which requires at least 1 / level - 1 draws."""
        return all(null.p_value <= level for null in (self.shuffled, self.untrained) if null is not None)


def _finite(score: Score) -> Score:
    numbers = [one for one in _numbers(asdict(score)) if isinstance(one, float)]  # an integer may be too large for isfinite
    if not all(map(math.isfinite, numbers)):
        raise PydanticKnownError("finite_number")
    return score


def _numbers(value: Any) -> Iterator[float]:
    for one in value.values():
        yield from _numbers(one) if isinstance(one, dict) else () if one is None else (one,)


FiniteScore = Annotated[Score, AfterValidator(_finite)]  # as stored in files: without variance R2 is not finite
