"""A registry at one reading of its index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batteries import short_repr
from batteries.cell.manifest import Manifest
from batteries.errors import NotFoundError
from batteries.io.verified import Verified
from composer.artifact.manifest import PackedManifest
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.pinned_documents import check_manifest, check_packed_manifest
from registry.catalog.reference import NamePattern, Reference
from registry.catalog.release import AnyRelease, Attested, PackedRelease, Pin, Release
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.cached import CachedStore, offline
from registry.stores.rollback_guard import Memory
from registry.stores.settings import Mode
from registry.stores.signed.reading import Reading, recall, settled
from registry.stores.store import INDEX, Store, no_index
from registry.stores.verified_read import read_pinned
from registry.trust import library
from registry.trust.release_signatures import check_release
from registry.trust.signature import NOT_CHECKED, NOT_SIGNED, Signature
from registry.trust.signed_documents import MAX_SIGNED


@dataclass(frozen=True)
class Snapshot:
    """A store with its index, read once.

    Attributes:
        store: Store of the registry.
        index: Index that was read.
        fetched: Time of reading, in seconds since 1970; None if the index was just read.
        signature: Signature of the index.
    """

    store: Store
    index: Index
    fetched: float | None = None
    signature: Signature = NOT_SIGNED

    @property
    def age(self) -> float:
        """Seconds since the index was fetched; 0 if it was just read."""
        return 0.0 if self.fetched is None else max(0.0, time.time() - self.fetched)

    @classmethod
    def take(cls, store: Store, *, pins: Iterable[str] = ()) -> Snapshot:
        """Read the index of a store, and check its signature, and it against the last one read.

        One whose signers are refused is read again if it has changed meanwhile: a change of keys may have overtaken it.

        Args:
            store: Store to read.
            pins: Ids of keys of a lock, one of which must lead to those that signed, if the configuration file pins none.

        Raises:
            NotFoundError: no index (``NO_INDEX``).
            FormatError: invalid index or signature.
            IntegrityError: damaged index, signature that is missing or not by a trusted key, or a rollback.
            PolicyError: pinned keys, and a signature that has expired or cannot be checked.
        """
        pins = tuple(pins)

        def once() -> tuple[Pin, Callable[[], Snapshot]]:
            reading = Reading.begin(store)
            data = store.read_index()
            if data is None:
                raise no_index(store.url)
            index = Index.from_bytes(data, where=f"{INDEX} of {store.url}")
            return Pin.of(data), lambda: cls(store, index, signature=reading.accept(data, index, pins))

        return settled(store, once)

    def find(self, reference: Reference) -> Located:
        """Locate a reference in this registry.

        Raises:
            NotFoundError: no such artifact or version.
        """
        version, release = self.index.resolve(reference)
        return Located(self, reference.at(version), release)


@dataclass(frozen=True)
class Located:
    """A reference that was found.

    Attributes:
        snapshot: Registry that has the artifact.
        reference: Reference to the exact version.
        release: Release of that version in the index.

    >>> import registry
    >>> registry.find("low/fresnel-64", registry="embedded")
    [Located(low/fresnel-64@3.2.0, 250,211 parameters, axial CV 0.200, MSE 0.0056, viable)]
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
        """Release of a cell."""
        assert isinstance(self.release, Release), "an index keeps kinds apart"
        return self.release

    @property
    def packed_release(self) -> PackedRelease:
        """Release of an artifact of another kind."""
        assert isinstance(self.release, PackedRelease), "an index keeps kinds apart"
        return self.release

    @property
    def version(self) -> str:
        """Exact version."""
        assert self.reference.version is not None
        return self.reference.version

    @property
    def manifest_key(self) -> str:
        """Key of the manifest."""
        return store_keys.manifest(self.reference.path, self.version)

    @property
    def blob_key(self) -> str:
        """Key of the file."""
        return store_keys.blob(self.release.blob.sha256)

    @property
    def attestations(self) -> dict[str, Attested]:
        """Current attestations of this cell, by protocol."""
        return self.snapshot.index.attestations.get(self.release.blob.sha256, {})

    @property
    def signature_key(self) -> str:
        """Key of the signature of the release, which need not exist."""
        return store_keys.signature(self.release.manifest.sha256)

    def signature(self) -> Signature:
        """Read and check the signature of the release, by its publisher.

        Raises:
            IntegrityError: signature of another release, or false (``BAD_SIGNATURE``).
            FormatError: invalid signature.
        """
        try:
            data = self.snapshot.store.read(self.signature_key, limit=MAX_SIGNED)
        except NotFoundError:
            return NOT_SIGNED
        return self.check_signature(data)

    def check_signature(self, data: bytes) -> Signature:
        """Check the bytes of a signature of the release, as :meth:`signature`."""
        if not library.is_there():
            return NOT_CHECKED
        pins = {self.manifest_key: self.release.manifest, self.blob_key: self.release.blob}
        return check_release(pins, data, where=f"{self.signature_key} of {self.snapshot.store.url}")

    def manifest(self, cache: Cache | None = None) -> Manifest:
        """Read and check the manifest of a cell.

        Args:
            cache: Cache to read from first; None reads from the registry itself.

        Raises:
            IntegrityError: not the manifest that the index lists.
        """
        release = self.cell_release
        found, where = self._manifest_bytes(cache)
        return check_manifest(found, self.reference, release.blob, summary=release.summary, where=where)

    def packed_manifest(self, cache: Cache | None = None) -> PackedManifest:
        """Read and check the manifest of an artifact of another kind, as :meth:`manifest`.

        Raises:
            IntegrityError: not the manifest that the index lists.
        """
        release = self.packed_release
        found, where = self._manifest_bytes(cache)
        return check_packed_manifest(found, self.reference, release.blob, summary=release.summary, where=where)

    def _manifest_bytes(self, cache: Cache | None) -> tuple[Verified[bytes], str]:
        store = self.snapshot.store
        read = read_pinned if cache is None else cache.fetch
        return read(store, self.manifest_key, self.release.manifest), f"{self.manifest_key} of {store.url}"


def open_snapshot(registry: str | Path | Store | None = None, *, mode: Mode | None = None) -> Snapshot:
    """Read the index of a registry.

    Args:
        registry: Store or address; None means the default registry.
        mode: Network mode; by default ``BATTERIES_MODE`` or ``online``. A folder is read in any mode.

    Raises:
        TransportError: offline, and this registry's index was never read on this machine (``OFFLINE``).
        BatteriesError: as :func:`registry.open_store` and :meth:`Snapshot.take`.
    """
    if registry is None or isinstance(registry, str | Path):
        return _open_address(*settings.address(registry), mode=settings.mode(mode))
    return Snapshot.take(registry)


def locate(
    references: Iterable[Reference], registry: str | Path | Store | None = None, *, mode: Mode | None = None
) -> list[Located]:
    """Locate every reference in the registry that it names, reading each index once.

    A remote index is not read again if only exact versions are wanted that the last one lists: they never change.

    Raises:
        NotFoundError: unknown artifact, version or registry.
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
    """Open a store without reading its index, for files known by digest.

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
    """Return a remote registry as last read; None if it never was."""
    memory = Memory(Cache())
    note = memory.note(address)
    index = None if note is None else memory.index(note)
    if note is None or index is None:
        return None
    connect = None if mode == "offline" else partial(settings.open_at, address, base)
    signature = recall(memory, note, offline=mode == "offline")
    return None if signature is None else Snapshot(CachedStore(address, connect), index, note.fetched, signature)


def _is_fixed(reference: Reference | NamePattern, index: Index) -> bool:
    """Return whether a reference names a version or digest that this index has; a pattern never does."""
    if isinstance(reference, NamePattern):
        return False
    releases = index.releases(reference.path)
    return reference.version in releases or any(one.blob.sha256 == reference.digest for one in releases.values())
