"""A registry as of one reading of its index, and the checks on what the index promises. The checks are pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from batteries.errors import FormatError, IntegrityError, NotFoundError
from batteries.manifest import Manifest
from registry import keys
from registry.attestation import Attestation
from registry.config import open_named, open_store
from registry.index import Attested, Index, Pin, Release, Summary
from registry.reference import Reference
from registry.stores import INDEX, Store


@dataclass(frozen=True)
class Snapshot:
    """A store with its index, read once.

    Attributes:
        store: Where the bytes are.
        index: What there is.
    """

    store: Store
    index: Index

    @classmethod
    def take(cls, store: Store) -> Snapshot:
        """Read the index of a store.

        Raises:
            NotFoundError: it has none (``NO_INDEX``).
            FormatError: not an index.
            IntegrityError: a damaged one.
        """
        data = store.read_index()
        if data is None:
            raise NotFoundError(
                "a registry without an index", code="NO_INDEX", expected=INDEX, where=store.url, remedy="Check its address."
            )
        return cls(store, Index.from_bytes(data, where=f"{INDEX} of {store.url}"))

    def find(self, reference: Reference) -> Located:
        """What a reference means here.

        Raises:
            NotFoundError: no such cell or version.
        """
        version, release = self.index.resolve(reference)
        return Located(self, reference.at(version), release)


@dataclass(frozen=True)
class Located:
    """A reference that was found.

    Attributes:
        snapshot: In which registry.
        reference: The cell at its exact version.
        release: What the index promises of it.
    """

    snapshot: Snapshot
    reference: Reference
    release: Release

    @property
    def version(self) -> str:
        """The exact version."""
        assert self.reference.version is not None
        return self.reference.version

    @property
    def manifest_key(self) -> str:
        """Where the manifest is."""
        return keys.manifest(self.reference.path, self.version)

    @property
    def blob_key(self) -> str:
        """Where the weights are."""
        return keys.blob(self.release.blob.sha256)

    @property
    def attestations(self) -> dict[str, Attested]:
        """The current attestations of this cell, by protocol."""
        return self.snapshot.index.attestations.get(self.release.blob.sha256, {})

    def manifest(self) -> Manifest:
        """Read and check the manifest.

        Raises:
            IntegrityError: not the one that the index promises.
        """
        data = read_pinned(self.snapshot.store, self.manifest_key, self.release.manifest)
        return check_manifest(data, self, where=f"{self.manifest_key} of {self.snapshot.store.url}")


def open_snapshot(registry: str | Path | Store | None = None) -> Snapshot:
    """The index of a registry that may be given as a store, an address, or not at all.

    Raises:
        BatteriesError: as :func:`registry.open_store` and :meth:`Snapshot.take`.
    """
    if registry is None or isinstance(registry, str | Path):
        return Snapshot.take(open_store(registry))
    return Snapshot.take(registry)


def locate(references: Iterable[Reference], registry: str | Path | Store | None = None) -> list[Located]:
    """Find every reference, each in the registry that it names; every index is read once.

    Raises:
        NotFoundError: no such cell, version or registry.
    """
    opened: dict[str | None, Snapshot] = {}
    found = []
    for reference in references:
        name = reference.registry
        if name not in opened:
            opened[name] = open_snapshot(registry if name is None else open_named(name))
        found.append(opened[name].find(reference))
    return found


def read_pinned(store: Store, key: str, pin: Pin) -> bytes:
    """The bytes of a key that a pin promises.

    Raises:
        IntegrityError: none there (``MISSING``), or others.
    """
    where = f"{key} of {store.url}"
    try:
        data = store.read(key, limit=pin.size)
    except NotFoundError as error:
        raise IntegrityError(
            "bytes that the index promises are missing", code="MISSING", expected=f"{pin.size} bytes", where=where
        ) from error
    except FormatError as error:
        if error.code != "TOO_LARGE":
            raise
        raise IntegrityError("another size", code="SIZE_MISMATCH", expected=pin.size, found="more", where=where) from error
    pin.check(data, where=where)
    return data


def check_manifest(data: bytes, located: Located, *, where: object) -> Manifest:
    """The manifest in some bytes, if it is the one that the index promises.

    Raises:
        IntegrityError: of another cell, of other weights, or with other figures than the index shows.
        FormatError: not a manifest.
    """
    located.release.manifest.check(data, where=where)
    manifest = Manifest.from_bytes(data, where=where)
    claimed = f"{manifest.path}@{manifest.identity.version}"
    wanted = f"{located.reference.path}@{located.version}"
    if claimed != wanted:
        raise IntegrityError("the manifest of another cell", code="WRONG_CELL", expected=wanted, found=claimed, where=where)
    blob = located.release.blob
    if (manifest.file.sha256, manifest.file.size) != (blob.sha256, blob.size):
        raise IntegrityError(
            "the manifest of other weights", code="WRONG_BLOB", expected=blob.sha256, found=manifest.file.sha256, where=where
        )
    if Summary.of(manifest) != located.release.summary:
        raise IntegrityError("other figures than the index shows", code="WRONG_SUMMARY", where=where)
    return manifest


def check_attestation(data: bytes, attested: Attested, *, cell: str, protocol: str, where: object) -> Attestation:
    """The attestation in some bytes, if it is the one that the index promises.

    Raises:
        IntegrityError: other bytes, or about another cell, protocol or verdict.
        FormatError: not an attestation.
    """
    attested.check(data, where=where)
    attestation = Attestation.from_bytes(data, where=where)
    claimed = (attestation.cell, attestation.protocol, attestation.verdict)
    wanted = (cell, protocol, attested.verdict)
    if claimed != wanted:
        raise IntegrityError(
            "another attestation", code="WRONG_ATTESTATION", expected=" ".join(wanted), found=" ".join(claimed), where=where
        )
    return attestation
