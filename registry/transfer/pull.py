"""Pull: references in, verified cells and other artifacts out. Torch is imported only to load artifacts of other kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from batteries.arguments import each
from batteries.cell.cell import SUFFIX, Cell
from batteries.engine.daemon_threads import side_by_side
from batteries.errors import BatteriesError, InputError
from batteries.io.verified import Verified
from registry.catalog import store_keys
from registry.catalog.kinds import CELL
from registry.catalog.pinned_documents import check_manifest
from registry.catalog.reference import NamePattern, Reference, is_pattern
from registry.catalog.release import Summary
from registry.stores.cache import Cache
from registry.stores.settings import Mode
from registry.stores.snapshot import Located
from registry.stores.store import Store
from registry.transfer.lockfile import Lock, LockedCell
from registry.transfer.pull_packed import load_packed
from registry.transfer.search import named, references_of
from registry.transfer.wanted import Progress, Wanted, wanted_of, wanted_of_locked, warn_of_yanked
from registry.transfer.weight_checks import check_weights

WORKERS = 8  # concurrent transfers

Named = str | Reference | Located | LockedCell


def pull(
    *references: Named | Iterable[Named],
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Any]:
    """Fetch artifacts, check every byte of them, and load them.

    Args:
        references: ``[registry/]band/name[@version or range]`` or ``...@sha256:<hex>``, ``model/name`` and so on of other
            kinds, an alias of the configuration file, a row of a lock, or a result of :func:`registry.find`; one or more, or a
            list of them. A pattern, such as ``low/*`` or ``low/*@^1``, stands for every name that it matches, sorted, at its
            newest version.
        registry: Folder, ``hf://owner/repo[@revision]`` or store; by default the default registry. A reference that names its
            own registry keeps it.
        mode: ``online`` reads the registry's index again, ``prefer-cache`` uses the last one read, ``offline`` makes no network
            request. By default ``BATTERIES_MODE``, else ``online``.
        progress: Callback with the bytes fetched so far and in total.

    Returns:
        List in the order of the references, even for a single one: for a cell a :class:`batteries.Cell` with its origin, for
        other kinds the result of :func:`composer.load`, whose file stays in the cache. Any failure raises, so it is complete.

    Warns:
        YankedWarning: a reference names a yanked version.
        StoreWarning: the cache cannot be written (``NO_CACHE``), and the registry is not on this machine.

    Raises:
        InputError: invalid reference (``REFERENCE``, ``BAD_REFERENCE``).
        NotFoundError: no such artifact, version or registry.
        IntegrityError: bytes that do not match the index, or a registry that was rolled back.
        FormatError: malformed index, manifest or file.
        PolicyError: implausible weights or maps.
        TransportError: network failure, or offline and not in the cache.
        StoreError: disk failure.

    >>> import registry
    >>> low, high = registry.pull("low/fresnel-64", "high/johanna-64@^3")
    >>> low.name, high.version
    ('low/fresnel-64', '3.0.0')
    """
    wanted = wanted_of(_expanded(references, registry, mode), registry, mode)
    found = _load(wanted, progress)
    warn_of_yanked(wanted, stacklevel=2)
    return found


def pull_locked(
    lock: Lock,
    *,
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Any]:
    """Fetch exactly the artifacts of a lock, the cells first. Digests suffice: no index is needed.

    If a registry that the lock names is asked, it must not be older than the lock, and be signed as it was then.

    Args:
        lock: Lock to pull.
        registry: Folder, ``hf://owner/repo[@revision]`` or store that has the bytes; by default each artifact's own source.
        mode: Network mode, as in :func:`pull`.
        progress: Callback, as in :func:`pull`.

    Warns:
        YankedWarning: a version is known to be yanked: always for a folder; for a remote registry if something is fetched from
            it, or its index was read on this machine since the yank.

    Raises:
        IntegrityError: registry older than the lock (``ROLLBACK``), or not signed by the keys that the lock pins.
        BatteriesError: as :func:`pull`.

    >>> import registry
    >>> from registry.stores.snapshot import locate
    >>> lock = registry.Lock.of(locate([registry.Reference.parse("low/fresnel-64")]))
    >>> (cell,) = registry.pull_locked(lock)
    >>> cell.digest == lock.cells[0].blob.sha256
    True
    """
    wanted = wanted_of_locked(lock.everything, registry, mode, indexes=lock.indexes)
    found = _load(wanted, progress)
    warn_of_yanked(wanted, stacklevel=2)
    return found


def pull_cells(*references: str | Reference | Located, registry: str | Path | Store | None = None) -> list[Cell]:
    """Pull cells only, as :func:`pull`.

    Raises:
        InputError: artifact of another kind (with its code, such as ``A_MODEL``), before anything is fetched.
        BatteriesError: as :func:`pull`.
    """
    given = _expanded(references, registry)
    _refuse_other_kinds([one if isinstance(one, Reference | NamePattern) else one.reference for one in given])
    wanted = wanted_of(given, registry)
    found = fetch(wanted)
    warn_of_yanked(wanted, stacklevel=2)
    return found


def load(target: str | Path | Cell | Reference | Located, *, registry: str | Path | Store | None = None) -> Cell:
    """Return one cell from a reference or a file.

    Args:
        target: Reference, pattern with one match, result of :func:`registry.find`, path of a cell file (a ``.safetensors`` with
            its manifest beside it), or a cell, returned as it is.
        registry: Registry in which a reference is looked up.

    Raises:
        BatteriesError: as :func:`pull_cells` or :meth:`batteries.Cell.read`.

    >>> import registry
    >>> cell = registry.load("low/fresnel-64")
    >>> cell.name, cell.spec.D
    ('low/fresnel-64', 16)
    """
    if isinstance(target, Cell):
        return target
    if isinstance(target, Path) or (isinstance(target, str) and target.endswith(SUFFIX)):
        return Cell.read(target)
    if not isinstance(target, str | Reference | Located):
        raise _not_one(repr(target)[:60])
    if is_pattern(target):
        target = _only(references_of([str(target)], registry), target)
    return pull_cells(target, registry=registry)[0]


def fetch(wanted: Sequence[Wanted], *, progress: Progress = lambda done, total: None) -> list[Cell]:
    """Fetch cells with known digests, several at a time; files of an interrupted call stay in the cache.

    Raises:
        BatteriesError: as :func:`pull`.
    """
    cache = Cache()
    cache.sweep()
    manifests = _manifests_together(wanted, cache)
    total, done = sum(one.blob.size for one in wanted), 0
    progress(done, total)
    found: dict[int, Cell] = {}
    for place, cell in side_by_side([partial(_fetch_cell, one, cache, manifests) for one in wanted], WORKERS):
        found[place] = cell
        done += wanted[place].blob.size
        progress(done, total)
    cache.warn(one.store for one in wanted)
    return [found[n] for n in range(len(wanted))]


def _expanded(
    given: Iterable[Any], registry: str | Path | Store | None, mode: Mode | None = None
) -> list[Reference | NamePattern | Located | LockedCell]:
    """List references, patterns, what was found, and rows of locks, one by one."""
    return named(each(given, (str, Reference, NamePattern, Located, LockedCell)), registry, mode)


def _only(found: Sequence[Reference], target: object) -> Reference:
    if len(found) > 1:
        raise _not_one(f"{len(found)} of the pattern {target}")
    return found[0]


def _not_one(found: str) -> InputError:
    remedy = "registry.pull takes a list of references, and patterns."
    return InputError("not a single cell", code="REFERENCE", expected="a reference", found=found, remedy=remedy)


def _load(wanted: Sequence[Wanted], progress: Progress) -> list[Any]:
    """Load cells with concurrent transfers, then the other kinds one by one; return all in the order asked."""
    total = sum(one.blob.size for one in wanted)
    cells = [one for one in wanted if one.reference.kind is CELL]
    others = [one for one in wanted if one.reference.kind is not CELL]
    here = sum(one.blob.size for one in cells)
    found = iter(fetch(cells, progress=lambda done, _: progress(done, total)) if cells or not others else ())
    loaded = iter(load_packed(others, progress=lambda done, _: progress(here + done, total)) if others else ())
    return [next(found if one.reference.kind is CELL else loaded) for one in wanted]


def _manifests_together(wanted: Sequence[Wanted], cache: Cache) -> dict[str, Verified[bytes]]:
    """Fetch the manifests missing from the cache together, by digest: a store may have them in one piece."""
    found: dict[str, Verified[bytes]] = {}
    for store in {id(one.store): one.store for one in wanted}.values():
        missing = {one.manifest_key: one.manifest for one in wanted if one.store is store and not cache.has(one.manifest)}
        if len(missing) < 2:
            continue
        for key, data in store.read_many({key: pin.size for key, pin in missing.items()}).items():
            try:
                manifest = missing[key].check(data, where=key)
            except BatteriesError:  # fetched again on its own, which raises if it is still wrong
                continue
            cache.keep(manifest)
            found[manifest.sha256] = manifest
    return found


def _refuse_other_kinds(references: Sequence[Reference | NamePattern]) -> None:
    for reference in references:
        if (kind := reference.kind) is not CELL:
            remedy = f'registry.pull("{reference}") loads it, `batteries pull {reference}` fetches its file.'
            raise InputError(f"{kind.words}, not a cell", code=kind.code, found=reference, remedy=remedy)


def _fetch_cell(wanted: Wanted, cache: Cache, manifests: Mapping[str, Verified[bytes]]) -> Cell:
    store, reference, summary = wanted.store, wanted.reference, wanted.summary
    assert summary is None or isinstance(summary, Summary), "an index keeps kinds apart"
    where = f"{wanted.manifest_key} of {store.url}"
    came = manifests.get(wanted.manifest.sha256) or cache.fetch(store, wanted.manifest_key, wanted.manifest)
    manifest = check_manifest(came, reference, wanted.blob, summary=summary, where=where)
    key = store_keys.blob(wanted.blob.sha256)
    cell = Cell.from_bytes(cache.fetch(store, key, wanted.blob), manifest, where=f"{key} of {store.url}")
    check_weights(cell.weights, cell.spec, where=f"{key} of {store.url}")
    return replace(cell, origin=wanted.origin)
