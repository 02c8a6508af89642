"""Answers of list, show, pull, publish and verify under ``--json``; their schemas are exported to ``docs/schema``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, create_model

from batteries.cell.cell import Cell
from batteries.cell.manifest import Count, Manifest, Sha256, Size, Text
from batteries.io.canonical_json import Document
from batteries.text import unicode
from composer.artifact.form import ArtifactForm
from composer.artifact.kinds import FORMS
from registry.answers.answer import Answer, ErrorAnswer, Fault
from registry.catalog.attestation import Protocol
from registry.catalog.kinds import CELL, KINDS, with_tables
from registry.catalog.release import Attested, ExactVersion, Summary
from registry.stores.snapshot import Located, Snapshot
from registry.transfer.publish import Published
from registry.transfer.pull_packed import PulledFile
from registry.transfer.verify import Finding, ObjectKind
from registry.trust.signature import Signature


class FoundArtifact(Answer):
    """An artifact as listed in the index of a registry: the fields that all kinds share.

    Attributes:
        reference: ``[registry/]band/name@version``, ``[registry/]model/name@version``, and so on by kind.
        version: Exact version.
        sha256: SHA-256 of the file.
        size: Size of the file in bytes.
        yanked: Reason not to use the version; None if it is not yanked.
    """

    reference: str
    version: ExactVersion
    sha256: Sha256
    size: Size
    yanked: Text | None

    @classmethod
    def of(cls, located: Located, **more: object) -> Self:
        """Return the answer for a located reference."""
        release = located.release
        return cls(
            reference=str(located.reference),
            version=located.version,
            sha256=release.blob.sha256,
            size=release.blob.size,
            yanked=release.yanked,
            **{"summary": release.summary, **more},
        )


class Found(FoundArtifact):
    """A cell as listed in the index of a registry.

    Attributes:
        reference: ``[registry/]band/name@version``.
        version: Exact version.
        sha256: SHA-256 of the weights file.
        size: Size of the weights file in bytes.
        yanked: Reason not to use the version; None if it is not yanked.
        summary: Figures of the cell.
        attestations: Current attestations, by protocol.
    """

    summary: Summary
    attestations: dict[Protocol, Attested]

    @classmethod
    def of(cls, located: Located, **more: object) -> Self:
        """Return the answer for a located reference."""
        return super().of(located, attestations=located.attestations, **more)


def _class(name: str, base: type[Answer], words: str, **fields: object) -> Any:
    """Create the class of answers of one kind."""
    made: dict[str, Any] = {field: (kind, ...) for field, kind in fields.items()}
    return create_model(name, __base__=base, __module__=__name__, __doc__=words, **made)


FOUND: dict[str, type[FoundArtifact]] = {
    name: _class(
        f"Found{name.capitalize()}",
        FoundArtifact,
        f"An artifact of its kind, {form.kind.words}; ``summary`` has the figures that a list shows.",
        summary=form.summary,
    )
    for name, form in FORMS.items()
}
SHOWN: dict[str, type[FoundArtifact]] = {
    name: _class(
        f"Shown{name.capitalize()}",
        FOUND[name],
        f"Answer of ``batteries show`` for {form.kind.words}: its entry in the index, its signatures, and its whole manifest.",
        manifest=form.manifest,
        signature=Signature,
        index_signature=Signature,
    )
    for name, form in FORMS.items()
}


def _rows(form: ArtifactForm[Any]) -> Any:
    """Return the field of a kind's rows."""
    row = FOUND[form.kind.name]
    return tuple[row, ...], ...  # type: ignore[valid-type]  # made while the program runs


@with_tables(_rows)
class Listed(Answer):
    """Answer of ``batteries list``: the registry's address, number and signature of its index, and the artifacts listed."""

    registry: str
    number: Count
    signature: Signature
    cells: tuple[Found, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, found: Sequence[Located]) -> Listed:
        """Return the answer for artifacts found in a registry."""
        rows: dict[str, list[Any]] = {kind.plural: [] for kind in KINDS.values()}
        for located in found:
            kind = located.reference.kind
            form: Any = Found if kind is CELL else FOUND[kind.name]
            rows[kind.plural].append(form.of(located))
        tables: dict[str, Any] = {table: tuple(some) for table, some in rows.items()}
        facts: dict[str, Any] = {"number": snapshot.index.number, "signature": snapshot.signature}
        return cls(registry=unicode(snapshot.store.url), **facts, **tables)


class Shown(Found):
    """Answer of ``batteries show``: a cell's entry in the index, its whole manifest, and its signatures.

    Attributes:
        manifest: Manifest of the cell.
        signature: Signature of the release, by its publisher.
        index_signature: Signature of the registry's index, which lists the release and its verdicts.
    """

    manifest: Manifest
    signature: Signature
    index_signature: Signature


class PulledCell(Answer):
    """A fetched cell, or the fetched file of an artifact of another kind.

    Attributes:
        reference: ``band/name@version``, ``model/name@version`` and so on.
        version: Exact version.
        sha256: SHA-256 of the file.
        size: Size of the file in bytes.
        path: Path of the file.
        source: Address of the registry it came from.
        index_number: Number of the index it was found in; None if a lock named its digests.
        age: Seconds since that index was fetched.
        verified: Whether every byte was compared with its digest.
        yanked: Reason not to use the version; None if it is not known to be yanked.
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
    def of(cls, pulled: Cell | PulledFile, path: Path) -> PulledCell:
        """Return the answer for a pulled artifact, whose file is at a path."""
        manifest, origin = pulled.manifest, pulled.origin
        assert origin is not None, "it was pulled"
        file, version = manifest.file, manifest.identity.version
        came = {**asdict(origin), "source": unicode(origin.source)}
        reference = f"{manifest.path}@{version}"
        return cls(reference=reference, version=version, sha256=file.sha256, size=file.size, path=unicode(path), **came)


@with_tables(lambda form: (tuple[PulledCell, ...], ...))
class Pulled(Answer):
    """Answer of ``batteries pull``: the artifacts by kind, each kind in the order requested."""

    cells: tuple[PulledCell, ...]


class PublishedAll(Answer):
    """Answer of ``batteries publish`` for several files, which are one release."""

    artifacts: tuple[Published, ...]


class Checked(Answer):
    """One object that was checked: its kind and key, and its error, if any."""

    kind: ObjectKind
    name: str
    ok: bool
    error: Fault | None

    @classmethod
    def of(cls, finding: Finding) -> Checked:
        """Return the answer for one finding."""
        error = None if finding.error is None else Fault.of(finding.error)
        return cls(kind=finding.kind, name=unicode(finding.name), ok=finding.ok, error=error)


class VerifyAnswer(Answer):
    """Answer of ``batteries verify``: whether all objects are intact, and a finding for each."""

    model_config = ConfigDict(title="Verified")

    ok: bool
    findings: tuple[Checked, ...]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> VerifyAnswer:
        """Return the answer for all findings."""
        return cls(ok=all(finding.ok for finding in findings), findings=tuple(map(Checked.of, findings)))


ANSWERS: dict[str, type[Document]] = {
    "error": ErrorAnswer,
    "list": Listed,
    "publish": Published,
    "publish-all": PublishedAll,
    "pull": Pulled,
    "show": Shown,
    "verify": VerifyAnswer,
    **{f"show-{name}": answer for name, answer in SHOWN.items()},
}
