"""The form of every answer under ``--json``, and errors in it."""

from __future__ import annotations

from pydantic import ConfigDict

from batteries.errors import BatteriesError
from batteries.io.canonical_json import Document
from batteries.io.text import unicode


class Answer(Document):
    """What one of these is made of is worked out when the first of them is made: most commands print tables."""

    model_config = ConfigDict(defer_build=True)


class Fault(Answer):
    """An error: ``code`` is stable, the rest is for people."""

    code: str
    what: str
    expected: str | None
    found: str | None
    where: str | None
    remedy: str | None

    @classmethod
    def of(cls, error: BatteriesError) -> Fault:
        """Fault that an error is."""
        words = {name: getattr(error, name) for name in cls.model_fields}
        return cls.model_validate({name: None if value is None else unicode(value) for name, value in words.items()})


class ErrorAnswer(Answer):
    """What every command answers where it could not do what it was asked; the exit code is not 0."""

    error: Fault
