"""The cache: bytes by digest below ``BATTERIES_HOME``, checked when they are stored and on every use."""

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
from batteries.io.access import Access
from batteries.io.home import REMEDY, home
from batteries.io.verified import Verified
from registry.catalog.release import Pin
from registry.stores.directory import ASIDE, DirectoryStore
from registry.stores.memory import MemoryStore
from registry.stores.store import Store
from registry.stores.verified_read import read_pinned

BLOBS = "blobs"
LOCKS = "locks"
WAIT = 60.0  # seconds to wait for another process's transfer of the same bytes; then both transfer them
USED_EVERY = 3600.0  # seconds between two updates of a file's time of use


@dataclass(frozen=True)
class Cache:
    """A folder of bytes by digest. Any number of processes may share it.

    An inaccessible or read-only folder acts as an empty cache that keeps nothing.

    Attributes:
        folder: Folder of the cache; by default ``BATTERIES_HOME``.
        refusals: Errors of the disk for files that could not be kept.
    """

    folder: Path = field(default_factory=home)
    refusals: list[StoreError] = field(default_factory=list, compare=False, repr=False)

    @property
    def blobs(self) -> Path:
        """Folder of the bytes."""
        return self.folder / BLOBS

    @property
    def access(self) -> Access:
        """Access of other users: files and folders are as open as the cache's folder."""
        return Access(self.folder)

    @property
    def aside(self) -> Path:
        """Folder of damaged files."""
        return self.folder / ASIDE

    def path(self, digest: str) -> Path:
        """Return the path of the bytes with a digest, which need not exist."""
        return self.blobs / digest

    def sweep(self) -> int:
        """Remove temporary files of killed processes and return the number of bytes freed."""
        with self._doing_without():
            return atomic_files.sweep(self.folder) + (atomic_files.sweep(self.blobs) if atomic_files.is_link(self.blobs) else 0)
        return 0

    def fetch(self, store: Store, key: str, pin: Pin) -> Verified[bytes]:
        """Return the bytes of a pin: from the cache if intact, else from the store, with one retry if they arrive damaged.

        Of several processes that need the same bytes, one transfers them and the others wait; this only saves bandwidth.

        Raises:
            IntegrityError: the store has other bytes, or none.
            StoreError: disk failure.
        """
        held = self.held(pin)
        if held is not None:
            return held
        with self._turn(pin):
            held = self.held(pin)
            return self._transfer(store, key, pin) if held is None else held

    def held(self, pin: Pin) -> Verified[bytes] | None:
        """Return the bytes of a pin if the cache has them intact; damaged ones are moved aside."""
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
        """Return whether the cache has a file of a pin's name and size; its content is left for the caller to verify."""
        path = self.path(pin.sha256)
        with contextlib.suppress(OSError):
            status = path.lstat()
            self._note_use(path)
            return stat.S_ISREG(status.st_mode) and status.st_size == pin.size
        return False

    def bring(self, store: Store, key: str, pin: Pin) -> Path:
        """Fetch the file of a pin, as :meth:`fetch`, to be opened by its path and verified by the caller.

        Returns:
            Path in the cache, or in a store that is a folder if the cache cannot keep the file.

        Raises:
            IntegrityError: the store has other bytes, or none.
            StoreError: disk failure, or a file that cannot be kept (``NO_CACHE``).
        """
        with self._turn(pin):
            if not self.has(pin):
                if os.path.lexists(self.path(pin.sha256)):
                    self.put_aside(self.path(pin.sha256))
                self._transfer(store, key, pin)
        return self.path(pin.sha256) if self.has(pin) else self.place_of(store, key)

    def file(self, store: Store | None, key: str, pin: Pin) -> Path:
        """Return the path of a pin's file after it was fetched: in the cache if intact, else in a store that is a folder.

        Raises:
            StoreError: the file could not be kept (``NO_CACHE``).
        """
        return self.place_of(store, key) if self.held(pin) is None else self.path(pin.sha256)

    def place_of(self, store: Store | None, key: str) -> Path:
        """Return the path of a key in a store that is a folder, for a file that the cache cannot keep.

        Raises:
            StoreError: store that is no folder (``NO_CACHE``).
        """
        if isinstance(store, DirectoryStore):
            return store.path_of(key)
        raise StoreError("no place to keep fetched files", code="NO_CACHE", where=self.folder, remedy=REMEDY)

    def keep(self, found: Verified[bytes]) -> None:
        """Store bytes in the cache."""
        with self._doing_without():
            atomic_files.create(self.path(found.sha256), found.data, access=self.access)

    def put_aside(self, path: Path) -> None:
        """Move a damaged file aside, unless the folder does not allow it."""
        with self._doing_without():
            atomic_files.move_aside(path, self.aside, access=self.access)

    def warn(self, stores: Iterable[Store]) -> None:
        """Warn if files fetched from remote stores were not kept; local stores need no cache."""
        if self.refusals and not all(isinstance(store, DirectoryStore | MemoryStore) for store in stores):
            what = f"fetched files not kept, cache unusable ({self.refusals[0].what})"
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
        """Wait for another process to transfer the same bytes, up to ``WAIT`` seconds: the lock only saves bandwidth."""
        with contextlib.ExitStack() as held:
            with contextlib.suppress(StoreError):
                held.enter_context(atomic_files.lock(self.folder / LOCKS / f"{pin.sha256[:3]}.lock", WAIT, self.access))
            yield

    @staticmethod
    def _note_use(path: Path) -> None:
        """Record the time of use, to the hour, as the file's modification time."""
        with contextlib.suppress(OSError):
            if abs(time.time() - path.lstat().st_mtime) > USED_EVERY:  # a clock may have been wrong in either direction
                os.utime(path, follow_symlinks=False)  # unlike touch, it creates no file
