"""Mirror: copy everything that one registry's index lists into another, verifying every byte."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from batteries.cell.manifest import Count
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import Document
from batteries.text import unicode
from registry.catalog import store_keys
from registry.catalog.index import TABLES
from registry.catalog.kinds import CELL, KINDS, with_tables
from registry.catalog.reference import Reference
from registry.stores.cache import Cache
from registry.stores.snapshot import Located, Snapshot, check_attestation, open_snapshot
from registry.stores.store import Store, change_index, read_index_of
from registry.transfer.publish import target_store
from registry.transfer.pull import fetch
from registry.transfer.pull_packed import PulledFile, fetch_packed
from registry.transfer.wanted import Progress, Wanted


@with_tables(lambda form: (Count, ...))
class Mirrored(Document):
    """Result of a mirror: numbers of versions and attestations in the source, and of versions copied.

    Each kind other than cells has a count of its own, named by its plural.

    Attributes:
        source: Address of the registry that was read.
        target: Address of the registry that was written.
        cells: Number of versions of cells in the source.
        copied: Number of versions of any kind that the target did not have.
        attestations: Number of attestations in the source.
        number: Number of the target's index that holds all of them.

    >>> import registry
    >>> published = registry.publish(registry.load("low/fresnel-64"), "cells")
    >>> registry.mirror("cells", "mirror").copied, registry.mirror("cells", "mirror").copied
    (1, 0)
    """

    model_config = ConfigDict(title="MirrorAnswer", defer_build=True)

    source: str
    target: str
    cells: Count
    copied: Count
    attestations: Count
    number: Count

    @property
    def versions(self) -> int:
        """Number of versions of all kinds in the source."""
        return sum(getattr(self, table) for table in TABLES)


def mirror(
    source: str | Path | Store, target: str | Path | Store, *, progress: Progress = lambda done, total: None
) -> Mirrored:
    """Copy every version and every current attestation, yanks included. Other contents of the target stay.

    Args:
        source: Registry to read.
        target: Registry to write; a folder is created if needed.
        progress: Callback with the bytes of weights fetched so far and in total.

    Raises:
        ConflictError: the target has a version with other content (``VERSION_EXISTS``); the target is then unchanged.
        BatteriesError: as :func:`registry.pull` and :func:`registry.publish`.

    >>> import registry
    >>> published = registry.publish(registry.load("low/fresnel-64"), "cells")
    >>> mirrored = registry.mirror("cells", "mirror")
    >>> mirrored.cells, mirrored.copied
    (1, 1)
    """
    snapshot, store, cache = open_snapshot(source), target_store(target), Cache()
    present, _ = read_index_of(store)
    present.with_all(snapshot.index)  # finds a conflict before anything is written
    located = everything(snapshot)
    lacking = [one for one in located if one.version not in present.releases(one.reference.path)]
    fetch([Wanted.of(one) for one in lacking if one.reference.kind is CELL], progress=progress)
    others = [one for one in lacking if one.reference.kind is not CELL]
    files = {one.manifest.file.sha256: one for one in fetch_packed([Wanted.of(one) for one in others], progress=progress)}
    for one in lacking:
        store.put(one.blob_key, _blob(one, cache, files.get(one.release.blob.sha256)))
        store.put(one.manifest_key, cache.fetch(snapshot.store, one.manifest_key, one.release.manifest).data)
    attestations = _copy_attestations(snapshot, store, cache)
    index, _ = change_index(store, lambda index: index.with_all(snapshot.index))
    counts = Counter(one.reference.kind for one in located)
    versions: dict[str, Any] = {kind.plural: counts[kind] for kind in KINDS.values()}
    return Mirrored(
        source=unicode(snapshot.store.url),
        target=unicode(store.url),
        **versions,
        copied=len(lacking),
        attestations=attestations,
        number=index.number,
    )


def everything(snapshot: Snapshot) -> list[Located]:
    """Return every version of every artifact in an index."""
    return [
        Located(snapshot, Reference.parse(f"{path}@{version}"), release)
        for path, version, release in snapshot.index.everything()
    ]


def _blob(located: Located, cache: Cache, file: PulledFile | None) -> Data:
    """Return a file's verified bytes: read for a cell, memory-mapped for other kinds, whose files may be too large to read."""
    if file is not None:
        return file.verified()
    return cache.fetch(located.snapshot.store, located.blob_key, located.release.blob).data


def _copy_attestations(snapshot: Snapshot, store: Store, cache: Cache) -> int:
    count = 0
    for cell, known in sorted(snapshot.index.attestations.items()):
        for protocol, attested in sorted(known.items()):
            key = store_keys.attestation(cell, attested.sha256)
            found = cache.fetch(snapshot.store, key, attested)
            check_attestation(found, attested, cell=cell, protocol=protocol, where=f"{key} of {snapshot.store.url}")
            store.put(key, found.data)
            count += 1
    return count
