"""Attestations: what a protocol found about a published cell. Kept beside the cell, never inside it.

An attestation is canonical JSON; the same figures give the same bytes, so it holds no times and no host names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from batteries.cell.manifest import Count, Positive, Sha256, Text, TrainingPoint
from batteries.errors import InputError
from batteries.io import canonical_json
from batteries.io.canonical_json import Document, load_document
from registry.catalog import check_names
from registry.catalog.reference import Reference

MAX_ATTESTATION = 2**20
CUSTOM = "custom-"  # before the protocol's name where host or task are a user's own

Verdict = Literal["viable", "walked back", "no verdict"]
Subject = Literal["cell", "untrained"]
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


class Moment(Document):
    """A cell on its own probe at one step of a trial.

    Attributes:
        step: Of the trial; 0 is before it.
        cv: None where it is degenerate.
        cv_error: Its standard error.
        rank: Effective rank.
        mse: Reconstruction error.
    """

    step: Count
    cv: float | None
    cv_error: float | None
    rank: float
    mse: float


class FrozenFigure(Document):
    """A host that learned a task around a frozen cell.

    Attributes:
        subject: ``cell``, or ``untrained``: one of its null.
        task: What was learned.
        host: Which host.
        seed: Of the host and the order of its images.
        score: On test images: accuracy, or for images R2, the share of their variance that is explained.
        score_error: Standard error of the score from the test images alone.
        gradient: Smallest gradient norm at the stem before the cell, over all steps; None where one was not finite.
        cv: After over before, on what the stem feeds the cell, with both 95% bounds; None where degenerate.
        rank: The same of effective rank.
        unchanged: Whether the weights' digest is the same before and after.
    """

    subject: Subject
    task: Text
    host: Text
    seed: Count
    score: float
    score_error: float
    gradient: float | None
    cv: tuple[float, float, float] | None
    rank: tuple[float, float, float]
    unchanged: bool


class DoseFigure(Document):
    """A cell whose own weights its host's gradient reached.

    Attributes:
        subject: ``cell``, or ``untrained``.
        rate: Adam's rate on the cell's weights.
        seed: Of the host and the order of its images.
        score: Of the host on test images.
        weight_change: norm(dW) / norm(W).
        cv: After over before on the cell's own probe, with both 95% bounds; None where degenerate.
        rank: The same of effective rank.
        retention: Reconstruction error after over before.
        kept: The share of what the cell explains beyond predicting the mean that it still explains.
        moments: Along the trial, from step 0 to the last.
    """

    subject: Subject
    rate: float
    seed: Count
    score: float
    weight_change: float
    cv: tuple[float, float, float] | None
    rank: tuple[float, float, float]
    retention: float
    kept: float
    moments: tuple[Moment, ...]


class ReturnFigure(Document):
    """A cell that a dose drove away, under reconstruction training.

    Attributes:
        subject: ``cell``, or ``untrained``.
        rate: The dose that drove it away.
        seed: Of it.
        limit: Steps of reconstruction tried.
        steps: After which it was back, CV and rank within their bounds and content kept; None where it was not.
        moments: Along the way back.
    """

    subject: Subject
    rate: float
    seed: Count
    limit: Count
    steps: Count | None
    moments: tuple[Moment, ...]


class Attestation(Document):
    """A protocol's verdict about one cell, with every figure it rests on.

    Attributes:
        cell: SHA-256 of the cell's weights' file.
        reference: ``band/name@version`` of it.
        D: Its width, which the exact attractor depends on.
        attractor: The exact CV of its width; None below 5.
        probe: Its own probe, on which everything without a host is read.
        protocol: Name and version of the protocol, such as ``quick-1``.
        protocol_digest: SHA-256 of the protocol's numbers.
        control: The negative control that stood in the cell's place; such a report is never published.
        verdict: *viable*, *walked back*, or *no verdict* where a control was not rejected.
        words: What the verdict rests on, in sentences.
        checks: All checks, in the order they ran.
        controls: All negative controls.
        trajectory: The readings along its training, from its manifest.
        frozen: Every frozen trial, those of the null too.
        doses: Every trial under its host's gradient.
        returns: What became of it after the largest dose.
        reference_rate: The dose that decides.
        figures: Further numbers by name.
        package: Version of this package.
        torch: Version of torch.
        seed: Of everything random in the protocol.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    cell: Sha256
    reference: str
    D: Positive
    attractor: float | None
    probe: Text
    protocol: Protocol
    protocol_digest: Sha256
    control: Text | None
    verdict: Verdict
    words: tuple[Text, ...]
    checks: tuple[CheckFigure, ...]
    controls: tuple[ControlFigure, ...]
    trajectory: tuple[TrainingPoint, ...]
    frozen: tuple[FrozenFigure, ...]
    doses: tuple[DoseFigure, ...]
    returns: tuple[ReturnFigure, ...]
    reference_rate: float
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

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the deciding checks that did not pass."""
        return tuple(check.name for check in self.checks if check.decides and not check.passed)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, which hold no time and no place: the same test gives the same digest."""
        return canonical_json.sha256(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Attestation:
        """Read an attestation strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_ATTESTATION)


def verdict_words(verdict: Verdict, failed: Sequence[str]) -> str:
    """Verdict in a sentence, with the printed names of the checks that failed."""
    if verdict == "viable":
        return "viable: every deciding check passed"
    if verdict == "no verdict":
        return "no verdict: a control was not rejected, so the checks prove nothing"
    return f"walked back because of: {check_names.listed(failed)}"
