"""One reading of a registry's index: its signature, then rollback protection, and what this machine remembers of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from batteries.errors import BatteriesError, IntegrityError
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.release import Pin
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.memory import MemoryStore
from registry.stores.rollback_guard import Memory, Note
from registry.stores.signed.pins import pins_of
from registry.stores.signed.trust_guard import Expiry, Trust, TrustGuard, say_first_use
from registry.stores.store import Store
from registry.trust import library
from registry.trust.roots import Chain, read_chain
from registry.trust.signature import NOT_CHECKED, Signature

READINGS = 4  # of an index that changes while its signature is checked
OVERTAKEN = {"KEY_REVOKED", "TOO_FEW_SIGNERS"}  # refusals of an index whose keys may have been changed since it was read
MOMENT = 0.3  # seconds from new keys to the index that they sign

Checked = TypeVar("Checked")


@dataclass(frozen=True)
class Reading:
    """A reading of an index, from before it is read.

    Attributes:
        store: Store of the index.
        memory: Notes of the cache; None for a store in memory, which has no address.
        before: Note of the store before its index is read.
    """

    store: Store
    memory: Memory | None
    before: Note | None

    @classmethod
    def begin(cls, store: Store) -> Reading:
        """Begin to read the index of a store."""
        memory = None if isinstance(store, MemoryStore) else Memory(Cache())
        return cls(store, memory, memory.note(store) if memory else None)

    def accept(self, data: bytes, index: Index, pins: tuple[str, ...] = ()) -> Signature:
        """Check the index that was read, and remember it.

        The embedded registry may go back, as its checkout may, its signature does not expire, and another one may be signed by
        other keys: it is as new as the package, and as trustworthy.

        Args:
            data: Bytes of the index.
            index: Index.
            pins: Ids of keys of a lock, one of which must lead to those that signed, if the configuration file pins none.

        Raises:
            BatteriesError: as :meth:`TrustGuard.check` and :meth:`Memory.accept`.
        """
        pin, shipped, pinned = Pin.of(data), is_shipped(self.store), self._pins()
        same = self.before is not None and self.before.index == pin
        known = self.before if same or not shipped else None
        guard = self._guard(pinned, known, "ignored" if shipped else "refused")
        if pins and not pinned:  # those of a lock: they are wanted beside what was seen first, and do not end with a signature
            guard = replace(guard, pins=tuple(sorted(pins)), expiry="ignored" if shipped else "told")
            same = same and guard.known is not None and guard.known.pins == guard.pins
        with self._saying_how(guard):
            trust, documents = guard.check(pin, index.number, same=same)
        if self.memory is not None:
            for document in documents:
                self.memory.cache.keep(Pin.of(document).check(document, where=self.store.url))
            self._remember(self.memory, data, index, trust, guard.trusted, shipped)
        return NOT_CHECKED if trust is None else trust.signature

    def refuse_change(self, data: bytes, index: Index, chain: Chain | None) -> None:
        """Raise if a signed change would build on an index that a reader of this machine refuses: an older one, or other keys.

        The signature of that index is left to the writer, since a refresh replaces it. Without signatures a writer vouches for
        nothing, and a registry that was rebuilt is changed as any other.

        Args:
            data: Bytes of the index.
            index: Index.
            chain: Documents of keys that the registry has; None without any.

        Raises:
            BatteriesError: as :meth:`TrustGuard.check_keys` and :meth:`Memory.refuse_unlike`.
        """
        if self.memory is None or is_shipped(self.store):
            return
        guard = self._guard(self._pins(), self.before, "ignored")
        with self._saying_how(guard):
            guard.check_keys(Pin.of(data), chain)
        if chain is not None:
            self.memory.refuse_unlike(self.before, self.store, data, index, trusted=guard.trusted)

    def _remember(self, memory: Memory, data: bytes, index: Index, trust: Trust | None, trusted: bool, shipped: bool) -> None:
        signed = trust is not None and trust.document is not None
        if not shipped:
            memory.accept(self.store, data, index, self.before, trust, trusted=trusted)
            if signed and not trusted and trust is not None:
                say_first_use(self.store.url, trust, settings.config_file())
        elif signed and (self.before is None or self.before.trust != trust or self.before.index != Pin.of(data)):
            memory.remember(self.store, data, index, trust)

    @contextmanager
    def _saying_how(self, guard: TrustGuard) -> Iterator[None]:
        """Say how a registry is read again that was rebuilt with another key, or without any."""
        try:
            yield
        except IntegrityError as error:
            if self.memory is not None and guard.trusted and not guard.pins:
                rebuilt = f"If the registry was rebuilt on purpose, remove {self.memory.path(self.store)}."
                error.remedy = f"{error.remedy} {rebuilt}" if error.remedy else rebuilt
            raise

    def _pins(self) -> tuple[str, ...]:
        return () if self.memory is None else pins_of(self.store.url)

    def _guard(self, pins: tuple[str, ...], note: Note | None, expiry: Expiry) -> TrustGuard:
        cache = Cache() if self.memory is None else self.memory.cache
        return TrustGuard(self.store, pins, None if note is None else _known(note, pins, cache), cache, expiry)


def recall(memory: Memory, note: Note, *, offline: bool) -> Signature | None:
    """Check the signature of an index in the cache, by what the configuration file pins now.

    Args:
        memory: Notes of the cache.
        note: Note of the index.
        offline: Whether the registry cannot be asked: an expired signature is then accepted with a warning.

    Returns:
        Signature; None if the registry has to be read again for it.

    Raises:
        BatteriesError: offline, and refused as :meth:`TrustGuard.check` does.
    """
    pins = pins_of(note.url)
    known = _known(note, pins, memory.cache)
    if known is None and not pins:
        return NOT_CHECKED
    guard = TrustGuard(held_documents(memory.cache, note), pins, known, memory.cache, "told" if offline else "refused")
    try:
        trust, _ = guard.check(note.index, note.number, same=known is not None)
    except BatteriesError:
        if offline:
            raise
        return None
    return None if trust is None else trust.signature


def settled(store: Store, once: Callable[[], tuple[Pin | None, Callable[[], Checked]]], left: int = READINGS - 1) -> Checked:
    """Read and check an index, anew while a change of keys overtakes it between the two.

    Args:
        store: Store of the index.
        once: Function that reads the index, and returns its pin, None where there is none, and the function that checks it.
        left: Further readings at most.

    Raises:
        BatteriesError: as both functions.
    """
    index, check = once()
    try:
        return check()
    except IntegrityError as error:
        if not left or index is None or not is_overtaken(store, index, error):
            raise
    return settled(store, once, left - 1)


def is_overtaken(store: Store, index: Pin, refusal: IntegrityError) -> bool:
    """Return whether an index was refused because a change of keys overtook it: it has changed, or does so in a moment."""
    if refusal.code not in OVERTAKEN:
        return False
    time.sleep(MOMENT)
    data = store.read_index()
    return data is not None and Pin.of(data) != index


def is_shipped(store: Store) -> bool:
    """Return whether a store is the registry that ships with this package."""
    return store.url in (settings.EMBEDDED, str(settings.embedded()))


def _known(note: Note, pins: tuple[str, ...], cache: Cache) -> Trust | None:
    """Return what a note remembers of a signature, under other pins than now only if its keys lead from those of now.

    So a key that was seen revoked stays revoked for one who pins keys afterwards, and a pin beats keys that were seen first.
    """
    trust = note.trust
    if trust is None or not pins or trust.pins == pins:
        return trust
    return trust.model_copy(update={"pins": pins}) if _leads_from(trust, pins, cache) else None


def _leads_from(trust: Trust, pins: tuple[str, ...], cache: Cache) -> bool:
    """Return whether the documents of keys that were accepted, as far as the cache has them, lead from some keys."""
    held = [cache.held(pin) for pin in trust.roots]
    documents = [one.data for one in held if one is not None]
    if not documents or len(documents) < len(held) or not library.is_there():
        return False
    return read_chain(documents, "the cache").leads_from(pins)


def held_documents(cache: Cache, note: Note) -> Store:
    """Return the signed documents of a note that the cache has, as a store."""
    store, trust = MemoryStore(url=note.url), note.trust
    if trust is None or trust.document is None:
        return store
    pins = {store_keys.root(number): pin for number, pin in enumerate(trust.roots, 1)}
    for key, pin in {store_keys.signature(note.index.sha256): trust.document, **pins}.items():
        if (held := cache.held(pin)) is not None:
            store.put(key, held.data)
    return store
