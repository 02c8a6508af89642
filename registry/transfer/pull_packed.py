"""Publishing and pulling of artifacts other than cells, with every byte verified. Their files are memory-mapped.

Only :func:`load_packed` imports torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batteries import short_repr
from batteries.cell.cell import SUFFIX, Origin
from batteries.cell.manifest import MAX_BLOB, MAX_MANIFEST
from batteries.errors import FormatError, IntegrityError, NotFoundError
from batteries.io import atomic_files, canonical_json, file_pair
from batteries.io.canonical_json import sha256
from batteries.io.verified import verify
from composer.artifact.form import ArtifactForm
from composer.artifact.kinds import FORMS, form_in
from composer.artifact.manifest import PackedManifest
from composer.sealed.reader import Opened
from registry.catalog import store_keys
from registry.catalog.pinned_documents import check_packed_manifest
from registry.catalog.release import Pin
from registry.stores.cache import Cache
from registry.transfer.wanted import Progress, Wanted
from registry.transfer.weight_checks import check_weights

Read = Callable[[ArtifactForm[Any], Opened[Any]], Any]


@dataclass(frozen=True)
class PulledFile:
    """A fetched and verified artifact other than a cell.

    Attributes:
        manifest: Manifest of the artifact.
        origin: Registry and index from which it was pulled.
        path: Path of the file in the cache, or in a registry folder if the cache cannot be written.

    >>> import composer, registry
    >>> from registry.transfer.pull_packed import fetch_packed
    >>> from registry.transfer.wanted import wanted_of
    >>> label = composer.artifact.PackedLabel(name="one", version="1.0.0", license="Apache-2.0", description="A test.")
    >>> manifest = composer.pack(composer.compose(registry.load("low/fresnel-64")), "one.safetensors", label)
    >>> published = registry.publish("one.safetensors", "cells")
    >>> (pulled,) = fetch_packed(wanted_of([registry.Reference.parse("model/one")], "cells"))
    >>> pulled.manifest == manifest, pulled.write("copies").name
    (True, 'one.safetensors')
    """

    manifest: PackedManifest
    origin: Origin
    path: Path

    __repr__ = short_repr.fields

    def write(self, folder: str | Path) -> Path:
        """Write ``NAME.safetensors`` and ``NAME.json`` into a folder, in place of a pair of that name; return the first's path.

        Raises:
            IntegrityError: file that changed in the cache since it was pulled.
            StoreError: no space or no permission.
        """
        path = Path(folder) / f"{self.manifest.identity.name}{SUFFIX}"
        file_pair.write(path, [self.verified()], self.manifest.to_bytes())
        return path

    def verified(self) -> memoryview:
        """Map the file, and compare it with its manifest again: other users may write to a cache.

        Raises:
            IntegrityError: file that changed since it was pulled.
            StoreError: unreadable file.
        """
        file = self.manifest.file
        data = atomic_files.mapped(self.path, limit=self.manifest.KIND.limit, links=True)
        return verify(data, sha256=file.sha256, size=file.size, where=self.path, remedy="Pull it again.").data


@dataclass(frozen=True)
class Packed:
    """A file and its manifest, both checked."""

    manifest: PackedManifest
    data: memoryview


def load_packed(wanted: Sequence[Wanted], *, progress: Progress = lambda done, total: None) -> list[Any]:
    """Fetch, verify and load artifacts other than cells, with known digests, one by one.

    Raises:
        BatteriesError: as :func:`registry.pull`.
    """
    return [value for _, _, value in _fetch_all(wanted, lambda form, opened: form.put_together(opened), progress)]


def fetch_packed(wanted: Sequence[Wanted], *, progress: Progress = lambda done, total: None) -> list[PulledFile]:
    """Fetch and verify artifacts other than cells, without loading them or importing torch.

    Raises:
        BatteriesError: as :func:`registry.pull`.
    """
    found = _fetch_all(wanted, lambda form, opened: None, progress)
    return [PulledFile(manifest, one.origin, path) for one, (manifest, path, _) in zip(wanted, found, strict=True)]


def form_of_file(path: str | Path) -> ArtifactForm[Any] | None:
    """Return the form of the kind that a file names; None for a cell's file or a foreign one.

    Raises:
        NotFoundError: no such file.
        StoreError: unreadable file.
    """
    return form_in(atomic_files.mapped(Path(path), limit=MAX_BLOB, links=True)) if Path(path).suffix == SUFFIX else None


def read_packed(path: str | Path, form: ArtifactForm[Any]) -> Packed:
    """Read ``NAME.safetensors`` with the manifest ``NAME.json`` beside it, as strictly as a pull does.

    Raises:
        NotFoundError: file or manifest missing.
        FormatError: file or manifest malformed or of another kind, or a model that cannot be assembled.
        IntegrityError: file that does not match the manifest, or cells that do not match its lock.
        PolicyError: implausible weights or maps.
    """
    path = Path(path)
    data = atomic_files.mapped(path, limit=form.kind.limit, links=True)

    def fits(words: bytes) -> bool:
        return form.manifest.from_bytes(words, where=path).file.sha256 == sha256(data)

    try:
        words, beside = file_pair.manifest_of(path, fits, limit=MAX_MANIFEST)
    except NotFoundError as error:
        beside = path.with_suffix(file_pair.SUFFIX)
        what, remedy = f"{form.kind.words} without a manifest", "Keep the two files together."
        raise NotFoundError(what, code="NO_MANIFEST", expected=beside, remedy=remedy) from error
    manifest = form.manifest.from_bytes(words, where=beside)
    opened = form.open(data, where=path, seal=manifest.file.seal)
    _refuse_other_manifest(form, manifest, opened, data, beside)
    for name, spec, arrays in form.weights(opened):  # the same checks as for a single cell
        check_weights(arrays, spec, where=f"{name} of {path}")
    return Packed(manifest, data)


def _fetch_all(wanted: Sequence[Wanted], read: Read, progress: Progress) -> list[tuple[PackedManifest, Path, Any]]:
    """Return manifest, path and value read for each artifact."""
    cache = Cache()
    total, done, found = sum(one.blob.size for one in wanted), 0, []
    progress(done, total)
    for one in wanted:
        found.append(_fetched(one, cache, read))
        done += one.blob.size
        progress(done, total)
    cache.warn(one.store for one in wanted)
    return found


def _fetched(wanted: Wanted, cache: Cache, read: Read) -> tuple[PackedManifest, Path, Any]:
    """Return manifest, path and value read from the cached file, which is fetched again if it was damaged."""
    store, form = wanted.store, FORMS[wanted.reference.kind.name]
    manifest = check_packed_manifest(
        cache.fetch(store, wanted.manifest_key, wanted.manifest),
        wanted.reference,
        wanted.blob,
        summary=wanted.summary,
        where=f"{wanted.manifest_key} of {store.url}",
    )
    key, path = store_keys.blob(wanted.blob.sha256), cache.path(wanted.blob.sha256)
    if cache.has(wanted.blob):
        with contextlib.suppress(FormatError, IntegrityError, NotFoundError):
            return manifest, path, read(form, _opened(form, path, manifest))
        if not _is_undamaged(path, wanted.blob):
            cache.put_aside(path)
            if cache.has(wanted.blob):  # damaged by another user, whose folder does not let this one move it
                path = cache.place_of(store, key)
                return manifest, path, read(form, _opened(form, path, manifest))
    path = cache.bring(store, key, wanted.blob)
    return manifest, path, read(form, _opened(form, path, manifest))


def _is_undamaged(path: Path, pin: Pin) -> bool:
    """Return whether a file matches its pin; if its reading failed all the same, so would that of any copy."""
    try:
        pin.check(atomic_files.mapped(path, limit=pin.size), where=path)
    except (FormatError, IntegrityError, NotFoundError):
        return False
    return True


def _opened(form: ArtifactForm[Any], path: Path, manifest: PackedManifest) -> Opened[Any]:
    """Open a file with the seal and the lock that its manifest names."""
    data = atomic_files.mapped(path, limit=form.kind.limit, links=True)
    opened = form.open(data, where=path, seal=manifest.file.seal)
    found = sha256(canonical_json.dump(opened.document.lock))
    if found != manifest.lock:
        what = f"manifest of another {form.kind.name}"
        raise IntegrityError(what, code="OTHER_LOCK", expected=f"a lock of digest {manifest.lock}", found=found, where=path)
    return opened


def _refuse_other_manifest(
    form: ArtifactForm[Any], manifest: PackedManifest, opened: Opened[Any], data: memoryview, where: Path
) -> None:
    """Raise if any other field of a manifest than the seal, which is already checked, differs from its file."""
    file = manifest.file.model_copy(update={"size": len(data), "sha256": sha256(data)})
    facts = {"package": manifest.package, "torch": manifest.torch}
    right = form.describe(opened.document, file, manifest.identity, **facts).model_dump()
    wrong = [name for name, value in manifest.model_dump().items() if value != right[name]]
    if wrong:
        kind = form.kind
        raise IntegrityError(
            f"manifest of another {kind.name}",
            code=f"WRONG_{kind.name.upper()}",
            found=", ".join(wrong),
            where=where,
            remedy="Make the two files again.",
        )
