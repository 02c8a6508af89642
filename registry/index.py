"""The index of a registry: every cell, every version, by digest and size. Pure: bytes in, object out.

An index is never edited: a change makes another one, which carries the next number and the digest of the one before.
Its bytes hold their own digest, so a damaged index is told from a changed one.
"""

from __future__ import annotations

import difflib
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator
from semver import Version

from batteries.canonical import Document, load_document, sha256
from batteries.errors import ConflictError, IntegrityError, NotFoundError, PolicyError
from batteries.manifest import Count, CvFigure, Manifest, Positive, Sha256, Size, Text
from registry.attestation import Protocol, Verdict
from registry.reference import Reference, is_path, is_version

MAX_INDEX = 64 * 2**20


def _path(text: str) -> str:
    if not is_path(text):
        raise ValueError("not band/name")
    return text


def _version(text: str) -> str:
    if not is_version(text):
        raise ValueError("not a semantic version in lower case")
    return text


CellPath = Annotated[str, AfterValidator(_path)]
ExactVersion = Annotated[str, AfterValidator(_version)]


class Pin(Document):
    """Some bytes, reached by digest and bounded by size."""

    sha256: Sha256
    size: Size

    @classmethod
    def of(cls, data: bytes) -> Pin:
        """The pin of these bytes."""
        return cls(sha256=sha256(data), size=len(data))

    def check(self, data: bytes, *, where: object) -> None:
        """Refuse other bytes.

        Raises:
            IntegrityError: not of the size, or not of the digest.
        """
        if len(data) != self.size:
            raise IntegrityError("another size", code="SIZE_MISMATCH", expected=self.size, found=len(data), where=where)
        found = sha256(data)
        if found != self.sha256:
            raise IntegrityError("other bytes", code="DIGEST_MISMATCH", expected=self.sha256, found=found, where=where)


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

    manifest: Pin
    blob: Pin
    yanked: Text | None = None
    summary: Summary

    @classmethod
    def of(cls, manifest: Manifest) -> Release:
        """The release that a manifest makes."""
        blob = Pin(sha256=manifest.file.sha256, size=manifest.file.size)
        return cls(manifest=Pin.of(manifest.to_bytes()), blob=blob, summary=Summary.of(manifest))


class Attested(Pin):
    """Where an attestation is, and what it says."""

    verdict: Verdict


class Index(Document):
    """A registry's table of contents.

    Attributes:
        number: Counts up with every change; 0 is the index of a registry that does not exist yet.
        previous: SHA-256 of the bytes of the index before; None for the first.
        cells: Releases by ``band/name`` and version.
        attestations: The current one by the cell's digest and the protocol.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    number: Count = 0
    previous: Sha256 | None = None
    cells: dict[CellPath, dict[ExactVersion, Release]] = Field(default_factory=dict)
    attestations: dict[Sha256, dict[Protocol, Attested]] = Field(default_factory=dict)

    @field_validator("cells")
    @classmethod
    def _some_version(cls, cells: dict[str, dict[str, Release]]) -> dict[str, dict[str, Release]]:
        empty = [path for path, releases in cells.items() if not releases]
        if empty:
            raise ValueError(f"a cell without a version: {', '.join(empty[:5])}")
        return cells

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Index:
        """Read an index strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
            IntegrityError: not the index that its own digest names (``INDEX_DIGEST``).
        """
        sealed = load_document(SealedIndex, data, where=where, limit=MAX_INDEX)
        index = cls(**{name: getattr(sealed, name) for name in cls.model_fields})
        found = sha256(index.to_bytes())
        if found != sealed.sha256:
            raise IntegrityError(
                "an index that was changed without its digest",
                code="INDEX_DIGEST",
                expected=sealed.sha256,
                found=found,
                where=where,
                remedy="The index was damaged; restore it from a copy.",
            )
        return index

    def sealed(self) -> bytes:
        """The bytes to store: this index and its own digest.

        Raises:
            PolicyError: more than a reader accepts (``INDEX_FULL``).
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        data = SealedIndex(**fields, sha256=sha256(self.to_bytes())).to_bytes()
        if len(data) > MAX_INDEX:
            raise PolicyError("an index too large", code="INDEX_FULL", expected=f"at most {MAX_INDEX}", found=len(data))
        return data

    def versions(self, path: str) -> list[str]:
        """The versions of ``band/name``, oldest first.

        Raises:
            NotFoundError: no such cell (``NO_CELL``), with the nearest names.
        """
        if path not in self.cells:
            raise NotFoundError("no such cell", code="NO_CELL", found=path, remedy=_did_you_mean(path, list(self.cells)))
        return sorted(self.cells[path], key=lambda version: (Version.parse(version), version))

    def newest(self, path: str) -> str | None:
        """The version that ``band/name`` alone means: the newest that is neither a prerelease nor yanked."""
        usable = [
            version
            for version in self.versions(path)
            if Version.parse(version).prerelease is None and self.cells[path][version].yanked is None
        ]
        return usable[-1] if usable else None

    def resolve(self, reference: Reference) -> tuple[str, Release]:
        """The version and the release that a reference means.

        A version or a digest that is named is found even where it is a prerelease or was yanked.

        Raises:
            NotFoundError: no such cell (``NO_CELL``) or no such version of it (``NO_VERSION``).
        """
        known = self.versions(reference.path)
        releases = self.cells[reference.path]
        if reference.version is not None:
            version = reference.version if reference.version in releases else None
        elif reference.digest is not None:
            version = next((v for v in reversed(known) if releases[v].blob.sha256 == reference.digest), None)
        else:
            version = self.newest(reference.path)
        if version is None:
            raise NotFoundError(
                "no such version",
                code="NO_VERSION",
                expected=f"one of {', '.join(known)}",
                found=reference,
                remedy="Name one of these; prereleases and yanked versions are never chosen for you.",
            )
        return version, releases[version]

    def with_release(self, path: str, version: str, release: Release) -> Index:
        """The index with one more version; this one where it is in already.

        Raises:
            ConflictError: the version is published, with other bytes (``VERSION_EXISTS``).
        """
        present = self.cells.get(path, {}).get(version)
        if present is None:
            return self._next(cells={**self.cells, path: {**self.cells.get(path, {}), version: release}})
        if (present.manifest, present.blob) != (release.manifest, release.blob):
            raise ConflictError(
                "this version is published, with other bytes",
                code="VERSION_EXISTS",
                expected=f"manifest {present.manifest.sha256}",
                found=f"manifest {release.manifest.sha256}",
                where=f"{path}@{version}",
                remedy="A published version never changes: publish under another version.",
            )
        return self

    def with_attestation(self, cell: str, protocol: str, attested: Attested) -> Index:
        """The index with this attestation as the current one of a cell and a protocol; this one where it is so already."""
        known = self.attestations.get(cell, {})
        if known.get(protocol) == attested:
            return self
        return self._next(attestations={**self.attestations, cell: {**known, protocol: attested}})

    def _next(self, **changes: object) -> Index:
        previous = sha256(self.sealed()) if self.number else None
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Index.model_validate({**fields, **changes, "number": self.number + 1, "previous": previous})


class SealedIndex(Index):
    """An index as it is stored: with the SHA-256 of the canonical bytes of the index itself."""

    sha256: Sha256


def _did_you_mean(path: str, known: list[str]) -> str:
    close = difflib.get_close_matches(path, known, n=3)
    return f"Did you mean {' or '.join(close)}?" if close else "`batteries list` shows the cells there are."
