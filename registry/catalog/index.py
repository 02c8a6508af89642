"""The index of a registry: every version of every artifact, by digest and size. Pure: bytes in, object out.

An index is immutable: a change makes a new one, with the next number and the digest of its predecessor.
The stored bytes hold their own digest, which tells a damaged index from a changed one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field
from semver import Version

from batteries import short_repr
from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import Count, Sha256
from batteries.errors import ConflictError, InputError, IntegrityError, NotFoundError, PolicyError, UnknownKeyError
from batteries.io.canonical_json import load_document, sha256
from batteries.lookup import Lookup
from batteries.text import did_you_mean
from composer.artifact.form import ArtifactForm
from registry.catalog import merging
from registry.catalog.attestation import Protocol
from registry.catalog.kinds import CELL, KINDS, kind_of_path, with_tables
from registry.catalog.reference import Reference, is_version
from registry.catalog.release import RELEASES, AnyRelease, Attested, CellPath, ExactVersion, Release, Tables, names
from registry.catalog.version_ranges import Range

MAX_INDEX = 64 * 2**20
MAX_REASON = 2000  # characters
TABLES = tuple(kind.plural for kind in KINDS.values())

Some = TypeVar("Some")


def _some_version(table: dict[str, dict[str, Some]]) -> dict[str, dict[str, Some]]:
    empty = [path for path, releases in table.items() if not releases]
    if empty:
        raise ValueError(f"name without a version: {', '.join(empty[:5])}")
    return table


def _table(form: ArtifactForm[Any]) -> Any:
    """Return the annotation and the default of a kind's table."""
    path, release = Annotated[str, names(form.kind)], RELEASES[form.kind.name]
    table = dict[path, dict[ExactVersion, release]]  # type: ignore[valid-type]  # made while the program runs
    return Annotated[table, AfterValidator(_some_version)], Field(default_factory=dict)


@with_tables(_table)
class Index(Tables, Lookup[Mapping[str, AnyRelease]]):
    """A registry's table of contents: a mapping from ``band/name`` to its releases by version.

    Each kind other than cells has one more table, keyed by path and version.

    Attributes:
        number: Number of changes so far; 0 for a registry that does not exist yet.
        previous: SHA-256 of the previous index's bytes; None for the first.
        cells: Releases of cells, by ``band/name`` and version.
        attestations: Current attestations, by the cell's digest and the protocol.

    >>> import registry
    >>> store = registry.open_store()
    >>> index = registry.Index.from_bytes(store.read_index(), where=store.url)
    >>> index.versions("high/freckles-64"), index.newest("high/freckles-64")
    (['1.0.0', '1.1.0', '2.0.0'], '2.0.0')
    """

    number: Count = 0
    previous: Sha256 | None = None
    cells: Annotated[dict[CellPath, dict[ExactVersion, Release]], AfterValidator(_some_version)] = Field(default_factory=dict)
    attestations: dict[Sha256, dict[Protocol, Attested]] = Field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Index:
        """Read an index strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
            IntegrityError: the index does not match its own digest (``INDEX_DIGEST``).
        """
        sealed = load_document(SealedIndex, data, where=where, limit=MAX_INDEX)
        index = cls(**{name: getattr(sealed, name) for name in cls.model_fields})
        found = sha256(index.to_bytes())
        if found != sealed.sha256:
            raise IntegrityError(
                "index digest mismatch",
                code="INDEX_DIGEST",
                expected=sealed.sha256,
                found=found,
                where=where,
                remedy="The index is damaged: restore it from a copy.",
            )
        return index

    def sealed(self) -> bytes:
        """Return the bytes to store: this index with its own digest.

        Raises:
            PolicyError: larger than a reader accepts (``INDEX_FULL``).
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        data = SealedIndex(**fields, sha256=sha256(self.to_bytes())).to_bytes()
        if len(data) > MAX_INDEX:
            raise PolicyError("index too large", code="INDEX_FULL", expected=f"at most {MAX_INDEX} bytes", found=len(data))
        return data

    def __getitem__(self, path: str) -> Mapping[str, AnyRelease]:
        if path not in self:
            raise self._no_path(str(path))
        return self.releases(path)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and bool(self.releases(path))

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # pydantic's has fields
        return (path for name in TABLES for path in sorted(self.table(name)))

    def __repr__(self) -> str:
        kinds = (
            short_repr.counted(len(self.table(k.plural)), k.name, k.plural) for k in KINDS.values() if self.table(k.plural)
        )
        return short_repr.headed(self, f"number {self.number}", *kinds)

    def everything(self) -> Iterator[tuple[str, str, AnyRelease]]:
        """Yield path, version and release of everything published: cells first, sorted by path."""
        for name in TABLES:
            for path, releases in sorted(self.table(name).items()):
                for version, release in sorted(releases.items()):
                    yield path, version, release

    def releases(self, path: str) -> Mapping[str, AnyRelease]:
        """Return the releases of ``band/name``, ``model/name`` and so on, by version; empty if the path is unknown."""
        table: Mapping[str, Mapping[str, AnyRelease]] = self.table(_kind_of(path).plural)
        return table.get(path, {})

    def versions(self, path: str) -> list[str]:
        """Return the versions of ``band/name``, ``model/name`` and so on, oldest first.

        Raises:
            NotFoundError: no such cell (``NO_CELL``), model (``NO_MODEL``), and so on by kind, with the nearest names.
        """
        releases = self.releases(path)
        if not releases:
            raise self._no_path(path)
        return sorted(releases, key=lambda version: (Version.parse(version), version))

    def newest(self, path: str, within: Range | None = None) -> str | None:
        """Return the newest version of a path, within a range if given; None if there is none.

        Yanked versions are left out, and prereleases too unless the range names one of the same three numbers.
        """
        releases = self.releases(path)
        for version in reversed(self.versions(path)):
            allowed = Version.parse(version).prerelease is None if within is None else within.allows(version)
            if allowed and releases[version].yanked is None:
                return version
        return None

    def resolve(self, reference: Reference) -> tuple[str, AnyRelease]:
        """Return the version and the release that a reference means.

        An explicit version or digest is found even if it is a prerelease or yanked.

        Raises:
            NotFoundError: as :meth:`versions`, or no such version (``NO_VERSION``).
        """
        known = self.versions(reference.path)
        releases = self.releases(reference.path)
        version: str | None
        if reference.version is not None:
            version = reference.version if reference.version in releases else None
        elif reference.digest is not None:
            version = next((v for v in reversed(known) if releases[v].blob.sha256 == reference.digest), None)
        else:
            version = self.newest(reference.path, reference.range)
        if version is None:
            raise _no_version(reference, known)
        return version, releases[version]

    def with_release(self, path: str, version: str, release: AnyRelease) -> Index:
        """Return an index with one more version; this one if it already has it.

        Raises:
            ConflictError: version already published with other content (``VERSION_EXISTS``).
        """
        present = self.releases(path).get(version)
        if present is None:
            return self._with(path, version, release)
        merging.refuse_other(present, release, f"{path}@{version}")
        return self

    def with_attestation(self, cell: str, protocol: str, attested: Attested) -> Index:
        """Return an index with this attestation as the current one of a cell and a protocol; this one if it already is.

        Its revision is one more than that of the attestation that it replaces.
        """
        known = self.attestations.get(cell, {})
        present = known.get(protocol)
        current = attested.replacing(present)
        if current is present:
            return self
        return self._next(attestations={**self.attestations, cell: {**known, protocol: current}})

    def with_all(self, other: Index) -> Index:
        """Return an index that adds every release, yank and attestation of another; this one if it has them all.

        Of two attestations by one protocol about one cell, the one of the higher revision is kept; of the same revision, this
        index's own.

        Raises:
            ConflictError: a version is in both, with other content (``VERSION_EXISTS``).
        """
        tables = {name: merging.releases(self.table(name), other.table(name)) for name in TABLES}
        attestations = merging.attestations(self.attestations, other.attestations)
        if attestations == self.attestations and all(table == self.table(name) for name, table in tables.items()):
            return self
        return self._next(**tables, attestations=attestations)

    def refreshed(self) -> Index:
        """Return the next index, with the same contents: for a new signature."""
        return self._next()

    def with_yank(self, path: str, version: str, reason: str) -> Index:
        """Return an index with a version yanked; this one if it was already yanked for that reason.

        Nothing is deleted: a yanked version can still be fetched by its exact version or from a lock.

        Args:
            path: ``band/name``, ``model/name`` and so on.
            version: Exact version.
            reason: Reason shown to users, in one line.

        Raises:
            InputError: empty reason, or not one printable line (``REASON``).
            NotFoundError: as :meth:`resolve`.
            ConflictError: version already yanked for another reason (``YANKED``).
        """
        if not reason.strip() or not reason.isprintable() or len(reason) > MAX_REASON:
            expected = f"one line of at most {MAX_REASON} characters"
            raise InputError("invalid reason", code="REASON", expected=expected, found=repr(reason[:80]))
        known = self.versions(path)
        if version not in known:
            raise _no_version(f"{path}@{version}", known)
        release = self.releases(path)[version]
        if release.yanked == reason:
            return self
        if release.yanked is not None:
            raise ConflictError(
                "version already yanked for another reason",
                code="YANKED",
                expected=repr(release.yanked),
                found=repr(reason),
                where=f"{path}@{version}",
                remedy="A version can be yanked only once.",
            )
        return self._with(path, version, release.model_copy(update={"yanked": reason}))

    def _no_path(self, path: str) -> UnknownKeyError:
        kind = _kind_of(path)
        how = "batteries list" if kind is CELL else f"batteries list --{kind.plural}"
        remedy = did_you_mean(path, self.table(kind.plural), f"`{how}` lists the available {kind.plural}.")
        return UnknownKeyError(f"no such {kind.name}", code=f"NO_{kind.name.upper()}", found=path, remedy=remedy)

    def _with(self, path: str, version: str, release: AnyRelease) -> Index:
        table = _kind_of(path).plural
        return self._next(**{table: {**self.table(table), path: {**self.releases(path), version: release}}})

    def _next(self, **changes: object) -> Index:
        previous = sha256(self.sealed()) if self.number else None
        fields = {name: getattr(self, name) for name in type(self).model_fields} | changes
        return Index.model_validate(
            {**fields, "schema_version": self.schema_for(fields), "number": self.number + 1, "previous": previous}
        )


class SealedIndex(Index):
    """An index as stored: with the SHA-256 of its canonical bytes without this field."""

    sha256: Sha256


def _kind_of(path: str) -> ArtifactKind:
    return kind_of_path(path) or CELL


def _no_version(wanted: object, known: list[str]) -> NotFoundError:
    listed = "Name one of these; prereleases and yanked versions are never chosen automatically."
    version = str(wanted).partition("@")[2]
    return NotFoundError(
        "no such version",
        code="NO_VERSION",
        expected=f"one of {', '.join(known)}",
        found=wanted,
        remedy=did_you_mean(version, known, listed) if is_version(version) else listed,
    )
