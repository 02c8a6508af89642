"""Signed documents in a folder that no index lists: those that are in use, and those that an interrupted change left."""

from __future__ import annotations

from batteries.errors import BatteriesError
from batteries.io.texts.hostile_json import load_loose
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.stores.store import Store
from registry.trust.signed_documents import MAX_SIGNED


def is_in_use(store: Store, index: Index, key: str) -> bool:
    """Return whether a signed document belongs to a registry: a document of keys, the signature of an index or of a release.

    An interrupted change leaves the signature of an index that never was: its number is greater than that of the index.
    """
    if key.startswith(f"{store_keys.TRUST}/"):
        return True
    if not key.startswith(f"{store_keys.SIGNATURES}/"):
        return False
    if key in {store_keys.signature(release.manifest.sha256) for _, _, release in index.everything()}:
        return True
    try:
        document = load_loose(store.read(key, limit=MAX_SIGNED), where=key, limit=MAX_SIGNED)
        signed = document["signed"]
        return "index.json" in signed["targets"] and 0 < signed["version"] <= index.number
    except (BatteriesError, LookupError, TypeError):
        return False
