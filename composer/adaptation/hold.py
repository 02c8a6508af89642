"""Hold of an adaptation: weights of the terms that keep a cell, and bounds of the guard. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from batteries.errors import InputError

TERMS = ("reconstruction", "cv", "anchor")


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


KINDS: dict[Any, Callable[[str], float | int | bool]] = {"float": float, "int": int, "bool": _flag}  # by annotation


@dataclass(frozen=True)
class Hold:
    """Terms added to a host's loss, and the guard that measures the cell while it learns.

    The terms are on images of the cell's own domain: ``reconstruction`` times the error over the variance that the cell
    explained before, ``cv`` times (axial CV / axial CV before - 1)^2, with the gradient through the Cayley-Menger volumes, and
    ``anchor`` times the mean squared distance of a row of M from where it was.

    The guard is not a term: axial CV and effective rank must hold against those before (ratio and both 95% bounds in [0.85,
    1.15]), and the share kept of the content must be at least ``content``. Where one does not, the cell goes back to the last
    state that held and learns on at half the rate.

    Attributes:
        reconstruction: Weight of the reconstruction of the own domain.
        cv: Weight of the Cayley-Menger term.
        anchor: Weight of the distance of rows from their place.
        content: Least share kept of the variance explained beyond the mean, from 0 to 1.
        every: Steps between two looks of the guard.
        backoffs: Returns to a state that held before the adaptation ends.
        guarded: Whether the guard acts; otherwise it only measures.

    Raises:
        InputError: a weight that is negative or not finite, a share outside [0, 1], or counts that are too small (``HOLD``).

    >>> from composer import Hold
    >>> Hold(anchor=3.0)
    Hold(reconstruction=1.0, cv=1.0, anchor=3.0, content=0.95, every=25, backoffs=3, guarded=True)
    """

    reconstruction: float = 1.0  # docs/decisions/0046-adaptation.md
    cv: float = 1.0
    anchor: float = 0.0
    content: float = 0.95
    every: int = 25
    backoffs: int = 3
    guarded: bool = True

    def __post_init__(self) -> None:
        wrong = [name for name in TERMS if not (_is_number(getattr(self, name)) and getattr(self, name) >= 0)]
        if not (_is_number(self.content) and 0 <= self.content <= 1):
            wrong.append("content")
        wrong += [name for name, least in (("every", 1), ("backoffs", 0)) if not _is_count(getattr(self, name), least)]
        if not isinstance(self.guarded, bool):
            wrong.append("guarded")
        if wrong:
            raise InputError(
                "invalid hold",
                code="HOLD",
                expected="weights and backoffs of at least 0, a content from 0 to 1, every of 1 or more, guarded True or False",
                found=", ".join(f"{name}={getattr(self, name)!r}" for name in wrong),
            )

    @classmethod
    def parse(cls, text: str) -> Hold:
        """Parse a hold, as the command takes it: ``NAME=NUMBER`` with commas; ``guarded=0`` turns the guard off.

        Raises:
            InputError: not of that form, a name given twice, or invalid values (``HOLD``).

        >>> Hold.parse("reconstruction=3,cv=0").cv
        0.0
        """
        found: dict[str, float | int | bool] = {}
        kinds = {one.name: KINDS[one.type] for one in fields(cls)}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            try:
                if name in found:
                    raise ValueError(name)
                found[name] = kinds[name](value)
            except (KeyError, ValueError) as error:
                names = ", ".join(kinds)
                raise InputError(
                    "invalid hold", code="HOLD", expected=f"NAME=NUMBER,... of {names}", found=text[:200]
                ) from error
        return cls(**found)  # type: ignore[arg-type]  # each number is of its field's type

    @property
    def words(self) -> str:
        """Terms with their weights, in words."""
        given = [f"{name} {getattr(self, name):g}" for name in TERMS if getattr(self, name)]
        return " + ".join(given) or "no term"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
