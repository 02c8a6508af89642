"""Rules for writing to a store: each key once, the index by compare-and-swap, nothing to a read-only store."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Protocol

from batteries.errors import ConflictError, FormatError, NotFoundError, PolicyError
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import sha256
from registry.stores.store import Store


class Writable(Protocol):
    """A store that declares whether it may be written to."""

    @property
    def writable(self) -> bool:
        """True if writes are allowed."""
        ...

    @property
    def url(self) -> str:
        """Address as a user would type it."""
        ...


def read_each(store: Store, limits: Mapping[str, int]) -> dict[str, bytes]:
    """Read many keys one by one, for a store where requests are cheap; keys that cannot be read are left out."""
    found = {}
    for key, limit in limits.items():
        with contextlib.suppress(NotFoundError, FormatError):
            found[key] = store.read(key, limit=limit)
    return found


def refuse_read_only(store: Writable) -> None:
    """Raise if a store is read-only.

    Raises:
        PolicyError: read-only store (``READ_ONLY``).
    """
    if not store.writable:
        raise read_only(store.url)


def read_only(url: str) -> PolicyError:
    """Return the error for a write to a read-only store."""
    return PolicyError("read-only registry", code="READ_ONLY", where=url, remedy="Name another registry as the target.")


def refuse_other(key: str, present: Data, data: Data, url: str) -> None:
    """Raise if the bytes already under a key differ from those to be written.

    Raises:
        ConflictError: key already in use with other content (``VERSION_EXISTS``).
    """
    if present != data:
        raise taken(key, expected=sha256(data), found=sha256(present), url=url)


def taken(key: str, *, expected: str, found: str, url: str) -> ConflictError:
    """Return the error for a key whose bytes differ from those to be written, given both digests."""
    return ConflictError(
        "key already in use with other content",
        code="VERSION_EXISTS",
        expected=expected,
        found=found,
        where=f"{key} of {url}",
        remedy="A published version never changes: publish under another version. If it is listed nowhere, because its publish "
        "was interrupted, the same command succeeds an hour later.",
    )


def refuse_moved(expected: str | None, present: bytes | None, url: str) -> None:
    """Raise if the current index is not the one that was read.

    Args:
        expected: SHA-256 of the index that was read; None if there was none.
        present: Bytes of the current index; None if there is none.
        url: Address of the store.

    Raises:
        ConflictError: index changed by another writer (``INDEX_MOVED``, retryable).
    """
    found = None if present is None else sha256(present)
    if found != expected:
        raise ConflictError(
            "index changed by another writer",
            code="INDEX_MOVED",
            expected=expected or "no index yet",
            found=found or "no index",
            where=url,
            remedy="Read the index again and repeat the change.",
            retryable=True,
        )
