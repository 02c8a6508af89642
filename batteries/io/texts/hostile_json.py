"""JSON that costs a reader much more than its bytes, refused before it is parsed or at its first fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator, from_json, to_json

from batteries.errors import FormatError

MAX_DEPTH = 16  # brackets inside of each other
# Values in a text of n bytes, so that parsing takes little more memory than the text: an empty list of two bytes takes 64, a
# word of one letter 58. Attestations have a comma in 24 bytes and a bracket in 107, an index a comma in 33.
MAX_COMMAS, COMMA_BYTES = 200_000, 24  # at most the one, and one in so many bytes more
MAX_BRACKETS, BRACKET_BYTES = 100_000, 48
LARGE = 2**20  # bytes from which on a document is validated up to its first fault
START = 2**16  # bytes of a large document that are validated first: parsing all of it takes a second


def refuse_costly(data: bytes, where: object, limit: int) -> None:
    """Refuse text that is too large, or that would take much more memory than its bytes, before it is parsed.

    Args:
        data: JSON text as bytes.
        where: Name of the document in messages.
        limit: Largest size accepted, in bytes.

    Raises:
        FormatError: too many bytes, or values for its bytes (``TOO_LARGE``).
    """
    if len(data) > limit:
        raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", found=len(data), where=where)
    for what, found, most in (
        ("brackets", data.count(b"[") + data.count(b"{"), MAX_BRACKETS + len(data) // BRACKET_BYTES),
        ("commas", data.count(b","), MAX_COMMAS + len(data) // COMMA_BYTES),
    ):
        if found > most:
            expected = f"at most {most} {what} in {len(data)} bytes"
            raise FormatError("too many values", code="TOO_LARGE", expected=expected, found=found, where=where)


def load_loose(data: bytes, *, where: object, limit: int, constant: Callable[[str], Any] = lambda name: None) -> Any:
    """Parse JSON that may repeat keys and have NaN, such as that of another program.

    Args:
        data: JSON text as bytes.
        where: Name of the document in messages.
        limit: Largest size accepted, in bytes.
        constant: Function from ``NaN``, ``Infinity`` or ``-Infinity`` to its value; by default None.

    Raises:
        FormatError: too large (``TOO_LARGE``), or not JSON (``JSON``).
    """
    refuse_costly(data, where, limit)
    try:
        return json.loads(data, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        found = f"{type(error).__name__}: {error}"[:200]
        raise FormatError("not JSON", code="JSON", found=found, where=where) from error


def first_fault(kind: type[BaseModel], data: bytes) -> ValidationError | None:
    """Return the fault of an entry among the first bytes of a large document, if there is one: the rest is then not parsed.

    Entries that the end of these bytes may have cut, and fields that may follow it, are passed over.
    """
    try:
        begun = from_json(data[:START], allow_partial=True)
        stopping(kind).validate_json(to_json(begun))
    except ValidationError as error:
        last = _last_place(begun)
        rows = error.errors(include_input=False)
        places = [row["loc"][:-1] if row["type"] == "missing" else row["loc"] for row in rows]
        return error if any(last[: len(place)] != place for place in places) else None
    except ValueError:  # not JSON, as reading all of it will say
        return None
    return None


def _last_place(value: Any) -> tuple[str | int, ...]:
    """Return the keys and numbers that lead to the last entry of the last entry, and so on."""
    place: list[str | int] = []
    while isinstance(value, dict | list) and value:
        key = next(reversed(value)) if isinstance(value, dict) else len(value) - 1
        place.append(key)
        value = value[key]
    return tuple(place)


@cache
def stopping(kind: type[BaseModel]) -> SchemaValidator:
    """Return a validator of large documents, which stops at the first fault of a mapping or list and passes over unknown keys.

    A fault takes a kilobyte, and a hostile text has a million. A document with unknown keys differs from its text. Where
    pydantic keeps the validator that a class has, unknown keys are still refused.
    """
    return SchemaValidator(_stopping_schema(kind.__pydantic_core_schema__))


def _stopping_schema(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        return type(schema)(map(_stopping_schema, schema))
    if not isinstance(schema, Mapping):  # pydantic has mappings of its own, which build a schema when it is asked for
        return schema
    changed = {key: _stopping_schema(part) for key, part in schema.items()}
    match changed.get("type"):
        case "dict" | "list" | "tuple":
            changed["fail_fast"] = True
        case "model-fields":
            changed["extra_behavior"] = "ignore"
        case "model":
            changed["config"] = {**changed.get("config", {}), "extra_fields_behavior": "ignore"}
    return changed
