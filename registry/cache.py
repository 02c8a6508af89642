"""The cache: bytes by digest below ``BATTERIES_HOME``, checked when they come in and again whenever they are used."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from batteries import files
from batteries.errors import BatteriesError, NotFoundError, StoreError
from registry.config import home
from registry.index import Pin
from registry.snapshot import read_pinned
from registry.stores import Store

BLOBS = "blobs"
ASIDE = "damaged"  # folder of what was found damaged: kept, because it says what went wrong


@dataclass(frozen=True)
class Cache:
    """A folder of bytes by digest. Any number of processes may share it.

    Attributes:
        folder: ``BATTERIES_HOME`` unless given.
    """

    folder: Path = field(default_factory=home)

    def path(self, digest: str) -> Path:
        """Where the bytes of a digest are, once they are here."""
        return self.folder / BLOBS / digest

    def sweep(self) -> int:
        """Remove what killed processes left behind; returns the number of bytes freed."""
        return files.sweep(self.folder / BLOBS)

    def fetch(self, store: Store, key: str, pin: Pin) -> bytes:
        """The bytes of a pin: from here if they are here and whole, else from the store.

        Raises:
            IntegrityError: the store has other bytes, or none.
            StoreError: no space, no permission.
        """
        held = self._held(pin)
        if held is not None:
            return held
        data = read_pinned(store, key, pin)
        files.create(self.path(pin.sha256), data)
        return data

    def _held(self, pin: Pin) -> bytes | None:
        path = self.path(pin.sha256)
        try:
            data = files.read(path, limit=pin.size)
            pin.check(data, where=path)
        except NotFoundError:
            return None
        except StoreError:
            raise
        except BatteriesError:
            self._set_aside(path)
            return None
        return data

    def _set_aside(self, path: Path) -> None:
        aside = self.folder / ASIDE / f"{path.name}.{secrets.token_hex(4)}"
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            path.replace(aside)
        except FileNotFoundError:  # another process was first
            return
        except OSError as error:
            raise StoreError("a damaged file cannot be moved aside", code="DISK", found=error.strerror, where=path) from error
