"""Arguments passed one by one or as a list. Does not import torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def each(given: Iterable[Any], kinds: tuple[type, ...]) -> list[Any]:
    """List the items of variadic arguments, each an item or an iterable of items: ``f("a", "b")`` equals ``f(["a", "b"])``.

    Args:
        given: Positional arguments of the caller.
        kinds: Types never iterated over, such as ``str`` and ``Path``.
    """
    found: list[Any] = []
    for one in given:
        found += [one] if isinstance(one, kinds) or not isinstance(one, Iterable) else list(one)
    return found
