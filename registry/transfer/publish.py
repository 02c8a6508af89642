"""Publish artifacts to a registry.

A publish is all or nothing, and repeating it with the same bytes succeeds.

The weights are written first, then the manifest, then the index. A writer whose swap of the index fails reads the index again
and repeats its change. A publish interrupted before the index leaves an unlisted manifest behind; repeating it completes it.
Other bytes cannot take that version for an hour, because the first publisher may still be about to swap the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from pydantic import ConfigDict

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import Count, Manifest
from batteries.errors import InputError
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import Document
from composer.artifact.manifest import PackedManifest
from registry.catalog import store_keys
from registry.catalog.index import Index
from registry.catalog.reference import Reference, ReferenceText
from registry.catalog.release import RELEASES, AnyRelease, PackedRelease, Release
from registry.stores.memory import MemoryStore
from registry.stores.settings import open_store
from registry.stores.signed.changes import change_index, refuse_unsigned_change, release_signature
from registry.stores.snapshot import Snapshot
from registry.stores.store import Store, read_index_of
from registry.transfer.pull_packed import Packed, form_of_file, read_packed
from registry.transfer.weight_checks import Checked, check, refuse_false_figures
from registry.trust.signing import Signing


class Published(Document):
    """Result of a publish, and answer of ``batteries publish``.

    Attributes:
        reference: Reference to the exact version.
        release (Release): Release in the index.
        number: Number of the index that lists the version.
        new: False if the version was already there with the same bytes.

    >>> import registry
    >>> cell = registry.load("low/fresnel-64")
    >>> registry.publish(cell, "cells").new, registry.publish(cell, "cells").new
    (True, False)
    """

    model_config = ConfigDict(defer_build=True)

    reference: ReferenceText
    release: Union[Release, *RELEASES.values()]  # type: ignore[valid-type]  # made while the program runs
    number: Count
    new: bool

    __repr__ = short_repr.fields


@dataclass(frozen=True)
class Ready:
    """An artifact that was checked: its exact reference, its release, and its bytes with those of its manifest."""

    reference: Reference
    release: AnyRelease
    blob: Data
    manifest: bytes

    @classmethod
    def of_cell(cls, checked: Checked) -> Ready:
        """Return the cell, ready to be written."""
        manifest = checked.manifest
        return cls(_exact(manifest), Release.of(manifest), checked.blob, checked.manifest_bytes)

    @classmethod
    def of_packed(cls, packed: Packed) -> Ready:
        """Return an artifact of another kind; its file is self-contained, so its cells need not be in the registry."""
        manifest = packed.manifest
        return cls(_exact(manifest), PackedRelease.of(manifest), packed.data, manifest.to_bytes())

    @property
    def version(self) -> str:
        """Exact version."""
        return str(self.reference.version)

    def files(self, signing: Signing | None) -> Iterator[tuple[str, Data]]:
        """Yield keys and bytes in the order of writing: file, manifest, signature."""
        yield store_keys.blob(self.release.blob.sha256), self.blob
        yield store_keys.manifest(self.reference.path, self.version), self.manifest
        if signing is not None:
            signature = release_signature(self.reference.path, self.version, self.release, signing)
            yield store_keys.signature(self.release.manifest.sha256), signature


def _exact(manifest: Manifest | PackedManifest) -> Reference:
    return Reference.parse(f"{manifest.path}@{manifest.identity.version}")


def publish(
    cell: Cell | str | Path,
    registry: str | Path | Store,
    *,
    signing: Signing | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Published:
    """Publish an artifact to a registry. On return it is on disk and in the index.

    A cell is measured again, and every measured figure of its manifest compared. What cannot be measured afterwards (its
    training data and trajectory) is published as its maker's claim.

    Args:
        cell: Cell, or file of an artifact of any kind; the manifest gives its band, name and version.
        registry: Target, as an address or a store; a folder is created if needed.
        signing: Signers of the release and the index; the first ones of a registry are its keys from then on.
        progress: Callback with the next step: ``measuring`` for a cell, then ``writing``.

    Raises:
        InputError: no target, or a version that cannot be published.
        PolicyError: band contradicted by the CV (``BAND_DENIED``), figures that the weights do not have (``REPLAY_MISMATCH``)
            or that cannot be measured here (``UNKNOWN_PROBE``), implausible weights or maps, a read-only target, or one that is
            signed, without signers (``SIGNER_NEEDED``).
        ConflictError: version already published with other content (``VERSION_EXISTS``), or an index that kept changing.
        IntegrityError: file that does not match its manifest, signers that may not sign for the registry (``WRONG_SIGNER``,
            ``TOO_FEW_SIGNERS``), or an index there that its keys did not sign.
        StoreError: no space or no permission.

    >>> import registry
    >>> published = registry.publish(registry.load("low/fresnel-64@1.0.0"), "cells")
    >>> str(published.reference), published.number, published.new
    ('low/fresnel-64@1.0.0', 1, True)
    """
    if not isinstance(cell, Cell | str | Path):
        remedy = "Publish several as one release with registry.publish_all."
        raise InputError("not a cell", code="CELL", expected="a cell or its file", found=repr(cell)[:60], remedy=remedy)
    (published,) = publish_all([cell], registry, signing=signing, progress=progress)
    return published


def publish_all(
    cells: Iterable[Cell | str | Path],
    registry: str | Path | Store,
    *,
    signing: Signing | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> list[Published]:
    """Publish artifacts to a registry as one release: the index lists all of them at once, or none after an error.

    Args:
        cells: Cells, or files of artifacts of any kind.
        registry: Target, as for :func:`publish`.
        signing: Signers, as for :func:`publish`.
        progress: Callback with the next step: ``measuring`` for each cell, then ``writing``.

    Raises:
        InputError: nothing to publish (``CELL``), or two artifacts of one reference (``TWICE``).
        BatteriesError: any error of :func:`publish`.

    >>> import registry
    >>> cells = registry.pull("low/fresnel-64@1.0.0", "high/fresnel-64@2.0.0")
    >>> [(str(one.reference), one.number) for one in registry.publish_all(cells, "cells")]
    [('low/fresnel-64@1.0.0', 1), ('high/fresnel-64@2.0.0', 1)]
    """
    store = target_store(registry)
    present = refuse_unsigned_change(store, signing)
    found = [_ready(cell) for cell in cells]  # all, before the first is measured
    ready = [one for one, _ in found]
    references = [str(one.reference) for one in ready]
    if not ready:
        raise InputError("nothing to publish", code="CELL", expected="cells or their files")
    if twice := sorted({one for one in references if references.count(one) > 1}):
        raise InputError("two artifacts of one reference", code="TWICE", found=", ".join(twice))
    _unlisted(ready, present.index)
    for _, cell in found:
        if cell is not None:
            progress("measuring")
            refuse_false_figures(cell)
    progress("writing")
    return _put(store, ready, signing)


def _ready(cell: Cell | str | Path) -> tuple[Ready, Cell | None]:
    """Check an artifact, and return it with the cell that is still to be measured; None for one of another kind."""
    if not isinstance(cell, Cell) and (form := form_of_file(cell)) is not None:
        return Ready.of_packed(read_packed(cell, form)), None
    cell = cell if isinstance(cell, Cell) else Cell.read(cell)
    return Ready.of_cell(check(cell)), cell


def _unlisted(ready: Sequence[Ready], index: Index) -> list[Ready]:
    """Return the artifacts that an index does not list.

    Raises:
        ConflictError: version that it lists with other content (``VERSION_EXISTS``).
    """
    return [one for one in ready if index.with_release(one.reference.path, one.version, one.release) is not index]


def write(checked: Checked, store: Store, signing: Signing | None = None) -> Published:
    """Write a checked cell to a store and list it in the index, signed if signers are given.

    Raises:
        ConflictError: version already published with other content (``VERSION_EXISTS``), or an index that kept changing.
        StoreError: no space or no permission.
    """
    (published,) = _put(store, [Ready.of_cell(checked)], signing)
    return published


def snapshot_of_file(path: str | Path) -> Snapshot:
    """Return a registry of one artifact, that of a file; a cell is verified against its manifest and not measured again.

    Raises:
        BatteriesError: any error of :meth:`batteries.Cell.read`, or of reading an artifact of another kind.
    """
    form = form_of_file(path)
    store = MemoryStore(url=str(path))
    _put(store, [Ready.of_cell(check(Cell.read(path))) if form is None else Ready.of_packed(read_packed(path, form))])
    return Snapshot(store, read_index_of(store)[0])


def target_store(registry: str | Path | Store) -> Store:
    """Open the store of a target, which must be named.

    Raises:
        InputError: no target (``NO_TARGET``), or an unsupported address.
    """
    if registry is None or isinstance(registry, str | Path):
        return open_store(registry, writable=True)
    return registry


def _put(store: Store, ready: Sequence[Ready], signing: Signing | None = None) -> list[Published]:
    """Write artifacts, and list them in one change of the index."""
    new: set[str] = set()

    def listing_all(index: Index) -> Index:
        new.clear()
        listed = Index()
        for one in _unlisted(ready, index):
            listed = listed.with_release(one.reference.path, one.version, one.release)
            new.add(str(one.reference))
        return index.with_all(listed)

    files = (file for one in ready for file in one.files(signing))
    index, changed = change_index(store, listing_all, files=files, signing=signing)
    return [
        Published(reference=one.reference, release=one.release, number=index.number, new=changed and str(one.reference) in new)
        for one in ready
    ]
