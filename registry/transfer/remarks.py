"""Attestations of published versions, and the mark of a version that is not to be used."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict

from batteries import short_repr
from batteries.cell.manifest import Count, Text
from batteries.errors import InputError, IntegrityError, NotFoundError, PolicyError
from batteries.io.canonical_json import Document
from registry.catalog import store_keys
from registry.catalog.attestation import CUSTOM, Attestation
from registry.catalog.index import Index
from registry.catalog.kinds import CELL
from registry.catalog.reference import Reference, ReferenceText
from registry.catalog.release import Attested, Pin
from registry.stores.settings import open_store
from registry.stores.signed.changes import change_index
from registry.stores.store import Store, no_index, read_index_of
from registry.transfer.publish import target_store
from registry.trust.signing import Signing


def attest(attestation: Attestation | bytes, registry: str | Path | Store, *, signing: Signing | None = None) -> Index:
    """Publish an attestation as the current one of its cell and protocol, and return the index that lists it.

    Args:
        attestation: Attestation, or its canonical bytes.
        registry: Target, which must have the cell.
        signing: Signers of the index, as for :func:`registry.publish`.

    Raises:
        FormatError: invalid attestation.
        InputError: no target, or an attestation about another kind (with its code, such as ``A_MODEL``).
        NotFoundError: unknown cell, or no such registry or index (``NO_REGISTRY``, ``NO_INDEX``).
        IntegrityError: other weights in the registry under that reference (``WRONG_CELL``).
        PolicyError: read-only target, report of a negative control (``CONTROL``), or of a user's own host or task
            (``CUSTOM_PROTOCOL``), or a signed registry without signers (``SIGNER_NEEDED``).
        StoreError: no space or no permission.

    >>> import registry
    >>> store, cell = registry.open_store(), registry.load("low/fresnel-64@3.2.0")
    >>> key, *_ = store.keys(f"attestations/{cell.digest}")
    >>> attestation = registry.Attestation.from_bytes(store.read(key, limit=2**20), where=key)
    >>> published = registry.publish(cell, "cells")
    >>> [*registry.attest(attestation, "cells").attestations[cell.digest]]
    ['quick-3']
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
    refuse_unknown_cell(read_index_of(store)[0], document.reference, document.cell, where=store.url)
    files = [(store_keys.attestation(document.cell, pin.sha256), data)]
    index, _ = change_index(
        store,
        lambda index: index.with_attestation(document.cell, document.protocol, attested),
        files=files,
        signing=signing,
    )
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


def yank(reference: str | Reference, reason: str, registry: str | Path | Store, *, signing: Signing | None = None) -> Yanked:
    """Mark a version as not to be used: it is no longer chosen automatically, but can still be pulled by its exact version.

    Args:
        reference: ``band/name@version``, ``model/name@version`` and so on, exact.
        reason: Reason shown to users.
        registry: Target, which must have the version.
        signing: Signers of the index, as for :func:`registry.publish`.

    Raises:
        InputError: no exact version (``NO_VERSION``), an empty reason, or no target.
        NotFoundError: unknown version, or no such registry or index (``NO_REGISTRY``, ``NO_INDEX``).
        PolicyError: read-only target, or a signed one without signers (``SIGNER_NEEDED``).

    >>> import registry
    >>> published = registry.publish(registry.load("low/fresnel-64@1.0.0"), "cells")
    >>> registry.yank("low/fresnel-64@1.0.0", "wrong data", "cells").number
    2
    """
    parsed = Reference.parse(reference) if isinstance(reference, str) else reference
    version = parsed.version
    if version is None or parsed.registry is not None:
        raise InputError("not an exact version", code="NO_VERSION", expected="band/name@version", found=parsed)
    store = _present_store(registry)
    index, new = change_index(store, lambda index: index.with_yank(parsed.path, version, reason), signing=signing)
    return Yanked(reference=parsed, reason=reason, number=index.number, new=new)


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


def refuse_unknown_cell(index: Index, name: str, digest: str, *, where: str) -> None:
    """Raise unless an index has a cell, so that what is found about it can be published.

    Args:
        index: Index of the registry.
        name: Reference to the exact version.
        digest: SHA-256 of the cell's weights.
        where: Address of the registry.

    Raises:
        InputError: an artifact of another kind (with its code, such as ``A_MODEL``).
        NotFoundError: unknown cell or version.
        IntegrityError: other weights under that reference (``WRONG_CELL``).
    """
    reference = Reference.parse(name)
    if (kind := reference.kind) is not CELL:
        raise InputError("attestation not about a cell", code=kind.code, found=reference)
    try:
        _, release = index.resolve(reference)
    except NotFoundError as error:
        error.where, error.remedy = where, "Only of a cell that is published there: `batteries publish` it first."
        raise
    if release.blob.sha256 != digest:
        raise IntegrityError(
            "attestation about other weights",
            code="WRONG_CELL",
            expected=release.blob.sha256,
            found=digest,
            where=f"{name} of {where}",
        )
