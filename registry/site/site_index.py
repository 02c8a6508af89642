"""``index.json`` of a site: every version with its figures, pins, page and related cells, as canonical JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from batteries.cell.manifest import Count, Sha256
from batteries.io.canonical_json import Document, sha256
from registry.catalog.attestation import Verdict
from registry.catalog.release import Pin, Summary
from registry.site.contents import CellEntry, Contents, Entry, PackedEntry
from registry.site.related import Related
from registry.trust.signature import Signature


class IndexedRelation(Document):
    """A related cell, with the residual of its alignment, and that with the images exchanged."""

    reference: str
    residual: float
    exchanged: float
    probe: str


class IndexedVersion(Document):
    """A version of an artifact.

    Attributes:
        reference: ``band/name@version``.
        page: File of its page in the site.
        newest: True for the version that a list shows.
        yanked: Reason not to use it; null if it is not yanked.
        description: Description in its manifest.
        manifest: Digest and size of its manifest.
        blob: Digest and size of its file.
    """

    reference: str
    page: str
    newest: bool
    yanked: str | None
    description: str
    manifest: Pin
    blob: Pin


class IndexedCell(IndexedVersion):
    """A version of a cell: its figures in the registry's index, its current verdicts by protocol, and related cells."""

    band: str
    summary: Summary
    verdicts: dict[str, Verdict]
    related: tuple[IndexedRelation, ...]


class IndexedArtifact(IndexedVersion):
    """A version of an artifact of another kind, with what a list shows of it, as text by column."""

    kind: str
    columns: dict[str, str]


class SiteIndex(Document):
    """Everything that a site shows in its tables.

    Attributes:
        schema_version: Version of this document's form.
        registry: Address of the registry.
        number: Number of the registry's index.
        index_sha256: SHA-256 of the registry's index, without its own digest.
        signature: Signature of the registry's index.
        cells: Versions of cells.
        artifacts: Versions of models, maps and other kinds.
    """

    schema_version: Literal["1.0"] = "1.0"
    registry: str
    number: Count
    index_sha256: Sha256
    signature: Signature
    cells: tuple[IndexedCell, ...]
    artifacts: tuple[IndexedArtifact, ...]


def site_index(contents: Contents, related: Mapping[str, Sequence[Related]]) -> SiteIndex:
    """Return the index of a registry's site."""
    return SiteIndex(
        registry=contents.address,
        number=contents.snapshot.index.number,
        index_sha256=sha256(contents.snapshot.index.to_bytes()),
        signature=contents.snapshot.signature,
        cells=tuple(_cell(entry, related[entry.reference]) for entry in contents.cells),
        artifacts=tuple(map(_artifact, contents.packed)),
    )


def _cell(entry: CellEntry, related: Sequence[Related]) -> IndexedCell:
    return IndexedCell(
        **_version(entry, entry.manifest.identity.description),
        band=entry.manifest.identity.band,
        summary=entry.located.cell_release.summary,
        verdicts={protocol: attested.verdict for protocol, attested in entry.located.attestations.items()},
        related=tuple(
            IndexedRelation(reference=one.entry.reference, residual=one.residual, exchanged=one.exchanged, probe=one.probe)
            for one in related
        ),
    )


def _artifact(entry: PackedEntry) -> IndexedArtifact:
    return IndexedArtifact(
        **_version(entry, entry.manifest.identity.description),
        kind=entry.located.reference.kind.name,
        columns=dict(entry.columns),
    )


def _version(entry: Entry, description: str) -> dict[str, Any]:
    release = entry.located.release
    return {
        "reference": entry.reference,
        "page": entry.page,
        "newest": entry.newest,
        "yanked": entry.yanked,
        "description": description,
        "manifest": Pin(sha256=release.manifest.sha256, size=release.manifest.size),
        "blob": Pin(sha256=release.blob.sha256, size=release.blob.size),
    }
