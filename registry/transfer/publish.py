"""Publish: a cell, an artifact of another kind, or an attestation, into a registry.

Whole or not at all; the same bytes again are a success.

Order: weights, manifest, index. Whoever swaps the index second reads it again and repeats the change on top of it.
A publish that dies before the index leaves its manifest behind, unseen. Repeating it completes it; other bytes cannot take
that version, because the first publisher may still be on the way to the index.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batteries.cell.cell import Cell
from batteries.cell.manifest import CvFigure, Manifest
from batteries.errors import ConflictError, InputError, IntegrityError, PolicyError
from batteries.geometry.attractor import band
from batteries.io import short_repr
from batteries.io.atomic_files import Data
from batteries.io.canonical_json import sha256
from registry.catalog import store_keys
from registry.catalog.attestation import CUSTOM, Attestation
from registry.catalog.index import Index
from registry.catalog.kinds import CELL
from registry.catalog.reference import Reference
from registry.catalog.release import AnyRelease, Attested, PackedRelease, Pin, Release
from registry.stores.settings import open_store
from registry.stores.store import INDEX, Store, no_index
from registry.transfer.pull_packed import Packed, form_of_file, read_packed
from registry.transfer.weight_checks import check_weights

ATTEMPTS = 100  # at changing an index that others change too
PAUSE = 0.05  # seconds, at most, between two of them


@dataclass(frozen=True)
class Published:
    """What a publish came to.

    Attributes:
        reference: The artifact at its exact version.
        release: What the index promises of it from now on.
        number: The index that it is in.
        new: False where the version was there before, with the same bytes.
    """

    reference: Reference
    release: AnyRelease
    number: int
    new: bool

    __repr__ = short_repr.fields


def publish(cell: Cell | str | Path, registry: str | Path | Store) -> Published:
    """Put an artifact into a registry. When this returns, it is on disk and in the index.

    Args:
        cell: The cell, or the file of an artifact of any kind; its manifest names its band, name and version.
        registry: The target: a folder, which is made if need be, or a store.

    Raises:
        InputError: no target, or a version that cannot be published.
        PolicyError: the measured CV denies the band (``BAND_DENIED``), weights that no trained cell has, maps that no fit
            makes, or a read-only target.
        ConflictError: the version is published with other bytes (``VERSION_EXISTS``), or the index kept moving.
        IntegrityError: the file is not the one that its manifest describes.
        StoreError: no space, no permission.
    """
    if not isinstance(cell, Cell | str | Path):
        remedy = "Publish cells one by one: [registry.publish(cell, target) for cell in cells]."
        raise InputError("not a cell", code="CELL", expected="a cell or its file", found=repr(cell)[:60], remedy=remedy)
    store = target_store(registry)
    if not isinstance(cell, Cell) and (form := form_of_file(cell)) is not None:
        return _publish_packed(read_packed(cell, form), store)
    cell = cell if isinstance(cell, Cell) else Cell.read(cell)
    manifest, manifest_bytes, blob = _read_back(cell)
    check_weights(cell.weights, cell.spec, where=cell.name)
    _refuse_denied_band(manifest)
    reference = Reference.parse(f"{manifest.path}@{manifest.identity.version}")
    return _put(store, reference, Release.of(manifest), blob, manifest_bytes)


def attest(attestation: Attestation | bytes, registry: str | Path | Store) -> Index:
    """Put an attestation beside its cell, as the current one of its protocol; returns the index that lists it.

    Args:
        attestation: The attestation, or its canonical bytes.
        registry: The target, which has the cell.

    Raises:
        FormatError: not an attestation.
        InputError: no target, or about an artifact of another kind (its code, such as ``A_MODEL``).
        NotFoundError: the registry does not have the cell, or is not there (``NO_REGISTRY``, ``NO_INDEX``).
        IntegrityError: it has other weights under that reference (``WRONG_CELL``).
        PolicyError: the target is read-only, or the report is a negative control's (``CONTROL``), or by a user's own host or
            task (``CUSTOM_PROTOCOL``).
        StoreError: no space, no permission.
    """
    data = attestation if isinstance(attestation, bytes) else attestation.to_bytes()
    document = Attestation.from_bytes(data, where="the attestation")
    if document.control is not None:
        raise PolicyError(
            "a control's report is not an attestation", code="CONTROL", found=document.control, where=document.reference
        )
    if document.protocol.startswith(CUSTOM):
        raise PolicyError(
            "a report by a host or a task of one's own is not an attestation",
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


@dataclass(frozen=True)
class Yanked:
    """What a yank came to.

    Attributes:
        reference: The artifact at its exact version.
        number: The index that says so.
        new: False where it was yanked before, for the same reason.
    """

    reference: Reference
    number: int
    new: bool

    __repr__ = short_repr.fields


def yank(reference: str | Reference, reason: str, registry: str | Path | Store) -> Yanked:
    """Mark a version as not to be used: nothing chooses it any more, and who names it is still given it.

    Args:
        reference: ``band/name@version``, ``model/name@version`` and so on, exact.
        reason: Why, for whoever looks.
        registry: The target, which has it.

    Raises:
        InputError: no exact version (``NO_VERSION``), an empty reason, or no target.
        NotFoundError: the registry does not have it, or is not there (``NO_REGISTRY``, ``NO_INDEX``).
        PolicyError: the target is read-only.
    """
    parsed = Reference.parse(reference) if isinstance(reference, str) else reference
    version = parsed.version
    if version is None or parsed.registry is not None:
        raise InputError("not an exact version", code="NO_VERSION", expected="band/name@version", found=parsed)
    index, new = change_index(_present_store(registry), lambda index: index.with_yank(parsed.path, version, reason))
    return Yanked(parsed, index.number, new)


def change_index(store: Store, change: Callable[[Index], Index]) -> tuple[Index, bool]:
    """Change the index of a store, however many others do so at the same time.

    Args:
        store: Whose index.
        change: From the present index to the wanted one; the same object means that there is nothing to do.

    Returns:
        The index that holds the change, and whether this call made it.

    Raises:
        ConflictError: ``change`` says so, or the index moved at every attempt (``INDEX_MOVED``).
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
    """Present index with the digest of its bytes; an empty one where there is none yet.

    Raises:
        BatteriesError: as :meth:`Index.from_bytes`.
    """
    data = store.read_index()
    if data is None:
        return Index(), None
    return Index.from_bytes(data, where=f"{INDEX} of {store.url}"), sha256(data)


def target_store(registry: str | Path | Store) -> Store:
    """Store of a target, which must be named.

    Raises:
        InputError: no target (``NO_TARGET``), or an address that cannot be opened.
    """
    if registry is None or isinstance(registry, str | Path):
        return open_store(registry, writable=True)
    return registry


def _present_store(registry: str | Path | Store) -> Store:
    """Store of a target that is to be there already, with an index.

    Raises:
        NotFoundError: no such registry (``NO_REGISTRY``), or one without an index (``NO_INDEX``).
    """
    store = target_store(registry)
    present = open_store(registry) if isinstance(registry, str | Path) else store
    if present.read_index() is None:
        raise no_index(store.url)
    return store


def _publish_packed(packed: Packed, store: Store) -> Published:
    """Artifact of another kind: its file says all of its cells that it needs, so these need not be in the registry."""
    manifest = packed.manifest
    reference = Reference.parse(f"{manifest.path}@{manifest.identity.version}")
    return _put(store, reference, PackedRelease.of(manifest), packed.data, manifest.to_bytes())


def _put(store: Store, reference: Reference, release: AnyRelease, blob: Data, manifest: bytes) -> Published:
    version = str(reference.version)
    store.put(store_keys.blob(release.blob.sha256), blob)
    store.put(store_keys.manifest(reference.path, version), manifest)
    index, new = change_index(store, lambda index: index.with_release(reference.path, version, release))
    return Published(reference, release, index.number, new)


def _read_back(cell: Cell) -> tuple[Manifest, bytes, bytes]:
    """Manifest and the bytes to be written, after reading them as strictly as those who pull them will."""
    manifest_bytes = cell.manifest.to_bytes()
    where = f"the manifest of {cell.name}"
    manifest = Manifest.from_bytes(manifest_bytes, where=where)
    blob = cell.to_bytes()
    Cell.from_bytes(blob, manifest, where=cell.name)
    return manifest, manifest_bytes, blob


def _refuse_denied_band(manifest: Manifest) -> None:
    """Band is what the CV on the cell's own probe says, never what somebody typed."""
    own, claimed = manifest.own, manifest.identity.band
    measured = band(own.cv.value, manifest.spec.D) if isinstance(own.cv, CvFigure) else None
    if measured is None or {claimed, own.band} != {measured}:
        cv = f"CV {own.cv.value:.4g}" if isinstance(own.cv, CvFigure) else own.cv.degenerate
        raise PolicyError(
            "the measured CV denies the band",
            code="BAND_DENIED",
            expected=f"{measured or 'no band'} ({cv} on {manifest.own_probe})",
            found=f"{claimed} (and {own.band or 'no band'} beside the CV)",
            where=manifest.path,
            remedy="A band is measured, never typed: package the cell again.",
        )


def _refuse_unknown_cell(index: Index, attestation: Attestation) -> None:
    reference = Reference.parse(attestation.reference)
    if (kind := reference.kind) is not CELL:
        raise InputError("an attestation is about a cell", code=kind.code, found=reference)
    _, release = index.resolve(reference)
    if release.blob.sha256 != attestation.cell:
        raise IntegrityError(
            "an attestation about other weights",
            code="WRONG_CELL",
            expected=release.blob.sha256,
            found=attestation.cell,
            where=attestation.reference,
        )
