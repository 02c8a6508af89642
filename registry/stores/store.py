"""The interface of stores. Keys are written once; only the index changes, by compare-and-swap.

Blobs are written first, then manifests, then the index: nothing names a missing file, and a version is visible whole or not at
all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from batteries.errors import NotFoundError
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import sha256
from registry.catalog.index import Index

INDEX = "index.json"


class Store(Protocol):
    """Interface of all stores. One contract suite tests them all.

    >>> import registry
    >>> def size(store: registry.Store) -> int:
    ...     return len(store.keys())
    >>> size(registry.MemoryStore())
    0
    """

    @property
    def url(self) -> str:
        """Address as a user would type it."""

    def read(self, key: str, *, limit: int) -> bytes:
        """Return the bytes under a key.

        Raises:
            InputError: invalid key.
            NotFoundError: no such file (``NO_FILE``).
            FormatError: more than ``limit`` bytes (``TOO_LARGE``).
        """

    @property
    def fixed_commit(self) -> str | None:
        """Commit that the address must always mean, if it names a tag; None for any other address."""

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """Return the bytes under many keys, each with its size limit; missing keys are left out.

        A store with costly requests may fetch them in one piece, so the caller must compare them with their pins.
        """

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys with a prefix, sorted."""

    def put(self, key: str, data: Data) -> None:
        """Write bytes under a key, once. Writing the same bytes again succeeds.

        Raises:
            InputError: invalid key.
            ConflictError: key already in use with other content (``VERSION_EXISTS``).
            PolicyError: read-only store (``READ_ONLY``).
        """

    def read_index(self) -> bytes | None:
        """Return the bytes of the index; None if the store has none yet."""

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """Replace the index if it is still the one that was read.

        Args:
            expected: SHA-256 of the index to replace; None for the first.
            data: Bytes of the new index.

        Raises:
            ConflictError: index changed by another writer (``INDEX_MOVED``, retryable).
            PolicyError: read-only store (``READ_ONLY``).
        """


def no_index(url: str) -> NotFoundError:
    """Return the error for a store without an index."""
    return NotFoundError("no index", code="NO_INDEX", expected=INDEX, where=url, remedy="Check its address.")


def read_index_of(store: Store) -> tuple[Index, str | None]:
    """Read the index with the digest of its bytes; an empty index and None if there is none yet.

    Raises:
        BatteriesError: as :meth:`Index.from_bytes`.
    """
    data = store.read_index()
    if data is None:
        return Index(), None
    return Index.from_bytes(data, where=f"{INDEX} of {store.url}"), sha256(data)
