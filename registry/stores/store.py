"""Stores: where a registry's bytes live. Keys are written once; the index is the one thing that changes, by compare and swap.

Writing goes blobs, manifests, index: nothing names what is not there yet, and a reader sees a version whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from batteries.errors import NotFoundError
from batteries.io.atomic_files import Data

INDEX = "index.json"


class Store(Protocol):
    """What every store does. One contract suite runs over all of them."""

    @property
    def url(self) -> str:
        """What a user would type to name this store."""

    def read(self, key: str, *, limit: int) -> bytes:
        """Bytes under a key.

        Raises:
            InputError: not a key.
            NotFoundError: nothing there (``NO_FILE``).
            FormatError: more than ``limit`` bytes (``TOO_LARGE``).
        """

    @property
    def fixed_commit(self) -> str | None:
        """The commit that this address must mean for ever, where it names a tag; None for any other address."""

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """Bytes under many keys, by key, each with its limit; a key with nothing there is left out.

        A store that pays for every question may have them in one piece, so they are to be compared with their pins.
        """

    def keys(self, prefix: str = "") -> list[str]:
        """Keys that start so, sorted."""

    def put(self, key: str, data: Data) -> None:
        """Write bytes under a key, once. The same bytes again are a success.

        Raises:
            InputError: not a key.
            ConflictError: other bytes are there (``VERSION_EXISTS``).
            PolicyError: the store is read-only (``READ_ONLY``).
        """

    def read_index(self) -> bytes | None:
        """Bytes of the index; None where the store has none yet."""

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """Put an index in the place of the one that was read.

        Args:
            expected: SHA-256 of the index that is to be replaced; None for the first.
            data: The new one.

        Raises:
            ConflictError: another index is there by now (``INDEX_MOVED``, retryable).
            PolicyError: the store is read-only (``READ_ONLY``).
        """


def no_index(url: str) -> NotFoundError:
    """Error of a place that is there, and no registry."""
    return NotFoundError("a registry without an index", code="NO_INDEX", expected=INDEX, where=url, remedy="Check its address.")
