"""Verify: read a registry, or some artifacts in it, without any cache, and report on every object."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batteries.arguments import each
from batteries.cell.cell import Cell
from batteries.errors import BatteriesError, IntegrityError
from batteries.io.verified import Verified
from composer.artifact.kinds import FORMS
from registry.catalog import store_keys
from registry.catalog.kinds import CELL
from registry.catalog.pinned_documents import check_attestation
from registry.catalog.reference import Reference
from registry.catalog.release import Attested
from registry.stores.signed.changes import check_signed
from registry.stores.snapshot import Located, Snapshot
from registry.stores.store import INDEX, Store, read_index_of
from registry.stores.verified_read import read_pinned
from registry.transfer import weight_checks
from registry.transfer.search import located, named
from registry.trust import library
from registry.trust.keys import key_ids
from registry.trust.signature import refuse_others

ObjectKind = Literal["reference", "index", "manifest", "blob", "figures", "signature", "attestation"]


@dataclass(frozen=True)
class Finding:
    """Result of checking one object.

    Attributes:
        kind: Kind of object.
        name: Key of the object; the reference if it could not be found.
        error: Error found; None if the object is intact.

    >>> import registry
    >>> (finding,) = registry.verify("low/fresnel-65")
    >>> finding.ok, finding.error.code
    (False, 'NO_CELL')
    """

    kind: ObjectKind
    name: str
    error: BatteriesError | None = None

    @property
    def ok(self) -> bool:
        """True if no error was found."""
        return self.error is None


def verify(
    *references: str | Reference | Located | Iterable[str | Reference | Located],
    registry: str | Path | Store | None = None,
    replay: bool = False,
    signed_by: Iterable[str] = (),
) -> list[Finding]:
    """Check manifest, file, signature and attestations of artifacts in their registry, without any cache.

    Args:
        references: ``[registry/]band/name[@version]`` or ``...@sha256:<hex>``, of any kind, patterns such as ``low/*``, or
            results of :func:`registry.find`; one or more, or a list of them.
        registry: Address or store; by default the default registry.
        replay: Whether to measure each cell again and compare it with its manifest's figures, which needs torch and a second or
            two per cell.
        signed_by: Keys, each by its id or its public file, one of which must have signed a release, or the index that has it.

    Returns:
        Findings, one per object. An error becomes a finding and does not stop the other checks.

    >>> import registry
    >>> [(finding.kind, finding.ok) for finding in registry.verify("low/fresnel-64")]
    [('manifest', True), ('blob', True), ('signature', True), ('attestation', True), ('attestation', True)]
    """
    wanted = key_ids(signed_by)
    findings: list[Finding] = []
    for reference in each(references, (str, Reference, Located)):
        try:
            (found,) = located(named([reference], registry), registry)
        except BatteriesError as error:
            findings.append(Finding("reference", str(reference), error))
        else:
            for one in found:
                findings += _findings(one, replay)
                findings += _signature_findings(one, wanted)
                findings += _attestation_findings(one.snapshot, one.release.blob.sha256)
    return findings


def verify_store(store: Store, *, replay: bool = False, signed_by: Iterable[str] = ()) -> list[Finding]:
    """Check a store's index and everything that it lists; ``replay`` and ``signed_by`` are those of :func:`verify`.

    The index itself must be signed by one of the keys, too, and its signature has to be there now, not only in this machine's
    notes. An index that a reader refuses, as one that is not signed or older than one read before, is a fault, and what it
    lists is checked all the same.

    Files that the index does not list are not errors: an interrupted publish leaves them, and they are never read.

    >>> import registry
    >>> store = registry.MemoryStore()
    >>> published = registry.publish(registry.load("low/fresnel-64"), store)
    >>> [finding.kind for finding in registry.verify_store(store)]
    ['index', 'manifest', 'blob']
    """
    wanted = key_ids(signed_by)
    try:
        snapshot, of_index = _read(store)
    except BatteriesError as error:
        return [Finding("index", INDEX, error)]
    findings = [of_index, *(_index_signature_findings(snapshot, wanted) if of_index.ok else ())]
    for path, version, release in snapshot.index.everything():
        band, _, name = path.partition("/")
        located = Located(snapshot, Reference(None, band, name, version), release)
        findings += _findings(located, replay)
        findings += _signature_findings(located, wanted)
    for cell in sorted(snapshot.index.attestations):
        findings += _attestation_findings(snapshot, cell)
    return findings


def _read(store: Store) -> tuple[Snapshot, Finding]:
    """Read an index, with the finding about it; raise if it cannot be read at all."""
    try:
        return Snapshot.take(store), Finding("index", INDEX)
    except BatteriesError as error:
        index, digest = read_index_of(store)
        if digest is None:
            raise
        return Snapshot(store, index), Finding("index", INDEX, error)


def _index_signature_findings(snapshot: Snapshot, wanted: Collection[str]) -> list[Finding]:
    """Check the signature of an index, and the documents of keys, as the registry has them."""
    known = snapshot.signature.state == "signed"
    try:
        refuse_others(wanted, INDEX, snapshot.signature)
        if library.is_there() and not check_signed(snapshot.store, snapshot.index) and known:
            what, expected = "documents of keys are gone", store_keys.root(1)
            raise IntegrityError(what, code="MISSING_ROOT", expected=expected, found="none", where=snapshot.store.url)
    except BatteriesError as error:
        return [Finding("signature", INDEX, error)]
    return [Finding("signature", INDEX)] if known else []


def _findings(located: Located, replay: bool) -> list[Finding]:
    try:
        return _cell_findings(located, replay) if located.reference.kind is CELL else _packed_findings(located)
    except BatteriesError as error:
        # without its manifest a file cannot be parsed, only compared with its digest
        blob = _finding("blob", located.blob_key, lambda: _blob(located))
        return [Finding("manifest", located.manifest_key, error), blob]


def _blob(located: Located) -> Verified[bytes]:
    return read_pinned(located.snapshot.store, located.blob_key, located.release.blob)


def _packed_findings(located: Located) -> list[Finding]:
    """Check an artifact of another kind; raise if its manifest cannot be read."""
    manifest, key = located.packed_manifest(), located.blob_key
    form = FORMS[located.reference.kind.name]
    blob = _finding("blob", key, lambda: form.open(_blob(located).data, where=key, seal=manifest.file.seal))
    return [Finding("manifest", located.manifest_key), blob]


def _cell_findings(located: Located, replay: bool) -> list[Finding]:
    """Check a cell; raise if its manifest cannot be read."""
    manifest = located.manifest()

    def read_cell() -> Cell:
        cell = Cell.from_bytes(_blob(located), manifest, where=located.blob_key)
        weight_checks.check_weights(cell.weights, cell.spec, where=located.blob_key)
        return cell

    found = [Finding("manifest", located.manifest_key), _finding("blob", located.blob_key, read_cell)]
    if replay and found[1].ok:
        name = str(located.reference)
        found.append(_finding("figures", name, lambda: weight_checks.replay(read_cell(), where=name)))
    return found


def _signature_findings(located: Located, wanted: Collection[str]) -> list[Finding]:
    """Check the signature of a release: its own if it has one, else that of the index if keys are wanted."""
    key, of_index = located.signature_key, located.snapshot.signature
    try:
        own = located.signature()
        if own.state == "not signed" and not wanted:
            return []
        refuse_others(wanted, key, own, of_index)
    except BatteriesError as error:
        return [Finding("signature", key, error)]
    return [] if own.state == "not checked" else [Finding("signature", key)]


def _attestation_findings(snapshot: Snapshot, cell: str) -> list[Finding]:
    return [
        _attestation_finding(snapshot.store, cell, protocol, attested)
        for protocol, attested in sorted(snapshot.index.attestations.get(cell, {}).items())
    ]


def _attestation_finding(store: Store, cell: str, protocol: str, attested: Attested) -> Finding:
    key = store_keys.attestation(cell, attested.sha256)

    def read_attestation() -> object:
        found = read_pinned(store, key, attested)
        return check_attestation(found, attested, cell=cell, protocol=protocol, where=key)

    return _finding("attestation", key, read_attestation)


def _finding(kind: ObjectKind, name: str, attempt: Callable[[], object]) -> Finding:
    try:
        attempt()
    except BatteriesError as error:
        return Finding(kind, name, error)
    return Finding(kind, name)
