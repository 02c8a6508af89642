"""Base class of all answers under ``--json``, and the answer for errors."""

from __future__ import annotations

import math
from typing import Any

from pydantic import ConfigDict, ValidationError

from batteries.errors import BatteriesError, InputError
from batteries.io.canonical_json import AnyDocument, Document, fields_of
from batteries.text import unicode


class Answer(Document):
    """Base of all answers. Validators are built on first use, because most commands print tables."""

    model_config = ConfigDict(defer_build=True)


class Fault(Answer):
    """An error: ``code`` is stable, the other fields are for people."""

    code: str
    what: str
    expected: str | None
    found: str | None
    where: str | None
    remedy: str | None

    @classmethod
    def of(cls, error: BatteriesError) -> Fault:
        """Return the fault of an error."""
        words = {name: getattr(error, name) for name in cls.model_fields}
        return cls.model_validate({name: None if value is None else unicode(value) for name, value in words.items()})


class ErrorAnswer(Answer):
    """Answer of every command that fails; the exit code is not 0."""

    error: Fault


def finite(value: float | None) -> float | None:
    """Return a number that JSON can hold; None without one."""
    return value if value is not None and math.isfinite(value) else None


def typed(kind: type[AnyDocument], **values: Any) -> AnyDocument:
    """Build a document from options.

    Raises:
        InputError: values that their fields reject, all of them named (``USAGE``).
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise InputError("invalid options", code="USAGE", found=fields_of(error)) from error
