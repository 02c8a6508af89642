"""Yanked versions: never chosen automatically, and pulled with a warning if named exactly."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Sequence

from batteries.errors import FormatError, IntegrityError, NotFoundError, PolicyError
from registry.catalog.index import Index
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.cached import CachedStore
from registry.stores.rollback_guard import Memory
from registry.stores.store import INDEX, Store


class YankedWarning(UserWarning):
    """A yanked version was pulled, because a reference or a lock names exactly that one.

    >>> import warnings
    >>> import registry
    >>> published = registry.publish(registry.load("low/fresnel-64@1.0.0"), "cells")
    >>> yanked = registry.yank("low/fresnel-64@1.0.0", "wrong data", "cells")
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     cells = registry.pull("low/fresnel-64@1.0.0", registry="cells")
    >>> print(caught[0].message)
    low/fresnel-64@1.0.0 is yanked: wrong data
    """

    def __init__(self, reference: str, reason: str) -> None:
        self.reference = reference
        self.reason = reason
        super().__init__(f"{reference} is yanked: {reason}")


def warn(found: Iterable[tuple[object, str | None]], *, stacklevel: int) -> None:
    """Warn of each yanked version.

    Args:
        found: References, each with the reason of its yank, or None.
        stacklevel: Stack level of :func:`warnings.warn`, counted from the caller.
    """
    for reference, reason in found:
        if reason is not None:
            warnings.warn(YankedWarning(str(reference), reason), stacklevel=stacklevel + 1)


def reasons(index: Index | None, names: Sequence[tuple[str, str]]) -> list[str | None]:
    """Return the reasons of yanks, or None for each version not known to be yanked.

    Args:
        index: Index of the registry; None if it is not known.
        names: Path and version of each.
    """
    if index is None:
        return [None for _ in names]
    released = [index.releases(path).get(version) for path, version in names]
    return [None if release is None else release.yanked for release in released]


def known_index(store: Store, cache: Cache, *, complete: bool) -> Index | None:
    """Return the index of a store for a lock, which needs none; None if there is none that can be read.

    Args:
        store: Store of the registry.
        cache: Cache with the last index of a remote store.
        complete: Whether the cache has all the files; a remote store is then not contacted.
    """
    with contextlib.suppress(FormatError, IntegrityError, NotFoundError, PolicyError):
        if not is_asked(store, complete=complete):
            memory = Memory(cache)
            note = memory.note(store)
            return None if note is None else memory.index(note)
        data = store.read_index()
        return None if data is None else Index.from_bytes(data, where=f"{INDEX} of {store.url}")
    return None


def is_asked(store: Store, *, complete: bool) -> bool:
    """Return whether a store is asked for its index: a folder always, a remote one if it is asked for files, too."""
    return not settings.is_remote(store.url) or not (complete or isinstance(store, CachedStore))
