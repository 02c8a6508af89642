"""The cache: bytes by digest below ``BATTERIES_HOME``, checked when they come in and again whenever they are used."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from batteries import files
from batteries.errors import BatteriesError, IntegrityError, NotFoundError, StoreError
from batteries.home import home
from registry.pinned import read_pinned
from registry.release import Pin
from registry.stores import Store

BLOBS = "blobs"
LOCKS = "locks"
ASIDE = "damaged"  # folder of what was found damaged: kept, because it says what went wrong
WAIT = 60.0  # seconds for somebody else's transfer of the same bytes; then both transfer them
USED_EVERY = 3600.0  # seconds between two notes that a file was used


@dataclass(frozen=True)
class Cache:
    """A folder of bytes by digest. Any number of processes may share it.

    Attributes:
        folder: ``BATTERIES_HOME`` unless given.
    """

    folder: Path = field(default_factory=home)

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
        return files.sweep(self.folder)

    def fetch(self, store: Store, key: str, pin: Pin) -> bytes:
        """The bytes of a pin: from here if they are here and whole, else from the store, once more where they came damaged.

        Of many that want the same bytes one transfers them and the others wait; right bytes do not depend on that.

        Raises:
            IntegrityError: the store has other bytes, or none.
            StoreError: no space, no permission.
        """
        held = self.held(pin)
        if held is not None:
            return held
        with self._turn(pin):
            held = self.held(pin)
            return self._transfer(store, key, pin) if held is None else held

    def held(self, pin: Pin) -> bytes | None:
        """The bytes of a pin, if they are here and whole; damaged ones are moved aside."""
        path = self.path(pin.sha256)
        try:
            data = files.read(path, limit=pin.size)
            pin.check(data, where=path)
        except NotFoundError:
            return None
        except StoreError:
            raise
        except BatteriesError:
            files.move_aside(path, self.aside)
            return None
        self._note_use(path)
        return data

    def has(self, pin: Pin) -> bool:
        """Whether a file of a pin's name and size is here; nobody looks into it, so whoever opens it has to."""
        path = self.path(pin.sha256)
        with contextlib.suppress(OSError):
            there = path.stat().st_size == pin.size
            self._note_use(path)
            return there
        return False

    def bring(self, store: Store, key: str, pin: Pin) -> None:
        """Have the file of a pin here, as :meth:`fetch`, for whoever opens it by its path.

        Raises:
            IntegrityError: the store has other bytes, or none.
            StoreError: no space, no permission.
        """
        with self._turn(pin):
            if not self.has(pin):
                if self.path(pin.sha256).exists():
                    files.move_aside(self.path(pin.sha256), self.aside)
                self._transfer(store, key, pin)

    def keep(self, pin: Pin, data: bytes) -> None:
        """Put bytes here that were checked against their pin."""
        files.create(self.path(pin.sha256), data)

    def _transfer(self, store: Store, key: str, pin: Pin) -> bytes:
        try:
            data = read_pinned(store, key, pin)
        except IntegrityError as error:
            if error.code == "MISSING":
                raise
            data = read_pinned(store, key, pin)
        self.keep(pin, data)
        return data

    @contextlib.contextmanager
    def _turn(self, pin: Pin) -> Iterator[None]:
        """Wait while somebody else transfers the same bytes, but not for ever: a lock saves bandwidth and nothing else."""
        with contextlib.ExitStack() as held:
            with contextlib.suppress(StoreError):
                held.enter_context(files.lock(self.folder / LOCKS / f"{pin.sha256[:3]}.lock", WAIT))
            yield

    @staticmethod
    def _note_use(path: Path) -> None:
        """The time of change of a file says when it was used last, to the hour."""
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > USED_EVERY:
                path.touch()
