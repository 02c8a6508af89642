"""Check of a registry folder against its index: missing, damaged and unlisted files, with repair."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from batteries.errors import BatteriesError, InputError, IntegrityError
from batteries.io import atomic_files
from registry.catalog import store_keys
from registry.catalog.release import Pin
from registry.stores.cache import Cache
from registry.stores.directory import ASIDE, DirectoryStore, is_forgotten
from registry.stores.rollback_guard import Memory
from registry.stores.signed.damage import is_of_release, signed_faults, sound_copy
from registry.stores.signed.housekeeping import is_in_use
from registry.stores.signed.reading import held_documents
from registry.stores.snapshot import Snapshot, open_snapshot
from registry.stores.store import Store
from registry.stores.verified_read import read_pinned


@dataclass(frozen=True)
class Check:
    """Result of checking a folder.

    Attributes:
        faults: Errors of listed files that are missing or damaged, and of orphans that were moved aside, by key.
        repaired: Keys of ``faults`` that were repaired.
        orphans: Keys that the index does not list: an interrupted publish left them, and repeating it uses them.
        checked: Number of files that the index lists.
        swept: Bytes freed by removing temporary files of killed writers.
    """

    faults: dict[str, BatteriesError]
    repaired: tuple[str, ...]
    orphans: tuple[str, ...]
    checked: int
    swept: int

    @property
    def ok(self) -> bool:
        """True if every listed file is intact, or was repaired."""
        return set(self.faults) == set(self.repaired)


def fsck(folder: str | Path, *, repair: bool = False, source: str | Path | Store | None = None) -> Check:
    """Compare every file that a folder's index lists with its digest, and check every signature.

    Args:
        folder: Folder of the registry.
        repair: Whether to restore damaged and missing files from the cache or ``source``, and to remove temporary files of
            killed writers. Damaged files are kept in ``damaged/``, and so are orphans of more than an hour, which would keep
            another publish from their version, and damaged signatures of releases, which can be signed again.
        source: Another registry that may have the bytes.

    Raises:
        InputError: not a folder (``NOT_A_FOLDER``).
        NotFoundError: missing index, to be restored from a mirror.
        IntegrityError: damaged index, to be restored from a mirror.
        FormatError: files to repair below a symbolic link (``SYMLINK``); nothing was moved.
    """
    snapshot = open_snapshot(folder)
    store = snapshot.store
    if not isinstance(store, DirectoryStore):
        raise InputError("registry not in a folder", code="NOT_A_FOLDER", expected="a folder", found=store.url)
    swept = atomic_files.sweep(store.path) if repair else 0
    promised = _promised(snapshot)
    faults = {key: error for key, pin in promised.items() if (error := _fault(store, key, pin)) is not None}
    other = open_snapshot(source).store if repair and source is not None else None
    signed = signed_faults(store, snapshot.index)
    unlisted = sorted(set(store.keys()) - promised.keys() - signed.keys())
    orphans = [key for key in unlisted if not is_in_use(store, snapshot.index, key)]
    if repair:
        _refuse_links(DirectoryStore(store.path), [*faults, *signed, *orphans])
    repaired = [key for key in faults if repair and _put_right(store, key, promised[key], other)]
    repaired += [key for key in signed if repair and _put_signed_right(snapshot, store, key, other)]
    faults |= signed
    freed = [key for key in orphans if repair and _set_aside(DirectoryStore(store.path), key)]
    faults |= {key: IntegrityError("orphan moved aside", code="ORPHAN", where=key) for key in freed}
    left = tuple(key for key in orphans if key not in freed)
    return Check(faults, (*repaired, *freed), left, len(promised), swept)


def _refuse_links(store: DirectoryStore, keys: Iterable[str]) -> None:
    """Refuse links among the folders of files to be moved, and in the place of ``damaged/``, before any file is moved."""
    for key in keys:
        store.path_of(key)
    atomic_files.refuse_special(store.path / ASIDE)


def _set_aside(store: DirectoryStore, key: str) -> bool:
    """Move an orphan aside, unless a publish may be about to list it."""
    return is_forgotten(store.path_of(key)) and store.put_aside(key)


def _promised(snapshot: Snapshot) -> dict[str, Pin]:
    """Return the pin of every file that the index lists, by key."""
    found: dict[str, Pin] = {}
    for path, version, release in snapshot.index.everything():
        found[store_keys.manifest(path, version)] = release.manifest
        found[store_keys.blob(release.blob.sha256)] = release.blob
    for cell, known in sorted(snapshot.index.attestations.items()):
        found |= {store_keys.attestation(cell, attested.sha256): attested for attested in known.values()}
    return found


def _fault(store: Store, key: str, pin: Pin) -> BatteriesError | None:
    try:
        read_pinned(store, key, pin)
    except BatteriesError as error:
        return error
    return None


def _put_right(store: DirectoryStore, key: str, pin: Pin, source: Store | None) -> bool:
    """Restore a file from the cache or a source; return False if neither has it."""
    found = Cache().held(pin)
    if found is None and source is not None:
        with contextlib.suppress(BatteriesError):
            found = read_pinned(source, key, pin)
    if found is None:
        return False
    target = DirectoryStore(store.path)
    target.put_aside(key)
    target.put(key, found.data)
    return True


def _put_signed_right(snapshot: Snapshot, store: DirectoryStore, key: str, source: Store | None) -> bool:
    """Restore a signed document from the cache or a source, or else move it aside if a release can do without it."""
    memory = Memory(Cache())
    note = memory.note(snapshot.store)
    sources = [*([] if note is None else [held_documents(memory.cache, note)]), *([] if source is None else [source])]
    found = sound_copy(store, snapshot.index, key, sources)
    if found is None and not is_of_release(snapshot.index, key):
        return False
    target = DirectoryStore(store.path)
    target.put_aside(key)
    if found is not None:
        target.put(key, found)
    return True
