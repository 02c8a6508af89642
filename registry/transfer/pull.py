"""Pull: references in, verified cells and other artifacts out. Torch is imported only where one of another kind is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from batteries.arguments import each
from batteries.cell.cell import SUFFIX, Cell
from batteries.errors import BatteriesError, InputError
from batteries.io.verified import Verified
from registry.catalog import store_keys
from registry.catalog.kinds import CELL
from registry.catalog.reference import NamePattern, Reference, is_pattern
from registry.catalog.release import Summary
from registry.stores.cache import Cache
from registry.stores.settings import Mode
from registry.stores.snapshot import Located, check_manifest
from registry.stores.store import Store
from registry.transfer.lockfile import Lock, LockedCell
from registry.transfer.parallel_jobs import side_by_side
from registry.transfer.pull_packed import load_packed
from registry.transfer.search import named, references_of
from registry.transfer.wanted import Progress, Wanted, wanted_of, warn_of_yanked
from registry.transfer.weight_checks import check_weights

WORKERS = 8  # transfers at a time

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
            kinds, an alias of the configuration file, a row of a lock, or what :func:`registry.find` found; one by one, or a
            list of them. A pattern, such as ``low/*`` or ``low/*@^1``, stands for every name that it matches, sorted, at its
            newest version.
        registry: A folder, ``hf://owner/repo[@revision]`` or a store; left out, the registry in force. A reference that names
            its registry keeps it.
        mode: ``online``: the registry's index is read anew. ``prefer-cache``: the one that was read last serves.
            ``offline``: nothing is asked of the network. Left out, ``BATTERIES_MODE``, else online.
        progress: Told how many bytes are here, of how many.

    Returns:
        A list in the order of the references, one of them or many: a :class:`batteries.Cell` for a cell, which says where it
        came from, and what :func:`composer.load` returns for any other kind, whose file stays in the cache. All of them, or
        there is an error.

    Warns:
        YankedWarning: a version that should not be used, named by a reference.
        StoreWarning: the cache cannot be written (``NO_CACHE``), and the registry is not on this machine.

    Raises:
        InputError: not a reference (``REFERENCE``).
        NotFoundError: no such artifact, version or registry.
        IntegrityError: bytes that are not the ones that the index promises, or a registry that went back.
        FormatError: an index, a manifest or a file that is not well-formed.
        PolicyError: weights that are not finite, or that no trained cell has; maps that no fit makes.
        TransportError: the network, or offline and not in the cache.
        StoreError: a failing disk.
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
    """Fetch exactly what a lock names, the cells first; no index is read, the digests are all it takes.

    Args:
        lock: Names it.
        registry: A folder, ``hf://owner/repo[@revision]`` or a store that has the bytes; left out, each one's own source.
        mode: As of :func:`pull`.
        progress: As of :func:`pull`.

    Warns:
        YankedWarning: a version that was yanked, as far as that is known: of a folder always, of a remote registry where
            something is fetched from it, or its index was read here since.

    Raises:
        BatteriesError: as :func:`pull`.
    """
    wanted = wanted_of(lock.everything, registry, mode)
    found = _load(wanted, progress)
    warn_of_yanked(wanted, stacklevel=2)
    return found


def pull_cells(*references: str | Reference | Located, registry: str | Path | Store | None = None) -> list[Cell]:
    """As :func:`pull`, where nothing but cells will do.

    Raises:
        InputError: an artifact of another kind (its code, such as ``A_MODEL``), before anything is fetched.
        BatteriesError: as :func:`pull`.
    """
    given = _expanded(references, registry)
    _refuse_other_kinds([one if isinstance(one, Reference | NamePattern) else one.reference for one in given])
    wanted = wanted_of(given, registry)
    found = fetch(wanted)
    warn_of_yanked(wanted, stacklevel=2)
    return found


def load(target: str | Path | Cell | Reference | Located, *, registry: str | Path | Store | None = None) -> Cell:
    """Cell from whatever names it.

    Args:
        target: A reference, a pattern with one match, what :func:`registry.find` found, the path of a cell file (a
            ``.safetensors`` with its manifest beside it), or a cell.
        registry: Where a reference is looked up.

    Raises:
        BatteriesError: as :func:`pull_cells` or :meth:`batteries.Cell.read`.
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
    """Fetch what is known by digest, several transfers at a time; what an interrupted call fetched stays in the cache.

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
    return InputError("not one cell", code="REFERENCE", expected="a reference", found=found, remedy=remedy)


def _load(wanted: Sequence[Wanted], progress: Progress) -> list[Any]:
    """Cells, several transfers at a time, then the others, one after the other; in the order asked."""
    total = sum(one.blob.size for one in wanted)
    cells = [one for one in wanted if one.reference.kind is CELL]
    others = [one for one in wanted if one.reference.kind is not CELL]
    here = sum(one.blob.size for one in cells)
    found = iter(fetch(cells, progress=lambda done, _: progress(done, total)) if cells or not others else ())
    loaded = iter(load_packed(others, progress=lambda done, _: progress(here + done, total)) if others else ())
    return [next(found if one.reference.kind is CELL else loaded) for one in wanted]


def _manifests_together(wanted: Sequence[Wanted], cache: Cache) -> dict[str, Verified[bytes]]:
    """Manifests that are not here, by digest, asked for together: a store may have them in one piece."""
    found: dict[str, Verified[bytes]] = {}
    for store in {id(one.store): one.store for one in wanted}.values():
        missing = {one.manifest_key: one.manifest for one in wanted if one.store is store and not cache.has(one.manifest)}
        if len(missing) < 2:
            continue
        for key, data in store.read_many({key: pin.size for key, pin in missing.items()}).items():
            try:
                manifest = missing[key].check(data, where=key)
            except BatteriesError:  # asked for again by itself, and named where it stays wrong
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
