"""Publish a cell, an artifact of another kind, or an attestation to a registry.

A publish is all or nothing, and repeating it with the same bytes succeeds.

The weights are written first, then the manifest, then the index. A writer whose swap of the index fails reads the index again
and repeats its change. A publish interrupted before the index leaves an unlisted manifest behind; repeating it completes it.
Other bytes cannot take that version, because the first publisher may still be about to swap the index.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from pydantic import ConfigDict

from batteries import short_repr
from batteries.cell.cell import Cell
from batteries.cell.manifest import Count, CvFigure, Manifest, Text
from batteries.errors import ConflictError, InputError, IntegrityError, PolicyError
from batteries.geometry.attractor import band_of
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import Document, sha256
from composer.artifact.manifest import PackedManifest
from registry.catalog import store_keys
from registry.catalog.attestation import CUSTOM, Attestation
from registry.catalog.index import Index
from registry.catalog.kinds import CELL
from registry.catalog.reference import Reference, ReferenceText
from registry.catalog.release import RELEASES, AnyRelease, Attested, PackedRelease, Pin, Release
from registry.stores.memory import MemoryStore
from registry.stores.settings import open_store
from registry.stores.snapshot import Snapshot
from registry.stores.store import INDEX, Store, no_index
from registry.transfer.pull_packed import Packed, form_of_file, read_packed
from registry.transfer.weight_checks import check_weights, replay

ATTEMPTS = 100  # to change an index that other writers change too
PAUSE = 0.05  # longest wait between two attempts, in seconds


class Published(Document):
    """Result of a publish, and answer of ``batteries publish``.

    Attributes:
        reference: Reference to the exact version.
        release: Release in the index.
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
class Checked:
    """A cell as it is written: manifest, its bytes and those of the weights, read back as strictly as a pull reads them."""

    manifest: Manifest
    manifest_bytes: bytes
    blob: bytes


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


def _exact(manifest: Manifest | PackedManifest) -> Reference:
    return Reference.parse(f"{manifest.path}@{manifest.identity.version}")


def publish(
    cell: Cell | str | Path, registry: str | Path | Store, *, progress: Callable[[str], None] = lambda step: None
) -> Published:
    """Publish an artifact to a registry. On return it is on disk and in the index.

    A cell is measured again, and every measured figure of its manifest compared. What cannot be measured afterwards (its
    training data and trajectory) is published as its maker's claim.

    Args:
        cell: Cell, or file of an artifact of any kind; the manifest gives its band, name and version.
        registry: Target, as an address or a store; a folder is created if needed.
        progress: Callback with the next step: ``measuring`` for a cell, then ``writing``.

    Raises:
        InputError: no target, or a version that cannot be published.
        PolicyError: band contradicted by the CV (``BAND_DENIED``), figures that the weights do not have (``REPLAY_MISMATCH``)
            or that cannot be measured here (``UNKNOWN_PROBE``), implausible weights or maps, or a read-only target.
        ConflictError: version already published with other content (``VERSION_EXISTS``), or an index that kept changing.
        IntegrityError: file that does not match its manifest.
        StoreError: no space or no permission.

    >>> import registry
    >>> published = registry.publish(registry.load("low/fresnel-64"), "cells")
    >>> str(published.reference), published.number, published.new
    ('low/fresnel-64@1.0.0', 1, True)
    """
    if not isinstance(cell, Cell | str | Path):
        remedy = "Publish several as one release with registry.publish_all."
        raise InputError("not a cell", code="CELL", expected="a cell or its file", found=repr(cell)[:60], remedy=remedy)
    (published,) = publish_all([cell], registry, progress=progress)
    return published


def publish_all(
    cells: Iterable[Cell | str | Path], registry: str | Path | Store, *, progress: Callable[[str], None] = lambda step: None
) -> list[Published]:
    """Publish artifacts to a registry as one release: the index lists all of them at once, or none after an error.

    Args:
        cells: Cells, or files of artifacts of any kind.
        registry: Target, as for :func:`publish`.
        progress: Callback with the next step: ``measuring`` for each cell, then ``writing``.

    Raises:
        InputError: nothing to publish (``CELL``), or two artifacts of one reference (``TWICE``).
        BatteriesError: any error of :func:`publish`.

    >>> import registry
    >>> cells = registry.pull("low/fresnel-64", "high/fresnel-64")
    >>> [(str(one.reference), one.number) for one in registry.publish_all(cells, "cells")]
    [('low/fresnel-64@1.0.0', 1), ('high/fresnel-64@2.0.0', 1)]
    """
    store = target_store(registry)
    ready = [_ready(cell, progress) for cell in cells]
    references = [str(one.reference) for one in ready]
    if not ready:
        raise InputError("nothing to publish", code="CELL", expected="cells or their files")
    if twice := sorted({one for one in references if references.count(one) > 1}):
        raise InputError("two artifacts of one reference", code="TWICE", found=", ".join(twice))
    progress("writing")
    return _put(store, ready)


def _ready(cell: Cell | str | Path, progress: Callable[[str], None]) -> Ready:
    """Check an artifact; a cell is measured again."""
    if not isinstance(cell, Cell) and (form := form_of_file(cell)) is not None:
        return Ready.of_packed(read_packed(cell, form))
    cell = cell if isinstance(cell, Cell) else Cell.read(cell)
    checked = check(cell)
    progress("measuring")
    _refuse_false_figures(cell)
    return Ready.of_cell(checked)


def check(cell: Cell) -> Checked:
    """Check all of a cell that needs no measurement: its bytes, weights and band.

    Raises:
        PolicyError: band contradicted by the CV (``BAND_DENIED``), or implausible weights.
        IntegrityError: weights that do not match the manifest.
        FormatError: manifest that no reader would accept.
    """
    manifest_bytes = cell.manifest.to_bytes()
    manifest = Manifest.from_bytes(manifest_bytes, where=f"the manifest of {cell.name}")
    blob = cell.to_bytes()
    Cell.from_bytes(blob, manifest, where=cell.name)
    check_weights(cell.weights, cell.spec, where=cell.name)
    _refuse_denied_band(manifest)
    return Checked(manifest, manifest_bytes, blob)


def write(checked: Checked, store: Store) -> Published:
    """Write a checked cell to a store and list it in the index.

    Raises:
        ConflictError: version already published with other content (``VERSION_EXISTS``), or an index that kept changing.
        StoreError: no space or no permission.
    """
    (published,) = _put(store, [Ready.of_cell(checked)])
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


def attest(attestation: Attestation | bytes, registry: str | Path | Store) -> Index:
    """Publish an attestation as the current one of its cell and protocol, and return the index that lists it.

    Args:
        attestation: Attestation, or its canonical bytes.
        registry: Target, which must have the cell.

    Raises:
        FormatError: invalid attestation.
        InputError: no target, or an attestation about another kind (with its code, such as ``A_MODEL``).
        NotFoundError: unknown cell, or no such registry or index (``NO_REGISTRY``, ``NO_INDEX``).
        IntegrityError: other weights in the registry under that reference (``WRONG_CELL``).
        PolicyError: read-only target, report of a negative control (``CONTROL``), or of a user's own host or task
            (``CUSTOM_PROTOCOL``).
        StoreError: no space or no permission.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64")
    >>> (key,) = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> published = registry.publish(cell, "cells")
    >>> [*registry.attest(attestation, "cells").attestations[cell.digest]]
    ['standard-2']
    """
    data = attestation if isinstance(attestation, bytes) else attestation.to_bytes()
    document = Attestation.from_bytes(data, where="the attestation")
    if document.control is not None:
        raise PolicyError("report of a negative control", code="CONTROL", found=document.control, where=document.reference)
    if document.protocol.startswith(CUSTOM):
        raise PolicyError(
            "report of a user-defined host or task",
            code="CUSTOM_PROTOCOL",
            found=document.protocol,
            where=document.reference,
        )
    store = _present_store(registry)
    pin = Pin.of(data)
    attested = Attested(sha256=pin.sha256, size=pin.size, verdict=document.verdict)
    _refuse_unknown_cell(read_index_of(store)[0], document)
    store.put(store_keys.attestation(document.cell, pin.sha256), data)
    index, _ = change_index(store, lambda index: index.with_attestation(document.cell, document.protocol, attested))
    return index


class Yanked(Document):
    """Result of a yank, and answer of ``batteries yank``.

    Attributes:
        reference: Reference to the exact version.
        reason: Reason not to use the version.
        number: Number of the index with the yank.
        new: False if the version was already yanked for the same reason.
    """

    model_config = ConfigDict(title="YankAnswer", defer_build=True)

    reference: ReferenceText
    reason: Text
    number: Count
    new: bool

    __repr__ = short_repr.fields


def yank(reference: str | Reference, reason: str, registry: str | Path | Store) -> Yanked:
    """Mark a version as not to be used: it is no longer chosen automatically, but can still be pulled by its exact version.

    Args:
        reference: ``band/name@version``, ``model/name@version`` and so on, exact.
        reason: Reason shown to users.
        registry: Target, which must have the version.

    Raises:
        InputError: no exact version (``NO_VERSION``), an empty reason, or no target.
        NotFoundError: unknown version, or no such registry or index (``NO_REGISTRY``, ``NO_INDEX``).
        PolicyError: read-only target.

    >>> import registry
    >>> published = registry.publish(registry.load("low/fresnel-64"), "cells")
    >>> registry.yank("low/fresnel-64@1.0.0", "wrong data", "cells").number
    2
    """
    parsed = Reference.parse(reference) if isinstance(reference, str) else reference
    version = parsed.version
    if version is None or parsed.registry is not None:
        raise InputError("not an exact version", code="NO_VERSION", expected="band/name@version", found=parsed)
    index, new = change_index(_present_store(registry), lambda index: index.with_yank(parsed.path, version, reason))
    return Yanked(reference=parsed, reason=reason, number=index.number, new=new)


def change_index(store: Store, change: Callable[[Index], Index]) -> tuple[Index, bool]:
    """Change the index of a store, with retries if other writers change it at the same time.

    Args:
        store: Store with the index.
        change: Function from the current index to the wanted one; returning the same object means no change.

    Returns:
        Index that holds the change, and whether this call made it.

    Raises:
        ConflictError: raised by ``change``, or the index changed at every attempt (``INDEX_MOVED``).
    """
    for attempt in range(ATTEMPTS):
        present, digest = read_index_of(store)
        wanted = change(present)
        if wanted is present:
            return present, False
        try:
            store.swap_index(digest, wanted.sealed())
        except ConflictError as error:
            if error.code != "INDEX_MOVED" or attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0, PAUSE))
        else:
            return wanted, True
    raise AssertionError("unreachable")


def read_index_of(store: Store) -> tuple[Index, str | None]:
    """Read the index with the digest of its bytes; an empty index and None if there is none yet.

    Raises:
        BatteriesError: as :meth:`Index.from_bytes`.
    """
    data = store.read_index()
    if data is None:
        return Index(), None
    return Index.from_bytes(data, where=f"{INDEX} of {store.url}"), sha256(data)


def target_store(registry: str | Path | Store) -> Store:
    """Open the store of a target, which must be named.

    Raises:
        InputError: no target (``NO_TARGET``), or an unsupported address.
    """
    if registry is None or isinstance(registry, str | Path):
        return open_store(registry, writable=True)
    return registry


def _present_store(registry: str | Path | Store) -> Store:
    """Open the store of a target that must already have an index.

    Raises:
        NotFoundError: no such registry (``NO_REGISTRY``), or no index (``NO_INDEX``).
    """
    store = target_store(registry)
    present = open_store(registry) if isinstance(registry, str | Path) else store
    if present.read_index() is None:
        raise no_index(store.url)
    return store


def _put(store: Store, ready: Sequence[Ready]) -> list[Published]:
    """Write artifacts, and list them in one change of the index."""
    for one in ready:
        store.put(store_keys.blob(one.release.blob.sha256), one.blob)
        store.put(store_keys.manifest(one.reference.path, one.version), one.manifest)
    new: set[str] = set()

    def listing_all(index: Index) -> Index:
        new.clear()
        listed = Index()
        for one in ready:
            if index.with_release(one.reference.path, one.version, one.release) is not index:
                listed = listed.with_release(one.reference.path, one.version, one.release)
                new.add(str(one.reference))
        return index.with_all(listed)

    index, changed = change_index(store, listing_all)
    return [
        Published(reference=one.reference, release=one.release, number=index.number, new=changed and str(one.reference) in new)
        for one in ready
    ]


def _refuse_false_figures(cell: Cell) -> None:
    """Measure a cell again, on every probe that its manifest names."""
    replayed = replay(cell, where=cell.name)
    strange = sorted({*cell.manifest.measured, *cell.manifest.untrained} - {*replayed})
    if strange:
        raise PolicyError(
            "figures that cannot be measured again",
            code="UNKNOWN_PROBE",
            expected="probes of this package with the digests in the manifest, whose images the cell takes",
            found=", ".join(strange),
            where=cell.name,
            remedy="Package the cell again with this version.",
        )


def _refuse_denied_band(manifest: Manifest) -> None:
    """Raise if the band is not the one measured by the deciding CV on the cell's own probe."""
    own, claimed, deciding = manifest.own, manifest.identity.band, manifest.own.deciding_cv
    measured = band_of(deciding.value if isinstance(deciding, CvFigure) else None, manifest.spec.D)
    if measured is None or {claimed, own.band} != {measured}:
        cv = f"CV {deciding.value:.4g}" if isinstance(deciding, CvFigure) else deciding.degenerate
        raise PolicyError(
            "band contradicted by the measured CV",
            code="BAND_DENIED",
            expected=f"{measured or 'no band'} ({cv} on {manifest.own_probe})",
            found=f"{claimed} (and {own.band or 'no band'} beside the CV)",
            where=manifest.path,
            remedy="A band is measured, never typed: package the cell again.",
        )


def _refuse_unknown_cell(index: Index, attestation: Attestation) -> None:
    reference = Reference.parse(attestation.reference)
    if (kind := reference.kind) is not CELL:
        raise InputError("attestation not about a cell", code=kind.code, found=reference)
    _, release = index.resolve(reference)
    if release.blob.sha256 != attestation.cell:
        raise IntegrityError(
            "attestation about other weights",
            code="WRONG_CELL",
            expected=release.blob.sha256,
            found=attestation.cell,
            where=attestation.reference,
        )
