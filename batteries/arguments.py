"""Arguments that may come one by one or as a list. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def each(given: Iterable[Any], kinds: tuple[type, ...]) -> list[Any]:
    """What was given one by one, or as one list or other iterable of them: ``f("a", "b")`` is ``f(["a", "b"])``.

    Args:
        given: The arguments.
        kinds: Types that count as one thing, a text or a path among them.
    """
    found: list[Any] = []
    for one in given:
        found += [one] if isinstance(one, kinds) or not isinstance(one, Iterable) else list(one)
    return found
