"""``batteries`` list, show. Neither needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from batteries.cell.artifact_kinds import KINDS, MAPS, MODEL, ArtifactKind
from batteries.errors import InputError
from registry.answers.answer import Answer
from registry.answers.transfer import Listed, Shown, ShownMaps, ShownModel
from registry.catalog.reference import Reference
from registry.cli.completion import OneReference
from registry.cli.console import AsJson, InMode, Registry, app, emit, emit_json, say
from registry.reports import tables
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.snapshot import Located, Snapshot, locate, open_snapshot
from registry.transfer.query import EXAMPLE, Query, row_of

if TYPE_CHECKING:
    from rich.table import Table


@app.command("list")
def list_cells(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern such as 'low/*' or 'model/*'.")] = "*",
    models: Annotated[bool, typer.Option("--models", help="Composed models, not cells.")] = False,
    maps: Annotated[bool, typer.Option("--maps", help="Maps between cells, not cells.")] = False,
    where: Annotated[
        str | None, typer.Option("--where", metavar="CONDITION", help=f"Only cells of which it is true, such as '{EXAMPLE}'.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version, not only the newest.")] = False,
    registry: Registry = None,
    mode: InMode = None,
    as_json: AsJson = False,
) -> None:
    """List the cells of a registry, or its composed models, or its maps."""
    query = None if where is None else Query.parse(where)
    kind = _listed_kind(models, maps, pattern)
    if kind is not None and query is not None:
        raise InputError("a condition is on cells", code="USAGE", remedy="Leave out --where.")
    snapshot = open_snapshot(registry, mode=settings.mode(mode))
    words = "cells" if kind is None else kind.plural
    known = snapshot.index.table(words)
    found = [located for located in _versions(snapshot, known, every) if _matches(located.reference.path, pattern)]
    if query is not None:
        found = [located for located in found if query.matches(row_of(located))]
    if as_json:
        emit_json(Listed.of(snapshot, found))
    else:
        emit({None: tables.cells, MODEL: tables.models, MAPS: tables.maps}[kind](found))
    say(f"{words}: {len(found)} of {len(known)} in {snapshot.store.url}")


@app.command()
def show(
    reference: OneReference,
    registry: Registry = None,
    mode: InMode = None,
    as_json: AsJson = False,
) -> None:
    """Show everything a cell, a composed model or maps say of themselves, and what was found about them."""
    (located,) = locate([settings.expand(reference)], registry, mode=settings.mode(mode))
    cache = Cache() if settings.is_remote(located.snapshot.store.url) else None
    if located.reference.kind is None:
        cell = located.manifest(cache)
        _emit(Shown.of(located, manifest=cell), tables.manifest(located, cell), as_json)
    else:
        packed = located.packed_manifest(cache)
        answer = (ShownModel if located.reference.kind is MODEL else ShownMaps).of(located, manifest=packed)
        _emit(answer, tables.packed_manifest(located, packed), as_json)


def _listed_kind(models: bool, maps: bool, pattern: str) -> ArtifactKind | None:
    """What is to be listed: by an option, else by the pattern."""
    if models and maps:
        raise InputError("two kinds", code="USAGE", expected="--models or --maps")
    return MODEL if models else MAPS if maps else KINDS.get(pattern.partition("/")[0]) if "/" in pattern else None


def _emit(answer: Answer, parts: Sequence[Table], as_json: bool) -> None:
    if as_json:
        emit_json(answer)
    else:
        emit(*parts)


def _versions(snapshot: Snapshot, paths: Iterable[str], every: bool) -> list[Located]:
    """Each at its newest version, or at all; one that has only prereleases or yanked versions shows the last of these."""
    index = snapshot.index
    found = []
    for path in sorted(paths):
        versions = index.versions(path)
        shown = versions if every else [index.newest(path) or versions[-1]]
        found += [snapshot.find(Reference.parse(f"{path}@{version}")) for version in shown]
    return found


def _matches(path: str, pattern: str) -> bool:
    """A pattern without a wildcard may stand anywhere in the name."""
    return fnmatchcase(path, pattern) or pattern in path
