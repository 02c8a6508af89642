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
from batteries.io.canonical_json import GrownDocument, load_document
from registry.catalog import check_names
from registry.catalog.figures import CheckFigure, ControlFigure, DoseFigure, FrozenFigure, ReadOutFigure, ReturnFigure
from registry.catalog.reference import Reference

MAX_ATTESTATION = 2**20
CUSTOM = "custom-"  # prefix of the protocol's name if the host or the task is user-defined

HOLDING = "holding-"  # prefix of the protocol's name of a certificate about adaptations, which judges no cell

Verdict = Literal["viable", "viable as a reconstructor", "walked back", "no verdict", "holds", "does not hold"]
Protocol = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}[a-z0-9]$")]


class Attestation(GrownDocument):
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
        verdict: *walked back* if a deciding check of the cell failed that reads more than omega; else *no verdict* if the
            gradient of a host was walked back, or a control was not rejected; else *viable*, or *viable as a reconstructor* if
            a check that reads omega alone failed. Of a certificate about adaptations: *holds*, or *does not hold*.
        words: Grounds for the verdict, in sentences.
        checks: All checks, in the order they ran.
        controls: All negative controls.
        trajectory: Measurements along the cell's training, from its manifest.
        frozen: All trials with the weights frozen, including those of the null.
        doses: All trials in which the host's gradient updates the cell.
        returns: Recovery trials after the largest dose.
        readouts: Read-outs of M and of omega alone, including those of the null; empty in older protocols.
        reference_rate: Learning rate of the dose that decides the verdict.
        figures: Further numbers by name.
        package: Version of this package.
        torch: Version of torch.
        seed: Seed of all randomness in the protocol.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64@3.2.0")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> attestation.protocol, attestation.verdict, attestation.failed
    ('quick-3', 'viable', ())
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"
    ADDED: ClassVar[tuple[str, ...]] = ("readouts",)

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
    readouts: tuple[ReadOutFigure, ...] = ()

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
    def cv_name(self) -> str:
        """Name of the CV that the verdict rests on: *axial CV*, or *CV*, the published one, in older attestations."""
        return "axial CV" if any(trial.axial_cv is not None for trial in (*self.frozen, *self.doses)) else "CV"

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
    if verdict == "viable as a reconstructor":
        return f"viable as a reconstructor: omega carries nothing here ({check_names.listed(failed)})"
    if verdict == "no verdict" and check_names.HOST_AUDIT in failed:
        return "no verdict: the host's own gradient is walked back, so what it does to the cell proves nothing"
    if verdict == "no verdict":
        return "no verdict: a control was not rejected, so the checks prove nothing"
    if verdict == "holds":
        return "holds: every adaptation with a hold kept CV, rank and content over all of its steps"
    if verdict == "does not hold":
        return f"does not hold in: {check_names.listed(failed)}"
    return f"walked back because of: {check_names.listed(failed)}"
