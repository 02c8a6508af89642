"""A store in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from batteries import short_repr
from batteries.errors import FormatError, NotFoundError
from batteries.io.atomic_files import Data
from registry.catalog import store_keys
from registry.stores.write_rules import read_each, refuse_moved, refuse_other, refuse_read_only


class MemoryStore:
    """A store in memory, for tests and temporary registries. Safe to share between threads.

    >>> import registry
    >>> store = registry.MemoryStore()
    >>> published = registry.publish(registry.load("low/fresnel-64@1.0.0"), store)
    >>> store.keys("low/")
    ['low/fresnel-64/1.0.0.json']
    """

    fixed_commit = None

    def __init__(self, *, writable: bool = True, url: str = "memory") -> None:
        self.writable = writable
        self._url = url
        self._held: dict[str, bytes] = {}
        self._index: bytes | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"MemoryStore({short_repr.counted(len(self._held), 'file')})"

    @property
    def url(self) -> str:
        """Name of the store in messages: ``memory``, or what its contents are of."""
        return self._url

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """See :meth:`Store.read_many`."""
        return read_each(self, limits)

    def read(self, key: str, *, limit: int) -> bytes:
        """See :meth:`Store.read`."""
        data = self._held.get(store_keys.check(key))
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
        refuse_read_only(self)
        with self._lock:
            present = self._held.setdefault(store_keys.check(key), bytes(data))
        refuse_other(key, present, data, self.url)

    def read_index(self) -> bytes | None:
        """See :meth:`Store.read_index`."""
        return self._index

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """See :meth:`Store.swap_index`."""
        refuse_read_only(self)
        with self._lock:
            refuse_moved(expected, self._index, self.url)
            self._index = bytes(data)
