"""Mirror: copy everything that one registry's index lists into another, verifying every byte."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from batteries.cell.manifest import Count
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import Document
from batteries.text import unicode
from registry.catalog import merging, store_keys
from registry.catalog.index import TABLES, Index
from registry.catalog.kinds import CELL, KINDS, with_tables
from registry.catalog.pinned_documents import check_attestation
from registry.catalog.reference import Reference
from registry.catalog.release import Attested
from registry.stores.cache import Cache
from registry.stores.signed.changes import change_index, refuse_unsigned_change
from registry.stores.snapshot import Located, Snapshot, open_snapshot
from registry.stores.store import Store, read_index_of
from registry.transfer.publish import target_store
from registry.transfer.pull import fetch
from registry.transfer.pull_packed import PulledFile, fetch_packed
from registry.transfer.wanted import Progress, Wanted
from registry.trust.signed_documents import MAX_SIGNED
from registry.trust.signing import Signing


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
        kept: Number of those whose cell and protocol have another one of the same revision in the target, which stayed.
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
    kept: Count
    number: Count

    @property
    def versions(self) -> int:
        """Number of versions of all kinds in the source."""
        return sum(getattr(self, table) for table in TABLES)


def mirror(
    source: str | Path | Store,
    target: str | Path | Store,
    *,
    signing: Signing | None = None,
    progress: Progress = lambda done, total: None,
) -> Mirrored:
    """Copy every version and every current attestation, yanks included. Other contents of the target stay.

    Of two attestations by one protocol about one cell, the newer is kept; if neither is known to be newer, that of the target.
    Releases keep the signatures of their publishers. The target's index is signed by the signers given, or not at all: a
    registry's signature of its own index is of no other.

    Args:
        source: Registry to read.
        target: Registry to write; a folder is created if needed.
        signing: Signers of the target's index, as for :func:`registry.publish`.
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
    wanted = present.with_all(snapshot.index)  # finds a conflict before anything is written
    refuse_unsigned_change(store, signing)
    located = everything(snapshot)
    lacking = [one for one in located if one.version not in present.releases(one.reference.path)]
    fetch([Wanted.of(one) for one in lacking if one.reference.kind is CELL], progress=progress)
    others = [Wanted.of(one) for one in lacking if one.reference.kind is not CELL]
    packed = {one.manifest.file.sha256: one for one in fetch_packed(others, progress=progress)}
    files = itertools.chain(
        _release_files(lacking, packed, cache), _signatures(located), _attestations(snapshot, present, wanted, cache)
    )
    index, _ = change_index(store, lambda index: index.with_all(snapshot.index), files=files, signing=signing)
    counts = Counter(one.reference.kind for one in located)
    versions: dict[str, Any] = {kind.plural: counts[kind] for kind in KINDS.values()}
    return Mirrored(
        source=unicode(snapshot.store.url),
        target=unicode(store.url),
        **versions,
        copied=len(lacking),
        attestations=sum(map(len, snapshot.index.attestations.values())),
        kept=len(merging.undecided(present.attestations, snapshot.index.attestations)),
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


def _release_files(lacking: Sequence[Located], packed: Mapping[str, PulledFile], cache: Cache) -> Iterator[tuple[str, Data]]:
    for one in lacking:
        yield one.blob_key, _blob(one, cache, packed.get(one.release.blob.sha256))
        yield one.manifest_key, cache.fetch(one.snapshot.store, one.manifest_key, one.release.manifest).data


def _signatures(located: Sequence[Located]) -> Iterator[tuple[str, Data]]:
    """Yield the signatures of releases, checked if the extra is there."""
    for store in {id(one.snapshot.store): one.snapshot.store for one in located}.values():
        there = set(store.keys(f"{store_keys.SIGNATURES}/"))
        for one in located:
            if (key := one.signature_key) in there:
                data = store.read(key, limit=MAX_SIGNED)
                one.check_signature(data)
                yield key, data


def _attestations(snapshot: Snapshot, present: Index, wanted: Index, cache: Cache) -> Iterator[tuple[str, Data]]:
    """Yield the attestations that the target's index will list, and does not list yet."""
    for cell, known in sorted(snapshot.index.attestations.items()):
        for protocol, attested in sorted(known.items()):
            if not attested.same_as(wanted.attestations[cell][protocol]) or _has(present, cell, protocol, attested):
                continue
            key = store_keys.attestation(cell, attested.sha256)
            found = cache.fetch(snapshot.store, key, attested)
            check_attestation(found, attested, cell=cell, protocol=protocol, where=f"{key} of {snapshot.store.url}")
            yield key, found.data


def _has(index: Index, cell: str, protocol: str, attested: Attested) -> bool:
    present = index.attestations.get(cell, {}).get(protocol)
    return present is not None and attested.same_as(present)
