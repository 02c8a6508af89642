"""Contents of a registry for its site: every version of every artifact, with manifests and attestations, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from batteries.cell.cell import Cell
from batteries.cell.manifest import Manifest
from batteries.io.verified import Verified
from composer.artifact.kinds import FORMS
from composer.artifact.manifest import PackedManifest
from registry.catalog import store_keys
from registry.catalog.attestation import Attestation
from registry.catalog.kinds import CELL
from registry.catalog.pinned_documents import check_attestation
from registry.catalog.reference import Reference
from registry.catalog.release import Pin
from registry.site.links import page_of
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.snapshot import Located, Snapshot
from registry.stores.verified_read import read_pinned
from registry.transfer.pull import fetch
from registry.transfer.wanted import Wanted
from registry.transfer.weight_checks import check_weights

TOGETHER = 64  # cells in memory while they are fetched


@dataclass(frozen=True)
class Entry:
    """A version of an artifact.

    Attributes:
        located: Place in the registry.
        newest: True for the version that a list shows: the newest, or the last where all are yanked or prereleases.
    """

    located: Located
    newest: bool

    @property
    def reference(self) -> str:
        """``band/name@version``."""
        return f"{self.path}@{self.version}"

    @property
    def path(self) -> str:
        """``band/name``, ``model/name`` and so on."""
        return self.located.reference.path

    @property
    def version(self) -> str:
        """Exact version."""
        return self.located.version

    @property
    def page(self) -> str:
        """File of the page of this version."""
        return page_of(self.path, self.version)

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return self.located.release.blob.sha256

    @property
    def yanked(self) -> str | None:
        """Reason not to use the version, if it is yanked."""
        return self.located.release.yanked


@dataclass(frozen=True)
class CellEntry(Entry):
    """A version of a cell, with its manifest."""

    manifest: Manifest

    @property
    def group(self) -> tuple[int, int]:
        """V and D: cells of one group can be compared."""
        return self.manifest.spec.V, self.manifest.spec.D


@dataclass(frozen=True)
class PackedEntry(Entry):
    """A version of an artifact of another kind, with its manifest."""

    manifest: PackedManifest

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Name and text of what a list shows of it."""
        form, summary = FORMS[self.located.reference.kind.name], self.located.packed_release.summary
        return [(column.name, column.text(summary)) for column in form.columns]


class Contents:
    """Everything that a registry lists, at one reading of its index.

    Args:
        snapshot: Registry with its index.
        address: Address of the registry in the pages' commands; None for its own.
    """

    def __init__(self, snapshot: Snapshot, address: str | None = None) -> None:
        self.snapshot = snapshot
        self.address = snapshot.store.url if address is None else address
        self._cache = Cache() if settings.is_remote(snapshot.store.url) else None

    @property
    def signed(self) -> str:
        """Signature of the index, in words."""
        return self.snapshot.signature.words

    @cached_property
    def cells(self) -> tuple[CellEntry, ...]:
        """Versions of cells, sorted by path, oldest version first."""
        return tuple(
            CellEntry(found, newest, found.manifest(self._cache))
            for found, newest in self._located()
            if found.reference.kind is CELL
        )

    @cached_property
    def packed(self) -> tuple[PackedEntry, ...]:
        """Versions of artifacts of other kinds, in the same order."""
        return tuple(
            PackedEntry(found, newest, found.packed_manifest(self._cache))
            for found, newest in self._located()
            if found.reference.kind is not CELL
        )

    @cached_property
    def versions(self) -> dict[str, list[Entry]]:
        """Versions of each path, newest first."""
        found: dict[str, list[Entry]] = {}
        for entry in (*self.cells, *self.packed):
            found.setdefault(entry.path, []).insert(0, entry)
        return found

    @cached_property
    def by_digest(self) -> dict[str, CellEntry]:
        """Cells by the digest of their file."""
        return {entry.digest: entry for entry in self.cells}

    @cached_property
    def by_reference(self) -> dict[str, Entry]:
        """Artifacts by ``path@version``."""
        return {entry.reference: entry for entry in (*self.cells, *self.packed)}

    def fetch(self) -> None:
        """Bring the cells of a remote registry into the cache, many at a time; a folder is read as it is.

        Raises:
            BatteriesError: as :func:`registry.pull`.
        """
        if self._cache is None:
            return
        found = (one for one, _ in self._located() if one.reference.kind is CELL)
        missing = [Wanted.of(one) for one in found if not self._cache.has(one.release.blob)]
        for start in range(0, len(missing), TOGETHER):
            fetch(missing[start : start + TOGETHER])

    def cell(self, entry: CellEntry) -> Cell:
        """Read the weights of a cell, and check every byte.

        Raises:
            BatteriesError: as :func:`registry.pull`.
        """
        where = f"{entry.located.blob_key} of {self.snapshot.store.url}"
        cell = Cell.from_bytes(self._read(entry.located.blob_key, entry.located.release.blob), entry.manifest, where=where)
        check_weights(cell.weights, cell.spec, where=where)
        return cell

    def attestations(self, entry: CellEntry) -> list[Attestation]:
        """Read the current attestations of a cell, sorted by protocol.

        Raises:
            BatteriesError: missing, damaged or other bytes than the index lists.
        """
        found = []
        for protocol, attested in sorted(entry.located.attestations.items()):
            key = store_keys.attestation(entry.digest, attested.sha256)
            data, where = self._read(key, attested), f"{key} of {self.snapshot.store.url}"
            found.append(check_attestation(data, attested, cell=entry.digest, protocol=protocol, where=where))
        return found

    def lock(self, entry: PackedEntry) -> Mapping[str, Mapping[str, str]]:
        """Read reference, version and digests of each cell in the file of an artifact, whose every byte is checked.

        Raises:
            BatteriesError: as :func:`registry.pull`.
        """
        form = FORMS[entry.located.reference.kind.name]
        data = self._read(entry.located.blob_key, entry.located.release.blob).data
        opened = form.open(data, where=entry.located.blob_key, seal=entry.manifest.file.seal, cells=False)
        found: Mapping[str, Mapping[str, str]] = opened.document.lock
        return found

    def _located(self) -> Iterator[tuple[Located, bool]]:
        index = self.snapshot.index
        for path in index:
            versions = index.versions(path)
            newest = index.newest(path) or versions[-1]
            for version in versions:
                yield self.snapshot.find(Reference.parse(f"{path}@{version}")), version == newest

    def _read(self, key: str, pin: Pin) -> Verified[bytes]:
        read = read_pinned if self._cache is None else self._cache.fetch
        return read(self.snapshot.store, key, pin)
