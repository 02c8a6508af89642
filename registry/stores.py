"""Stores: where a registry's bytes live. Keys are written once; the index is the one thing that changes, by compare and swap.

Writing goes blobs, manifests, index: nothing names what is not there yet, and a reader sees a version whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from batteries import files
from batteries.canonical import sha256
from batteries.cellfile import MAX_CELL
from batteries.errors import ConflictError, FormatError, NotFoundError, PolicyError, StoreError
from registry import keys
from registry.index import MAX_INDEX

INDEX = "index.json"
LOCK = "index.lock"
LOCK_SECONDS = 30.0


class Store(Protocol):
    """What every store does. One contract suite runs over all of them."""

    @property
    def url(self) -> str:
        """What a user would type to name this store."""

    def read(self, key: str, *, limit: int) -> bytes:
        """The bytes under a key.

        Raises:
            InputError: not a key.
            NotFoundError: nothing there (``NO_FILE``).
            FormatError: more than ``limit`` bytes (``TOO_LARGE``).
        """

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that start so, sorted."""

    def put(self, key: str, data: bytes) -> None:
        """Write bytes under a key, once. The same bytes again are a success.

        Raises:
            InputError: not a key.
            ConflictError: other bytes are there (``VERSION_EXISTS``).
            PolicyError: the store is read-only (``READ_ONLY``).
        """

    def read_index(self) -> bytes | None:
        """The bytes of the index; None where the store has none yet."""

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """Put an index in the place of the one that was read.

        Args:
            expected: SHA-256 of the index that is to be replaced; None for the first.
            data: The new one.

        Raises:
            ConflictError: another index is there by now (``INDEX_MOVED``, retryable).
            PolicyError: the store is read-only (``READ_ONLY``).
        """


class MemoryStore:
    """A store in memory, for tests and for registries made on the fly. Safe to share between threads."""

    def __init__(self, *, writable: bool = True) -> None:
        self.writable = writable
        self._held: dict[str, bytes] = {}
        self._index: bytes | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Always the same: a store in memory has no address."""
        return "memory"

    def read(self, key: str, *, limit: int) -> bytes:
        """See :meth:`Store.read`."""
        data = self._held.get(keys.check(key))
        if data is None:
            raise NotFoundError("no such file", code="NO_FILE", where=f"{key} of {self.url}")
        if len(data) > limit:
            raise FormatError("too large", code="TOO_LARGE", expected=f"at most {limit} bytes", where=f"{key} of {self.url}")
        return data

    def keys(self, prefix: str = "") -> list[str]:
        """See :meth:`Store.keys`."""
        return sorted(key for key in self._held if key.startswith(prefix))

    def put(self, key: str, data: bytes) -> None:
        """See :meth:`Store.put`."""
        _refuse_read_only(self)
        with self._lock:
            present = self._held.setdefault(keys.check(key), bytes(data))
        _refuse_other(key, present, data, self.url)

    def read_index(self) -> bytes | None:
        """See :meth:`Store.read_index`."""
        return self._index

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """See :meth:`Store.swap_index`."""
        _refuse_read_only(self)
        with self._lock:
            _refuse_moved(expected, self._index, self.url)
            self._index = bytes(data)


class DirectoryStore:
    """A store in a folder. Reading creates nothing; the folder itself appears with the first write.

    Args:
        path: The folder.
        writable: Whether writes are let through. A writable store sweeps what killed writers left behind.
        lock_seconds: How long a change of the index waits for another one.
    """

    def __init__(self, path: str | Path, *, writable: bool = True, lock_seconds: float = LOCK_SECONDS) -> None:
        self.path = Path(path).absolute()
        self.writable = writable
        self.lock_seconds = lock_seconds
        # only a folder that holds our layout is swept: a mistyped one is somebody else's
        if writable and (self.path / keys.BLOBS).is_dir():
            files.sweep(self.path)

    @property
    def url(self) -> str:
        """The folder."""
        return str(self.path)

    def read(self, key: str, *, limit: int) -> bytes:
        """See :meth:`Store.read`."""
        return files.read(self._file(key), limit=limit)

    def keys(self, prefix: str = "") -> list[str]:
        """See :meth:`Store.keys`. Files that are no key's are passed over, and links are not followed."""
        found = (key for folder in keys.FOLDERS for key in self._keys_below(folder) if key.startswith(prefix))
        with files.typed(self.path):
            return sorted(found)

    def put(self, key: str, data: bytes) -> None:
        """See :meth:`Store.put`."""
        _refuse_read_only(self)
        path = self._file(key)
        if not files.create(path, data):
            _refuse_other(key, files.read(path, limit=max(len(data), MAX_CELL)), data, self.url)

    def read_index(self) -> bytes | None:
        """See :meth:`Store.read_index`."""
        try:
            return files.read(self.path / INDEX, limit=MAX_INDEX)
        except NotFoundError:
            return None

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """See :meth:`Store.swap_index`."""
        _refuse_read_only(self)
        with self._locked():
            _refuse_moved(expected, self.read_index(), self.url)
            files.replace(self.path / INDEX, data)

    def _file(self, key: str) -> Path:
        """The file of a key; a link on the way to it could lead out of the folder."""
        path = self.path.joinpath(*keys.check(key).split("/"))
        with files.typed(path):
            for folder in (path.parent, path.parent.parent):
                if folder.is_relative_to(self.path) and folder != self.path and folder.is_symlink():
                    raise FormatError("a symbolic link", code="SYMLINK", expected="a folder", where=folder)
        return path

    def _keys_below(self, folder: str) -> Iterator[str]:
        top = self.path / folder
        if not top.is_dir() or top.is_symlink():
            return
        for parent, _, names in os.walk(top, onerror=_raise):
            within = Path(parent).relative_to(self.path).as_posix()
            yield from (key for name in names if keys.is_key(key := f"{within}/{name}"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """The one writer of the index. The lock file is never removed: a waiter would hold a lock on nothing."""
        lock = FileLock(self.path / LOCK, timeout=self.lock_seconds, poll_interval=0.01)
        with files.typed(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout as error:
                raise StoreError(
                    "somebody else keeps changing the index",
                    code="LOCK_TIMEOUT",
                    expected=f"a turn within {self.lock_seconds:g} seconds",
                    where=self.path / LOCK,
                    remedy="Run the same command again, or look for a stopped process that holds the lock.",
                    retryable=True,
                ) from error
        try:
            yield
        finally:
            lock.release()


def _refuse_read_only(store: MemoryStore | DirectoryStore) -> None:
    if not store.writable:
        raise PolicyError(
            "a read-only registry", code="READ_ONLY", where=store.url, remedy="Name another registry as the target."
        )


def _refuse_other(key: str, present: bytes, data: bytes, url: str) -> None:
    if present != data:
        raise ConflictError(
            "other bytes are under this name",
            code="VERSION_EXISTS",
            expected=sha256(data),
            found=sha256(present),
            where=f"{key} of {url}",
            remedy="A published version never changes: publish under another version.",
        )


def _refuse_moved(expected: str | None, present: bytes | None, url: str) -> None:
    found = None if present is None else sha256(present)
    if found != expected:
        raise ConflictError(
            "somebody else changed the index",
            code="INDEX_MOVED",
            expected=expected or "no index yet",
            found=found or "no index",
            where=url,
            remedy="Read the index again and repeat the change.",
            retryable=True,
        )


def _raise(error: OSError) -> None:
    raise error
