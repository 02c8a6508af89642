"""Lock files: whatever was published, by digest, so that what was locked is what is pulled, wherever the bytes are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import create_model, model_validator
from semver import Version

from batteries.cell.manifest import Count, Sha256, Text
from batteries.errors import InputError, UnknownKeyError
from batteries.io import atomic_files, canonical_json, short_repr
from batteries.io.canonical_json import Document, load_any, sha256
from batteries.io.text import did_you_mean, listed
from batteries.lookup import Lookup
from composer.artifact.form import ArtifactForm
from composer.artifact.kinds import FORMS
from registry.catalog.index import TABLES
from registry.catalog.kinds import CELL, KINDS, kind_of_path, with_tables
from registry.catalog.reference import Reference
from registry.catalog.release import CellPath, CellPin, ExactVersion, ManifestPin, Pin, Tables, at_most, names
from registry.stores.snapshot import Located
from registry.transfer import lock_paths

MAX_LOCK = 16 * 2**20


class LockedCell(Document):
    """One cell, by digest.

    Attributes:
        path: ``band/name``.
        version: Exact.
        source: Address of the registry it was found in: a folder, ``embedded``, or ``hf://owner/repo[@revision]``.
        manifest: Its manifest's bytes.
        blob: Its weights' bytes.
    """

    path: CellPath
    version: ExactVersion
    source: Text
    manifest: ManifestPin
    blob: CellPin

    @property
    def reference(self) -> Reference:
        """The cell at its exact version."""
        return Reference.parse(f"{self.path}@{self.version}")


def _locked(form: ArtifactForm[Any]) -> type[LockedCell]:
    """Class of the rows of a kind."""
    kind = form.kind
    fields: dict[str, Any] = {
        "path": (Annotated[str, names(kind)], ...),
        "blob": (Annotated[Pin, at_most(kind.limit)], ...),
    }
    words = f"One artifact of its kind, {kind.words}, by digest; its ``path`` is ``{kind.name}/name``."
    return create_model(f"Locked{kind.name.capitalize()}", __base__=LockedCell, __module__=__name__, __doc__=words, **fields)


LOCKED: dict[str, type[LockedCell]] = {CELL.name: LockedCell, **{name: _locked(form) for name, form in FORMS.items()}}


class LockedIndex(Document):
    """The index that references were resolved in; nothing needs it, it says how old a lock is."""

    source: Text
    number: Count
    sha256: Sha256


def locked_rows(form: ArtifactForm[Any]) -> Any:
    """Type of the table of a kind."""
    row = LOCKED[form.kind.name]
    return tuple[row, ...]  # type: ignore[valid-type]  # made while the program runs


@with_tables(lambda form: (locked_rows(form), ()))
class Lock(Tables, Lookup[LockedCell]):
    """Every digest that a set of references came to. Beside the cells it has a table of each kind.

    It is a mapping by ``band/name@version``; a name without a version is found too, at the newest one that is locked.

    Attributes:
        cells: By path and version, each once.
        indexes: The indexes they were resolved in, by source.
    """

    cells: tuple[LockedCell, ...]
    indexes: tuple[LockedIndex, ...]

    @model_validator(mode="after")
    def _sorted_once(self) -> Self:
        if not self.everything:
            raise ValueError("a lock of nothing")
        for name in TABLES:
            rows = [(one.path, one.version) for one in self.table(name)]
            if rows != sorted(set(rows)):
                raise ValueError("names out of order, or one of them twice")
        return self

    def __getitem__(self, name: str) -> LockedCell:
        found = self._rows(name)
        if not found:
            kind = kind_of_path(str(name).partition("@")[0]) or CELL
            remedy = did_you_mean(str(name), self, f"It has {listed(list(self))}.")
            raise UnknownKeyError("not in the lock", code=f"NO_{kind.name.upper()}", found=name, remedy=remedy)
        return max(found, key=lambda one: Version.parse(one.version))

    def __contains__(self, name: object) -> bool:
        return bool(self._rows(name))

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # pydantic's has fields
        return (str(one.reference) for one in self.everything)

    def __len__(self) -> int:
        return len(self.everything)

    def __repr__(self) -> str:
        return short_repr.rows(f"Lock({len(self)})", self)

    def _rows(self, name: object) -> list[LockedCell]:
        return [one for one in self.everything if name in (one.path, f"{one.path}@{one.version}")]

    @property
    def everything(self) -> tuple[LockedCell, ...]:
        """The cells, then the other kinds, one after the other."""
        return tuple(one for name in TABLES for one in self.table(name))

    @classmethod
    def of(cls, found: Sequence[Located]) -> Lock:
        """Lock of what references were resolved to.

        Raises:
            InputError: one version from two registries with other bytes (``AMBIGUOUS_SOURCE``).
        """
        locked: dict[tuple[str, str], LockedCell] = {}
        indexes: dict[str, LockedIndex] = {}
        for located in found:
            snapshot, release = located.snapshot, located.release
            source = snapshot.store.url
            one = LOCKED[located.reference.kind.name](
                path=located.reference.path,
                version=located.version,
                source=source,
                manifest=release.manifest,
                blob=release.blob,
            )
            known = locked.setdefault((one.path, one.version), one)
            if (known.manifest, known.blob) != (one.manifest, one.blob):
                raise InputError(
                    "one version with two contents",
                    code="AMBIGUOUS_SOURCE",
                    expected=f"{known.blob.sha256} of {known.source}",
                    found=f"{one.blob.sha256} of {source}",
                    where=f"{one.path}@{one.version}",
                    remedy="Lock it from one registry only.",
                )
            number, digest = snapshot.index.number, sha256(snapshot.index.sealed())
            indexes[source] = LockedIndex(source=source, number=number, sha256=digest)
        everything = [locked[name] for name in sorted(locked)]
        chosen = {kind.plural: tuple(one for one in everything if type(one) is LOCKED[kind.name]) for kind in KINDS.values()}
        listed = tuple(indexes[source] for source in sorted(indexes))
        return cls.model_validate({**chosen, "schema_version": cls.schema_for(chosen), "indexes": listed})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Lock:
        """Read a lock strictly, but for its layout: lines as :meth:`to_bytes` writes them, or one line as older versions did.

        Raises:
            FormatError: not JSON of this schema, too large, of a newer major schema, or the two sides of a merge
                (``MERGE_CONFLICT``).
        """
        return load_any(cls, data, where=where, limit=MAX_LOCK)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a lock file. Folders that it names relative to itself become absolute.

        Raises:
            NotFoundError: no such file.
            FormatError: as :meth:`from_bytes`.
        """
        found = cls.from_bytes(atomic_files.read(path, limit=MAX_LOCK, links=True), where=path)
        folder = Path(os.path.realpath(path)).parent  # of the file itself, where a link led to it
        return found._with_sources(lambda source: lock_paths.absolute(source, folder))

    def write(self, path: Path) -> None:
        """Write a lock file, whole or not at all. It names folders near it relative to itself.

        Raises:
            StoreError: no space, no permission.
        """
        with atomic_files.typed(path, writing=True):
            folder = Path(os.path.realpath(path.parent))
        atomic_files.replace(path, self._with_sources(lambda source: lock_paths.portable(source, folder)).to_bytes())

    def to_bytes(self) -> bytes:
        """Lock as JSON with sorted keys and a line for each value, so that two of them can be compared by lines."""
        return canonical_json.dump(self.model_dump(mode="json"), indent=2)

    def _with_sources(self, named: Callable[[str], str]) -> Self:
        tables = {table: self.table(table) for table in (*TABLES, "indexes")}
        return self.model_copy(
            update={
                table: tuple(one.model_copy(update={"source": named(one.source)}) for one in rows)
                for table, rows in tables.items()
            }
        )


class ChangedCell(Document):
    """An artifact that differs: its versions and digests in either lock.

    Attributes:
        path: ``band/name``, ``model/name`` and so on.
        kind: The change in one word.
        before: Its versions in the first, with the start of the weights' digest; empty where it is not there.
        after: The same in the second.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    before: tuple[str, ...]
    after: tuple[str, ...]

    @classmethod
    def of(cls, path: str, before: tuple[str, ...], after: tuple[str, ...]) -> ChangedCell:
        """What became of an artifact."""
        return cls(path=path, kind="added" if not before else "removed" if not after else "changed", before=before, after=after)


def diff(first: Lock, second: Lock) -> list[ChangedCell]:
    """What changed from one lock to another, by path. The source is no part of what a cell is."""
    before, after = _by_path(first), _by_path(second)
    changes = (ChangedCell.of(path, before.get(path, ()), after.get(path, ())) for path in sorted({*before, *after}))
    return [change for change in changes if change.before != change.after]


def _by_path(lock: Lock) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one in lock.everything:
        contents = f"{one.version} (weights {one.blob.sha256[:12]}, manifest {one.manifest.sha256[:12]})"
        found[one.path] = (*found.get(one.path, ()), contents)
    return found
