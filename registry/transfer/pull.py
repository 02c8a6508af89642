"""Pull: references in, verified cells out. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from batteries.arguments import each
from batteries.cell.cell import SUFFIX, Cell, Origin
from batteries.errors import BatteriesError, InputError, NotFoundError
from registry.catalog import store_keys
from registry.catalog.reference import Reference
from registry.catalog.release import AnySummary, Pin, Summary
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.settings import Mode
from registry.stores.snapshot import Located, check_manifest, locate, open_bytes
from registry.stores.store import Store
from registry.transfer import yanked_versions
from registry.transfer.lockfile import Lock, LockedCell
from registry.transfer.parallel_jobs import side_by_side
from registry.transfer.weight_checks import check_weights

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
        yanked: Why it should not be used.
    """

    store: Store
    reference: Reference
    manifest: Pin
    blob: Pin
    summary: AnySummary | None = None
    index_number: int | None = None
    age: float = 0.0
    yanked: str | None = None

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
            release.yanked,
        )

    @property
    def manifest_key(self) -> str:
        """Where the manifest is."""
        return store_keys.manifest(self.reference.path, self.version)

    @property
    def version(self) -> str:
        """The exact version."""
        assert self.reference.version is not None
        return self.reference.version

    @property
    def origin(self) -> Origin:
        """What is said of where it came from."""
        return Origin(self.store.url, self.index_number, self.age, yanked=self.yanked)


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

    Warns:
        YankedWarning: a version that should not be used, named by a reference.

    Raises:
        InputError: not a reference (``REFERENCE``), or one of a composed model (``A_MODEL``) or of maps (``MAPS``).
        NotFoundError: no such cell, version or registry.
        IntegrityError: bytes that are not the ones that the index promises, or a registry that went back.
        FormatError: an index, a manifest or a cell that is not well-formed.
        PolicyError: weights that are not finite, or that no trained cell has.
        TransportError: the network, or offline and not in the cache.
        StoreError: a failing disk.

    Warns:
        StoreWarning: the cache cannot be written (``NO_CACHE``), and the registry is not on this machine.
    """
    listed = each(references, (str, Reference))
    parsed = [one if isinstance(one, Reference) else settings.expand(one) for one in listed]
    _refuse_other_kinds(parsed)
    found = fetch([Wanted.of(located) for located in locate(parsed, registry, mode=mode)], progress=progress)
    warn_of_yanked(found)
    return found


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

    Warns:
        YankedWarning: a version that was yanked, as far as that is known: of a folder always, of a remote registry where
            something is fetched from it, or its index was read here since.

    Raises:
        BatteriesError: as :func:`pull`.
    """
    found = fetch(wanted_of_locked(lock.cells, registry, mode), progress=progress)
    warn_of_yanked(found)
    return found


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
            opened[str(source)] = _open_locked(source, mode) if registry is None else open_bytes(source, mode)
        store = opened[str(source)] if isinstance(source, str | Path) else source
        wanted.append(Wanted(store, one.reference, one.manifest, one.blob))
    return _with_yanks(wanted, Cache())


def warn_of_yanked(cells: Sequence[Cell]) -> None:
    """Warn whoever called the caller of those cells that are yanked."""
    told = ((f"{cell.name}@{cell.version}", cell.origin.yanked) for cell in cells if cell.origin is not None)
    yanked_versions.warn(told, stacklevel=3)


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
    found: dict[int, Cell] = {}
    for place, cell in side_by_side([partial(_fetch_cell, one, cache) for one in wanted], WORKERS):
        found[place] = cell
        done += wanted[place].blob.size
        progress(done, total)
    cache.warn(one.store for one in wanted)
    return [found[n] for n in range(len(wanted))]


def _open_locked(source: str | Path, mode: Mode | None) -> Store:
    """The source that a lock names, which may be of another machine."""
    try:
        return open_bytes(source, mode)
    except NotFoundError as error:
        ships = " The one that ships is --registry embedded." if Path(source).name == "manifests" else ""
        error.remedy = f"The lock names it; --registry names another one that has the same cells.{ships}"
        raise


def _with_yanks(wanted: list[Wanted], cache: Cache) -> list[Wanted]:
    """The same, each with the reason why it should not be used, as far as its store's index is known."""
    found: dict[int, str | None] = {}
    for store in {id(one.store): one.store for one in wanted}.values():
        of_it = [n for n, one in enumerate(wanted) if one.store is store]
        names = [(wanted[n].reference.path, wanted[n].version) for n in of_it]
        complete = all(cache.has(pin) for n in of_it for pin in (wanted[n].manifest, wanted[n].blob))
        found |= zip(of_it, yanked_versions.reasons(store, names, cache, complete=complete), strict=True)
    return [replace(one, yanked=found[n]) for n, one in enumerate(wanted)]


def _fetch_manifests(wanted: Sequence[Wanted], cache: Cache) -> None:
    """Manifests that are not here, asked for together: a store may have them in one piece."""
    for store in {id(one.store): one.store for one in wanted}.values():
        missing = {one.manifest_key: one.manifest for one in wanted if one.store is store and not cache.has(one.manifest)}
        if len(missing) < 2:
            continue
        for key, data in store.read_many({key: pin.size for key, pin in missing.items()}).items():
            try:
                found = missing[key].check(data, where=key)
            except BatteriesError:  # asked for again by itself, and named where it stays wrong
                continue
            cache.keep(found)


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
        wanted.blob,
        summary=summary,
        where=where,
    )
    key = store_keys.blob(wanted.blob.sha256)
    cell = Cell.from_bytes(cache.fetch(store, key, wanted.blob), manifest, where=f"{key} of {store.url}")
    check_weights(cell.weights, cell.spec, where=f"{key} of {store.url}")
    return replace(cell, origin=wanted.origin)
