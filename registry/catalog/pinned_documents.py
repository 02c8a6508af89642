"""Manifests and attestations, parsed and checked against the index that pins them. Pure: bytes in, object out."""

from __future__ import annotations

from batteries.cell.manifest import Manifest
from batteries.errors import IntegrityError
from batteries.io.verified import Verified
from composer.artifact.kinds import FORMS
from composer.artifact.manifest import PackedManifest
from registry.catalog.attestation import Attestation
from registry.catalog.reference import Reference
from registry.catalog.release import AnySummary, Attested, Pin, Summary


def check_manifest(
    found: Verified[bytes], reference: Reference, blob: Pin, *, summary: Summary | None, where: object
) -> Manifest:
    """Parse a cell's manifest and check it against the index.

    Args:
        found: Bytes of the manifest.
        reference: Reference to the exact version.
        blob: Pin of the weights.
        summary: Summary in the index; None if there was no index.
        where: Name of the manifest in messages.

    Raises:
        IntegrityError: manifest of another cell or of other weights, or figures that differ from the index.
        FormatError: invalid manifest.
    """
    manifest = Manifest.from_bytes(found.data, where=where)
    _refuse_another(manifest, reference, blob, where)
    if summary is not None and Summary.of(manifest) != summary:
        raise IntegrityError("manifest figures differ from the index", code="WRONG_SUMMARY", where=where)
    return manifest


def check_packed_manifest(
    found: Verified[bytes], reference: Reference, blob: Pin, *, summary: AnySummary | None, where: object
) -> PackedManifest:
    """Parse the manifest of an artifact of another kind and check it, as :func:`check_manifest`.

    Raises:
        IntegrityError: manifest of another artifact or file, or figures that differ from the index.
        FormatError: invalid manifest.
    """
    manifest = FORMS[reference.kind.name].manifest.from_bytes(found.data, where=where)
    _refuse_another(manifest, reference, blob, where)
    if summary is not None and manifest.summary != summary:
        raise IntegrityError("manifest figures differ from the index", code="WRONG_SUMMARY", where=where)
    return manifest


def _refuse_another(manifest: Manifest | PackedManifest, reference: Reference, blob: Pin, where: object) -> None:
    claimed = f"{manifest.path}@{manifest.identity.version}"
    wanted = f"{reference.path}@{reference.version}"
    if claimed != wanted:
        kind = reference.kind.name
        code = f"WRONG_{kind.upper()}"
        raise IntegrityError(f"manifest of another {kind}", code=code, expected=wanted, found=claimed, where=where)
    if (manifest.file.sha256, manifest.file.size) != (blob.sha256, blob.size):
        raise IntegrityError(
            "manifest of other weights", code="WRONG_BLOB", expected=blob.sha256, found=manifest.file.sha256, where=where
        )


def check_attestation(found: Verified[bytes], attested: Attested, *, cell: str, protocol: str, where: object) -> Attestation:
    """Parse an attestation and check it against the index.

    Raises:
        IntegrityError: other cell, protocol or verdict.
        FormatError: invalid attestation.
    """
    attestation = Attestation.from_bytes(found.data, where=where)
    claimed = (attestation.cell, attestation.protocol, attestation.verdict)
    wanted = (cell, protocol, attested.verdict)
    if claimed != wanted:
        raise IntegrityError(
            "attestation mismatch", code="WRONG_ATTESTATION", expected=" ".join(wanted), found=" ".join(claimed), where=where
        )
    return attestation
