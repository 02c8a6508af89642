"""Reading what a pin promises from a store."""

from __future__ import annotations

import contextlib

from batteries.errors import FormatError, IntegrityError, NotFoundError
from batteries.io.canonical_json import UNCONVERTED
from batteries.io.verified import Verified
from registry.catalog import store_keys
from registry.catalog.release import Pin
from registry.stores.store import Store


def read_pinned(store: Store, key: str, pin: Pin) -> Verified[bytes]:
    """Bytes of a key that a pin promises.

    Raises:
        IntegrityError: none there (``MISSING``), or others.
    """
    where = f"{key} of {store.url}"
    try:
        data = store.read(key, limit=pin.size)
    except NotFoundError as error:
        raise IntegrityError(
            "bytes that the index promises are missing", code="MISSING", expected=f"{pin.size} bytes", where=where
        ) from error
    except FormatError as error:
        if error.code != "TOO_LARGE":
            raise
        remedy = UNCONVERTED if _was_converted(store, key, pin) else None
        raise IntegrityError(
            "another size", code="SIZE_MISMATCH", expected=pin.size, found="more", where=where, remedy=remedy
        ) from error
    return pin.check(data, where=where)


def _was_converted(store: Store, key: str, pin: Pin) -> bool:
    """Whether the right bytes are there but for the line endings, which only a text has."""
    if not key.endswith(store_keys.JSON):
        return False
    with contextlib.suppress(FormatError, NotFoundError):
        return Pin.of(store.read(key, limit=2 * pin.size).replace(b"\r\n", b"\n")) == pin
    return False
