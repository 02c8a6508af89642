"""Reading what a pin promises from a store."""

from __future__ import annotations

from batteries.errors import FormatError, IntegrityError, NotFoundError
from registry.release import Pin
from registry.stores import Store


def read_pinned(store: Store, key: str, pin: Pin) -> bytes:
    """The bytes of a key that a pin promises.

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
        raise IntegrityError("another size", code="SIZE_MISMATCH", expected=pin.size, found="more", where=where) from error
    pin.check(data, where=where)
    return data
