"""Rollback protection: a registry only grows, so an index older than the last one this machine accepted is refused.

So is one that lost a version, a yank or a verdict, however many changes lie between, and one whose number is not plausible: a
number that is noted refuses every index below it.

A note below ``BATTERIES_HOME`` records, for every registry that was read, its address, the number and digest of the last
accepted index, the time, and what is known of its signature. The index itself is kept in the cache for offline use. The
embedded registry is exempt: its checkout may go back.

A note is believed, where all else in the cache is compared with a digest. So notes are private, and one that another user could
have written is ignored with a warning; a registry of the Hub has one note for each endpoint that it was read from.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from batteries.cell.manifest import Count, Text
from batteries.errors import BatteriesError, IntegrityError, NotFoundError, StoreError, StoreWarning
from batteries.io import atomic_files, canonical_json, folders
from batteries.io.access import Access, is_trusted
from batteries.io.canonical_json import GrownDocument, load_document
from batteries.io.home import HOME_VARIABLE, REMEDY
from batteries.network import hub_environment
from registry.catalog.index import Index
from registry.catalog.index_losses import refuse_losses
from registry.catalog.release import Pin
from registry.stores.cache import Cache
from registry.stores.directory import DirectoryStore
from registry.stores.settings import is_remote
from registry.stores.signed.trust_guard import Trust
from registry.stores.store import Store

FOLDER = "seen"
MAX_NOTE = 2**16
MAX_NUMBER = 10**6  # changes of a registry: one every five minutes for ten years
MAX_JUMP = 10**4  # changes between two readings, and one more for each second between them
OWN = f"Set {HOME_VARIABLE} to a folder that only you can write to, or remove the note."


class Note(GrownDocument):
    """Record of the last accepted index of a registry.

    Attributes:
        url: Address of the registry.
        number: Number of the index.
        index: Digest and size of the index's bytes.
        commit: Commit that the address must always mean, if it names a tag.
        fetched: Time of reading, in seconds since 1970.
        trust: Record of the registry's signature; None if it could not be checked.
    """

    ADDED: ClassVar[tuple[str, ...]] = ("trust",)

    url: Text
    number: Count
    index: Pin
    commit: Text | None = None
    fetched: float = Field(ge=0)
    trust: Trust | None = None

    @property
    def digests(self) -> frozenset[str]:
        """Digests of the files in the cache that belong to it: the index, its signature, the documents of keys."""
        pins = (self.index, *((self.trust.document, *self.trust.roots) if self.trust else ()))
        return frozenset(pin.sha256 for pin in pins if pin is not None)


@dataclass(frozen=True)
class Memory:
    """Notes of a cache, one per registry.

    Attributes:
        cache: Cache that holds notes and indexes.
    """

    cache: Cache

    def note(self, source: Store | str) -> Note | None:
        """Return the note of a store or of the registry at an address; None if there is none, or it cannot be used.

        Warns:
            StoreWarning: a note that another user could have written, which is ignored (``FOREIGN_NOTE``).
        """
        path, url = self.path(source), source if isinstance(source, str) else source.url
        if not _is_trusted(path):
            if os.path.lexists(path):
                what = "note that another user could have written ignored: no protection from a rollback"
                warnings.warn(StoreWarning(what, code="FOREIGN_NOTE", where=path, remedy=OWN), stacklevel=2)
            return None
        found = self._read(path)
        if found is not None and found.url != _text(url):
            self.cache.put_aside(path)
            return None
        return found

    def _read(self, path: Path) -> Note | None:
        try:
            return load_document(Note, atomic_files.read(path, limit=MAX_NOTE), where=path, limit=MAX_NOTE)
        except NotFoundError:
            return None
        except StoreError as error:
            if not atomic_files.is_closed(error):
                raise
            return None
        except BatteriesError:
            self.cache.put_aside(path)
            return None

    def index(self, note: Note) -> Index | None:
        """Return the index of a note; None if the cache no longer has it intact."""
        held = self.cache.held(note.index)
        return None if held is None else Index.from_bytes(held.data, where=self.cache.path(note.index.sha256))

    def accept(
        self, store: Store, data: bytes, index: Index, before: Note | None, trust: Trust | None = None, *, trusted: bool = False
    ) -> None:
        """Check an index against the note of its store, and update the note.

        An index has to be no older than the last one accepted *before it was read*: another process may have read a newer one
        since, and a slower reading is no going back. It never lowers the note, and has nothing that the newer one lacks.

        If the note cannot be written, the next reading is compared with an older index or with none, and a warning says so
        unless the registry is on this machine.

        Args:
            store: Store of the index.
            data: Bytes of the index.
            index: Index.
            before: Note of the store before its index was read.
            trust: Record of its signature.
            trusted: Whether keys that were trusted before signed it, and so its number.

        Raises:
            IntegrityError: lower number (``ROLLBACK``), rewritten history (``REWRITTEN``), version changed or removed
                (``VERSION_MUTATED``), yank or verdict that is gone (``YANK_REMOVED``, ``VERDICT_REMOVED``), number that is not
                plausible (``IMPLAUSIBLE_NUMBER``), or tag moved (``TAG_MOVED``).
        """
        pin = Pin.of(data)
        self.refuse_unlike(before, store, data, index, trusted=trusted)
        note = self.note(store)
        if note is not None and note.number > index.number:
            self._refuse_another_history(store, note, index)
            return
        if note is not None and note != before and note.index != pin:
            self._refuse_going_back(store, note, index)
        self.remember(store, data, index, trust)

    def refuse_unlike(self, before: Note | None, store: Store, data: bytes, index: Index, *, trusted: bool = False) -> None:
        """Raise unless an index may follow the one that was noted before it was read.

        Raises:
            IntegrityError: as :meth:`accept`.
        """
        if before is not None:
            self._refuse_moved_tag(store, before, store.fixed_commit)
            if before.index != Pin.of(data):
                self._refuse_going_back(store, before, index)
        if not trusted:
            self._refuse_implausible(store, before, index)

    def remember(self, store: Store, data: bytes, index: Index, trust: Trust | None) -> None:
        """Write the note of an index, and keep the index."""
        pin, now = Pin.of(data), time.time()
        new = Note(url=_text(store.url), number=index.number, index=pin, commit=store.fixed_commit, fetched=now, trust=trust)
        try:
            if not self.cache.has(pin):
                atomic_files.create(self.cache.path(pin.sha256), data, access=self.cache.access)
            folders.close(self.cache.folder / FOLDER)  # as an earlier version may have made it, under an open umask
            atomic_files.replace(self.path(store), new.to_bytes(), access=Access(self.cache.folder, private=True))
        except StoreError:  # only rollback protection is lost
            if not isinstance(store, DirectoryStore):
                what = "index not recorded for rollback protection"
                warnings.warn(StoreWarning(what, code="NO_MEMORY", where=self.cache.folder, remedy=REMEDY), stacklevel=1)

    def notes(self) -> list[Note]:
        """Return all notes that are undamaged, sorted by address."""
        folder = self.cache.folder / FOLDER
        paths = sorted(folder.glob("*.json")) if atomic_files.is_folder(folder) else []
        found = [note for path in paths if _is_trusted(path) and (note := self._read(path)) is not None]
        return sorted(found, key=lambda note: note.url)

    def _refuse_moved_tag(self, store: Store, note: Note, commit: str | None) -> None:
        if note.commit is not None and commit != note.commit:
            raise IntegrityError(
                "tag moved",
                code="TAG_MOVED",
                expected=f"commit {note.commit}",
                found=commit or "a branch",
                where=store.url,
                remedy=f"If the tag was moved on purpose, remove {self.path(store)}.",
            )

    def _refuse_going_back(self, store: Store, note: Note, index: Index) -> None:
        remedy = f"If the registry was rebuilt on purpose, remove {self.path(store)}."
        if index.number < note.number:
            raise IntegrityError(
                "registry rolled back",
                code="ROLLBACK",
                expected=f"index {note.number} or later",
                found=f"index {index.number}",
                where=store.url,
                remedy=remedy,
            )
        if index.number == note.number or (index.number == note.number + 1 and index.previous != note.index.sha256):
            raise IntegrityError(
                "registry history rewritten",
                code="REWRITTEN",
                expected=f"index {note.number} with digest {note.index.sha256}",
                found="another index" if index.number == note.number else f"predecessor {index.previous}",
                where=store.url,
                remedy=remedy,
            )
        before = self.index(note)
        if before is not None:
            refuse_losses(before, index, store.url, remedy)

    def _refuse_implausible(self, store: Store, note: Note | None, index: Index) -> None:
        """Refuse a number that no registry reaches: noted, it would refuse all that follow."""
        most = MAX_NUMBER
        if note is not None:
            most = min(most, note.number + MAX_JUMP + max(0, int(time.time() - note.fetched)))
        if index.number > most:
            remedy = "The index is damaged or forged."
            if index.number <= MAX_NUMBER:
                remedy = f"If the registry really changed so often, remove {self.path(store)}."
            expected, found = f"at most {most}", f"index {index.number}"
            raise IntegrityError(
                "implausible number of an index",
                code="IMPLAUSIBLE_NUMBER",
                expected=expected,
                found=found,
                where=store.url,
                remedy=remedy,
            )

    def _refuse_another_history(self, store: Store, note: Note, index: Index) -> None:
        """Refuse an index that a newer one, which another process accepted meanwhile, does not go on from."""
        newer = self.index(note)
        if newer is not None:
            refuse_losses(index, newer, store.url, f"If the registry was rebuilt on purpose, remove {self.path(store)}.")

    def path(self, source: Store | str) -> Path:
        """Return the path of the note of a store or of the registry at an address, which need not exist."""
        return self.cache.folder / FOLDER / f"{canonical_json.sha256(os.fsencode(_identity(source)))}.json"


def _identity(source: Store | str) -> str:
    """Return an address that no other registry has: that of a store, with the endpoint of one on another Hub."""
    url = source if isinstance(source, str) else source.url
    if not is_remote(url):
        return url
    given = None if isinstance(source, str) else getattr(source, "endpoint", None)
    endpoint = (given or hub_environment.endpoint()).rstrip("/")
    return url if endpoint == hub_environment.ENDPOINT else f"{url} of {endpoint}"


def _is_trusted(path: Path) -> bool:
    """Return whether a note could be written by this user alone."""
    try:
        return is_trusted(path)
    except OSError:  # a folder that this user may not enter
        return False


def _text(url: str) -> str:
    return os.fsencode(url).decode(errors="backslashreplace")
