"""Canonical JSON: exactly one sequence of bytes per document, and a strict reader for untrusted input.

Canonical form: UTF-8, keys sorted, no white space, shortest round-trip numbers, no NaN or infinity, a final newline.
The reader refuses input that Python's own reader accepts: duplicate keys, ``NaN``, ``1e999``, deep nesting, any size.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
from collections import Counter
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from batteries import short_repr
from batteries.errors import FormatError
from batteries.io.texts import placeholders
from batteries.io.texts.hostile_json import LARGE, MAX_DEPTH, first_fault, refuse_costly, stopping

MAX_FAULTS = 1000  # faults of a document that are listed rather than counted
MAX_DIGITS = 400  # digits of an integer; Python's own limit is 4300 and raises a bare ValueError
PIECE = 2**26  # bytes hashed in one call

# Everything except nesting brackets: strings, and other characters that are not brackets. Possessive, and a string may end with
# the text, so that no text is scanned twice: the time is linear in the size of any input.
BESIDES_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[^"\[\]{}]++', re.DOTALL)
DIGEST = re.compile(r"[0-9a-f]{64}")

PREFIX = re.compile("(Value error|Assertion failed), ")  # pydantic's own words before those of a check
VERSION_KEY = b'"schema_version":"'
MARKS = (b"<" * 7, b">" * 7)
MERGE = re.compile(rb"^(<{7}|>{7})( |\r?$)", re.MULTILINE)  # conflict markers of git
CRLF = "Windows line endings"
UNCONVERTED = "git converted them: write `* -text` into .gitattributes of that checkout, and check its files out again."


def _without_examples(schema: dict[str, Any]) -> None:
    """Remove a docstring's examples from the description in a schema."""
    if "description" in schema:
        schema["description"] = schema["description"].partition("\n\n>>> ")[0]


class Document(BaseModel):
    """Base class of all JSON documents: frozen, strict, without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        ser_json_inf_nan="constants",
        allow_inf_nan=False,
        json_schema_extra=_without_examples,
    )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the document."""
        return dump(self.model_dump(mode="json"))

    def __repr__(self) -> str:
        return short_repr.fields(self)

    def __str__(self) -> str:
        return repr(self)


class GrownDocument(Document):
    """Document with fields that older files lack: each is left out where it has its default, so that those keep their bytes."""

    ADDED: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # a type would be its schema
        written: dict[str, Any] = write(self)
        for name in self.ADDED:
            if getattr(self, name) == type(self).model_fields[name].default:
                written.pop(name, None)  # the caller may have excluded it
        return written


AnyDocument = TypeVar("AnyDocument", bound=Document)


def sha256(data: bytes | memoryview) -> str:
    """Return the SHA-256 of bytes as 64 lowercase hexadecimal digits."""
    view, digest = memoryview(data), hashlib.sha256()
    for start in range(0, len(view), PIECE):  # so that an interrupt need not wait for all
        digest.update(view[start : start + PIECE])
    return digest.hexdigest()


def dump(value: Any, *, indent: int | None = None) -> bytes:
    """Serialise a JSON value to canonical bytes.

    Args:
        value: Value to serialise.
        indent: Spaces per level, for a file that people compare; by default there is no white space.

    Raises:
        FormatError: NaN, infinity or lone surrogate in ``value``.
    """
    marks = (",", ":") if indent is None else (",", ": ")
    try:
        text = json.dumps(value, sort_keys=True, indent=indent, separators=marks, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except ValueError as error:  # NaN, or text that is not Unicode
        raise FormatError("value not representable in JSON", code="VALUE", found=error) from error


def load(data: bytes, *, where: object, limit: int) -> Any:
    """Parse JSON strictly.

    Args:
        data: JSON text as bytes.
        where: Name of the document in messages.
        limit: Largest size accepted, in bytes.

    Raises:
        FormatError: too large, not UTF-8, not JSON, duplicate key, non-finite number, nested deeper than 16, unresolved merge
            (``MERGE_CONFLICT``), or a stand-in for another file (``LFS_POINTER`` and others).
    """
    refuse_costly(data, where, limit)
    try:
        text = data.decode()
        _check_depth(text, where)
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except FormatError as error:
        error.where = error.where or where
        raise
    except ValueError as error:
        placeholders.refuse_unreadable(data, where)
        _refuse_merge(data, where)
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise FormatError("not JSON", code="JSON", found="UTF-16", where=where, remedy="Save it as UTF-8.") from error
        raise FormatError("not JSON", code="JSON", found=error if data else "an empty file", where=where) from error


def load_document(kind: type[AnyDocument], data: bytes, *, where: object, limit: int) -> AnyDocument:
    """Parse and validate a document, naming every invalid field.

    Raises:
        FormatError: any error of :func:`load`; field missing, unknown, of the wrong type or out of range (``SCHEMA``); valid
            document in another form than its canonical one (``NOT_CANONICAL``).
    """
    refuse_costly(data, where, limit)
    large = len(data) > LARGE
    wrong, parsed = None, True  # a string: an exception stored in its own frame is a reference cycle
    try:
        # JSON mode: tuples arrive as arrays, which strict Python-mode validation would refuse
        if large and (fault := first_fault(kind, data)) is not None:
            raise fault
        document: AnyDocument = stopping(kind).validate_json(data) if large else kind.model_validate_json(data)
        # a document that serialises to the same bytes has no duplicate keys, no NaN and no deep nesting
        if document.to_bytes() == data:
            return document
    except ValidationError as error:
        wrong, parsed = fields_of(error), _parsed(error)
    if large:
        placeholders.refuse_unreadable(data, where)
        _refuse_merge(data, where)
        if not parsed:
            raise FormatError("not JSON", code="JSON", found=wrong, where=where)
        refuse_newer(kind, _claimed(data), where)
    else:
        refuse_newer(kind, load(data, where=where, limit=limit), where)
    if wrong is not None:
        raise _invalid(kind, wrong, where)
    found, remedy = (CRLF, UNCONVERTED) if b"\r\n" in data else (None, "Write it with this package.")
    raise FormatError("not canonical JSON", code="NOT_CANONICAL", found=found, where=where, remedy=remedy)


def load_any(kind: type[AnyDocument], data: bytes, *, where: object, limit: int) -> AnyDocument:
    """Parse and validate a document in any JSON layout: git and editors may have changed white space and line endings.

    Raises:
        FormatError: any error of :func:`load_document`; ``NOT_CANONICAL`` only for values that differ from those written back.
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    value = load(data, where=where, limit=limit)
    refuse_newer(kind, value, where)
    try:
        document = kind.model_validate_json(data)
    except ValidationError as error:
        raise _invalid(kind, fields_of(error), where) from error
    if document.model_dump(mode="json") != value:
        raise FormatError("not a canonical document", code="NOT_CANONICAL", where=where, remedy="Write it with this package.")
    return document


def _claimed(data: bytes) -> dict[str, str]:
    """Return the last schema version that a large document names, without parsing it."""
    place = data.rfind(VERSION_KEY) + len(VERSION_KEY)
    if place < len(VERSION_KEY):
        return {}
    return {"schema_version": data[place : place + 16].partition(b'"')[0].decode(errors="replace")}


def refuse_newer(kind: type[AnyDocument], value: Any, where: object) -> None:
    """Refuse a newer major schema with an error of its own, rather than a list of unknown fields.

    Args:
        kind: Document class, with the supported schema as ``SCHEMA_VERSION``.
        value: Parsed JSON value.
        where: Name of the document in messages.

    Raises:
        FormatError: newer major schema (``SCHEMA_NEWER``).
    """
    known = getattr(kind, "SCHEMA_VERSION", None)
    found = value.get("schema_version") if isinstance(value, dict) else None
    if known is None or not isinstance(found, str):
        return
    major = found.split(".")[0]
    if major.isdecimal() and len(major) < 9 and int(major) > int(known.split(".")[0]):
        raise FormatError(
            f"{kind.__name__.lower()} of a newer schema",
            code="SCHEMA_NEWER",
            expected=f"{known} or older",
            found=found,
            where=where,
            remedy="Update svae-batteries.",
        )


def _invalid(kind: type[AnyDocument], wrong: str, where: object) -> FormatError:
    return FormatError(f"not a valid {kind.__name__.lower()}", code="SCHEMA", found=wrong, where=where)


def _parsed(error: ValidationError) -> bool:
    """Tell whether the text was JSON."""
    return error.error_count() > 1 or error.errors(include_input=False)[0]["type"] != "json_invalid"


def fields_of(error: ValidationError) -> str:
    """List every invalid field with its fault."""
    if error.error_count() > MAX_FAULTS:
        return f"{error.error_count()} faults"  # listing them would take longer than finding them
    rows = [
        f"{'.'.join(str(part) for part in row['loc']) or 'document'}: {PREFIX.sub('', row['msg'])}"
        for row in error.errors(include_input=False)
    ]
    return "; ".join(rows[:12]) + (f"; and {len(rows) - 12} more" if len(rows) > 12 else "")


def _refuse_merge(data: bytes, where: object) -> None:
    if any(mark in data for mark in MARKS) and MERGE.search(data):
        remedy = "Keep one side of the merge, or write the file again."
        raise FormatError("unresolved merge", code="MERGE_CONFLICT", found="lines of <<<<<<<", where=where, remedy=remedy)


def _check_depth(text: str, where: object) -> None:
    depth = 0
    for bracket in BESIDES_BRACKETS.sub("", text):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise FormatError("nested too deeply", code="TOO_DEEP", expected=f"at most {MAX_DEPTH}", where=where)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = sorted(key for key, count in counts.items() if count > 1)
        raise FormatError("duplicate key", code="DUPLICATE_KEY", found=", ".join(twice[:5]))
    return found


def _refuse_constant(text: str) -> Any:
    raise FormatError("number not allowed in JSON", code="NUMBER", found=text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise FormatError("number out of range", code="NUMBER", found=text[:40])
    return number


def _bounded(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise FormatError("number out of range", code="NUMBER", found=f"{len(text)} digits")
    return int(text)
