"""Pull: references in, verified cells out. No torch here."""

from __future__ import annotations

from pathlib import Path

from batteries.cell import SUFFIX, Cell
from registry.cache import Cache
from registry.reference import Reference
from registry.snapshot import Located, check_manifest, locate
from registry.stores import Store


def pull(*references: str | Reference, registry: str | Path | Store | None = None) -> list[Cell]:
    """Fetch cells, and check every byte of them.

    Args:
        references: ``[registry/]band/name[@version]`` or ``...@sha256:<hex>``.
        registry: A folder or a store; left out, the registry in force. A reference that names its registry keeps it.

    Returns:
        The cells, in the order of the references: all of them, or there is an error.

    Raises:
        InputError: not a reference.
        NotFoundError: no such cell, version or registry.
        IntegrityError: bytes that are not the ones that the index promises.
        FormatError: an index, a manifest or a cell that is not well-formed.
        PolicyError: weights that are not finite.
        StoreError: no space or no permission for the cache.
    """
    parsed = [reference if isinstance(reference, Reference) else Reference.parse(reference) for reference in references]
    cache = Cache()
    cache.sweep()
    return [pull_located(located, cache) for located in locate(parsed, registry)]


def load(target: str | Path | Cell, *, registry: str | Path | Store | None = None) -> Cell:
    """A cell from whatever names it.

    Args:
        target: A reference, the path of a cell file (a ``.safetensors`` with its manifest beside it), or a cell.
        registry: Where a reference is looked up.

    Raises:
        BatteriesError: as :func:`pull` or :meth:`batteries.Cell.read`.
    """
    if isinstance(target, Cell):
        return target
    if isinstance(target, Path) or target.endswith(SUFFIX):
        return Cell.read(target)
    return pull(target, registry=registry)[0]


def pull_located(located: Located, cache: Cache) -> Cell:
    """Fetch one cell that was found in an index.

    Raises:
        BatteriesError: as :func:`pull`.
    """
    store, release = located.snapshot.store, located.release
    manifest_bytes = cache.fetch(store, located.manifest_key, release.manifest)
    manifest = check_manifest(manifest_bytes, located, where=f"{located.manifest_key} of {store.url}")
    blob = cache.fetch(store, located.blob_key, release.blob)
    return Cell.from_bytes(blob, manifest, where=f"{located.blob_key} of {store.url}")
