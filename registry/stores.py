"""Stores: where a registry's bytes live. Keys are written once; the index is the one thing that changes, by compare and swap.

Writing goes blobs, manifests, index: nothing names what is not there yet, and a reader sees a version whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from batteries.cell.manifest import MAX_BLOB
from batteries.errors import ConflictError, FormatError, NotFoundError, PolicyError, StoreWarning
from batteries.io import atomic_files
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import sha256
from batteries.io.missing_operations import Operation, noting
from registry import keys
from registry.index import MAX_INDEX

INDEX = "index.json"
LOCK = "index.lock"
LOCK_SECONDS = 30.0
UNPROMISED: dict[Operation, tuple[str, str]] = {  # codes and words of what a registry cannot promise without an operation
    "link": ("NO_LINKS", "no hard links: of two publishers of one version at the same time, the later one's file may stay"),
    "lock": ("NO_LOCKS", "no file locks: of two changes at the same time, one may be lost"),
    "sync": ("NO_SYNC", "no sync: a loss of power may take what was published just before"),
}


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

    @property
    def fixed_commit(self) -> str | None:
        """The commit that this address must mean for ever, where it names a tag; None for any other address."""

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """The bytes under many keys, by key, each with its limit; a key with nothing there is left out.

        A store that pays for every question may have them in one piece, so they are to be compared with their pins.
        """

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that start so, sorted."""

    def put(self, key: str, data: Data) -> None:
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

    fixed_commit = None

    def __init__(self, *, writable: bool = True) -> None:
        self.writable = writable
        self._held: dict[str, bytes] = {}
        self._index: bytes | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Always the same: a store in memory has no address."""
        return "memory"

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """See :meth:`Store.read_many`."""
        return _read_each(self, limits)

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

    def put(self, key: str, data: Data) -> None:
        """See :meth:`Store.put`."""
        _refuse_read_only(self)
        with self._lock:
            present = self._held.setdefault(keys.check(key), bytes(data))
        refuse_other(key, present, data, self.url)

    def read_index(self) -> bytes | None:
        """See :meth:`Store.read_index`."""
        return self._index

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """See :meth:`Store.swap_index`."""
        _refuse_read_only(self)
        with self._lock:
            refuse_moved(expected, self._index, self.url)
            self._index = bytes(data)


class DirectoryStore:
    """A store in a folder. Reading creates nothing; the folder itself appears with the first write.

    The folder may be reached by symbolic links, which are followed once. What is in it may be links where it is only read, as
    in the cache of a download; its digests are compared all the same. Where it is written to, links in it are refused.

    Args:
        path: The folder.
        writable: Whether writes are let through. A writable store sweeps what killed writers left behind.
        name: What a user types in place of the path, where it has a name.
        lock_seconds: How long a change of the index waits for another one.
    """

    fixed_commit = None

    def __init__(
        self, path: str | Path, *, writable: bool = True, name: str | None = None, lock_seconds: float = LOCK_SECONDS
    ) -> None:
        with atomic_files.typed(Path(path)):
            self._named = Path(path).absolute()
            self.path = Path(os.path.realpath(self._named))
        self.writable = writable
        self._unpromised: set[Operation] = set()
        self._name = name
        self.lock_seconds = lock_seconds
        # only a folder that holds our layout is swept: a mistyped one is somebody else's
        if writable and atomic_files.is_folder(self.path / keys.BLOBS):
            atomic_files.sweep(self.path)

    @property
    def url(self) -> str:
        """The folder as it was named, or its name."""
        return str(self._named) if self._name is None else self._name

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """See :meth:`Store.read_many`."""
        return _read_each(self, limits)

    def read(self, key: str, *, limit: int) -> bytes:
        """See :meth:`Store.read`."""
        return atomic_files.read(self.path_of(key), limit=limit, links=not self.writable)

    def keys(self, prefix: str = "") -> list[str]:
        """See :meth:`Store.keys`. Files that are no key's are passed over."""
        return sorted(key for folder in keys.FOLDERS for key in self._keys_below(folder) if key.startswith(prefix))

    def put(self, key: str, data: Data) -> None:
        """See :meth:`Store.put`."""
        _refuse_read_only(self)
        path = self.path_of(key)
        with self._saying_so():
            made = atomic_files.create(path, data)
        if not made:
            refuse_other(key, atomic_files.mapped(path, limit=MAX_BLOB), data, self.url)

    def read_index(self) -> bytes | None:
        """See :meth:`Store.read_index`. What a writer builds upon is on the device first: its own writer may have died."""
        index = self._index()
        if self.writable and index is not None:
            atomic_files.sync(self.path)
        return index

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """See :meth:`Store.swap_index`."""
        _refuse_read_only(self)
        with self._saying_so(), atomic_files.lock(self.path / LOCK, self.lock_seconds):
            refuse_moved(expected, self._index(), self.url)
            atomic_files.replace(self.path / INDEX, data)

    def _index(self) -> bytes | None:
        try:
            return atomic_files.read(self.path / INDEX, limit=MAX_INDEX, links=not self.writable)
        except NotFoundError:
            return None

    @contextlib.contextmanager
    def _saying_so(self) -> Iterator[None]:
        """Say, once for each, which promises the file system does not let this store keep."""
        with noting() as lacking:
            yield
        for operation in sorted(lacking & UNPROMISED.keys() - self._unpromised):
            self._unpromised.add(operation)
            code, words = UNPROMISED[operation]
            remedy = "Publish from one process at a time, or to a registry on another file system."
            warnings.warn(StoreWarning(f"a file system with {words}", code=code, where=self.url, remedy=remedy), stacklevel=4)

    def path_of(self, key: str) -> Path:
        """The file of a key.

        Raises:
            InputError: not a key.
            FormatError: the store may be written, and a folder on the way is a symbolic link, which could lead out of it.
        """
        *within, name = keys.check(key).split("/")
        folder = self.path
        for part in within:
            folder = folder / part
            if self.writable and atomic_files.is_link(folder):
                remedy = "Put a folder in its place; one that is only read may have links in it (writable=False)."
                raise FormatError("a symbolic link", code="SYMLINK", expected="a folder", where=folder, remedy=remedy)
        return folder / name

    def _keys_below(self, name: str) -> Iterator[str]:
        folder = self.path / name
        if self.writable and atomic_files.is_link(folder):
            return
        for path in atomic_files.walk(folder, depth=keys.DEPTH, links=not self.writable):
            key = path.relative_to(self.path).as_posix()
            if keys.is_key(key):
                yield key


def _read_each(store: Store, limits: Mapping[str, int]) -> dict[str, bytes]:
    found = {}
    for key, limit in limits.items():
        with contextlib.suppress(NotFoundError, FormatError):
            found[key] = store.read(key, limit=limit)
    return found


def _refuse_read_only(store: MemoryStore | DirectoryStore) -> None:
    if not store.writable:
        raise PolicyError(
            "a read-only registry", code="READ_ONLY", where=store.url, remedy="Name another registry as the target."
        )


def refuse_other(key: str, present: Data, data: Data, url: str) -> None:
    """Refuse bytes under a key that has others.

    Raises:
        ConflictError: other bytes are there (``VERSION_EXISTS``).
    """
    if present != data:
        raise taken(key, expected=sha256(data), found=sha256(present), url=url)


def taken(key: str, *, expected: str, found: str, url: str) -> ConflictError:
    """The error of a key that has other bytes than were to be put there, by their digests."""
    return ConflictError(
        "other bytes are under this name",
        code="VERSION_EXISTS",
        expected=expected,
        found=found,
        where=f"{key} of {url}",
        remedy="A published version never changes: publish under another version.",
    )


def refuse_moved(expected: str | None, present: bytes | None, url: str) -> None:
    """Refuse to swap an index that is not the one that was read.

    Args:
        expected: SHA-256 of that one; None for none.
        present: The index that is there.
        url: Of the store.

    Raises:
        ConflictError: they differ (``INDEX_MOVED``, retryable).
    """
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


def no_index(url: str) -> NotFoundError:
    """The error of a place that is there, and no registry."""
    return NotFoundError("a registry without an index", code="NO_INDEX", expected=INDEX, where=url, remedy="Check its address.")
