"""Artifacts to fetch, with digests and stores: found in an index, or named by a lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batteries.cell.cell import Origin
from batteries.errors import IntegrityError, NotFoundError
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.reference import NamePattern, Reference
from registry.catalog.release import AnySummary, Pin
from registry.stores.cache import Cache
from registry.stores.settings import Mode
from registry.stores.signed.reading import is_shipped
from registry.stores.snapshot import Located, Snapshot, open_bytes
from registry.stores.store import Store
from registry.transfer import yanked_versions
from registry.transfer.lockfile import LockedCell, LockedIndex
from registry.transfer.search import located

Progress = Callable[[int, int], None]  # bytes fetched so far, bytes in total


@dataclass(frozen=True)
class Wanted:
    """An artifact to fetch, with its digests and its store.

    Attributes:
        store: Store of the bytes.
        reference: Reference to the exact version.
        manifest: Pin of the manifest.
        blob: Pin of the file.
        summary: Summary in the index; None if a lock named the digests.
        index_number: Number of the index; None if a lock named the digests.
        age: Age of the index in seconds.
        yanked: Reason not to use the version; None if it is not yanked.
    """

    store: Store
    reference: Reference
    manifest: Pin
    blob: Pin
    summary: AnySummary | None = None
    index_number: int | None = None
    age: float = 0.0
    yanked: str | None = None

    @classmethod
    def of(cls, located: Located) -> Wanted:
        """Return the artifact located in an index."""
        snapshot, release = located.snapshot, located.release
        return cls(
            snapshot.store,
            located.reference,
            release.manifest,
            release.blob,
            release.summary,
            snapshot.index.number,
            snapshot.age,
            release.yanked,
        )

    @property
    def manifest_key(self) -> str:
        """Key of the manifest."""
        return store_keys.manifest(self.reference.path, self.version)

    @property
    def version(self) -> str:
        """Exact version."""
        assert self.reference.version is not None
        return self.reference.version

    @property
    def origin(self) -> Origin:
        """Origin that is recorded in the artifact."""
        return Origin(self.store.url, self.index_number, self.age, yanked=self.yanked)


def wanted_of(
    given: Sequence[Reference | NamePattern | Located | LockedCell],
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
) -> list[Wanted]:
    """Return the artifacts named by references, patterns and rows of locks, in order; every index is read once.

    Raises:
        BatteriesError: as :func:`registry.transfer.search.located` and :func:`wanted_of_locked`.
    """
    found = iter(located([one for one in given if not isinstance(one, LockedCell)], registry, mode=mode))
    locked = iter(wanted_of_locked([one for one in given if isinstance(one, LockedCell)], registry, mode))
    rows = ([next(locked)] if isinstance(one, LockedCell) else map(Wanted.of, next(found)) for one in given)
    return [one for row in rows for one in row]


def wanted_of_locked(
    locked: Sequence[LockedCell],
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
    *,
    indexes: Sequence[LockedIndex] = (),
) -> list[Wanted]:
    """Return the artifacts of a lock, each in the given registry, or by default in its own source.

    Of a registry that is asked for files, the index must not be older than in the lock, and must be signed by keys to which a
    chain leads from those that signed it then. A registry that is given in place of those of the lock has an index of its own.

    Args:
        locked: Rows of the lock.
        registry: Registry that has them; None for that of each row.
        mode: Network mode.
        indexes: Indexes of the lock.

    Raises:
        IntegrityError: index older than in the lock (``ROLLBACK``), or not signed as :meth:`Snapshot.take` wants.
        BatteriesError: registry that cannot be opened.
    """
    opened: dict[str, Store] = {}
    wanted = []
    for one in locked:
        source = one.source if registry is None else registry
        if isinstance(source, str | Path) and str(source) not in opened:
            opened[str(source)] = _open_locked(source, mode) if registry is None else open_bytes(source, mode)
        store = opened[str(source)] if isinstance(source, str | Path) else source
        wanted.append(Wanted(store, one.reference, one.manifest, one.blob))
    known = {id(opened[one.source]): one for one in indexes if registry is None and one.source in opened}
    return _with_yanks(wanted, known, Cache())


def warn_of_yanked(wanted: Iterable[Wanted], *, stacklevel: int) -> None:
    """Warn of yanked versions; ``stacklevel`` is that of :func:`warnings.warn`, counted from the caller."""
    told = ((f"{one.reference.path}@{one.version}", one.yanked) for one in wanted)
    yanked_versions.warn(told, stacklevel=stacklevel + 1)


def _open_locked(source: str | Path, mode: Mode | None) -> Store:
    """Open the source that a lock names, which may exist on another machine only."""
    try:
        return open_bytes(source, mode)
    except NotFoundError as error:
        ships = " The shipped registry is --registry embedded." if Path(source).name == "manifests" else ""
        error.remedy = f"The lock names it; use --registry for another one that has the same cells.{ships}"
        raise


def _with_yanks(wanted: list[Wanted], locked: Mapping[int, LockedIndex], cache: Cache) -> list[Wanted]:
    """Add the reasons of yanked versions, as far as the index of each store is known."""
    found: dict[int, str | None] = {}
    for store in {id(one.store): one.store for one in wanted}.values():
        of_it = [n for n, one in enumerate(wanted) if one.store is store]
        names = [(wanted[n].reference.path, wanted[n].version) for n in of_it]
        complete = all(cache.has(pin) for n in of_it for pin in (wanted[n].manifest, wanted[n].blob))
        index = _index_of(store, locked.get(id(store)), cache, complete)
        found |= zip(of_it, yanked_versions.reasons(index, names), strict=True)
    return [replace(one, yanked=found[n]) for n, one in enumerate(wanted)]


def _index_of(store: Store, locked: LockedIndex | None, cache: Cache, complete: bool) -> Index | None:
    """Return the index of a store; raise if it is older than in a lock, or not signed as it was."""
    if locked is None or is_shipped(store) or not yanked_versions.is_asked(store, complete=complete):
        return yanked_versions.known_index(store, cache, complete=complete)
    if locked.signed_by:
        index: Index | None = Snapshot.take(store, pins=locked.signed_by).index
    else:
        index = yanked_versions.known_index(store, cache, complete=complete)
    if index is not None and index.number < locked.number:
        what, expected = "registry older than the lock", f"index {locked.number} or later, as in the lock"
        remedy = "It may lack yanks. If the registry was rebuilt on purpose, lock again."
        found = f"index {index.number}"
        raise IntegrityError(what, code="ROLLBACK", expected=expected, found=found, where=store.url, remedy=remedy)
    return index
