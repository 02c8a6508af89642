"""Damage among the signed documents of a registry: no index lists them, so each is checked by its signatures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from batteries.errors import BatteriesError, IntegrityError, NotFoundError
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.reference import Reference
from registry.catalog.release import Pin
from registry.stores.memory import MemoryStore
from registry.stores.signed.changes import chain_of, check_signed
from registry.stores.snapshot import Located, Snapshot
from registry.stores.store import Store
from registry.trust import library
from registry.trust.roots import MAX_ROOTS, read_chain
from registry.trust.signed_documents import MAX_SIGNED


def signed_faults(store: Store, index: Index) -> dict[str, BatteriesError]:
    """Return the faults of a registry's documents of keys, and of the signatures of its index and its releases, by key.

    A release without a signature has no fault. Without the extra nothing is checked.
    """
    if not library.is_there():
        return {}
    faults = _faults_of_index(store, index)
    for located in _releases(store, index):
        if (error := _fault_of_release(located)) is not None:
            faults[located.signature_key] = error
    return faults


def sound_copy(store: Store, index: Index, key: str, sources: Iterable[Store]) -> bytes | None:
    """Return the bytes of a damaged signed document as another store has them; None if no store has them sound."""
    for source in sources:
        try:
            data = source.read(key, limit=MAX_SIGNED)
        except BatteriesError:
            continue
        if _is_sound(store, index, key, data):
            return data
    return None


def is_of_release(index: Index, key: str) -> bool:
    """Return whether a key is that of the signature of a release, which can do without one."""
    return key in {store_keys.signature(release.manifest.sha256) for _, _, release in index.everything()}


def _is_sound(store: Store, index: Index, key: str, data: bytes) -> bool:
    """Return whether bytes are sound under a key, beside the other signed documents of a registry."""
    copy = MemoryStore(url=store.url)
    copy.swap_index(None, index.sealed())
    copy.put(key, data)
    if is_of_release(index, key):
        return all(_fault_of_release(one) is None for one in _releases(copy, index) if one.signature_key == key)
    roots = [store_keys.root(number) for number in range(1, MAX_ROOTS + 1)]
    for other in {store_keys.signature(Pin.of(index.sealed()).sha256), *roots} - {key}:
        with contextlib.suppress(BatteriesError):
            copy.put(other, store.read(other, limit=MAX_SIGNED))
    return not _faults_of_index(copy, index)


def _faults_of_index(store: Store, index: Index) -> dict[str, BatteriesError]:
    """Return the first fault of the documents of keys or, where they are sound, that of the index's signature."""
    try:
        chain_of(store)
    except BatteriesError as error:
        return {_first_bad_root(store): error}
    key = store_keys.signature(Pin.of(index.sealed()).sha256)
    try:
        if not check_signed(store, index) and _has(store, key):
            raise IntegrityError("missing document of keys", code="MISSING_ROOT", expected=store_keys.root(1), where=store.url)
    except BatteriesError as error:
        return {str(error.expected) if error.code == "MISSING_ROOT" else key: error}
    return {}


def _has(store: Store, key: str) -> bool:
    with contextlib.suppress(NotFoundError):
        store.read(key, limit=MAX_SIGNED)
        return True
    return False


def _first_bad_root(store: Store) -> str:
    documents: list[bytes] = []
    for number in range(1, MAX_ROOTS + 1):
        try:
            documents.append(store.read(store_keys.root(number), limit=MAX_SIGNED))
            read_chain(documents, store.url)
        except NotFoundError:
            break
        except BatteriesError:
            return store_keys.root(number)
    return store_keys.root(1)


def _releases(store: Store, index: Index) -> Iterator[Located]:
    snapshot = Snapshot(store, index)
    for path, version, release in index.everything():
        yield Located(snapshot, Reference.parse(f"{path}@{version}"), release)


def _fault_of_release(located: Located) -> BatteriesError | None:
    try:
        located.signature()
    except BatteriesError as error:
        return error
    return None
