"""Pinned keys: the table ``[trusted]`` of the configuration file, by the name or the address of a registry."""

from __future__ import annotations

import os
from pathlib import Path

from registry.stores import settings


def pins_of(url: str) -> tuple[str, ...]:
    """Return the ids of the keys that the configuration file pins for a registry, sorted; none if it pins none.

    An address on the Hub is pinned at every revision, since a pin without one would be avoided by naming one, and in capital
    and small letters, which the Hub does not tell apart.

    Args:
        url: Address of a store.

    Raises:
        FormatError: invalid configuration file (``CONFIG``).
    """
    found = settings.settings()
    pinned = {
        keyid
        for name, ids in found.trusted.items()
        if _place(found.registries.get(name, name), settings.config_file().parent) == _place(url, settings.HERE)
        for keyid in ([ids] if isinstance(ids, str) else ids)
    }
    return tuple(sorted(pinned))


def _place(address: str, base: Path) -> str:
    """Return what an address means, in one form for all addresses of one registry."""
    if settings.is_remote(address):
        return address.partition("@")[0].rstrip("/").casefold()
    if address == settings.EMBEDDED:
        return address
    try:
        return os.path.realpath(base / Path(address).expanduser())
    except (OSError, RuntimeError, ValueError):  # no such user, a NUL
        return address
