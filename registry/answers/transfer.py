"""What the commands answer under ``--json``. The schemas in ``docs/schema`` are made from these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field

from batteries.cell.artifact_kinds import MAPS, MODEL
from batteries.cell.cell import Cell
from batteries.cell.manifest import Count, Manifest, Sha256, Size, Text
from composer.artifact.manifest import MapsManifest, ModelManifest
from registry.answers.answer import Answer, ErrorAnswer, Fault, unicode
from registry.catalog.attestation import Protocol
from registry.catalog.release import (
    Attested,
    ExactVersion,
    MapsRelease,
    MapsSummary,
    ModelRelease,
    ModelSummary,
    Release,
    Summary,
)
from registry.stores.snapshot import Located, Snapshot
from registry.transfer.publish import Published as Publication
from registry.transfer.pull_packed import PulledFile
from registry.transfer.verify import Finding, ObjectKind


class Found(Answer):
    """A cell as the index of a registry has it.

    Attributes:
        reference: ``[registry/]band/name@version``.
        version: Exact.
        sha256: Of the weights' file.
        size: Of it, in bytes.
        yanked: Why the version should not be used; None where it may be.
        summary: Its figures.
        attestations: What was found about it, by protocol.
    """

    reference: str
    version: ExactVersion
    sha256: Sha256
    size: Size
    yanked: Text | None
    summary: Summary
    attestations: dict[Protocol, Attested]

    @classmethod
    def of(cls, located: Located, **more: object) -> Self:
        """What was located."""
        return cls.model_validate({**_found(located), "attestations": located.attestations, **more})


class FoundPacked(Answer):
    """What a model and maps have in common, as the index of a registry has them.

    Attributes:
        reference: ``[registry/]model/name@version`` or ``[registry/]maps/name@version``.
        version: Exact.
        sha256: Of the file.
        size: Of it, in bytes.
        yanked: Why the version should not be used; None where it may be.
    """

    reference: str
    version: ExactVersion
    sha256: Sha256
    size: Size
    yanked: Text | None

    @classmethod
    def of(cls, located: Located, **more: object) -> Self:
        """What was located."""
        return cls.model_validate({**_found(located), **more})


class FoundModel(FoundPacked):
    """A composed model; ``summary`` says what it is made of."""

    summary: ModelSummary


class FoundMaps(FoundPacked):
    """Maps; ``summary`` says of what, and whereto."""

    summary: MapsSummary


class Listed(Answer):
    """Answer of ``batteries list``: the registry's address, the number of its index, and what was asked for."""

    registry: str
    number: Count
    cells: tuple[Found, ...]
    models: tuple[FoundModel, ...]
    maps: tuple[FoundMaps, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, found: Sequence[Located]) -> Listed:
        """What was found in a registry."""
        by_kind = {kind: [one for one in found if one.reference.kind is kind] for kind in (None, MODEL, MAPS)}
        return cls(
            registry=unicode(snapshot.store.url),
            number=snapshot.index.number,
            cells=tuple(map(Found.of, by_kind[None])),
            models=tuple(map(FoundModel.of, by_kind[MODEL])),
            maps=tuple(map(FoundMaps.of, by_kind[MAPS])),
        )


class Shown(Found):
    """Answer of ``batteries show``: a cell as the index has it, and its whole manifest."""

    manifest: Manifest


class ShownModel(FoundModel):
    """Answer of ``batteries show`` for a composed model: as the index has it, and its whole manifest."""

    manifest: ModelManifest


class ShownMaps(FoundMaps):
    """Answer of ``batteries show`` for maps: as the index has them, and their whole manifest."""

    manifest: MapsManifest


class PulledCell(Answer):
    """A cell, or the file of a composed model or of maps, that was fetched.

    Attributes:
        reference: ``band/name@version``, ``model/name@version`` or ``maps/name@version``.
        version: Exact.
        sha256: Of the file.
        size: Of it, in bytes.
        path: Where it is now.
        source: Address of the registry it came from.
        index_number: Of the index it was found in; None where a lock named its digests.
        age: Seconds since that index was fetched.
        verified: Whether every byte was compared with its digest.
        yanked: Why the version should not be used; None where it may be, or no index says so.
    """

    reference: str
    version: ExactVersion
    sha256: Sha256
    size: Size
    path: str
    source: str
    index_number: Count | None
    age: float = Field(ge=0)
    verified: bool
    yanked: Text | None

    @classmethod
    def of(cls, cell: Cell, path: Path) -> PulledCell:
        """A cell that was pulled, and where its weights are now."""
        assert cell.origin is not None, "it was pulled"
        return cls(
            reference=f"{cell.name}@{cell.version}",
            version=cell.version,
            sha256=cell.digest,
            size=cell.manifest.file.size,
            path=unicode(path),
            source=unicode(cell.origin.source),
            index_number=cell.origin.index_number,
            age=cell.origin.age,
            verified=cell.origin.verified,
            yanked=cell.origin.yanked,
        )

    @classmethod
    def of_file(cls, pulled: PulledFile, path: Path) -> PulledCell:
        """A model or maps that were pulled, and where the file is now."""
        manifest, origin = pulled.manifest, pulled.origin
        return cls(
            reference=f"{manifest.path}@{manifest.identity.version}",
            version=manifest.identity.version,
            sha256=manifest.file.sha256,
            size=manifest.file.size,
            path=unicode(path),
            source=unicode(origin.source),
            index_number=origin.index_number,
            age=origin.age,
            verified=origin.verified,
            yanked=origin.yanked,
        )


class Pulled(Answer):
    """Answer of ``batteries pull``: the cells, the models and the maps, each in the order they were asked for."""

    cells: tuple[PulledCell, ...]
    models: tuple[PulledCell, ...]
    maps: tuple[PulledCell, ...]


class Published(Answer):
    """Answer of ``batteries publish``.

    Attributes:
        reference: ``band/name@version``, ``model/name@version`` or ``maps/name@version``.
        release: What the index promises of it.
        number: Of the index that has it.
        new: False where it was there before, with the same bytes.
    """

    reference: str
    release: Release | ModelRelease | MapsRelease
    number: Count
    new: bool

    @classmethod
    def of(cls, published: Publication) -> Published:
        """What a publication came to."""
        reference, release = str(published.reference), published.release
        return cls(reference=reference, release=release, number=published.number, new=published.new)


class Checked(Answer):
    """One object that was verified: its kind and key, and what is wrong with it, if anything is."""

    kind: ObjectKind
    name: str
    ok: bool
    error: Fault | None

    @classmethod
    def of(cls, finding: Finding) -> Checked:
        """What came of checking one object."""
        error = None if finding.error is None else Fault.of(finding.error)
        return cls(kind=finding.kind, name=unicode(finding.name), ok=finding.ok, error=error)


class Verified(Answer):
    """Answer of ``batteries verify``: whether everything is right, and what came of every object."""

    ok: bool
    findings: tuple[Checked, ...]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> Verified:
        """What came of a verification."""
        return cls(ok=all(finding.ok for finding in findings), findings=tuple(map(Checked.of, findings)))


ANSWERS: dict[str, type[Answer]] = {
    "error": ErrorAnswer,
    "list": Listed,
    "publish": Published,
    "pull": Pulled,
    "show": Shown,
    "show-maps": ShownMaps,
    "show-model": ShownModel,
    "verify": Verified,
}


def _found(located: Located) -> dict[str, object]:
    """What the index says of a version."""
    release = located.release
    return {
        "reference": str(located.reference),
        "version": located.version,
        "sha256": release.blob.sha256,
        "size": release.blob.size,
        "yanked": release.yanked,
        "summary": release.summary,
    }
