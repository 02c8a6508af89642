"""What an index says of one version: which bytes by digest and size, the figures a list shows, and whether it is yanked.

Cells, models and maps are released alike, each into a table of its own. A document of such tables is without those of models
and maps, and of an older schema, as long as they are empty: who does not know them reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, SerializerFunctionWrapHandler, model_serializer, model_validator

from batteries.cell.artifact_kinds import MAPS, MODEL
from batteries.cell.manifest import MAX_MANIFEST, Count, CvFigure, Manifest, Positive, Sha256, Size, Text
from batteries.cell.weights_file import MAX_CELL
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import Document, sha256
from batteries.io.verified import Bytes, Verified, verify
from composer.artifact.manifest import MapsManifest, ModelManifest
from composer.vocabulary import NodeKind, TokenKind
from registry.catalog.attestation import Verdict
from registry.catalog.reference import is_path, is_version, kind_of_path

Schema = Literal["1.0", "1.1", "1.2"]


def _path(text: str) -> str:
    if not is_path(text):
        raise ValueError("not band/name")
    return text


def _model_path(text: str) -> str:
    if kind_of_path(text) is not MODEL:
        raise ValueError("not model/name")
    return text


def _maps_path(text: str) -> str:
    if kind_of_path(text) is not MAPS:
        raise ValueError("not maps/name")
    return text


def _version(text: str) -> str:
    if not is_version(text):
        raise ValueError("not a semantic version in lower case")
    return text


CellPath = Annotated[str, AfterValidator(_path)]
ModelPath = Annotated[str, AfterValidator(_model_path)]
MapsPath = Annotated[str, AfterValidator(_maps_path)]
ExactVersion = Annotated[str, AfterValidator(_version)]


class Pin(Document):
    """Some bytes, reached by digest and bounded by size."""

    sha256: Sha256
    size: Size

    @classmethod
    def of(cls, data: Data) -> Pin:
        """The pin of these bytes."""
        return cls(sha256=sha256(data), size=len(data))

    def check(self, data: Bytes, *, where: object) -> Verified[Bytes]:
        """Refuse other bytes; returns the right ones.

        Raises:
            IntegrityError: not of the size, or not of the digest.
            FormatError: what stands for a file (``LFS_POINTER`` and others).
        """
        return verify(data, sha256=self.sha256, size=self.size, where=where)


def _at_most(limit: int) -> AfterValidator:
    def check(pin: Pin) -> Pin:
        if pin.size > limit:
            raise ValueError(f"more than the {limit} bytes that it may have")
        return pin

    return AfterValidator(check)


ManifestPin = Annotated[Pin, _at_most(MAX_MANIFEST)]
CellPin = Annotated[Pin, _at_most(MAX_CELL)]
MapsPin = Annotated[Pin, _at_most(MAPS.limit)]


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
    output_kind: NodeKind
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


class MapsSummary(Document):
    """What a list shows of maps without reading their manifest; ``target`` is ``frame``, or a cell at its version."""

    cells: Positive
    tokens: TokenKind
    grid: tuple[Positive, Positive]
    width: Positive
    target: Text
    scored: bool
    license: Text

    @classmethod
    def of(cls, manifest: MapsManifest) -> MapsSummary:
        """The summary that a manifest has."""
        target = manifest.target
        return cls(
            cells=manifest.cells,
            tokens=manifest.tokens,
            grid=manifest.grid,
            width=manifest.width,
            target="frame" if target is None else f"{target.cell}@{target.version}",
            scored=manifest.scored,
            license=manifest.identity.license,
        )


class MapsRelease(Document):
    """One published version of maps, as :class:`Release` is one of a cell."""

    manifest: ManifestPin
    blob: MapsPin
    yanked: Text | None = None
    summary: MapsSummary

    @classmethod
    def of(cls, manifest: MapsManifest) -> MapsRelease:
        """The release that a manifest makes."""
        blob = Pin(sha256=manifest.file.sha256, size=manifest.file.size)
        return cls(manifest=Pin.of(manifest.to_bytes()), blob=blob, summary=MapsSummary.of(manifest))


PackedRelease = ModelRelease | MapsRelease
AnyRelease = Release | PackedRelease
AnySummary = Summary | ModelSummary | MapsSummary


def release_of(manifest: ModelManifest | MapsManifest) -> PackedRelease:
    """The release that the manifest of a model or of maps makes."""
    return ModelRelease.of(manifest) if isinstance(manifest, ModelManifest) else MapsRelease.of(manifest)


class Tables(Document):
    """The base of a document with a table of cells, and one of each kind beside them, left out while it is empty."""

    SCHEMA_VERSION: ClassVar[str] = "1.2"
    ADDED: ClassVar[dict[str, Schema]] = {MODEL.plural: "1.1", MAPS.plural: "1.2"}  # since which schema

    schema_version: Schema = "1.0"

    @classmethod
    def schema_for(cls, fields: Mapping[str, Any]) -> Schema:
        """The oldest schema that has the tables that are not empty."""
        return max((schema for table, schema in cls.ADDED.items() if fields.get(table)), default="1.0")

    @model_validator(mode="after")
    def _is_of_its_schema(self) -> Self:
        right = self.schema_for({table: getattr(self, table) for table in self.ADDED})
        if self.schema_version != right:
            raise ValueError(f"schema {right} has these tables, and no other")
        return self

    @model_serializer(mode="wrap")
    def _without_empty_tables(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        return {name: value for name, value in fields.items() if value or name not in self.ADDED}


class Attested(Pin):
    """Where an attestation is, and what it says."""

    verdict: Verdict
