"""What an index says of one version: which bytes by digest and size, the figures a list shows, and whether it is yanked.

Cells and models are released alike, each into a table of its own. A document that has both tables is of schema 1.0, and without
the second one, as long as that is empty: who knows no models reads it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, SerializerFunctionWrapHandler, model_serializer, model_validator

from batteries.canonical import Document, sha256
from batteries.cellfile import MAX_CELL
from batteries.errors import IntegrityError
from batteries.files import Data
from batteries.manifest import MAX_MANIFEST, Count, CvFigure, Manifest, Positive, Sha256, Size, Text
from composer.manifest import Kind, ModelManifest
from registry.attestation import Verdict
from registry.reference import is_model_path, is_path, is_version


def _path(text: str) -> str:
    if not is_path(text):
        raise ValueError("not band/name")
    return text


def _model_path(text: str) -> str:
    if not is_model_path(text):
        raise ValueError("not model/name")
    return text


def _version(text: str) -> str:
    if not is_version(text):
        raise ValueError("not a semantic version in lower case")
    return text


CellPath = Annotated[str, AfterValidator(_path)]
ModelPath = Annotated[str, AfterValidator(_model_path)]
ExactVersion = Annotated[str, AfterValidator(_version)]


class Pin(Document):
    """Some bytes, reached by digest and bounded by size."""

    sha256: Sha256
    size: Size

    @classmethod
    def of(cls, data: Data) -> Pin:
        """The pin of these bytes."""
        return cls(sha256=sha256(data), size=len(data))

    def check(self, data: Data, *, where: object) -> None:
        """Refuse other bytes.

        Raises:
            IntegrityError: not of the size, or not of the digest.
        """
        if len(data) != self.size:
            raise IntegrityError("another size", code="SIZE_MISMATCH", expected=self.size, found=len(data), where=where)
        found = sha256(data)
        if found != self.sha256:
            raise IntegrityError("other bytes", code="DIGEST_MISMATCH", expected=self.sha256, found=found, where=where)


def _at_most(limit: int) -> AfterValidator:
    def check(pin: Pin) -> Pin:
        if pin.size > limit:
            raise ValueError(f"more than the {limit} bytes that it may have")
        return pin

    return AfterValidator(check)


ManifestPin = Annotated[Pin, _at_most(MAX_MANIFEST)]
CellPin = Annotated[Pin, _at_most(MAX_CELL)]


class Summary(Document):
    """What a list shows of a cell without reading its manifest. Figures are those of its own probe; None where degenerate."""

    family: str
    V: Positive
    D: Positive
    patch_size: Positive
    resolution: Positive
    parameters: Positive
    own_probe: str
    cv: float | None
    cv_standard_error: float | None
    ratio: float | None
    on_attractor: bool | None
    holds: bool | None
    mse: float
    license: Text

    @classmethod
    def of(cls, manifest: Manifest) -> Summary:
        """The summary that a manifest has."""
        own, spec, identity = manifest.own, manifest.spec, manifest.identity
        cv = own.cv if isinstance(own.cv, CvFigure) else None
        return cls(
            family=identity.family,
            V=spec.V,
            D=spec.D,
            patch_size=spec.patch_size,
            resolution=identity.resolution,
            parameters=spec.parameters,
            own_probe=manifest.own_probe,
            cv=cv.value if cv else None,
            cv_standard_error=cv.standard_error if cv else None,
            ratio=cv.ratio if cv else None,
            on_attractor=cv.on_attractor if cv else None,
            holds=own.held.holds if own.held else None,
            mse=own.mse.value,
            license=identity.license,
        )


class Release(Document):
    """One published version of a cell. It never changes; ``yanked`` says why it should not be used."""

    manifest: ManifestPin
    blob: CellPin
    yanked: Text | None = None
    summary: Summary

    @classmethod
    def of(cls, manifest: Manifest) -> Release:
        """The release that a manifest makes."""
        blob = Pin(sha256=manifest.file.sha256, size=manifest.file.size)
        return cls(manifest=Pin.of(manifest.to_bytes()), blob=blob, summary=Summary.of(manifest))


class ModelSummary(Document):
    """What a list shows of a model without reading its manifest."""

    cells: Positive
    groups: Positive
    parameters: Positive
    channels: Positive
    nodes: Count
    output_kind: Kind
    aligned: bool
    license: Text

    @classmethod
    def of(cls, manifest: ModelManifest) -> ModelSummary:
        """The summary that a manifest has."""
        return cls(
            cells=manifest.cells,
            groups=manifest.groups,
            parameters=manifest.parameters,
            channels=manifest.channels,
            nodes=sum(manifest.counts.values()),
            output_kind=manifest.output_kind,
            aligned=manifest.aligned,
            license=manifest.identity.license,
        )


class ModelRelease(Document):
    """One published version of a model, as :class:`Release` is one of a cell."""

    manifest: ManifestPin
    blob: Pin
    yanked: Text | None = None
    summary: ModelSummary

    @classmethod
    def of(cls, manifest: ModelManifest) -> ModelRelease:
        """The release that a manifest makes."""
        blob = Pin(sha256=manifest.file.sha256, size=manifest.file.size)
        return cls(manifest=Pin.of(manifest.to_bytes()), blob=blob, summary=ModelSummary.of(manifest))


AnyRelease = Release | ModelRelease


class CellsAndModels(Document):
    """The base of a document with ``cells`` and ``models``: schema 1.0 without models, 1.1 with them."""

    SCHEMA_VERSION: ClassVar[str] = "1.1"

    schema_version: Literal["1.0", "1.1"] = "1.0"

    @classmethod
    def schema_for(cls, models: Collection[Any]) -> Literal["1.0", "1.1"]:
        """The schema version of a document with these models."""
        return "1.1" if models else "1.0"

    @model_validator(mode="after")
    def _is_of_its_schema(self) -> Self:
        if self.schema_version != self.schema_for(self._models()):
            raise ValueError("schema 1.0 is without models, 1.1 with some")
        return self

    @model_serializer(mode="wrap")
    def _without_an_empty_table(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        return fields if self._models() else {name: value for name, value in fields.items() if name != "models"}

    def _models(self) -> Collection[Any]:
        models: Collection[Any] = getattr(self, "models")  # noqa: B009 - each of these documents declares its own
        return models


class Attested(Pin):
    """Where an attestation is, and what it says."""

    verdict: Verdict
