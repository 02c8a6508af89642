"""Verify: read a registry, or some of what it has, past any cache, and say of every object whether it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batteries.arguments import each
from batteries.cell.cell import Cell
from batteries.errors import BatteriesError
from batteries.io.verified import Verified
from composer.artifact.kinds import FORMS
from registry.catalog import store_keys
from registry.catalog.kinds import CELL
from registry.catalog.reference import Reference
from registry.catalog.release import Attested
from registry.stores.snapshot import Located, Snapshot, check_attestation
from registry.stores.store import INDEX, Store
from registry.stores.verified_read import read_pinned
from registry.transfer import weight_checks
from registry.transfer.search import located, named

ObjectKind = Literal["reference", "index", "manifest", "blob", "figures", "attestation"]


@dataclass(frozen=True)
class Finding:
    """What came of checking one object.

    Attributes:
        kind: What sort of object.
        name: Its key; the reference where that could not be found.
        error: What is wrong with it; None where nothing is.
    """

    kind: ObjectKind
    name: str
    error: BatteriesError | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.error is None


def verify(
    *references: str | Reference | Located | Iterable[str | Reference | Located],
    registry: str | Path | Store | None = None,
    replay: bool = False,
) -> list[Finding]:
    """Check manifest, file and attestations of some artifacts where they are published, past any cache.

    Args:
        references: ``[registry/]band/name[@version]`` or ``...@sha256:<hex>``, of any kind, patterns such as ``low/*``, or what
            :func:`registry.find` found; one by one, or a list of them.
        registry: A folder or a store; left out, the registry in force.
        replay: Whether each cell is measured again and compared with its manifest's figures, which takes torch and a second or
            two a cell.

    Returns:
        A finding per object. A fault is a finding and never stops the others.
    """
    findings: list[Finding] = []
    for reference in each(references, (str, Reference, Located)):
        try:
            (found,) = located(named([reference], registry), registry)
        except BatteriesError as error:
            findings.append(Finding("reference", str(reference), error))
        else:
            for one in found:
                findings += _findings(one, replay)
                findings += _attestation_findings(one.snapshot, one.release.blob.sha256)
    return findings


def verify_store(store: Store, *, replay: bool = False) -> list[Finding]:
    """Check everything that the index of a store promises, and the index itself; ``replay`` as of :func:`verify`.

    Bytes that the index does not know are no fault: a publish that was interrupted leaves them, and nobody reads them.
    """
    try:
        snapshot = Snapshot.take(store)
    except BatteriesError as error:
        return [Finding("index", INDEX, error)]
    findings = [Finding("index", INDEX)]
    for path, version, release in snapshot.index.everything():
        band, _, name = path.partition("/")
        findings += _findings(Located(snapshot, Reference(None, band, name, version), release), replay)
    for cell in sorted(snapshot.index.attestations):
        findings += _attestation_findings(snapshot, cell)
    return findings


def _findings(located: Located, replay: bool) -> list[Finding]:
    try:
        return _cell_findings(located, replay) if located.reference.kind is CELL else _packed_findings(located)
    except BatteriesError as error:
        # without its manifest a file cannot be read, only compared
        blob = _finding("blob", located.blob_key, lambda: _blob(located))
        return [Finding("manifest", located.manifest_key, error), blob]


def _blob(located: Located) -> Verified[bytes]:
    return read_pinned(located.snapshot.store, located.blob_key, located.release.blob)


def _packed_findings(located: Located) -> list[Finding]:
    """Of an artifact of another kind whose manifest can be read; else that error."""
    manifest, key = located.packed_manifest(), located.blob_key
    form = FORMS[located.reference.kind.name]
    blob = _finding("blob", key, lambda: form.open(_blob(located).data, where=key, seal=manifest.file.seal))
    return [Finding("manifest", located.manifest_key), blob]


def _cell_findings(located: Located, replay: bool) -> list[Finding]:
    """Of a cell whose manifest can be read; else that error."""
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
