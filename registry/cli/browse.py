"""The commands ``batteries list`` and ``batteries show``. Neither needs torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.errors import InputError
from composer.artifact.kinds import FORMS
from registry.answers.answer import Answer
from registry.answers.transfer import SHOWN, Listed, Shown
from registry.catalog.kinds import CELL, KINDS, kind_of_folder
from registry.catalog.reference import Reference
from registry.cli.completion import OneReference
from registry.cli.console import AsJson, InMode, Registry, Wide, app, emit, emit_json, say
from registry.cli.terminal.help import BROWSE
from registry.reports import tables
from registry.reports.fitted_table import FittedTable
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.snapshot import Located, Snapshot, locate, open_snapshot
from registry.transfer.query import Query, row_of


def with_kinds(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**kinds`` of a command by one flag for each kind of artifact but the cell, named by the kind's plural."""
    *parameters, _ = inspect.signature(command, eval_str=True).parameters.values()
    for form in FORMS.values():
        plural = form.kind.plural
        option = typer.Option(f"--{plural}", help=f"List {plural} in place of cells.")
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(plural, kind, default=False, annotation=Annotated[bool, option]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    return command


@app.command("list", rich_help_panel=BROWSE, epilog="batteries list 'low/*' --where 'mse < 0.01 and viable'")
@with_kinds
def list_cells(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a pattern such as 'low/*'.")] = "*",
    where: Annotated[str | None, typer.Option("--where", metavar="CONDITION", help="Only cells that meet a condition.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version, not only the newest.")] = False,
    wide: Wide = False,
    registry: Registry = None,
    mode: InMode = None,
    as_json: AsJson = False,
    **kinds: bool,
) -> None:
    """List the cells of a registry, or its models or maps."""
    query = None if where is None else Query.parse(where)
    kind = _listed_kind(kinds, pattern)
    if kind is not CELL and query is not None:
        raise InputError("--where applies to cells only", code="USAGE", remedy="Leave out --where.")
    snapshot = open_snapshot(registry, mode=settings.mode(mode))
    known = snapshot.index.table(kind.plural)
    found = [located for located in _versions(snapshot, known, every) if _matches(located.reference.path, pattern)]
    if query is not None:
        found = [located for located in found if query.matches(row_of(located))]
    if as_json:
        emit_json(Listed.of(snapshot, found))
    elif found:
        emit(tables.cells(found) if kind is CELL else tables.artifacts(found, FORMS[kind.name]), wide=wide)
    none = "" if found else f"; none matches {pattern}" if known else "; the registry has none"
    say(f"{kind.plural}: {len(found)} of {len(known)} in {snapshot.store.url}{none}")


@app.command(rich_help_panel=BROWSE, epilog="batteries show low/fresnel-256")
def show(
    reference: OneReference,
    registry: Registry = None,
    mode: InMode = None,
    as_json: AsJson = False,
) -> None:
    """Show the manifest and the verdicts of an artifact."""
    (located,) = locate([settings.expand(reference)], registry, mode=settings.mode(mode))
    cache = Cache() if settings.is_remote(located.snapshot.store.url) else None
    if located.reference.kind is CELL:
        cell = located.manifest(cache)
        _emit(Shown.of(located, manifest=cell), tables.manifest(located, cell), as_json)
    else:
        packed = located.packed_manifest(cache)
        answer = SHOWN[located.reference.kind.name].of(located, manifest=packed)
        _emit(answer, tables.packed_manifest(located, packed), as_json)


def _listed_kind(flags: Mapping[str, bool], pattern: str) -> ArtifactKind:
    """Choose the kind to list: from its flag, else from the pattern's folder, else the cell."""
    chosen = [kind for kind in KINDS.values() if flags.get(kind.plural)]
    if len(chosen) > 1:
        raise InputError("conflicting kinds", code="USAGE", expected=" or ".join(f"--{plural}" for plural in flags))
    folder, slash, _ = pattern.partition("/")
    return chosen[0] if chosen else (kind_of_folder(folder) if slash else None) or CELL


def _emit(answer: Answer, parts: Sequence[FittedTable], as_json: bool) -> None:
    if as_json:
        emit_json(answer)
    else:
        emit(*parts)


def _versions(snapshot: Snapshot, paths: Iterable[str], every: bool) -> list[Located]:
    """Locate each path at its newest version, or at all; the last one where all are prereleases or yanked."""
    index = snapshot.index
    found = []
    for path in sorted(paths):
        versions = index.versions(path)
        shown = versions if every else [index.newest(path) or versions[-1]]
        found += [snapshot.find(Reference.parse(f"{path}@{version}")) for version in shown]
    return found


def _matches(path: str, pattern: str) -> bool:
    """Match a path against a wildcard pattern or a part of the path."""
    return fnmatchcase(path, pattern) or pattern in path
