"""Composed models, as cells are published and pulled: every byte verified. Their files are large: they are mapped, not read.

Torch is imported by :func:`pull_model` alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import composer  # its readers import a library of graphs, on first use
from batteries import cellfile, files
from batteries.canonical import sha256
from batteries.cell import SUFFIX, Origin
from batteries.errors import FormatError, InputError, IntegrityError, NotFoundError
from batteries.manifest import MAX_BLOB, MAX_MANIFEST
from composer.manifest import ModelManifest
from registry import config, keys
from registry.admission import check_weights
from registry.cache import Cache
from registry.config import Mode
from registry.lockfile import LockedModel
from registry.pull import Progress, Wanted, wanted_of_locked
from registry.reference import Reference
from registry.release import ModelSummary, Pin
from registry.snapshot import check_model_manifest, locate
from registry.stores import Store

if TYPE_CHECKING:
    from composer.artifactfile import Opened
    from composer.wired import Wired

Found = TypeVar("Found")


@dataclass(frozen=True)
class PulledModel:
    """A model that was fetched and verified.

    Attributes:
        manifest: What it says of itself.
        origin: Where it was pulled from.
        path: Of its file in the cache.
    """

    manifest: ModelManifest
    origin: Origin
    path: Path

    def write(self, folder: str | Path) -> Path:
        """Write ``NAME.safetensors`` and ``NAME.json`` into a folder, each whole or not at all; returns the first.

        Raises:
            StoreError: no space, no permission.
        """
        path = Path(folder) / f"{self.manifest.identity.name}{SUFFIX}"
        files.replace(path, files.mapped(self.path, limit=MAX_BLOB))
        files.replace(path.with_suffix(".json"), self.manifest.to_bytes())
        return path


@dataclass(frozen=True)
class Packed:
    """A model in a file with its manifest beside it, both of them checked."""

    manifest: ModelManifest
    data: memoryview


def pull_model(
    target: str | Reference | LockedModel,
    *,
    registry: str | Path | Store | None = None,
    mode: Mode | None = None,
    progress: Progress = lambda done, total: None,
) -> Wired:
    """Fetch a composed model, check every byte of it, and load it. Its weights are its file in the cache, mapped.

    Args:
        target: ``[registry/]model/name[@version or range]`` or ``...@sha256:<hex>``, an alias of one, or a model of a lock.
        registry: As of :func:`registry.pull`.
        mode: As of :func:`registry.pull`.
        progress: As of :func:`registry.pull`.

    Raises:
        InputError: a cell (``A_CELL``), or not a reference.
        PolicyError: values that are not finite.
        BatteriesError: as :func:`registry.pull`.
    """
    if isinstance(target, LockedModel):
        (wanted,) = wanted_of_locked([target], registry, mode)
    else:
        reference = target if isinstance(target, Reference) else config.expand(target)
        if not reference.is_model:
            remedy = f'registry.pull("{reference}") is for cells.'
            raise InputError("a cell, not a composed model", code="A_CELL", found=reference, remedy=remedy)
        wanted = Wanted.of(locate([reference], registry, mode=mode)[0])
    size = wanted.blob.size
    progress(0, size)
    _, model = _fetched(wanted, Cache(), lambda path, seal: composer.load(path, seal=seal))
    progress(size, size)
    return model


def fetch_models(wanted: Sequence[Wanted], *, progress: Progress = lambda done, total: None) -> list[PulledModel]:
    """Fetch and verify models that are known by digest, one after the other, and say where they are.

    Raises:
        BatteriesError: as :func:`pull_model`.
    """
    cache = Cache()
    total, done, found = sum(one.blob.size for one in wanted), 0, []
    progress(done, total)
    for one in wanted:
        manifest, _ = _fetched(one, cache, _opened)
        origin = Origin(one.store.url, one.index_number, one.age)
        found.append(PulledModel(manifest, origin, cache.path(one.blob.sha256)))
        done += one.blob.size
        progress(done, total)
    return found


def is_model_file(path: str | Path) -> bool:
    """Whether a file is a composed model's.

    Raises:
        NotFoundError: no such file.
        StoreError: the disk would not give it.
    """
    return Path(path).suffix == SUFFIX and cellfile.is_model(files.mapped(Path(path), limit=MAX_BLOB))


def read_packed(path: str | Path) -> Packed:
    """Read ``NAME.safetensors`` with the manifest ``NAME.json`` beside it, as strictly as those who pull it will.

    Raises:
        NotFoundError: one of the two is missing.
        FormatError: one of the two is not well-formed, or the model cannot be put together.
        IntegrityError: not the file that the manifest describes, or not the cells that its lock names.
        PolicyError: weights that no trained cell has.
    """
    path = Path(path)
    data = files.mapped(path, limit=MAX_BLOB)
    beside = path.with_suffix(".json")
    if not beside.exists():
        raise NotFoundError(
            "a model's file without its manifest", code="NO_MANIFEST", expected=beside, remedy="Keep the two files together."
        )
    manifest = ModelManifest.from_bytes(files.read(beside, limit=MAX_MANIFEST), where=beside)
    opened = composer.open_artifact(data, where=path, seal=manifest.file.seal)
    _refuse_other_manifest(manifest, opened, data, beside)
    _check_weights(opened, path)
    return Packed(manifest, data)


def _fetched(wanted: Wanted, cache: Cache, read: Callable[[Path, str], Found]) -> tuple[ModelManifest, Found]:
    """The manifest of a model, and what its file is read to: the one in the cache, unless that was damaged since it came."""
    store, summary = wanted.store, wanted.summary
    assert summary is None or isinstance(summary, ModelSummary), "an index keeps cells and models apart"
    manifest = check_model_manifest(
        cache.fetch(store, wanted.manifest_key, wanted.manifest),
        wanted.reference,
        wanted.manifest,
        wanted.blob,
        summary=summary,
        where=f"{wanted.manifest_key} of {store.url}",
    )
    path = cache.path(wanted.blob.sha256)
    if cache.has(wanted.blob):
        with contextlib.suppress(FormatError, IntegrityError, NotFoundError):
            return manifest, read(path, manifest.file.seal)
        if not _is_undamaged(path, wanted.blob):
            files.move_aside(path, cache.aside)
    cache.bring(store, keys.blob(wanted.blob.sha256), wanted.blob)
    return manifest, read(path, manifest.file.seal)


def _is_undamaged(path: Path, pin: Pin) -> bool:
    """Whether a file is the one that was promised. If it is refused all the same, so is every copy of it."""
    try:
        pin.check(files.mapped(path, limit=pin.size), where=path)
    except (FormatError, IntegrityError, NotFoundError):
        return False
    return True


def _opened(path: Path, seal: str) -> Opened:
    return composer.open_artifact(files.mapped(path, limit=MAX_BLOB), where=path, seal=seal)


def _refuse_other_manifest(manifest: ModelManifest, opened: Opened, data: memoryview, where: Path) -> None:
    """The seal fits already: what is left is what the manifest says beside it."""
    file = manifest.file.model_copy(update={"size": len(data), "sha256": sha256(data)})
    right = composer.describe(
        opened.artifact, file, manifest.identity, package=manifest.package, torch=manifest.torch
    ).model_dump()
    wrong = [name for name, value in manifest.model_dump().items() if value != right[name]]
    if wrong:
        remedy = "Compose the model again."
        raise IntegrityError(
            "the manifest of another model", code="WRONG_MODEL", found=", ".join(wrong), where=where, remedy=remedy
        )


def _check_weights(opened: Opened, where: Path) -> None:
    """Every cell's weights, as those of a cell by itself are looked at."""
    for cell, arrays in opened.weights():
        check_weights(arrays, opened.artifact.groups[cell.group], where=f"{cell.name} of {where}")
