"""The cache: bytes by digest below ``BATTERIES_HOME``, checked when they come in and again whenever they are used."""

from __future__ import annotations

import contextlib
import os
import stat
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from batteries.errors import BatteriesError, IntegrityError, NotFoundError, StoreError, StoreWarning
from batteries.io import atomic_files
from batteries.io.home import HOME_VARIABLE, home
from batteries.io.verified import Verified
from registry.catalog.release import Pin
from registry.stores.directory import DirectoryStore
from registry.stores.memory import MemoryStore
from registry.stores.store import Store
from registry.stores.verified_read import read_pinned

BLOBS = "blobs"
LOCKS = "locks"
ASIDE = "damaged"  # folder of what was found damaged: kept, because it says what went wrong
WAIT = 60.0  # seconds for somebody else's transfer of the same bytes; then both transfer them
USED_EVERY = 3600.0  # seconds between two notes that a file was used
REMEDY = f"Name a folder that can be written in {HOME_VARIABLE}."


@dataclass(frozen=True)
class Cache:
    """A folder of bytes by digest. Any number of processes may share it.

    One that cannot be reached or written serves as an empty one that keeps nothing.

    Attributes:
        folder: ``BATTERIES_HOME`` unless given.
        refusals: What the disk said where something was not kept.
    """

    folder: Path = field(default_factory=home)
    refusals: list[StoreError] = field(default_factory=list, compare=False, repr=False)

    @property
    def blobs(self) -> Path:
        """The folder of the bytes."""
        return self.folder / BLOBS

    @property
    def aside(self) -> Path:
        """The folder of what was found damaged."""
        return self.folder / ASIDE

    def path(self, digest: str) -> Path:
        """Where the bytes of a digest are, once they are here."""
        return self.blobs / digest

    def sweep(self) -> int:
        """Remove what killed processes left behind; returns the number of bytes freed."""
        with self._doing_without():
            return atomic_files.sweep(self.folder)
        return 0

    def fetch(self, store: Store, key: str, pin: Pin) -> Verified[bytes]:
        """Bytes of a pin: from here if they are here and whole, else from the store, once more where they came damaged.

        Of many that want the same bytes one transfers them and the others wait; right bytes do not depend on that.

        Raises:
            IntegrityError: the store has other bytes, or none.
            StoreError: a failing disk.
        """
        held = self.held(pin)
        if held is not None:
            return held
        with self._turn(pin):
            held = self.held(pin)
            return self._transfer(store, key, pin) if held is None else held

    def held(self, pin: Pin) -> Verified[bytes] | None:
        """Bytes of a pin, if they are here and whole; damaged ones are moved aside."""
        path = self.path(pin.sha256)
        try:
            found = pin.check(atomic_files.read(path, limit=pin.size), where=path)
        except NotFoundError:
            return None
        except StoreError as error:
            self._do_without(error)
            return None
        except BatteriesError:
            self.put_aside(path)
            return None
        self._note_use(path)
        return found

    def has(self, pin: Pin) -> bool:
        """Whether a file of a pin's name and size is here; nobody looks into it, so whoever opens it has to."""
        path = self.path(pin.sha256)
        with contextlib.suppress(OSError):
            status = path.lstat()
            self._note_use(path)
            return stat.S_ISREG(status.st_mode) and status.st_size == pin.size
        return False

    def bring(self, store: Store, key: str, pin: Pin) -> Path:
        """Have the file of a pin here, as :meth:`fetch`, for whoever opens it by its path.

        Returns:
            Where it is: here, or in a store that is a folder, where it cannot be kept here.

        Raises:
            IntegrityError: the store has other bytes, or none.
            StoreError: a failing disk, or nowhere to keep it (``NO_CACHE``).
        """
        with self._turn(pin):
            if not self.has(pin):
                if os.path.lexists(self.path(pin.sha256)):
                    self.put_aside(self.path(pin.sha256))
                self._transfer(store, key, pin)
        return self.file(store, key, pin)

    def file(self, store: Store | None, key: str, pin: Pin) -> Path:
        """Where the file of a pin is, after it was fetched; ``store`` is where from, if that is on this machine.

        Raises:
            StoreError: nowhere: it could not be kept (``NO_CACHE``).
        """
        if self.has(pin):
            return self.path(pin.sha256)
        if isinstance(store, DirectoryStore):
            return store.path_of(key)
        raise StoreError("nowhere to keep what was fetched", code="NO_CACHE", where=self.folder, remedy=REMEDY)

    def keep(self, found: Verified[bytes]) -> None:
        """Put bytes here."""
        with self._doing_without():
            atomic_files.create(self.path(found.sha256), found.data)

    def put_aside(self, path: Path) -> None:
        """Move something damaged out of the way."""
        with self._doing_without():
            atomic_files.move_aside(path, self.aside)

    def warn(self, stores: Iterable[Store]) -> None:
        """Say that what came from stores elsewhere was not kept, where that is so; a local one is as good as a cache."""
        if self.refusals and not all(isinstance(store, DirectoryStore | MemoryStore) for store in stores):
            what = f"what was fetched is not kept: the cache cannot be used ({self.refusals[0].what})"
            warnings.warn(StoreWarning(what, code="NO_CACHE", where=self.folder, remedy=REMEDY), stacklevel=1)

    @contextlib.contextmanager
    def _doing_without(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            self._do_without(error)

    def _do_without(self, error: StoreError) -> None:
        if not atomic_files.is_closed(error):
            raise error
        self.refusals.append(error)

    def _transfer(self, store: Store, key: str, pin: Pin) -> Verified[bytes]:
        try:
            found = read_pinned(store, key, pin)
        except IntegrityError as error:
            if error.code == "MISSING":
                raise
            found = read_pinned(store, key, pin)
        self.keep(found)
        return found

    @contextlib.contextmanager
    def _turn(self, pin: Pin) -> Iterator[None]:
        """Wait while somebody else transfers the same bytes, but not for ever: a lock saves bandwidth and nothing else."""
        with contextlib.ExitStack() as held:
            with contextlib.suppress(StoreError):
                held.enter_context(atomic_files.lock(self.folder / LOCKS / f"{pin.sha256[:3]}.lock", WAIT))
            yield

    @staticmethod
    def _note_use(path: Path) -> None:
        """Time of change of a file says when it was used last, to the hour."""
        with contextlib.suppress(OSError):
            if abs(time.time() - path.lstat().st_mtime) > USED_EVERY:  # a clock may have been wrong, either way
                os.utime(path, follow_symlinks=False)  # which, unlike a touch, makes no file where it went meanwhile
