"""Tables for the terminal. Text may come from untrusted registries: markup and control characters have no effect."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from batteries.cell.manifest import CLAIMED, Manifest
from batteries.errors import BatteriesError
from composer.artifact.form import ArtifactForm
from composer.artifact.manifest import PackedManifest
from registry.catalog.kinds import CELL, KINDS, kind_of_path
from registry.reports.figures import estimate, number
from registry.reports.fitted_table import FittedTable
from registry.stores.snapshot import Located
from registry.transfer.verify import Finding
from registry.trust.signature import Signature

NOTHING = "-"
DIGEST = re.compile("[0-9a-f]{64}")
SHOWN_DIGITS = 12  # of a digest in a table
AXIAL = "CV (axial)"
CELL_COLUMNS = (
    *("reference", "CV", AXIAL, "MSE", "verdict", "band", "D", "V", "patch", "parameters", "ratio", "on attractor", "holds"),
)


def cells(found: Sequence[Located]) -> FittedTable:
    """Tabulate cells: both CVs, error and verdict, then the spec and further figures as far as the width allows."""
    optional = ("family", "holds", "on attractor", "band", "patch", "V", "D", "parameters", "ratio", AXIAL)
    table = FittedTable(*CELL_COLUMNS, "family", optional=optional)
    for located in found:
        release = located.cell_release
        summary = release.summary
        table.add_row(
            located.reference,
            cv(summary.cv, summary.cv_standard_error),
            NOTHING if summary.axial_cv is None else cv(summary.axial_cv, summary.axial_cv_standard_error),
            number(summary.mse),
            verdict(located),
            located.reference.band,
            summary.D,
            summary.V,
            summary.patch_size,
            f"{summary.parameters:,}",
            NOTHING if summary.ratio is None else number(summary.ratio, 3),
            _figure(summary.on_attractor),
            _figure(summary.holds),
            summary.family,
        )
    return table


def artifacts(found: Sequence[Located], form: ArtifactForm[Any]) -> FittedTable:
    """Tabulate artifacts of a kind other than the cell: the kind's columns, size, licence, reason of a yank."""
    names = [column.name for column in form.columns]
    table = FittedTable("reference", *names, "MB", "licence", "yanked", optional=("licence", "MB", *reversed(names)))
    for located in found:
        release = located.packed_release
        texts = [column.text(release.summary) for column in form.columns]
        size = number(release.blob.size / 1e6, 3)
        table.add_row(located.reference, *texts, size, release.summary.license, _figure(release.yanked))
    return table


def findings(found: Sequence[Finding]) -> FittedTable:
    """Tabulate verified objects for people: digests in names are shortened."""
    table = FittedTable("", "kind", "name", "fault", wrapping=("name",))
    for finding in found:
        state, kind, name, fault = finding_row(finding)
        table.add_row(state, kind, shortened(name), fault)
    return table


def finding_row(finding: Finding) -> tuple[str, str, str, str]:
    """Return a verified object as fields: state, kind, name and fault."""
    fault = NOTHING if finding.error is None else f"{finding.error.what} [{finding.error.code}]"
    return ("ok" if finding.ok else "FAULT", finding.kind, finding.name, fault)


def shortened(name: str) -> str:
    """Shorten the digests in a name.

    >>> shortened("blobs/" + "0123456789abcdef" * 4)
    'blobs/0123456789ab…'
    """
    return DIGEST.sub(lambda digest: f"{digest[0][:SHOWN_DIGITS]}…", name)


def packed_manifest(located: Located, document: PackedManifest, signature: Signature) -> list[FittedTable]:
    """Tabulate the manifest of an artifact other than a cell, with the registry's facts about it and its own signature."""
    fields = document.model_dump(mode="json")
    apart = {name: fields.pop(name) for name in ("identity", "file")}
    rows = {name: fields.pop(name) for name, value in list(fields.items()) if _is_table(value)}
    return [
        _pairs(str(located.reference), _registry_rows(located, signature)),
        *(_pairs(name, table) for name, table in apart.items()),
        _pairs(document.KIND.words, fields),
        *(_rows(name, table) for name, table in rows.items()),
    ]


def manifest(located: Located, document: Manifest, signature: Signature) -> list[FittedTable]:
    """Tabulate the manifest of a cell, with the registry's facts about it and its own signature.

    What cannot be measured again is labelled.
    """
    fields = document.model_dump(mode="json")
    training = fields["training"]
    trajectory, data = training.pop("trajectory"), training.pop("data")
    figures = fields["measured"] | {f"untrained, {probe}": null for probe, null in fields["untrained"].items()}
    claims = {probe: {name: found.pop(name) for name in ("baselines", "held")} for probe, found in figures.items()}
    adapted = fields.pop("adapted", None)
    return [
        _pairs(str(located.reference), _registry_rows(located, signature)),
        _pairs("identity", fields["identity"]),
        *([_pairs(f"adaptation in a host, {CLAIMED}", adapted)] if adapted else []),
        _pairs("spec", {**fields["spec"], "parameters": document.spec.parameters}),
        _pairs("file", fields["file"]),
        _pairs(f"training data, {CLAIMED}", data),
        _pairs(f"training, {CLAIMED}", training),
        _columns("measured", figures),
        _columns(f"baselines and second flag, {CLAIMED}", claims),
        _rows(f"trajectory, {CLAIMED}", trajectory),
    ]


def faults(found: Mapping[str, BatteriesError], repaired: Collection[str], orphans: Sequence[str]) -> FittedTable:
    """Tabulate damaged files, and orphans that no index lists."""
    table = FittedTable("", "name", "fault", wrapping=("name", "fault"))
    for name, error in found.items():
        table.add_row("repaired" if name in repaired else "FAULT", name, f"{error.what} [{error.code}]")
    for name in orphans:
        table.add_row("orphan", name, NOTHING)
    return table


def cv(value: float | None, standard_error: float | None) -> str:
    """Format a CV with its standard error."""
    return "degenerate" if value is None else estimate(value, standard_error)


def verdict(located: Located) -> str:
    """Format the verdict of each protocol, after the reason if the version is yanked."""
    found = [f"{attested.verdict} ({protocol})" for protocol, attested in sorted(located.attestations.items())]
    if located.release.yanked is not None:
        found.insert(0, f"yanked: {located.release.yanked}")
    return ", ".join(found) or NOTHING


def counted(paths: Iterable[str]) -> str:
    """Count paths by kind; a kind without paths is left out, but for cells where there are no paths at all.

    >>> counted(["low/a"]), counted(["maps/a", "model/b", "model/c"]), counted([])
    ('cells 1', 'models 2, maps 1', 'cells 0')
    """
    counts = Counter(kind_of_path(path) for path in paths) or {CELL: 0}
    return ", ".join(f"{kind.plural} {counts[kind]}" for kind in KINDS.values() if kind in counts)


def _is_table(value: object) -> bool:
    """Tell whether a field is a list of rows."""
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _registry_rows(located: Located, signature: Signature) -> dict[str, Any]:
    return {
        "registry": located.snapshot.store.url,
        "index": _signed(located.snapshot.signature),
        "release": _signed(signature),
        "manifest": located.release.manifest.sha256,
        "verdict": verdict(located),
    }


def _signed(signature: Signature) -> str:
    """Format a signature with the whole ids of its keys, and its times."""
    if signature.state != "signed":
        return signature.words
    return f"signed by {', '.join(signature.signers)} at {signature.issued}, valid until {signature.expires}"


def _pairs(title: str, fields: Mapping[str, Any]) -> FittedTable:
    table = FittedTable("", "", wrapping=("",), title=title)
    for name, value in _flat(fields).items():
        table.add_row(name, value)
    return table


def _columns(title: str, figures: Mapping[str, Mapping[str, Any]]) -> FittedTable:
    """Tabulate figures: one column per probe, one row per figure of any probe."""
    flat = [_flat(fields) for fields in figures.values()]
    table = FittedTable("", *figures, wrapping=tuple(figures), title=title)
    for name in dict.fromkeys(name for fields in flat for name in fields):
        table.add_row(name, *(shortened(fields.get(name, NOTHING)) for fields in flat))
    return table


def _rows(title: str, points: Sequence[Mapping[str, Any]]) -> FittedTable:
    names = list(points[0]) if points else []
    table = FittedTable(*names, wrapping=tuple(names), title=title)
    for point in points:
        table.add_row(*(_figure(value) for value in point.values()))
    return table


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested fields into dotted names."""
    flat: dict[str, str] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = _figure(value)
    return flat


def _figure(value: object, digits: int = 6) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(_figure(item, digits) for item in value)
    return str(value)
