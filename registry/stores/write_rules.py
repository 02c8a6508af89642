"""The rules of writing to a store: once under a key, by compare and swap of the index, never where it is read-only."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Protocol

from batteries.errors import ConflictError, FormatError, NotFoundError, PolicyError
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import sha256
from registry.stores.store import Store


class Writable(Protocol):
    """A store that says whether it may be written to."""

    @property
    def writable(self) -> bool:
        """Whether writes are let through."""
        ...

    @property
    def url(self) -> str:
        """What a user would type to name this store."""
        ...


def read_each(store: Store, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Bytes under many keys, by key, for a store that pays nothing for a question; what cannot be read is left out."""
    found = {}
    for key, limit in limits.items():
        with contextlib.suppress(NotFoundError, FormatError):
            found[key] = store.read(key, limit=limit)
    return found


def refuse_read_only(store: Writable) -> None:
    """Refuse to write to a store that is only read.

    Raises:
        PolicyError: it is read-only (``READ_ONLY``).
    """
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
    """Error of a key that has other bytes than were to be put there, by their digests."""
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
