"""Index entries of one version: its bytes by digest and size, the figures a list shows, and whether it is yanked.

Each kind has a table of its own. A document of such tables leaves out the empty ones, except that of cells, and declares the
oldest schema that has the others, so a reader that does not know a kind can read any document without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from batteries import short_repr
from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import MAX_MANIFEST, Count, CvFigure, Manifest, Positive, Sha256, Size, Text, figure_words
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import Document, GrownDocument, sha256
from batteries.io.verified import Bytes, Verified, verify
from composer.artifact.form import ArtifactForm
from composer.artifact.kinds import FORMS
from composer.artifact.manifest import PackedManifest, PackedSummary
from registry.catalog.attestation import Verdict
from registry.catalog.kinds import CELL, KINDS, kind_of_path
from registry.catalog.reference import is_version


def names(kind: ArtifactKind) -> AfterValidator:
    """Return a validator that a text is the path of an artifact of a kind."""

    def check(text: str) -> str:
        if kind_of_path(text) is not kind:
            raise ValueError(f"not {'band' if kind is CELL else kind.name}/name")
        return text

    return AfterValidator(check)


def at_most(limit: int) -> AfterValidator:
    """Return a validator that a pin's size is at most a limit, in bytes."""

    def check(pin: Pin) -> Pin:
        if pin.size > limit:
            raise ValueError(f"more than {limit} bytes")
        return pin

    return AfterValidator(check)


def _version(text: str) -> str:
    if not is_version(text):
        raise ValueError("not a semantic version in lower case")
    return text


CellPath = Annotated[str, names(CELL)]
ExactVersion = Annotated[str, AfterValidator(_version)]


class Pin(Document):
    """Digest and size of some bytes."""

    sha256: Sha256
    size: Size

    @classmethod
    def of(cls, data: Data) -> Pin:
        """Return the pin of some bytes."""
        return cls(sha256=sha256(data), size=len(data))

    def check(self, data: Bytes, *, where: object) -> Verified[Bytes]:
        """Return the bytes if they match this pin.

        Raises:
            IntegrityError: size or digest mismatch.
            FormatError: a placeholder in place of the file (``LFS_POINTER`` and others).
        """
        return verify(data, sha256=self.sha256, size=self.size, where=where)


ManifestPin = Annotated[Pin, at_most(MAX_MANIFEST)]
CellPin = Annotated[Pin, at_most(CELL.limit)]


class Summary(GrownDocument):
    """Figures of a cell that a list shows without its manifest, all on the cell's own probe; None where degenerate.

    ``ratio`` and ``on_attractor`` are those of the axial CV, or of the published one for a cell measured before it.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("axial_cv", "axial_cv_standard_error")

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
    axial_cv: float | None = None
    axial_cv_standard_error: float | None = None

    def __repr__(self) -> str:
        return short_repr.headed(self, self.family, *self.words, f"on {self.own_probe}")

    @property
    def words(self) -> tuple[str, ...]:
        """Figures, in words."""
        axial = self.axial_cv is not None
        return figure_words(self.parameters, self.axial_cv if axial else self.cv, self.mse, axial=axial)

    @classmethod
    def of(cls, manifest: Manifest) -> Summary:
        """Return the summary of a manifest."""
        own, spec, identity = manifest.own, manifest.spec, manifest.identity
        cv, axial, deciding = (
            found if isinstance(found, CvFigure) else None for found in (own.cv, own.axial_cv, own.deciding_cv)
        )
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
            ratio=deciding.ratio if deciding else None,
            on_attractor=deciding.on_attractor if deciding else None,
            holds=own.held.holds if own.held else None,
            mse=own.mse.value,
            license=identity.license,
            axial_cv=axial.value if axial else None,
            axial_cv_standard_error=axial.standard_error if axial else None,
        )


class Release(Document):
    """One published version of a cell. Only ``yanked`` may change: the reason not to use it.

    >>> import registry
    >>> release = registry.publish(registry.load("low/fresnel-64"), registry.MemoryStore()).release
    >>> release.blob.size, release.yanked
    (1003404, None)
    """

    manifest: ManifestPin
    blob: CellPin
    yanked: Text | None = None
    summary: Summary

    def __repr__(self) -> str:
        return _release_words(self)

    @classmethod
    def of(cls, manifest: Manifest) -> Release:
        """Return the release of a manifest."""
        blob = Pin(sha256=manifest.file.sha256, size=manifest.file.size)
        return cls(manifest=Pin.of(manifest.to_bytes()), blob=blob, summary=Summary.of(manifest))


class PackedRelease(Document):
    """One published version of an artifact of another kind, like :class:`Release` of a cell; see :data:`RELEASES`.

    >>> import composer, registry
    >>> label = composer.artifact.PackedLabel(name="one", version="1.0.0", license="Apache-2.0", description="A test.")
    >>> manifest = composer.pack(composer.compose(registry.load("low/fresnel-64")), "one.safetensors", label)
    >>> release = registry.publish("one.safetensors", "cells").release
    >>> release.summary.cells, release.blob.sha256 == manifest.file.sha256
    (1, True)
    """

    manifest: ManifestPin
    blob: Pin
    yanked: Text | None = None
    summary: PackedSummary

    def __repr__(self) -> str:
        return _release_words(self)

    @classmethod
    def of(cls, manifest: PackedManifest) -> PackedRelease:
        """Return the release of a manifest."""
        blob = Pin(sha256=manifest.file.sha256, size=manifest.file.size)
        release = RELEASES[manifest.KIND.name]
        return release(manifest=Pin.of(manifest.to_bytes()), blob=blob, summary=manifest.summary)


def _release_words(release: Release | PackedRelease) -> str:
    blob = f"{release.blob.size:,} bytes, sha256 {short_repr.digest(release.blob.sha256)}"
    yanked = [] if release.yanked is None else [f"yanked={release.yanked!r}"]
    return short_repr.headed(release, *release.summary.words, blob, *yanked)


def _release(form: ArtifactForm[Any]) -> type[PackedRelease]:
    """Create the class of the releases of a kind."""
    fields: dict[str, Any] = {"blob": (Annotated[Pin, at_most(form.kind.limit)], ...), "summary": (form.summary, ...)}
    name = f"{form.kind.name.capitalize()}Release"
    words = f"One published version of {form.kind.words}, like :class:`Release` of a cell."
    return create_model(name, __base__=PackedRelease, __module__=__name__, __doc__=words, **fields)


RELEASES = {name: _release(form) for name, form in FORMS.items()}
AnyRelease = Release | PackedRelease
AnySummary = Summary | PackedSummary


class Tables(Document):
    """Base of a document with a table of cells and one of each other kind, left out while it is empty."""

    model_config = ConfigDict(defer_build=True)  # until a decorator has added the tables
    SCHEMA_VERSION: ClassVar[str] = max(kind.schema for kind in KINDS.values())
    ADDED: ClassVar[dict[str, str]] = {form.kind.plural: form.kind.schema for form in FORMS.values()}  # first schema with each

    schema_version: str = "1.0"

    def table(self, name: str) -> Any:
        """Return the table of a kind, by its plural: ``cells``, ``models``, ``maps``."""
        return getattr(self, name)

    @classmethod
    def schema_for(cls, fields: Mapping[str, Any]) -> str:
        """Return the oldest schema that has all tables that are not empty."""
        return max((schema for table, schema in cls.ADDED.items() if fields.get(table)), default="1.0")

    @model_validator(mode="after")
    def _is_of_its_schema(self) -> Self:
        right = self.schema_for({table: self.table(table) for table in self.ADDED})
        if self.schema_version != right:
            raise ValueError(f"a document with these tables has schema {right}")
        return self

    @model_serializer(mode="wrap")
    def _without_empty_tables(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        return {name: value for name, value in fields.items() if value or name not in self.ADDED}


class Attested(Pin, GrownDocument):
    """Pin of an attestation, with its verdict.

    Attributes:
        verdict: Verdict of the attestation.
        revision: Number of earlier attestations by the same protocol that it replaced.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("revision",)

    verdict: Verdict
    revision: Count = 0

    def replacing(self, earlier: Attested | None) -> Attested:
        """Return this attestation as the one after another of its protocol; the earlier one if the two are the same."""
        if earlier is None:
            return self
        if self.same_as(earlier):
            return earlier
        return self.model_copy(update={"revision": earlier.revision + 1})

    def same_as(self, other: Attested) -> bool:
        """Return whether two pins are of the same attestation."""
        return (self.sha256, self.size, self.verdict) == (other.sha256, other.size, other.verdict)
