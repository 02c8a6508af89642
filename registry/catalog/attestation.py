"""Attestations: a protocol's findings about a published cell, stored beside the cell and never inside it.

An attestation is canonical JSON without times or host names, so the same figures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from batteries import short_repr
from batteries.cell.manifest import Count, Positive, Sha256, Text, TrainingPoint
from batteries.errors import InputError
from batteries.io import canonical_json
from batteries.io.canonical_json import Document, load_document
from registry.catalog import check_names
from registry.catalog.reference import Reference

MAX_ATTESTATION = 2**20
CUSTOM = "custom-"  # prefix of the protocol's name if the host or the task is user-defined

Verdict = Literal["viable", "walked back", "no verdict"]
Subject = Literal["cell", "untrained"]
Protocol = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}[a-z0-9]$")]


class CheckFigure(Document):
    """One check of a protocol: the measured value, its threshold and the result.

    Attributes:
        name: Name of the check within its protocol.
        passed: Result; None if the check could not be made.
        decides: Whether the verdict depends on the check; otherwise it is only reported.
        value: Measured value.
        lower: Lower bound of the interval of ``value``.
        upper: Upper bound of the interval of ``value``.
        threshold: Threshold for ``value`` or its bound, in words.
        source: Source of the threshold.
        reason: Result in words.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> (key,) = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> [(check.name, check.passed) for check in attestation.checks][:2]
    [('finite', True), ('radius', True)]
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
    """One negative control: whether it was rejected, and by which check.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> (key,) = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> control = attestation.controls[0]
    >>> control.name, control.rejected, control.by
    ('untrained', True, 'lift, denoise')
    """

    name: Text
    rejected: bool
    by: Text


class Moment(Document):
    """Figures of a cell on its own probe at one step of a trial.

    Attributes:
        step: Step of the trial; 0 is the state before it.
        cv: Simplex CV; None if degenerate.
        cv_error: Standard error of ``cv``.
        rank: Effective rank.
        mse: Reconstruction error.
    """

    step: Count
    cv: float | None
    cv_error: float | None
    rank: float
    mse: float


class FrozenFigure(Document):
    """Result of a host that learned a task around a frozen cell.

    Attributes:
        subject: ``cell``, or ``untrained`` for an untrained cell of the null.
        task: Task that the host learned.
        host: Name of the host.
        seed: Seed of the host and of the order of its images.
        score: Score on test images: accuracy, or R2 (share of variance explained) if the targets are images.
        score_error: Standard error of the score from the test images alone.
        gradient: Smallest gradient norm at the stem before the cell, over all steps; None if one was not finite.
        cv: Ratio of CV after to before, on the stem's output, with both 95% bounds; None if degenerate.
        rank: Ratio of effective rank after to before, with both 95% bounds.
        unchanged: Whether the digest of the weights is the same before and after.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> (key,) = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> sorted({trial.task for trial in attestation.frozen if trial.subject == "cell" and trial.unchanged})
    ['denoise', 'name the photograph']
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
    """Result of a trial in which the host's gradient updates the cell's own weights.

    Attributes:
        subject: ``cell``, or ``untrained``.
        rate: Adam's learning rate for the cell's weights.
        seed: Seed of the host and of the order of its images.
        score: Score of the host on test images.
        weight_change: norm(dW) / norm(W).
        cv: Ratio of CV after to before on the cell's own probe, with both 95% bounds; None if degenerate.
        rank: Ratio of effective rank after to before, with both 95% bounds.
        retention: Ratio of reconstruction error after to before.
        kept: Fraction retained of what the cell explains beyond predicting the mean.
        moments: Figures along the trial, from step 0 to the last.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> (key,) = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> doses = [trial for trial in attestation.doses if trial.subject == "cell"]
    >>> kept = [trial.kept for trial in doses if trial.rate == attestation.reference_rate]
    >>> len(kept), sum(kept) / len(kept) > 0.9
    (12, True)
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
    """Recovery, under reconstruction training, of a cell that a dose drove away.

    Attributes:
        subject: ``cell``, or ``untrained``.
        rate: Learning rate of the dose.
        seed: Seed of the trial.
        limit: Largest number of reconstruction steps tried.
        steps: Steps until CV and rank were within their bounds and content was kept; None if never.
        moments: Figures during recovery.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> (key,) = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> [(trial.subject, trial.rate) for trial in attestation.returns]
    [('cell', 0.001), ('untrained', 0.001)]
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
        cell: SHA-256 of the weights file.
        reference: ``band/name@version`` of the cell.
        D: Width of the cell, which determines the exact attractor.
        attractor: Exact CV for this width; None below 5.
        probe: Own probe of the cell, used for every measurement without a host.
        protocol: Name and version of the protocol, such as ``quick-1``.
        protocol_digest: SHA-256 of the protocol's numbers.
        control: Negative control that took the cell's place, if any; such a report is never published.
        verdict: *viable*, *walked back*, or *no verdict* if every deciding check passed and a control was not rejected.
        words: Grounds for the verdict, in sentences.
        checks: All checks, in the order they ran.
        controls: All negative controls.
        trajectory: Measurements along the cell's training, from its manifest.
        frozen: All trials with the weights frozen, including those of the null.
        doses: All trials in which the host's gradient updates the cell.
        returns: Recovery trials after the largest dose.
        reference_rate: Learning rate of the dose that decides the verdict.
        figures: Further numbers by name.
        package: Version of this package.
        torch: Version of torch.
        seed: Seed of all randomness in the protocol.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> (key,) = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> attestation.protocol, attestation.verdict, attestation.failed
    ('standard-2', 'viable', ())
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

    def __repr__(self) -> str:
        failed = [f"failed: {', '.join(self.failed)}"] if self.failed else []
        return short_repr.headed(self, self.reference, f"{self.protocol}: {self.verdict}", *failed)

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
        """SHA-256 of the canonical bytes, the same for every run of the same test."""
        return canonical_json.sha256(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Attestation:
        """Read an attestation strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_ATTESTATION)


def verdict_words(verdict: Verdict, failed: Sequence[str]) -> str:
    """Return the verdict as a sentence, with the printed names of the checks that failed."""
    if verdict == "viable":
        return "viable: every deciding check passed"
    if verdict == "no verdict":
        return "no verdict: a control was not rejected, so the checks prove nothing"
    return f"walked back because of: {check_names.listed(failed)}"
