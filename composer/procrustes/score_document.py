"""Scores and their nulls: what is computed, what files of models and maps keep, and what answers show. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticKnownError

from batteries.cell.manifest import Count, Positive

LEVEL = 0.05
CLOSED = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, config=CLOSED)
class Null:
    """Held-out R2 of pairs that are known not to belong together.

    Attributes:
        mean: Over draws.
        sd: Standard deviation over draws; 0 for a single one.
        draws: How many.
        exceeding: How many of them are as high as the observed one.

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
        """(1 + exceeding) / (1 + draws): exact where the observed pair is one like the others.

        Besag and Clifford's too, which is h / l where draw l was the h-th as high: 1 + exceeding is h then, and 1 + draws is l.
        """
        return (1 + self.exceeding) / (1 + self.draws)


@dataclass(frozen=True, config=CLOSED)
class Score:
    """How well one cell's tokens predict another's, held out.

    Attributes:
        r2: Share of variance explained on images that were not fitted; negative where the mean would have done better.
        cosine: Mean cosine of predicted and true tokens there, both less the mean of the fitted images.
        low: Lower 95% bound of r2, by a bootstrap over images; the maps stay as they are.
        high: Upper 95% bound.
        samples_per_dimension: Rows of the smaller fit over D, the wider of the two.
        shuffled: The same under pairings shuffled by image.
        untrained: Of pairs of untrained cells, where they were given.

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
        """r2 over the mean of shuffled pairings."""
        return self.r2 - self.shuffled.mean

    @property
    def p_value(self) -> float:
        """Of pairings shuffled by image."""
        return self.shuffled.p_value

    @property
    def lift_over_untrained(self) -> float | None:
        """r2 over the mean of untrained pairs; None where there were none."""
        return None if self.untrained is None else self.r2 - self.untrained.mean

    def related(self, level: float = LEVEL) -> bool:
        """Whether both nulls, or the one there is, are rejected at a level, which takes 1 / level - 1 draws at least."""
        return all(null.p_value <= level for null in (self.shuffled, self.untrained) if null is not None)


def _finite(score: Score) -> Score:
    numbers = [one for one in _numbers(asdict(score)) if isinstance(one, float)]  # an integer may be too large for one
    if not all(map(math.isfinite, numbers)):
        raise PydanticKnownError("finite_number")
    return score


def _numbers(value: Any) -> Iterator[float]:
    for one in value.values():
        yield from _numbers(one) if isinstance(one, dict) else () if one is None else (one,)


FiniteScore = Annotated[Score, AfterValidator(_finite)]  # what a file can keep: tokens without variance have no R2
