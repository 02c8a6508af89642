"""What the commands answer under ``--json``. The schemas in ``docs/schema`` are made from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, create_model

from batteries.cell.cell import Cell
from batteries.cell.manifest import Count, Manifest, Sha256, Size, Text
from batteries.io.canonical_json import Document
from batteries.io.text import unicode
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


class FoundArtifact(Answer):
    """Artifact of any kind, as the index of a registry lists it.

    Attributes:
        reference: ``[registry/]band/name@version``, ``[registry/]model/name@version``, and so on by kind.
        version: Exact.
        sha256: Digest of the file.
        size: Size of the file, in bytes.
        yanked: Reason not to use the version; None where it may be used.
    """

    reference: str
    version: ExactVersion
    sha256: Sha256
    size: Size
    yanked: Text | None

    @classmethod
    def of(cls, located: Located, **more: object) -> Self:
        """What was located."""
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

    summary: Summary
    attestations: dict[Protocol, Attested]

    @classmethod
    def of(cls, located: Located, **more: object) -> Self:
        """What was located."""
        return super().of(located, attestations=located.attestations, **more)


def _class(name: str, base: type[Answer], words: str, **fields: object) -> Any:
    """Class of answers of one kind."""
    made: dict[str, Any] = {field: (kind, ...) for field, kind in fields.items()}
    return create_model(name, __base__=base, __module__=__name__, __doc__=words, **made)


FOUND: dict[str, type[FoundArtifact]] = {
    name: _class(
        f"Found{name.capitalize()}",
        FoundArtifact,
        f"An artifact of its kind, {form.kind.words}; ``summary`` is what a list shows.",
        summary=form.summary,
    )
    for name, form in FORMS.items()
}
SHOWN: dict[str, type[FoundArtifact]] = {
    name: _class(
        f"Shown{name.capitalize()}",
        FOUND[name],
        f"Answer of ``batteries show`` for {form.kind.words}: as the index has it, and its whole manifest.",
        manifest=form.manifest,
    )
    for name, form in FORMS.items()
}


def _rows(form: ArtifactForm[Any]) -> Any:
    """Field of the rows of a kind."""
    row = FOUND[form.kind.name]
    return tuple[row, ...], ...  # type: ignore[valid-type]  # made while the program runs


@with_tables(_rows)
class Listed(Answer):
    """Answer of ``batteries list``: the registry's address, the number of its index, and what was asked for."""

    registry: str
    number: Count
    cells: tuple[Found, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, found: Sequence[Located]) -> Listed:
        """What was found in a registry."""
        rows: dict[str, list[Any]] = {kind.plural: [] for kind in KINDS.values()}
        for located in found:
            kind = located.reference.kind
            form: Any = Found if kind is CELL else FOUND[kind.name]
            rows[kind.plural].append(form.of(located))
        tables: dict[str, Any] = {table: tuple(some) for table, some in rows.items()}
        return cls(registry=unicode(snapshot.store.url), number=snapshot.index.number, **tables)


class Shown(Found):
    """Answer of ``batteries show``: a cell as the index has it, and its whole manifest."""

    manifest: Manifest


class PulledCell(Answer):
    """A cell, or the file of an artifact of another kind, that was fetched.

    Attributes:
        reference: ``band/name@version``, ``model/name@version`` and so on.
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
    def of(cls, pulled: Cell | PulledFile, path: Path) -> PulledCell:
        """Artifact that was pulled, and where its file is now."""
        manifest, origin = pulled.manifest, pulled.origin
        assert origin is not None, "it was pulled"
        file, version = manifest.file, manifest.identity.version
        came = {**asdict(origin), "source": unicode(origin.source)}
        reference = f"{manifest.path}@{version}"
        return cls(reference=reference, version=version, sha256=file.sha256, size=file.size, path=unicode(path), **came)


@with_tables(lambda form: (tuple[PulledCell, ...], ...))
class Pulled(Answer):
    """Answer of ``batteries pull``: the artifacts by kind, those of each in the order they were asked for."""

    cells: tuple[PulledCell, ...]


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


class VerifyAnswer(Answer):
    """Answer of ``batteries verify``: whether everything is right, and what came of every object."""

    model_config = ConfigDict(title="Verified")

    ok: bool
    findings: tuple[Checked, ...]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> VerifyAnswer:
        """What came of a verification."""
        return cls(ok=all(finding.ok for finding in findings), findings=tuple(map(Checked.of, findings)))


ANSWERS: dict[str, type[Document]] = {
    "error": ErrorAnswer,
    "list": Listed,
    "publish": Published,
    "pull": Pulled,
    "show": Shown,
    "verify": VerifyAnswer,
    **{f"show-{name}": answer for name, answer in SHOWN.items()},
}
