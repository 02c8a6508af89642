"""Lock files: published artifacts by digest, so that exactly the locked bytes are pulled, from any registry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import create_model, model_validator
from semver import Version

from batteries import short_repr
from batteries.cell.manifest import Count, Sha256, Text
from batteries.errors import InputError, UnknownKeyError
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import Document, GrownDocument, load_any, sha256
from batteries.lookup import Lookup
from batteries.text import did_you_mean, listed
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
        version: Exact version.
        source: Address of the registry it was found in: a folder, ``embedded``, or ``hf://owner/repo[@revision]``.
        manifest: Pin of the manifest.
        blob: Pin of the weights.
    """

    path: CellPath
    version: ExactVersion
    source: Text
    manifest: ManifestPin
    blob: CellPin

    @property
    def reference(self) -> Reference:
        """Reference to the exact version."""
        return Reference.parse(f"{self.path}@{self.version}")


def _locked(form: ArtifactForm[Any]) -> type[LockedCell]:
    """Create the class of the rows of a kind."""
    kind = form.kind
    fields: dict[str, Any] = {
        "path": (Annotated[str, names(kind)], ...),
        "blob": (Annotated[Pin, at_most(kind.limit)], ...),
    }
    words = f"One artifact of its kind, {kind.words}, by digest; its ``path`` is ``{kind.name}/name``."
    return create_model(f"Locked{kind.name.capitalize()}", __base__=LockedCell, __module__=__name__, __doc__=words, **fields)


LOCKED: dict[str, type[LockedCell]] = {CELL.name: LockedCell, **{name: _locked(form) for name, form in FORMS.items()}}


class LockedIndex(GrownDocument):
    """The index in which references were resolved: the registry must not be older, and be signed by the same keys.

    Attributes:
        source: Address of the registry.
        number: Number of the index.
        sha256: SHA-256 of the index's bytes.
        signed_by: Ids of the keys that signed it, sorted; empty if none did.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("signed_by",)

    source: Text
    number: Count
    sha256: Sha256
    signed_by: tuple[Sha256, ...] = ()


def locked_rows(form: ArtifactForm[Any]) -> Any:
    """Return the type of a kind's table."""
    row = LOCKED[form.kind.name]
    return tuple[row, ...]  # type: ignore[valid-type]  # made while the program runs


@with_tables(lambda form: (locked_rows(form), ()))
class Lock(Tables, Lookup[LockedCell]):
    """Digests of the artifacts that references were resolved to, with one more table for each kind other than cells.

    It is a mapping by ``band/name@version``; a name without a version is found too, at the newest one that is locked.

    Attributes:
        cells: Locked cells, unique and sorted by path and version.
        indexes: Indexes in which they were resolved, sorted by source.

    >>> import pathlib
    >>> import registry
    >>> from registry.stores.snapshot import locate
    >>> lock = registry.Lock.of(locate([registry.Reference.parse("low/fresnel-64")]))
    >>> lock.write(pathlib.Path("cells.lock"))
    >>> [row.path for row in registry.Lock.read(pathlib.Path("cells.lock")).cells]
    ['low/fresnel-64']
    """

    cells: tuple[LockedCell, ...]
    indexes: tuple[LockedIndex, ...]

    @model_validator(mode="after")
    def _sorted_once(self) -> Self:
        if not self.everything:
            raise ValueError("empty lock")
        for name in TABLES:
            rows = [(one.path, one.version) for one in self.table(name)]
            if rows != sorted(set(rows)):
                raise ValueError("names out of order or repeated")
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
        """All rows: the cells, then the other kinds in turn."""
        return tuple(one for name in TABLES for one in self.table(name))

    @classmethod
    def of(cls, found: Sequence[Located]) -> Lock:
        """Create the lock of located references.

        Raises:
            InputError: one version with different bytes in two registries (``AMBIGUOUS_SOURCE``).
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
            signers = snapshot.signature.signers
            indexes[source] = LockedIndex(source=source, number=number, sha256=digest, signed_by=signers)
        everything = [locked[name] for name in sorted(locked)]
        chosen = {kind.plural: tuple(one for one in everything if type(one) is LOCKED[kind.name]) for kind in KINDS.values()}
        listed = tuple(indexes[source] for source in sorted(indexes))
        return cls.model_validate({**chosen, "schema_version": cls.schema_for(chosen), "indexes": listed})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Lock:
        """Read a lock strictly, except for its layout: lines as :meth:`to_bytes` writes them, or one line as in older versions.

        Raises:
            FormatError: not JSON of this schema, too large, of a newer major schema, or with merge conflict markers
                (``MERGE_CONFLICT``).
        """
        return load_any(cls, data, where=where, limit=MAX_LOCK)

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read a lock file. Sources relative to the file become absolute.

        Raises:
            NotFoundError: no such file.
            FormatError: as :meth:`from_bytes`.
        """
        found = cls.from_bytes(atomic_files.read(path, limit=MAX_LOCK, links=True), where=path)
        folder = Path(os.path.realpath(path)).parent  # of the file itself, if the path is a link
        return found._with_sources(lambda source: lock_paths.absolute(source, folder))

    def write(self, path: Path) -> None:
        """Write a lock file atomically. Sources in folders near the file become relative to it.

        Raises:
            StoreError: no space or no permission.
        """
        with atomic_files.typed(path, writing=True):
            folder = Path(os.path.realpath(path.parent))
        atomic_files.replace(path, self._with_sources(lambda source: lock_paths.portable(source, folder)).to_bytes())

    def to_bytes(self) -> bytes:
        """Return the lock as JSON with sorted keys and a line for each value, so that locks can be compared by line."""
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
    """An artifact that differs between two locks, with its versions and digests in both.

    Attributes:
        path: ``band/name``, ``model/name`` and so on.
        kind: Kind of change.
        before: Versions in the first lock, with the start of each digest; empty if there are none.
        after: Versions in the second lock, in the same form.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    before: tuple[str, ...]
    after: tuple[str, ...]

    @classmethod
    def of(cls, path: str, before: tuple[str, ...], after: tuple[str, ...]) -> ChangedCell:
        """Create the change of an artifact, with its kind."""
        return cls(path=path, kind="added" if not before else "removed" if not after else "changed", before=before, after=after)


def diff(first: Lock, second: Lock) -> list[ChangedCell]:
    """Return the changes from one lock to another, sorted by path. Sources are not compared."""
    before, after = _by_path(first), _by_path(second)
    changes = (ChangedCell.of(path, before.get(path, ()), after.get(path, ())) for path in sorted({*before, *after}))
    return [change for change in changes if change.before != change.after]


def _by_path(lock: Lock) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one in lock.everything:
        contents = f"{one.version} (weights {one.blob.sha256[:12]}, manifest {one.manifest.sha256[:12]})"
        found[one.path] = (*found.get(one.path, ()), contents)
    return found
