"""What an index says of one version: which bytes by digest and size, the figures a list shows, and whether it is yanked."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from batteries.canonical import Document, sha256
from batteries.errors import IntegrityError
from batteries.manifest import CvFigure, Manifest, Positive, Sha256, Size, Text
from registry.attestation import Verdict
from registry.reference import is_path, is_version


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
