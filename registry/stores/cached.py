"""A remote registry with its last index from the cache: the modes *offline* and *prefer-cache*."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from batteries.errors import PolicyError, TransportError
from batteries.io.atomic_files import Data
from batteries.network.hub_environment import offline_variable
from registry.stores.store import Store


class CachedStore:
    """A remote store that is opened when bytes outside the cache are first needed, or never.

    Args:
        url: Address of the store.
        connect: Function that opens the store; None forbids network access.
    """

    fixed_commit = None

    def __init__(self, url: str, connect: Callable[[], Store] | None) -> None:
        self._url = url
        self._connect = connect
        self._store: Store | None = None

    def __repr__(self) -> str:
        return f"CachedStore({self.url!r})"

    @property
    def url(self) -> str:
        """See :class:`registry.Store`."""
        return self._url

    def read(self, key: str, *, limit: int) -> bytes:
        """See :meth:`registry.Store.read`."""
        return self._open(key).read(key, limit=limit)

    def read_many(self, limits: Mapping[str, int]) -> dict[str, bytes]:
        """See :meth:`registry.Store.read_many`."""
        return self._open(f"{len(limits)} files").read_many(limits)

    def keys(self, prefix: str = "") -> list[str]:
        """See :meth:`registry.Store.keys`."""
        return self._open("the list of keys").keys(prefix)

    def read_index(self) -> bytes | None:
        """See :meth:`registry.Store.read_index`."""
        return self._open("the index").read_index()

    def put(self, key: str, data: Data) -> None:
        """Raise an error: a write must be compared with the current state."""
        raise _read_only(self._url)

    def swap_index(self, expected: str | None, data: bytes) -> None:
        """Raise an error, as :meth:`put`."""
        raise _read_only(self._url)

    def _open(self, what: str) -> Store:
        if self._connect is None:
            raise offline(f"{what} of {self._url}")
        if self._store is None:
            self._store = self._connect()
        return self._store


def offline(what: str) -> TransportError:
    """Return the error for data that only the network has."""
    variable = offline_variable()
    forbidden = "--mode online, or without BATTERIES_MODE" if variable is None else f"without {variable}"
    return TransportError(
        "not in the cache, and offline",
        code="OFFLINE",
        found=what,
        remedy=f"Run the command once online: {forbidden}.",
    )


def _read_only(url: str) -> PolicyError:
    return PolicyError("registry read from the cache", code="READ_ONLY", where=url, remedy="Write to it online.")
