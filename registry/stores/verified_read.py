"""Verified reading of a store."""

from __future__ import annotations

import contextlib

from batteries.errors import FormatError, IntegrityError, NotFoundError
from batteries.io.canonical_json import UNCONVERTED
from batteries.io.verified import Verified
from registry.catalog import store_keys
from registry.catalog.release import Pin
from registry.stores.store import Store


def read_pinned(store: Store, key: str, pin: Pin) -> Verified[bytes]:
    """Read the bytes of a key and check them against a pin.

    Raises:
        IntegrityError: no bytes (``MISSING``), or other ones.
    """
    where = f"{key} of {store.url}"
    try:
        data = store.read(key, limit=pin.size)
    except NotFoundError as error:
        raise IntegrityError("missing file", code="MISSING", expected=f"{pin.size} bytes", where=where) from error
    except FormatError as error:
        if error.code != "TOO_LARGE":
            raise
        remedy = UNCONVERTED if _was_converted(store, key, pin) else None
        raise IntegrityError(
            "size mismatch", code="SIZE_MISMATCH", expected=pin.size, found="more", where=where, remedy=remedy
        ) from error
    return pin.check(data, where=where)


def _was_converted(store: Store, key: str, pin: Pin) -> bool:
    """Return whether a JSON file has the right bytes except for its line endings."""
    if not key.endswith(store_keys.JSON):
        return False
    with contextlib.suppress(FormatError, NotFoundError):
        return Pin.of(store.read(key, limit=2 * pin.size).replace(b"\r\n", b"\n")) == pin
    return False
