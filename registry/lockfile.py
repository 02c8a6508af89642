"""Lock files: cells by digest, so that what was locked is what is pulled, from whatever registry holds the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import field_validator

from batteries import files
from batteries.canonical import Document, load_document, sha256
from batteries.errors import InputError
from batteries.manifest import Count, Sha256, Text
from registry.reference import Reference
from registry.release import CellPath, ExactVersion, Pin
from registry.snapshot import Located

MAX_LOCK = 16 * 2**20


class LockedCell(Document):
    """One cell, by digest.

    Attributes:
        path: ``band/name``.
        version: Exact.
        source: Address of the registry it was found in.
        manifest: Its manifest's bytes.
        blob: Its weights' bytes.
    """

    path: CellPath
    version: ExactVersion
    source: Text
    manifest: Pin
    blob: Pin

    @property
    def reference(self) -> Reference:
        """The cell at its exact version."""
        return Reference.parse(f"{self.path}@{self.version}")


class LockedIndex(Document):
    """The index that references were resolved in; nothing needs it, it says how old a lock is."""

    source: Text
    number: Count
    sha256: Sha256


class Lock(Document):
    """Every digest that a set of references came to.

    Attributes:
        cells: By path and version, each once.
        indexes: The indexes they were resolved in, by source.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    cells: tuple[LockedCell, ...]
    indexes: tuple[LockedIndex, ...]

    @field_validator("cells")
    @classmethod
    def _sorted_once(cls, cells: tuple[LockedCell, ...]) -> tuple[LockedCell, ...]:
        names = [(cell.path, cell.version) for cell in cells]
        if not names:
            raise ValueError("a lock of nothing")
        if names != sorted(set(names)):
            raise ValueError("cells out of order, or one of them twice")
        return cells

    @classmethod
    def of(cls, found: Sequence[Located]) -> Lock:
        """The lock of what references were resolved to.

        Raises:
            InputError: one version from two registries with other bytes (``AMBIGUOUS_SOURCE``).
        """
        cells: dict[tuple[str, str], LockedCell] = {}
        indexes: dict[str, LockedIndex] = {}
        for located in found:
            snapshot, release = located.snapshot, located.release
            source = snapshot.store.url
            cell = LockedCell(
                path=located.reference.path,
                version=located.version,
                source=source,
                manifest=release.manifest,
                blob=release.blob,
            )
            known = cells.setdefault((cell.path, cell.version), cell)
            if (known.manifest, known.blob) != (cell.manifest, cell.blob):
                raise InputError(
                    "one version with two contents",
                    code="AMBIGUOUS_SOURCE",
                    expected=f"{known.blob.sha256} of {known.source}",
                    found=f"{cell.blob.sha256} of {source}",
                    where=f"{cell.path}@{cell.version}",
                    remedy="Lock it from one registry only.",
                )
            number, digest = snapshot.index.number, sha256(snapshot.index.sealed())
            indexes[source] = LockedIndex(source=source, number=number, sha256=digest)
        return cls(
            cells=tuple(cells[name] for name in sorted(cells)), indexes=tuple(indexes[source] for source in sorted(indexes))
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Lock:
        """Read a lock strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_LOCK)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a lock file.

        Raises:
            NotFoundError: no such file.
            FormatError: as :meth:`from_bytes`.
        """
        return cls.from_bytes(files.read(path, limit=MAX_LOCK), where=path)

    def write(self, path: Path) -> None:
        """Write a lock file, whole or not at all.

        Raises:
            StoreError: no space, no permission.
        """
        files.replace(path, self.to_bytes())


@dataclass(frozen=True)
class Change:
    """How one cell differs between two locks.

    Attributes:
        path: ``band/name``.
        before: Its versions in the first, with the start of the weights' digest; empty where it is not there.
        after: The same in the second.
    """

    path: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """In one word."""
        return "added" if not self.before else "removed" if not self.after else "changed"


def diff(first: Lock, second: Lock) -> list[Change]:
    """What changed from one lock to another, by cell. The source is no part of what a cell is."""
    before, after = _by_path(first), _by_path(second)
    changes = (Change(path, before.get(path, ()), after.get(path, ())) for path in sorted({*before, *after}))
    return [change for change in changes if change.before != change.after]


def _by_path(lock: Lock) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for cell in lock.cells:
        contents = f"{cell.version} (weights {cell.blob.sha256[:12]}, manifest {cell.manifest.sha256[:12]})"
        found[cell.path] = (*found.get(cell.path, ()), contents)
    return found
