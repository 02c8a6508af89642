"""Verdict of a diagnosis: specialist or generalist, by the error on kinds of images that a cell has not learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from batteries import short_repr
from batteries.cell.manifest import Domain
from batteries.diagnostics.diagnosis.findings import Finding
from batteries.diagnostics.diagnosis.reconstruction import KindErrors
from batteries.diagnostics.figures import Definition, Figure
from batteries.geometry import strata
from batteries.geometry.estimates import Estimate

Word = Literal["generalist", "specialist", "undecided"]
BOUND = 1.4
SOURCE = (
    "published diagnostics of the Freckles cells: 16 unseen noise laws within 1.4 times the error on known ones. Unseen and "
    "known laws are compared by MSE, as there; other kinds by the share left, since their contrast differs (own choice)."
)
HOMES: dict[Domain, str] = {"noise": "known laws", "photos": "photographs"}
FOREIGN: dict[Domain, tuple[str, ...]] = {
    "noise": ("unseen laws", "photographs", "text"),
    "photos": ("known laws", "unseen laws", "text"),
}
CONFIDENCE = 1 - 0.05 / 3  # of each of three ratios, so that all hold with 95% (Bonferroni)
RATIO = Definition("ratio", "error over home", "verdict", "MSE of unseen over known laws; else share left over share left")

UNSEEN = Definition("unseen", "unseen over known laws", "verdict", "MSE of unseen laws / MSE of known laws")


@dataclass(frozen=True)
class Verdict:
    """Verdict with all that it rests on.

    Attributes:
        word: Generalist if every ratio's upper bound is at most 1.4, specialist if a lower bound is above, else undecided.
        home: Group of images that counts as the cell's own domain.
        ratios: Error on each foreign kind over that at home, with bounds of 98.3%, so that the three hold with 95%.
        bound: Largest ratio of a generalist.
        source: Source of the bound.

    >>> from batteries import diagnostics
    >>> diagnostics.Verdict("generalist", "known laws", ratios=()).bound
    1.4
    """

    word: Word
    home: str
    ratios: tuple[Finding, ...]
    bound: float = BOUND
    source: str = SOURCE

    __repr__ = short_repr.fields


def judge(errors: KindErrors, home: Domain) -> Verdict:
    """Judge a coder by its errors on kinds of images."""
    ratios = tuple(_ratio(errors, HOMES[home], group) for group in FOREIGN[home])
    return Verdict(word_of(ratios), HOMES[home], ratios)


def word_of(ratios: Sequence[Finding]) -> Word:
    """Return the verdict of ratios with bounds."""
    if any(one.low is not None and one.low > BOUND for one in ratios):
        return "specialist"
    if all(one.high is not None and one.high <= BOUND for one in ratios):
        return "generalist"
    return "undecided"


def published(errors: KindErrors) -> Finding:
    """Return the ratio that published diagnostics speak of, with its 95% bounds: of unseen over known laws, of any cell."""
    return _compared(UNSEEN, "", errors.mse["unseen laws"], errors.mse["known laws"], 0.95)


def _ratio(errors: KindErrors, home: str, group: str) -> Finding:
    by = errors.mse if {home, group} == {"known laws", "unseen laws"} else errors.left
    return _compared(RATIO, group, by[group], by[home], CONFIDENCE)


def _compared(definition: Definition, place: str, other: Estimate, own: Estimate, confidence: float) -> Finding:
    if not all(math.isfinite(one.value) and one.value > 0 for one in (own, other)):
        return Finding(Figure(definition, place, undefined="an error of 0, or none that is finite"))
    value, low, high = strata.ratio(other, own, confidence)
    relative = math.hypot(*(one.standard_error / one.value for one in (own, other)))
    return Finding(Figure(definition, place, value, value * relative), low, high)
