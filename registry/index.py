"""The index of a registry: every cell, every version, by digest and size. Pure: bytes in, object out.

An index is never edited: a change makes another one, which carries the next number and the digest of the one before.
Its bytes hold their own digest, so a damaged index is told from a changed one.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator
from semver import Version

from batteries.canonical import Document, load_document, sha256
from batteries.errors import ConflictError, InputError, IntegrityError, NotFoundError, PolicyError
from batteries.manifest import Count, Sha256
from registry.attestation import Protocol
from registry.nearest import did_you_mean
from registry.ranges import Range
from registry.reference import Reference, is_version
from registry.release import Attested, CellPath, ExactVersion, Release

MAX_INDEX = 64 * 2**20
MAX_REASON = 2000  # characters


class Index(Document):
    """A registry's table of contents.

    Attributes:
        number: Counts up with every change; 0 is the index of a registry that does not exist yet.
        previous: SHA-256 of the bytes of the index before; None for the first.
        cells: Releases by ``band/name`` and version.
        attestations: The current one by the cell's digest and the protocol.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    number: Count = 0
    previous: Sha256 | None = None
    cells: dict[CellPath, dict[ExactVersion, Release]] = Field(default_factory=dict)
    attestations: dict[Sha256, dict[Protocol, Attested]] = Field(default_factory=dict)

    @field_validator("cells")
    @classmethod
    def _some_version(cls, cells: dict[str, dict[str, Release]]) -> dict[str, dict[str, Release]]:
        empty = [path for path, releases in cells.items() if not releases]
        if empty:
            raise ValueError(f"a cell without a version: {', '.join(empty[:5])}")
        return cells

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Index:
        """Read an index strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
            IntegrityError: not the index that its own digest names (``INDEX_DIGEST``).
        """
        sealed = load_document(SealedIndex, data, where=where, limit=MAX_INDEX)
        index = cls(**{name: getattr(sealed, name) for name in cls.model_fields})
        found = sha256(index.to_bytes())
        if found != sealed.sha256:
            raise IntegrityError(
                "an index that was changed without its digest",
                code="INDEX_DIGEST",
                expected=sealed.sha256,
                found=found,
                where=where,
                remedy="The index was damaged; restore it from a copy.",
            )
        return index

    def sealed(self) -> bytes:
        """The bytes to store: this index and its own digest.

        Raises:
            PolicyError: more than a reader accepts (``INDEX_FULL``).
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        data = SealedIndex(**fields, sha256=sha256(self.to_bytes())).to_bytes()
        if len(data) > MAX_INDEX:
            raise PolicyError("an index too large", code="INDEX_FULL", expected=f"at most {MAX_INDEX}", found=len(data))
        return data

    def versions(self, path: str) -> list[str]:
        """The versions of ``band/name``, oldest first.

        Raises:
            NotFoundError: no such cell (``NO_CELL``), with the nearest names.
        """
        if path not in self.cells:
            remedy = did_you_mean(path, self.cells, "`batteries list` shows the cells there are.")
            raise NotFoundError("no such cell", code="NO_CELL", found=path, remedy=remedy)
        return sorted(self.cells[path], key=lambda version: (Version.parse(version), version))

    def newest(self, path: str, within: Range | None = None) -> str | None:
        """The version that ``band/name``, alone or with a range, means; None where there is none.

        It is the newest that is in the range and not yanked. A prerelease is meant only by a range that names one of the same
        three numbers.
        """
        releases = self.cells.get(path, {})
        for version in reversed(self.versions(path)):
            allowed = Version.parse(version).prerelease is None if within is None else within.allows(version)
            if allowed and releases[version].yanked is None:
                return version
        return None

    def resolve(self, reference: Reference) -> tuple[str, Release]:
        """The version and the release that a reference means.

        A version or a digest that is named is found even where it is a prerelease or was yanked.

        Raises:
            NotFoundError: no such cell (``NO_CELL``) or no such version of it (``NO_VERSION``).
        """
        known = self.versions(reference.path)
        releases = self.cells[reference.path]
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

    def with_release(self, path: str, version: str, release: Release) -> Index:
        """The index with one more version; this one where it is in already.

        Raises:
            ConflictError: the version is published, with other bytes (``VERSION_EXISTS``).
        """
        present = self.cells.get(path, {}).get(version)
        if present is None:
            return self._next(cells={**self.cells, path: {**self.cells.get(path, {}), version: release}})
        _refuse_other(present, release, f"{path}@{version}")
        return self

    def with_attestation(self, cell: str, protocol: str, attested: Attested) -> Index:
        """The index with this attestation as the current one of a cell and a protocol; this one where it is so already."""
        known = self.attestations.get(cell, {})
        if known.get(protocol) == attested:
            return self
        return self._next(attestations={**self.attestations, cell: {**known, protocol: attested}})

    def with_all(self, other: Index) -> Index:
        """The index with every release, yank and attestation of another; this one where it has them all.

        Raises:
            ConflictError: a version is in both, with other bytes (``VERSION_EXISTS``).
        """
        cells = {path: dict(releases) for path, releases in self.cells.items()}
        for path, releases in other.cells.items():
            mine = cells.setdefault(path, {})
            for version, release in releases.items():
                present = mine.get(version)
                if present is not None:
                    _refuse_other(present, release, f"{path}@{version}")
                if present is None or (present.yanked is None and release.yanked is not None):
                    mine[version] = release
        attestations = {cell: dict(known) for cell, known in self.attestations.items()}
        for cell, known in other.attestations.items():
            attestations[cell] = {**attestations.get(cell, {}), **known}
        if (cells, attestations) == (self.cells, self.attestations):
            return self
        return self._next(cells=cells, attestations=attestations)

    def with_yank(self, path: str, version: str, reason: str) -> Index:
        """The index with a version that should not be used any more; this one where it was yanked for that reason already.

        Nothing is deleted: whoever names the version, or has it in a lock, still gets it.

        Args:
            path: ``band/name``.
            version: Exact.
            reason: For whoever meets it: one line.

        Raises:
            InputError: no reason, or one that is no line of text (``REASON``).
            NotFoundError: no such cell (``NO_CELL``) or version (``NO_VERSION``).
            ConflictError: it was yanked, for another reason (``YANKED``).
        """
        if not reason.strip() or not reason.isprintable() or len(reason) > MAX_REASON:
            expected = f"one line of at most {MAX_REASON} characters"
            raise InputError("not a reason", code="REASON", expected=expected, found=repr(reason[:80]))
        known = self.versions(path)
        if version not in known:
            raise _no_version(f"{path}@{version}", known)
        release = self.cells[path][version]
        if release.yanked == reason:
            return self
        if release.yanked is not None:
            raise ConflictError(
                "this version was yanked, for another reason",
                code="YANKED",
                expected=repr(release.yanked),
                found=repr(reason),
                where=f"{path}@{version}",
                remedy="A version is yanked once.",
            )
        yanked = release.model_copy(update={"yanked": reason})
        return self._next(cells={**self.cells, path: {**self.cells[path], version: yanked}})

    def _next(self, **changes: object) -> Index:
        previous = sha256(self.sealed()) if self.number else None
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Index.model_validate({**fields, **changes, "number": self.number + 1, "previous": previous})


class SealedIndex(Index):
    """An index as it is stored: with the SHA-256 of the canonical bytes of the index itself."""

    sha256: Sha256


def _refuse_other(present: Release, release: Release, where: str) -> None:
    if (present.manifest, present.blob) != (release.manifest, release.blob):
        raise ConflictError(
            "this version is published, with other bytes",
            code="VERSION_EXISTS",
            expected=f"manifest {present.manifest.sha256}",
            found=f"manifest {release.manifest.sha256}",
            where=where,
            remedy="A published version never changes: publish under another version.",
        )


def _no_version(wanted: object, known: list[str]) -> NotFoundError:
    listed = "Name one of these; prereleases and yanked versions are never chosen for you."
    version = str(wanted).partition("@")[2]
    return NotFoundError(
        "no such version",
        code="NO_VERSION",
        expected=f"one of {', '.join(known)}",
        found=wanted,
        remedy=did_you_mean(version, known, listed) if is_version(version) else listed,
    )
