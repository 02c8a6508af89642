"""What this machine saw of a registry last: a registry only ever grows, and one that goes back is refused.

A note below ``BATTERIES_HOME`` keeps, for every registry that was read, the address, the number and the digest of the last
index that was accepted, and when. The index itself is kept in the cache, so that it can be read
offline. The embedded registry is exempt: a checkout may go back.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from batteries.cell.manifest import Count, Text
from batteries.errors import BatteriesError, IntegrityError, NotFoundError, StoreError, StoreWarning
from batteries.io import atomic_files, canonical_json
from batteries.io.canonical_json import Document, load_document
from registry.catalog.index import Index
from registry.catalog.release import Pin
from registry.stores.cache import REMEDY, Cache
from registry.stores.directory import DirectoryStore
from registry.stores.store import Store

FOLDER = "seen"
MAX_NOTE = 2**14


class Note(Document):
    """What was seen of one registry.

    Attributes:
        url: Its address.
        number: Of the index.
        index: Digest and size of its bytes.
        commit: What the address is to mean for ever, where it is a tag.
        fetched: When, in seconds since 1970.
    """

    url: Text
    number: Count
    index: Pin
    commit: Text | None = None
    fetched: float = Field(ge=0)


@dataclass(frozen=True)
class Memory:
    """The notes below a cache.

    Attributes:
        cache: Holds notes and indexes.
    """

    cache: Cache

    def note(self, url: str) -> Note | None:
        """What was seen of a registry; None where nothing was, or the note is damaged or cannot be reached."""
        path = self._path(url)
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
        """Index of a note; None where the cache no longer has it whole."""
        held = self.cache.held(note.index)
        return None if held is None else Index.from_bytes(held.data, where=self.cache.path(note.index.sha256))

    def accept(self, store: Store, data: bytes, index: Index) -> None:
        """Compare an index with what was seen of its store before, and remember it.

        Where it cannot be remembered, the next reading is compared with an older one, or with none; of a registry that is not
        on this machine that is said.

        Raises:
            IntegrityError: a lower number (``ROLLBACK``), another history (``REWRITTEN``), or a version that changed or went
                away (``VERSION_MUTATED``), or a tag that points elsewhere (``TAG_MOVED``).
        """
        url, pin, commit = store.url, Pin.of(data), store.fixed_commit
        note = self.note(url)
        if note is not None:
            self._refuse_moved_tag(url, note, commit)
            if note.index != pin:
                self._refuse_going_back(url, note, index)
        words = os.fsencode(url).decode(errors="backslashreplace")
        new = Note(url=words, number=index.number, index=pin, commit=commit, fetched=time.time())
        try:
            if note is None or note.index != pin:
                atomic_files.create(self.cache.path(pin.sha256), data)
            atomic_files.replace(self._path(url), new.to_bytes())
        except StoreError:  # it costs the memory only
            if not isinstance(store, DirectoryStore):
                what = "the index that was read cannot be remembered: a registry that goes back is not noticed"
                warnings.warn(StoreWarning(what, code="NO_MEMORY", where=self.cache.folder, remedy=REMEDY), stacklevel=1)

    def notes(self) -> list[Note]:
        """All of them."""
        folder = self.cache.folder / FOLDER
        paths = sorted(folder.glob("*.json")) if atomic_files.is_folder(folder) else []
        found = [load_document(Note, atomic_files.read(path, limit=MAX_NOTE), where=path, limit=MAX_NOTE) for path in paths]
        return sorted(found, key=lambda note: note.url)

    def _refuse_moved_tag(self, url: str, note: Note, commit: str | None) -> None:
        if note.commit is not None and commit != note.commit:
            raise IntegrityError(
                "a tag that points elsewhere",
                code="TAG_MOVED",
                expected=f"commit {note.commit}",
                found=commit or "a branch",
                where=url,
                remedy=f"If it was moved on purpose, remove {self._path(url)}.",
            )

    def _refuse_going_back(self, url: str, note: Note, index: Index) -> None:
        remedy = f"If the registry was rebuilt on purpose, remove {self._path(url)}."
        if index.number < note.number:
            raise IntegrityError(
                "a registry that went back",
                code="ROLLBACK",
                expected=f"index {note.number} or later",
                found=f"index {index.number}",
                where=url,
                remedy=remedy,
            )
        if index.number == note.number or (index.number == note.number + 1 and index.previous != note.index.sha256):
            raise IntegrityError(
                "a registry with another history",
                code="REWRITTEN",
                expected=f"index {note.number} with digest {note.index.sha256}",
                found="another" if index.number == note.number else f"one before that has {index.previous}",
                where=url,
                remedy=remedy,
            )
        before = self.index(note)
        if before is not None and (changed := _changed(before, index)):
            raise IntegrityError(
                "published versions that changed or went away",
                code="VERSION_MUTATED",
                found=", ".join(changed[:5]),
                where=url,
                remedy=remedy,
            )

    def _path(self, url: str) -> Path:
        return self.cache.folder / FOLDER / f"{canonical_json.sha256(os.fsencode(url))}.json"


def _changed(before: Index, now: Index) -> list[str]:
    """Versions that are not what they were, a yank apart."""
    return [
        f"{path}@{version}"
        for path, version, release in before.everything()
        if (later := now.releases(path).get(version)) is None
        or (later.manifest, later.blob) != (release.manifest, release.blob)
    ]
