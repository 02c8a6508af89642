"""A registry as of one reading of its index, and the checks on what the index promises. The checks are pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batteries.cell.manifest import Manifest
from batteries.errors import IntegrityError
from batteries.io import short_repr
from batteries.io.verified import Verified
from composer.artifact.kinds import FORMS
from composer.artifact.manifest import PackedManifest
from registry.catalog import store_keys
from registry.catalog.attestation import Attestation
from registry.catalog.index import Index
from registry.catalog.reference import NamePattern, Reference
from registry.catalog.release import AnyRelease, AnySummary, Attested, PackedRelease, Pin, Release, Summary
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.cached import CachedStore, offline
from registry.stores.memory import MemoryStore
from registry.stores.rollback_guard import Memory
from registry.stores.settings import Mode
from registry.stores.store import INDEX, Store, no_index
from registry.stores.verified_read import read_pinned


@dataclass(frozen=True)
class Snapshot:
    """A store with its index, read once.

    Attributes:
        store: Where the bytes are.
        index: What there is.
        fetched: When the index was read, in seconds since 1970; None where that was just now.
    """

    store: Store
    index: Index
    fetched: float | None = None

    @property
    def age(self) -> float:
        """Seconds since the index was fetched; 0 where it was fetched for this."""
        return 0.0 if self.fetched is None else max(0.0, time.time() - self.fetched)

    @classmethod
    def take(cls, store: Store) -> Snapshot:
        """Read the index of a store, and hold it against the one that was read last.

        Raises:
            NotFoundError: it has none (``NO_INDEX``).
            FormatError: not an index.
            IntegrityError: a damaged one, or one that goes back.
        """
        data = store.read_index()
        if data is None:
            raise no_index(store.url)
        index = Index.from_bytes(data, where=f"{INDEX} of {store.url}")
        if not _exempt(store):
            Memory(Cache()).accept(store, data, index)
        return cls(store, index)

    def find(self, reference: Reference) -> Located:
        """What a reference means here.

        Raises:
            NotFoundError: no such artifact or version.
        """
        version, release = self.index.resolve(reference)
        return Located(self, reference.at(version), release)


@dataclass(frozen=True)
class Located:
    """A reference that was found.

    Attributes:
        snapshot: In which registry.
        reference: The artifact at its exact version.
        release: What the index promises of it.
    """

    snapshot: Snapshot
    reference: Reference
    release: AnyRelease

    def __repr__(self) -> str:
        verdicts = sorted({attested.verdict for attested in self.attestations.values()})
        yanked = [] if self.release.yanked is None else ["yanked"]
        return short_repr.headed(self, str(self.reference), *yanked, *self.release.summary.words, *verdicts)

    @property
    def cell_release(self) -> Release:
        """The release of a cell."""
        assert isinstance(self.release, Release), "an index keeps kinds apart"
        return self.release

    @property
    def packed_release(self) -> PackedRelease:
        """The release of an artifact of another kind."""
        assert isinstance(self.release, PackedRelease), "an index keeps kinds apart"
        return self.release

    @property
    def version(self) -> str:
        """The exact version."""
        assert self.reference.version is not None
        return self.reference.version

    @property
    def manifest_key(self) -> str:
        """Where the manifest is."""
        return store_keys.manifest(self.reference.path, self.version)

    @property
    def blob_key(self) -> str:
        """Where the file is."""
        return store_keys.blob(self.release.blob.sha256)

    @property
    def attestations(self) -> dict[str, Attested]:
        """The current attestations of this cell, by protocol."""
        return self.snapshot.index.attestations.get(self.release.blob.sha256, {})

    def manifest(self, cache: Cache | None = None) -> Manifest:
        """Read and check the manifest of a cell.

        Args:
            cache: May have it; left out, it is read where it is published.

        Raises:
            IntegrityError: not the one that the index promises.
        """
        release = self.cell_release
        found, where = self._manifest_bytes(cache)
        return check_manifest(found, self.reference, release.blob, summary=release.summary, where=where)

    def packed_manifest(self, cache: Cache | None = None) -> PackedManifest:
        """Read and check the manifest of an artifact of another kind, as :meth:`manifest`.

        Raises:
            IntegrityError: not the one that the index promises.
        """
        release = self.packed_release
        found, where = self._manifest_bytes(cache)
        return check_packed_manifest(found, self.reference, release.blob, summary=release.summary, where=where)

    def _manifest_bytes(self, cache: Cache | None) -> tuple[Verified[bytes], str]:
        store = self.snapshot.store
        read = read_pinned if cache is None else cache.fetch
        return read(store, self.manifest_key, self.release.manifest), f"{self.manifest_key} of {store.url}"


def open_snapshot(registry: str | Path | Store | None = None, *, mode: Mode | None = None) -> Snapshot:
    """Index of a registry that may be given as a store, an address, or not at all.

    Args:
        registry: Which.
        mode: Whether the network may and must be asked; ``BATTERIES_MODE`` or ``online`` where left out. A folder is read
            whatever the mode.

    Raises:
        TransportError: offline, and this registry's index was never read here (``OFFLINE``).
        BatteriesError: as :func:`registry.open_store` and :meth:`Snapshot.take`.
    """
    if registry is None or isinstance(registry, str | Path):
        return _open_address(*settings.address(registry), mode=settings.mode(mode))
    return Snapshot.take(registry)


def locate(
    references: Iterable[Reference], registry: str | Path | Store | None = None, *, mode: Mode | None = None
) -> list[Located]:
    """Find every reference, each in the registry that it names; every index is read once.

    It is not asked for anew where only exact versions are wanted that a remote registry was seen to have: they never change.

    Raises:
        NotFoundError: no such cell, version or registry.
    """
    opened = snapshots_of(references := list(references), registry, mode=mode)
    return [opened[reference.registry].find(reference) for reference in references]


def snapshots_of(
    references: Iterable[Reference | NamePattern], registry: str | Path | Store | None = None, *, mode: Mode | None = None
) -> dict[str | None, Snapshot]:
    """Open the registries that references and patterns name, each once, by that name; None is the registry given.

    Raises:
        BatteriesError: as :func:`open_snapshot`.
    """
    wanted: dict[str | None, list[Reference | NamePattern]] = {}
    for reference in references:
        wanted.setdefault(reference.registry, []).append(reference)
    opened: dict[str | None, Snapshot] = {}
    for name, some in wanted.items():
        if name is not None:
            opened[name] = _open_address(*settings.address_of(name), mode=settings.mode(mode), wanted=some)
        elif registry is None or isinstance(registry, str | Path):
            opened[name] = _open_address(*settings.address(registry), mode=settings.mode(mode), wanted=some)
        else:
            opened[name] = Snapshot.take(registry)
    return opened


def open_bytes(registry: str | Path, mode: Mode | None = None) -> Store:
    """Store whose index nobody asks for: what is wanted of it is known by digest.

    Raises:
        BatteriesError: as :func:`registry.open_store`.
    """
    address, base = settings.address(registry)
    if settings.mode(mode) == "offline" and settings.is_remote(address):
        return CachedStore(address, None)
    return settings.open_at(address, base)


def _open_address(address: str, base: Path, *, mode: Mode, wanted: Sequence[Reference | NamePattern] = ()) -> Snapshot:
    seen = _seen(address, base, mode) if settings.is_remote(address) else None
    if seen is not None and (mode != "online" or (wanted and all(_is_fixed(one, seen.index) for one in wanted))):
        return seen
    if mode == "offline" and settings.is_remote(address):
        raise offline(f"the index of {address}")
    return Snapshot.take(settings.open_at(address, base))


def _seen(address: str, base: Path, mode: Mode) -> Snapshot | None:
    """Remote registry as it was read last; None where it never was."""
    memory = Memory(Cache())
    note = memory.note(address)
    index = None if note is None else memory.index(note)
    if note is None or index is None:
        return None
    connect = None if mode == "offline" else partial(settings.open_at, address, base)
    return Snapshot(CachedStore(address, connect), index, fetched=note.fetched)


def _is_fixed(reference: Reference | NamePattern, index: Index) -> bool:
    """Whether a reference means one content for ever, and this index has it; a pattern never does."""
    if isinstance(reference, NamePattern):
        return False
    releases = index.releases(reference.path)
    return reference.version in releases or any(one.blob.sha256 == reference.digest for one in releases.values())


def _exempt(store: Store) -> bool:
    """Embedded registry may go back with its checkout; a store in memory has no address to remember."""
    return isinstance(store, MemoryStore) or store.url in (settings.EMBEDDED, str(settings.embedded()))


def check_manifest(
    found: Verified[bytes], reference: Reference, blob: Pin, *, summary: Summary | None, where: object
) -> Manifest:
    """Manifest in some bytes, if it is the one that is promised.

    Args:
        found: The bytes.
        reference: The cell at its exact version.
        blob: Pin of the weights.
        summary: What an index says of the cell; None where there was no index.
        where: What the bytes are, for the message.

    Raises:
        IntegrityError: of another cell, of other weights, or with other figures than the index shows.
        FormatError: not a manifest.
    """
    manifest = Manifest.from_bytes(found.data, where=where)
    _refuse_another(manifest, reference, blob, where)
    if summary is not None and Summary.of(manifest) != summary:
        raise IntegrityError("other figures than the index shows", code="WRONG_SUMMARY", where=where)
    return manifest


def check_packed_manifest(
    found: Verified[bytes], reference: Reference, blob: Pin, *, summary: AnySummary | None, where: object
) -> PackedManifest:
    """The same for the manifest of an artifact of another kind.

    Raises:
        IntegrityError: of others, of another file, or with other figures than the index shows.
        FormatError: not a manifest.
    """
    manifest = FORMS[reference.kind.name].manifest.from_bytes(found.data, where=where)
    _refuse_another(manifest, reference, blob, where)
    if summary is not None and manifest.summary != summary:
        raise IntegrityError("other figures than the index shows", code="WRONG_SUMMARY", where=where)
    return manifest


def _refuse_another(manifest: Manifest | PackedManifest, reference: Reference, blob: Pin, where: object) -> None:
    claimed = f"{manifest.path}@{manifest.identity.version}"
    wanted = f"{reference.path}@{reference.version}"
    if claimed != wanted:
        kind = reference.kind.name
        code = f"WRONG_{kind.upper()}"
        raise IntegrityError(f"the manifest of another {kind}", code=code, expected=wanted, found=claimed, where=where)
    if (manifest.file.sha256, manifest.file.size) != (blob.sha256, blob.size):
        raise IntegrityError(
            "the manifest of other weights", code="WRONG_BLOB", expected=blob.sha256, found=manifest.file.sha256, where=where
        )


def check_attestation(found: Verified[bytes], attested: Attested, *, cell: str, protocol: str, where: object) -> Attestation:
    """Attestation in some bytes, if it is the one that the index promises.

    Raises:
        IntegrityError: about another cell, protocol or verdict.
        FormatError: not an attestation.
    """
    attestation = Attestation.from_bytes(found.data, where=where)
    claimed = (attestation.cell, attestation.protocol, attestation.verdict)
    wanted = (cell, protocol, attested.verdict)
    if claimed != wanted:
        raise IntegrityError(
            "another attestation", code="WRONG_ATTESTATION", expected=" ".join(wanted), found=" ".join(claimed), where=where
        )
    return attestation
