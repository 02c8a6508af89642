"""Pull: references in, verified cells out. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from batteries.arguments import each
from batteries.cell import SUFFIX, Cell, Origin
from batteries.errors import InputError
from registry import config, keys
from registry.admission import check_weights
from registry.cache import Cache
from registry.config import Mode
from registry.lockfile import Lock, LockedCell
from registry.reference import Reference
from registry.release import AnySummary, Pin, Summary
from registry.snapshot import Located, check_manifest, locate, open_bytes
from registry.stores import Store

WORKERS = 8  # transfers at a time

Progress = Callable[[int, int], None]  # bytes that are here, bytes in all


@dataclass(frozen=True)
class Wanted:
    """A cell, a model or maps whose digests are known, and where its bytes are.

    Attributes:
        store: Where.
        reference: With its exact version.
        manifest: Its manifest's bytes.
        blob: Its file's bytes.
        summary: What the index says of it; None where a lock named the digests.
        index_number: Of that index.
        age: Of that index, in seconds.
    """

    store: Store
    reference: Reference
    manifest: Pin
    blob: Pin
    summary: AnySummary | None = None
    index_number: int | None = None
    age: float = 0.0

    @classmethod
    def of(cls, located: Located) -> Wanted:
        """What was found in an index."""
        snapshot, release = located.snapshot, located.release
        return cls(
            snapshot.store,
            located.reference,
            release.manifest,
            release.blob,
            release.summary,
            snapshot.index.number,
            snapshot.age,
        )

    @property
    def manifest_key(self) -> str:
        """Where the manifest is."""
        assert self.reference.version is not None
        return keys.manifest(self.reference.path, self.reference.version)


def pull(
    *references: str | Reference | Iterable[str | Reference],
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Cell]:
    """Fetch cells, and check every byte of them.

    Args:
        references: ``[registry/]band/name[@version or range]`` or ``...@sha256:<hex>``, or an alias of the configuration file;
            one by one, or a list of them.
        registry: A folder, ``hf://owner/repo[@revision]`` or a store; left out, the registry in force. A reference that names
            its registry keeps it.
        mode: ``online``: the registry's index is read anew. ``prefer-cache``: the one that was read last serves.
            ``offline``: nothing is asked of the network. Left out, ``BATTERIES_MODE``, else online.
        progress: Told how many bytes are here, of how many.

    Returns:
        The cells, in the order of the references: all of them, or there is an error. Each says where it came from.

    Raises:
        InputError: not a reference (``REFERENCE``), or one of a composed model (``A_MODEL``) or of maps (``MAPS``).
        NotFoundError: no such cell, version or registry.
        IntegrityError: bytes that are not the ones that the index promises, or a registry that went back.
        FormatError: an index, a manifest or a cell that is not well-formed.
        PolicyError: weights that are not finite, or that no trained cell has.
        TransportError: the network, or offline and not in the cache.
        StoreError: no space or no permission for the cache.
    """
    listed = each(references, (str, Reference))
    parsed = [one if isinstance(one, Reference) else config.expand(one) for one in listed]
    _refuse_other_kinds(parsed)
    return fetch([Wanted.of(located) for located in locate(parsed, registry, mode=mode)], progress=progress)


def pull_locked(
    lock: Lock,
    *,
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Cell]:
    """Fetch exactly the cells of a lock; no index is read, the digests are all it takes.

    Its models are for :func:`registry.pull_model`, its maps for :func:`registry.pull_maps`.

    Args:
        lock: Names them.
        registry: A folder, ``hf://owner/repo[@revision]`` or a store that has the bytes; left out, each cell's own source.
        mode: As of :func:`pull`.
        progress: As of :func:`pull`.

    Raises:
        BatteriesError: as :func:`pull`.
    """
    return fetch(wanted_of_locked(lock.cells, registry, mode), progress=progress)


def wanted_of_locked(
    locked: Sequence[LockedCell], registry: str | Path | Store | None = None, mode: Mode | None = None
) -> list[Wanted]:
    """What a lock names, and where its bytes are: in this registry, else each in its own source.

    Raises:
        BatteriesError: a registry that cannot be opened.
    """
    opened: dict[str, Store] = {}
    wanted = []
    for one in locked:
        source = one.source if registry is None else registry
        if isinstance(source, str | Path) and str(source) not in opened:
            opened[str(source)] = open_bytes(source, mode)
        store = opened[str(source)] if isinstance(source, str | Path) else source
        wanted.append(Wanted(store, one.reference, one.manifest, one.blob))
    return wanted


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
    if isinstance(target, Path) or (isinstance(target, str) and target.endswith(SUFFIX)):
        return Cell.read(target)
    if not isinstance(target, str | Reference):
        remedy = "registry.pull takes a list of references."
        raise InputError("not one cell", code="REFERENCE", expected="a reference", found=repr(target)[:60], remedy=remedy)
    return pull(target, registry=registry)[0]


def fetch(wanted: Sequence[Wanted], *, progress: Progress = lambda done, total: None) -> list[Cell]:
    """Fetch what is known by digest, several transfers at a time; what an interrupted call fetched stays in the cache.

    Raises:
        BatteriesError: as :func:`pull`.
    """
    cache = Cache()
    cache.sweep()
    _fetch_manifests(wanted, cache)
    total, done = sum(one.blob.size for one in wanted), 0
    progress(done, total)
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = {pool.submit(_fetch_cell, one, cache): n for n, one in enumerate(wanted)}
        found: dict[int, Cell] = {}
        try:
            for job in as_completed(jobs):
                found[jobs[job]] = job.result()
                done += wanted[jobs[job]].blob.size
                progress(done, total)
        finally:
            pool.shutdown(cancel_futures=True)
    return [found[n] for n in range(len(wanted))]


def _fetch_manifests(wanted: Sequence[Wanted], cache: Cache) -> None:
    """Manifests that are not here, asked for together: a store may have them in one piece."""
    for store in {id(one.store): one.store for one in wanted}.values():
        missing = {one.manifest_key: one.manifest for one in wanted if one.store is store and cache.held(one.manifest) is None}
        if len(missing) < 2:
            continue
        for key, data in store.read_many({key: pin.size for key, pin in missing.items()}).items():
            if Pin.of(data) == missing[key]:  # others are asked for again one by one, and named where they stay wrong
                cache.keep(missing[key], data)


def _refuse_other_kinds(references: Sequence[Reference]) -> None:
    for reference in references:
        if (kind := reference.kind) is not None:
            remedy = f'{kind.puller}("{reference}") loads it, `batteries pull {reference}` fetches its file.'
            raise InputError(f"{kind.words}, not a cell", code=kind.code, found=reference, remedy=remedy)


def _fetch_cell(wanted: Wanted, cache: Cache) -> Cell:
    store, reference, summary = wanted.store, wanted.reference, wanted.summary
    assert summary is None or isinstance(summary, Summary), "an index keeps kinds apart"
    where = f"{wanted.manifest_key} of {store.url}"
    manifest = check_manifest(
        cache.fetch(store, wanted.manifest_key, wanted.manifest),
        reference,
        wanted.manifest,
        wanted.blob,
        summary=summary,
        where=where,
    )
    key = keys.blob(wanted.blob.sha256)
    cell = Cell.from_bytes(cache.fetch(store, key, wanted.blob), manifest, where=f"{key} of {store.url}")
    check_weights(cell.weights, cell.spec, where=f"{key} of {store.url}")
    return replace(cell, origin=Origin(store.url, wanted.index_number, wanted.age))
