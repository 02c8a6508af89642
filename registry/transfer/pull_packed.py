"""Composed models and maps, as cells are published and pulled: every byte verified. Their files are mapped, not read.

Torch is imported by :func:`pull_model` and :func:`pull_maps` alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import composer  # its readers import a library of graphs, on first use
from batteries.cell.artifact_kinds import MAPS, MODEL, ArtifactKind, kind_of
from batteries.cell.cell import SUFFIX, Origin
from batteries.cell.manifest import MAX_BLOB, MAX_MANIFEST
from batteries.errors import FormatError, InputError, IntegrityError, NotFoundError
from batteries.io import atomic_files
from batteries.io.canonical_json import sha256
from composer.artifact.manifest import MANIFESTS, AnyPacked
from registry.catalog import store_keys
from registry.catalog.reference import Reference
from registry.catalog.release import Pin
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.settings import Mode
from registry.stores.snapshot import check_packed_manifest, locate
from registry.stores.store import Store
from registry.transfer import yanked_versions
from registry.transfer.lockfile import LockedCell, LockedMaps, LockedModel
from registry.transfer.pull import Progress, Wanted, wanted_of_locked
from registry.transfer.weight_checks import check_weights

if TYPE_CHECKING:
    from composer.artifact.kinds import AnyOpened
    from composer.container.container import Container
    from composer.procrustes.consensus import Consensus
    from composer.procrustes.similarity import Alignment
    from composer.wiring.wired_model import Wired

Found = TypeVar("Found")


@dataclass(frozen=True)
class PulledFile:
    """A model or maps, fetched and verified.

    Attributes:
        manifest: What they say of themselves.
        origin: Where they were pulled from.
        path: Of the file in the cache; in its registry, where that is a folder and the cache cannot be written.
    """

    manifest: AnyPacked
    origin: Origin
    path: Path

    def write(self, folder: str | Path) -> Path:
        """Write ``NAME.safetensors`` and ``NAME.json`` into a folder, each whole or not at all; returns the first.

        Raises:
            StoreError: no space, no permission.
        """
        path = Path(folder) / f"{self.manifest.identity.name}{SUFFIX}"
        atomic_files.replace(path, atomic_files.mapped(self.path, limit=self.manifest.KIND.limit, links=True))
        atomic_files.replace(path.with_suffix(".json"), self.manifest.to_bytes())
        return path


@dataclass(frozen=True)
class Packed:
    """A file with its manifest beside it, both of them checked."""

    manifest: AnyPacked
    data: memoryview


def pull_model(
    target: str | Reference | LockedModel,
    *,
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
    progress: Progress = lambda done, total: None,
) -> Wired | Container:
    """Fetch a composed model, check every byte of it, and load it. Its weights are its file in the cache, mapped.

    What was saved as a container comes back as one, see :func:`composer.load`.

    Args:
        target: ``[registry/]model/name[@version or range]`` or ``...@sha256:<hex>``, an alias of one, or a model of a lock.
        registry: As of :func:`registry.pull`.
        mode: As of :func:`registry.pull`.
        progress: As of :func:`registry.pull`.

    Raises:
        InputError: a cell (``A_CELL``), maps (``MAPS``), or not a reference.
        PolicyError: values that are not finite.
        BatteriesError: as :func:`registry.pull`.
    """
    return _pulled(MODEL, target, registry, mode, progress, lambda path, seal: composer.load(path, seal=seal))


def pull_maps(
    target: str | Reference | LockedMaps,
    *,
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
    progress: Progress = lambda done, total: None,
) -> Consensus | Alignment:
    """Fetch maps, check every byte of them, and load them.

    Args:
        target: ``[registry/]maps/name[@version or range]`` or ``...@sha256:<hex>``, an alias of one, or maps of a lock.
        registry: As of :func:`registry.pull`.
        mode: As of :func:`registry.pull`.
        progress: As of :func:`registry.pull`.

    Returns:
        As :func:`composer.load_maps`: each map knows its ends by digest.

    Raises:
        InputError: a cell (``A_CELL``), a model (``A_MODEL``), or not a reference.
        PolicyError: numbers that no fit makes.
        BatteriesError: as :func:`registry.pull`.
    """
    return _pulled(MAPS, target, registry, mode, progress, lambda path, seal: composer.load_maps(path, seal=seal))


def fetch_packed(wanted: Sequence[Wanted], *, progress: Progress = lambda done, total: None) -> list[PulledFile]:
    """Fetch and verify models and maps that are known by digest, one after the other, and say where they are.

    Raises:
        BatteriesError: as :func:`pull_model`.
    """
    cache = Cache()
    total, done, found = sum(one.blob.size for one in wanted), 0, []
    progress(done, total)
    for one in wanted:
        manifest, path, _ = _fetched(one, cache, partial(_opened, one))
        found.append(PulledFile(manifest, one.origin, path))
        done += one.blob.size
        progress(done, total)
    cache.warn(one.store for one in wanted)
    return found


def kind_of_file(path: str | Path) -> ArtifactKind | None:
    """The kind that a file names; None where it is a cell's, or nothing of ours.

    Raises:
        NotFoundError: no such file.
        StoreError: the disk would not give it.
    """
    return kind_of(atomic_files.mapped(Path(path), limit=MAX_BLOB, links=True)) if Path(path).suffix == SUFFIX else None


def read_packed(path: str | Path, kind: ArtifactKind) -> Packed:
    """Read ``NAME.safetensors`` with the manifest ``NAME.json`` beside it, as strictly as those who pull it will.

    Raises:
        NotFoundError: one of the two is missing.
        FormatError: one of the two is not well-formed, or not of this kind, or a model that cannot be put together.
        IntegrityError: not the file that the manifest describes, or not the cells that its lock names.
        PolicyError: weights that no trained cell has, or maps that no fit makes.
    """
    path = Path(path)
    data = atomic_files.mapped(path, limit=kind.limit, links=True)
    beside = path.with_suffix(".json")
    try:
        words = atomic_files.read(beside, limit=MAX_MANIFEST, links=True)
    except NotFoundError as error:
        what, remedy = f"{kind.words} without a manifest", "Keep the two files together."
        raise NotFoundError(what, code="NO_MANIFEST", expected=beside, remedy=remedy) from error
    manifest = MANIFESTS[kind.name].from_bytes(words, where=beside)
    opened = composer.kinds.open_packed(kind, data, where=path, seal=manifest.file.seal)
    _refuse_other_manifest(manifest, opened, data, beside)
    for name, spec, arrays in composer.kinds.weights(opened):  # as those of a cell by itself are looked at
        check_weights(arrays, spec, where=f"{name} of {path}")
    return Packed(manifest, data)


def _pulled(
    kind: ArtifactKind,
    target: str | Reference | LockedCell,
    registry: str | Path | Store | None,
    mode: Mode | None,
    progress: Progress,
    load: Callable[[Path, str], Found],
) -> Found:
    """What the file of a reference, or of a row of a lock, is loaded to."""
    if isinstance(target, LockedCell):
        _refuse_other_kind(kind, target.reference)
        (wanted,) = wanted_of_locked([target], registry, mode)
    else:
        reference = target if isinstance(target, Reference) else settings.expand(target)
        _refuse_other_kind(kind, reference)
        wanted = Wanted.of(locate([reference], registry, mode=mode)[0])
    size = wanted.blob.size
    progress(0, size)
    cache = Cache()
    _, _, found = _fetched(wanted, cache, load)
    cache.warn([wanted.store])
    progress(size, size)
    yanked_versions.warn([(wanted.reference, wanted.yanked)], stacklevel=3)
    return found


def _fetched(wanted: Wanted, cache: Cache, read: Callable[[Path, str], Found]) -> tuple[AnyPacked, Path, Found]:
    """The manifest, the file, and what that is read to: the one in the cache, unless that was damaged since it came."""
    store = wanted.store
    manifest = check_packed_manifest(
        cache.fetch(store, wanted.manifest_key, wanted.manifest),
        wanted.reference,
        wanted.manifest,
        wanted.blob,
        summary=wanted.summary,
        where=f"{wanted.manifest_key} of {store.url}",
    )
    path = cache.path(wanted.blob.sha256)
    if cache.has(wanted.blob):
        with contextlib.suppress(FormatError, IntegrityError, NotFoundError):
            return manifest, path, read(path, manifest.file.seal)
        if not _is_undamaged(path, wanted.blob):
            cache.put_aside(path)
    path = cache.bring(store, store_keys.blob(wanted.blob.sha256), wanted.blob)
    return manifest, path, read(path, manifest.file.seal)


def _is_undamaged(path: Path, pin: Pin) -> bool:
    """Whether a file is the one that was promised. If it is refused all the same, so is every copy of it."""
    try:
        pin.check(atomic_files.mapped(path, limit=pin.size), where=path)
    except (FormatError, IntegrityError, NotFoundError):
        return False
    return True


def _opened(wanted: Wanted, path: Path, seal: str) -> AnyOpened:
    kind = wanted.reference.kind
    assert kind is not None, "cells are fetched by registry.pull"
    return composer.kinds.open_packed(kind, atomic_files.mapped(path, limit=kind.limit, links=True), where=path, seal=seal)


def _refuse_other_kind(kind: ArtifactKind, reference: Reference) -> None:
    found = reference.kind
    if found is not kind:
        words, code, puller = (
            ("a cell", "A_CELL", "registry.pull") if found is None else (found.words, found.code, found.puller)
        )
        remedy = f'{puller}("{reference}") is for {words}.'
        raise InputError(f"{words}, not {kind.words}", code=code, found=reference, remedy=remedy)


def _refuse_other_manifest(manifest: AnyPacked, opened: AnyOpened, data: memoryview, where: Path) -> None:
    """The seal fits already: what is left is what the manifest says beside it."""
    file = manifest.file.model_copy(update={"size": len(data), "sha256": sha256(data)})
    right = composer.kinds.describe(
        opened.document, file, manifest.identity, package=manifest.package, torch=manifest.torch
    ).model_dump()
    wrong = [name for name, value in manifest.model_dump().items() if value != right[name]]
    if wrong:
        kind = manifest.KIND
        raise IntegrityError(
            f"the manifest of another {kind.name}",
            code=f"WRONG_{kind.name.upper()}",
            found=", ".join(wrong),
            where=where,
            remedy="Make the two files again.",
        )
