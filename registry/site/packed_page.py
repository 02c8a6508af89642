"""Page of a version of a model, of maps, or of another kind than the cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batteries import __version__
from batteries.io.canonical_json import Document
from batteries.kept_documents import KeptDocuments
from composer.artifact.kinds import FORMS
from registry.site.cell_page import look, raw
from registry.site.contents import CellEntry, Contents, Entry, PackedEntry
from registry.site.site_templates import render
from registry.site.usage import commands, packed_code, pin

ELSEWHERE = {("identity", "description"), ("file", "size"), ("schema_version",)}  # fields with a place of their own, or none


class LockedCells(Document):
    """Name, reference and digest of each cell in the file of an artifact."""

    cells: tuple[tuple[str, str, str], ...]


Cells = Sequence[tuple[str, str, str, CellEntry | None]]  # name in the artifact, reference, digest, version in this registry


def packed_page(contents: Contents, entry: PackedEntry, cells: Cells) -> str:
    """Return the page of a version of an artifact; the same values give the same bytes."""
    form, manifest, found = FORMS[entry.located.reference.kind.name], entry.manifest, contents.versions[entry.path]
    paths, tables = _fields(manifest.model_dump(mode="json"))
    return render(
        "packed.html.j2",
        entry.page,
        address=contents.address,
        signed=contents.signed,
        package=__version__,
        entry=entry,
        manifest=manifest,
        kind=form.kind,
        newest=next((one for one in found if one.newest), entry),
        look=lambda path: look(manifest, path),
        columns=entry.columns,
        commands=commands(entry, contents.address),
        code_text=packed_code(entry, contents.address),
        pin=pin(entry),
        cells=cells,
        paths=paths,
        tables=tables,
        versions_of=found,
        verdicts=lambda one: [],
        raw=raw(manifest),
    )


def cells_of(contents: Contents, entry: PackedEntry, kept: KeptDocuments) -> Cells:
    """Return the cells of an artifact, with the versions of the same bytes in a registry.

    Raises:
        BatteriesError: as :func:`registry.pull`, where they are not kept from an earlier reading.
    """

    def opened() -> LockedCells:
        lock = contents.lock(entry)
        return LockedCells(cells=tuple((name, f"{one['cell']}@{one['version']}", one["sha256"]) for name, one in lock.items()))

    found = kept.recall(LockedCells, {"file": entry.digest}, opened).cells
    return [(name, reference, digest, _entry(contents, reference, digest)) for name, reference, digest in found]


def facts_of(contents: Contents, entry: PackedEntry, cells: Cells) -> dict[str, Any]:
    """Return everything that a page depends on apart from the artifact's manifest, as JSON values."""
    versions: Sequence[Entry] = contents.versions[entry.path]
    return {
        "versions": [[one.reference, one.newest, one.yanked] for one in versions],
        "cells": [[*words, target and target.reference] for *words, target in cells],
    }


def _entry(contents: Contents, reference: str, digest: str) -> CellEntry | None:
    """Return the version of a digest: that of the same name, if there are several."""
    named = contents.by_reference.get(reference)
    return named if isinstance(named, CellEntry) and named.digest == digest else contents.by_digest.get(digest)


def _fields(fields: Mapping[str, Any], above: tuple[str, ...] = ()) -> tuple[list[tuple[str, list[str]]], list[Any]]:
    """Return names and paths of the single fields of a document, and its lists of rows as tables."""
    paths: list[tuple[str, list[str]]] = []
    tables: list[Any] = []
    for name, value in fields.items():
        path = (*above, name)
        if isinstance(value, dict):
            more, within = _fields(value, path)
            paths, tables = paths + more, tables + within
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            heads = list(value[0])
            tables.append((name, heads, [[row[head] for head in heads] for row in value]))
        elif path not in ELSEWHERE:
            paths.append((" ".join(path).replace("_", " "), list(path)))
    return paths, tables
