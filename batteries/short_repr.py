"""Short representations for a prompt: the name of a value, and shapes, counts and starts of digests in the place of contents.

Nothing is computed, read or fetched for one of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from batteries.text import listed

WIDTH = 110  # columns
MOST_LINES = 12
MOST_TEXT = 60  # characters
DIGITS = 12  # of a digest
FEW = 4  # values of a sequence that are shown, each of them


def headed(value: object, *parts: str) -> str:
    """Write the name of a value's class around what is said of it, in lines of at most 110 columns where they can be.

    >>> headed(1.5, "three", "things=2")
    'float(three, things=2)'
    """
    name = type(value).__name__
    whole = f"{name}({', '.join(parts)})"
    if len(whole) <= WIDTH and "\n" not in whole:
        return whole
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > WIDTH - 4:
            lines.append("")
        lines[-1] += f"{part}, "
    return f"{name}(\n" + "\n".join(f"  {line.rstrip()}" for line in _cut(lines)) + "\n)"


def rows(head: str, below: Iterable[str]) -> str:
    """Write a heading and rows below it, the first of them where there are many.

    >>> print(rows("Things(20)", map(str, range(20))))  # doctest: +ELLIPSIS
    Things(20)
      0
    ...
      ... and 10 more
    """
    return "\n".join([head, *(f"  {row[: 2 * WIDTH]}" for row in _cut(list(below)))])


def fields(value: object) -> str:
    """Write a dataclass or a document with the short form of every field; as ``__repr__`` of a class."""
    return headed(value, *(f"{name}={shown(getattr(value, name))}" for name in _names(value)))


def shown(value: Any) -> str:
    """Write the short form of a value.

    >>> shown("a" * 64), shown({"x": 1, "y": [1.23456789, 2]}), shown(range(100)), shown(tuple("abcdef"))
    ("'aaaaaaaaaaaa...'", '{x: 1, y: [1.235, 2]}', 'range(0, 100)', "('a', 'b', 'c', 'd' and 2 more)")
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return of_tensor(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return repr(value if len(value) <= MOST_TEXT else f"{value[: DIGITS if value.isalnum() else MOST_TEXT]}...")
    if _is_plain(value, Mapping):
        return _mapping(value)
    if _is_plain(value, Sequence | Set) and not isinstance(value, bytes | range):
        return _sequence(value)
    return _line(repr(value), value)


def of_tensor(value: Any) -> str:
    """Write shape and dtype of an array or a tensor; of a lone number that is here, the number."""
    kind = str(value.dtype).removeprefix("torch.")
    here = getattr(getattr(value, "device", None), "type", "cpu") == "cpu" and type(value).__name__ in ("Tensor", "ndarray")
    if here and len(value.shape) == 0:
        return f"{value.item():.4g}"
    return f"{tuple(value.shape)} {kind}"


def digest(text: str) -> str:
    """Write the start of a digest."""
    return f"{text[:DIGITS]}..."


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a number of things.

    >>> counted(1, "cell"), counted(1200, "cell"), counted(2, "index", "indexes")
    ('1 cell', '1,200 cells', '2 indexes')
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _names(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if field.repr]
    return list(type(value).model_fields)


def _cut(lines: list[str]) -> list[str]:
    if len(lines) <= MOST_LINES - 1:
        return lines
    kept = MOST_LINES - 2
    return [*lines[:kept], f"... and {len(lines) - kept} more"]


def _is_plain(value: object, kind: Any) -> bool:
    """Return whether a value is of a kind, and shows its contents by itself."""
    return isinstance(value, kind) and type(value).__module__ in ("builtins", "types", "collections", "torch")


def _mapping(value: Mapping[Any, Any]) -> str:
    whole = f"{{{', '.join(f'{key}: {shown(one)}' for key, one in list(value.items())[:FEW])}}}"
    if len(value) <= FEW and len(whole) <= WIDTH:
        return whole
    return f"{{{listed([str(key) for key in value])}}}"


def _sequence(value: Sequence[Any] | Set[Any]) -> str:
    opening, closing = {tuple: ("(", ")"), list: ("[", "]")}.get(type(value), ("{", "}"))
    first = ", ".join(shown(one) for one in list(value)[:FEW])
    if len(first) > WIDTH:
        return counted(len(value), "item")
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    more = f" and {len(value) - FEW} more" if len(value) > FEW else ""
    return f"{opening}{first}{comma}{more}{closing}"


def _line(text: str, value: object) -> str:
    return text if len(text) <= WIDTH and "\n" not in text else f"{type(value).__name__}(...)"
