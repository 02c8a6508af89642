"""Tables for the terminal. Text may come from untrusted registries: markup and control characters have no effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from batteries.cell.manifest import Manifest
from batteries.errors import BatteriesError
from batteries.io.text import plain
from composer.artifact.form import ArtifactForm
from composer.artifact.manifest import PackedManifest
from registry.catalog.kinds import CELL, KINDS, kind_of_path
from registry.catalog.release import Release
from registry.stores.snapshot import Located

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

NOTHING = "-"


def cells(found: Sequence[Located]) -> Table:
    """Tabulate cells: spec, figures on the cell's own probe, verdict."""
    table = _table(
        "reference", "family", "band", "D", "V", "patch", "parameters", "CV", "ratio", "on attractor", "holds", "MSE", "verdict"
    )
    for located in found:
        release = located.cell_release
        summary = release.summary
        row = (
            located.reference,
            summary.family,
            located.reference.band,
            summary.D,
            summary.V,
            summary.patch_size,
            f"{summary.parameters:,}",
            cv(release),
            _figure(summary.ratio, 3),
            _figure(summary.on_attractor),
            _figure(summary.holds),
            _figure(summary.mse, 4),
            verdict(located),
        )
        table.add_row(*(_text(value) for value in row))
    return table


def artifacts(found: Sequence[Located], form: ArtifactForm[Any]) -> Table:
    """Tabulate artifacts of a kind other than the cell: the kind's columns, size, licence, reason of a yank."""
    table = _table("reference", *(column.name for column in form.columns), "MB", "licence", "yanked")
    for located in found:
        release = located.packed_release
        texts = [column.text(release.summary) for column in form.columns]
        row = (located.reference, *texts, f"{release.blob.size / 1e6:.1f}", release.summary.license, _figure(release.yanked))
        table.add_row(*(_text(value) for value in row))
    return table


def packed_manifest(located: Located, document: PackedManifest) -> list[Table]:
    """Tabulate the manifest of an artifact other than a cell, with the registry's facts about it."""
    fields = document.model_dump(mode="json")
    apart = {name: fields.pop(name) for name in ("identity", "file")}
    rows = {name: fields.pop(name) for name, value in list(fields.items()) if _is_table(value)}
    return [
        _pairs(str(located.reference), _registry_rows(located)),
        *(_pairs(name, table) for name, table in apart.items()),
        _pairs(document.KIND.words, fields),
        *(_rows(name, table) for name, table in rows.items()),
    ]


def manifest(located: Located, document: Manifest) -> list[Table]:
    """Tabulate the manifest of a cell, with the registry's facts about it."""
    fields = document.model_dump(mode="json")
    training = fields["training"]
    trajectory = training.pop("trajectory")
    null = {f"untrained, {probe}": figures for probe, figures in fields["untrained"].items()}
    return [
        _pairs(str(located.reference), _registry_rows(located)),
        _pairs("identity", fields["identity"]),
        _pairs("spec", {**fields["spec"], "parameters": document.spec.parameters}),
        _pairs("file", fields["file"]),
        _pairs("training", training),
        _columns("measured", {**fields["measured"], **null}),
        _rows("trajectory", trajectory),
    ]


def faults(found: Mapping[str, BatteriesError], repaired: Collection[str], orphans: Sequence[str]) -> Table:
    """Tabulate damaged files, and orphans that no index lists."""
    table = _table("", "name", "fault")
    for name, error in found.items():
        table.add_row(*map(_text, ("repaired" if name in repaired else "FAULT", name, f"{error.what} [{error.code}]")))
    for name in orphans:
        table.add_row(*map(_text, ("orphan", name, NOTHING)))
    return table


def cv(release: Release) -> str:
    """Format the CV with its standard error."""
    summary = release.summary
    if summary.cv is None:
        return "degenerate"
    error = "" if summary.cv_standard_error is None else f" ± {summary.cv_standard_error:.4f}"
    return f"{summary.cv:.4f}{error}"


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


def _registry_rows(located: Located) -> dict[str, Any]:
    return {
        "registry": located.snapshot.store.url,
        "manifest sha256": located.release.manifest.sha256,
        "verdict": verdict(located),
    }


def _pairs(title: str, fields: Mapping[str, Any]) -> Table:
    table = _table("", "", title=title)
    for name, value in _flat(fields).items():
        table.add_row(_text(name), _text(value))
    return table


def _columns(title: str, figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """Tabulate figures: one column per probe, one row per figure of any probe."""
    flat = [_flat(fields) for fields in figures.values()]
    table = _table("", *figures, title=title)
    for name in dict.fromkeys(name for fields in flat for name in fields):
        table.add_row(_text(name), *(_text(fields.get(name, NOTHING)) for fields in flat))
    return table


def _rows(title: str, points: Sequence[Mapping[str, Any]]) -> Table:
    names = list(points[0]) if points else []
    table = _table(*names, title=title)
    for point in points:
        table.add_row(*(_text(_figure(value)) for value in point.values()))
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


def _table(*columns: str, title: str | None = None) -> Table:
    from rich.table import Table

    table = Table(title=None if title is None else _text(title), title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(_text(column), overflow="fold")
    return table


def _text(value: object) -> Text:
    from rich.text import Text

    return Text(plain(str(value)))
