"""Attestations: what a protocol found about a published cell. Kept beside the cell, never inside it.

An attestation is canonical JSON; the same figures give the same bytes, so it holds no times and no host names.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from batteries.canonical import Document, load_document
from batteries.errors import InputError
from batteries.manifest import Count, Sha256, Text
from registry.reference import Reference

MAX_ATTESTATION = 2**20

Verdict = Literal["viable", "walked back", "no verdict"]
Protocol = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}[a-z0-9]$")]


class CheckFigure(Document):
    """One check of a protocol: what was measured, what it was held against, and what came of it.

    Attributes:
        name: The check's name within its protocol.
        passed: None where the check could not be made.
        decides: Whether the verdict rests on it, or it is only reported.
        value: What was measured.
        lower: Lower bound of the interval of ``value``.
        upper: Upper bound of it.
        threshold: What ``value`` or its bound was held against, in words.
        source: Where that threshold comes from.
        reason: What came of it, in words.
    """

    name: Text
    passed: bool | None
    decides: bool
    value: float | None
    lower: float | None
    upper: float | None
    threshold: Text
    source: Text
    reason: Text


class ControlFigure(Document):
    """One negative control: whether it was rejected, and by which check."""

    name: Text
    rejected: bool
    by: Text


class Attestation(Document):
    """A protocol's verdict about one cell, with every figure it rests on.

    Attributes:
        cell: SHA-256 of the cell's weights' file.
        reference: ``band/name@version`` of it.
        protocol: Name and version of the protocol, such as ``quick-1``.
        protocol_digest: SHA-256 of the protocol's numbers.
        control: The negative control that stood in the cell's place; such a report is never published.
        verdict: *viable*, *walked back*, or *no verdict* where a control was not rejected.
        checks: All checks, in the order they ran.
        controls: All negative controls.
        figures: Further numbers by name.
        package: Version of this package.
        torch: Version of torch.
        seed: Of everything random in the protocol.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    cell: Sha256
    reference: str
    protocol: Protocol
    protocol_digest: Sha256
    control: Text | None
    verdict: Verdict
    checks: tuple[CheckFigure, ...]
    controls: tuple[ControlFigure, ...]
    figures: dict[str, float]
    package: Text
    torch: Text
    seed: Count

    @field_validator("reference")
    @classmethod
    def _exact(cls, text: str) -> str:
        try:
            reference = Reference.parse(text)
        except InputError as error:
            raise ValueError(f"{error.what}: expected {error.expected}") from error
        if reference.version is None or reference.registry is not None:
            raise ValueError("a reference of an attestation is band/name@version")
        return text

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Attestation:
        """Read an attestation strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_ATTESTATION)
