"""Base class of all answers under ``--json``, and the answer for errors."""

from __future__ import annotations

from pydantic import ConfigDict

from batteries.errors import BatteriesError
from batteries.io.canonical_json import Document
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
