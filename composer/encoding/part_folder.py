"""Parts of a file that is not finished: a hidden folder beside it, with one file for every finished group of images.

A part is named by the digest of everything that its tokens depend on: the images' values, the cells' weights and specs, the
tokens, the arithmetic. A later run takes the parts that it would write itself, and no others. Each ends with the SHA-256 of
what comes before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from batteries.errors import FormatError, NotFoundError
from batteries.io import atomic_files, canonical_json, folders
from batteries.io.atomic_files import Data

LOCK = "lock"
WHOLE = "whole"
PART = ".tokens"
DIGEST = sha256().digest_size


class PartFolder:
    """The parts of one file.

    Args:
        out: File that is to be.
        recipe: Canonical bytes of everything but the images that tokens depend on.

    Attributes:
        folder: Hidden folder beside the file.
    """

    def __init__(self, out: Path, recipe: bytes) -> None:
        self.folder = out.with_name(f".{out.name}.parts")
        self._out = out
        self._recipe = recipe

    @contextmanager
    def held(self, fresh: bool) -> Iterator[None]:
        """Keep other processes out inside this ``with``; the folder is removed at its end unless parts are left for later.

        Args:
            fresh: True to remove parts of earlier runs.

        Raises:
            StoreError: another process writes the same file (``LOCK_TIMEOUT``), no permission, a failing disk.
        """
        with atomic_files.lock(self.folder / LOCK, 0):
            atomic_files.sweep(self.folder)
            if fresh:
                for part in self._parts():
                    atomic_files.remove(part)
            try:
                yield
            finally:
                if not self._parts():
                    folders.remove(self.folder)

    def key(self, images: Sequence[str]) -> str:
        """Return the name of the part of a group of images, from their digests."""
        return canonical_json.sha256(self._recipe + canonical_json.dump(list(images)))

    def holds(self, key: str, size: int) -> bool:
        """Return True where a part of that many bytes is there and whole."""
        try:
            data = atomic_files.mapped(self._path(key), limit=size + DIGEST)
        except (NotFoundError, FormatError):
            return False
        return len(data) == size + DIGEST and sha256(data[:size]).digest() == data[size:]

    def write(self, key: str, arrays: Iterable[memoryview]) -> None:
        """Write a part.

        Raises:
            StoreError: no space, no permission, a failing disk.
        """
        parts, running = list(arrays), sha256()
        for part in parts:
            running.update(part)
        atomic_files.replace(self._path(key), *parts, running.digest())

    def read(self, key: str, size: int) -> memoryview:
        """Return the bytes of a part as memory that the system reads where it is looked at."""
        return atomic_files.mapped(self._path(key), limit=size + DIGEST)[:size]

    def finish(self, parts: Iterable[Data]) -> None:
        """Write the whole file, in place of one that is there, and remove the parts.

        Args:
            parts: Bytes of the file, made while it is written.

        Raises:
            StoreError: no space, no permission, a failing disk. The parts stay.
        """
        atomic_files.replace_from(self.folder / WHOLE, parts)
        atomic_files.move(self.folder / WHOLE, self._out)
        folders.remove(self.folder)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{PART}"

    def _parts(self) -> list[Path]:
        return [path for path in atomic_files.walk(self.folder, depth=0) if path.suffix == PART]
