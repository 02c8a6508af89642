"""The commands ``batteries list`` and ``batteries show``. Neither needs torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.cell import SUFFIX
from batteries.errors import InputError
from batteries.text import listed
from composer.artifact.kinds import FORMS
from registry.answers.answer import Answer
from registry.answers.transfer import SHOWN, Listed, Shown
from registry.catalog.kinds import CELL, KINDS
from registry.catalog.reference import NamePattern, Reference
from registry.cli.terminal.completion import OneReference
from registry.cli.terminal.console import AsJson, InMode, Registry, Wide, app, emit, emit_json, say
from registry.cli.terminal.help import BROWSE
from registry.reports import tables
from registry.reports.fitted_table import FittedTable
from registry.stores import settings
from registry.stores.cache import Cache
from registry.stores.settings import Mode
from registry.stores.snapshot import Located, open_snapshot
from registry.transfer.publish import snapshot_of_file
from registry.transfer.query import Query
from registry.transfer.search import located, named, rows


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
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Part of a name, 'low/*', or a cell file.")] = "*",
    where: Annotated[str | None, typer.Option("--where", metavar="CONDITION", help="Only cells that meet a condition.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every version, not only the newest.")] = False,
    wide: Wide = False,
    registry: Registry = None,
    mode: InMode = None,
    as_json: AsJson = False,
    **kinds: bool,
) -> None:
    """List cells, models or maps of a registry, or of a file."""
    query = None if where is None else Query.parse(where)
    kind = _listed_kind(kinds, pattern)
    if pattern.endswith(SUFFIX):
        snapshot, pattern = snapshot_of_file(pattern), "*"
        kind = next(one for one in KINDS.values() if snapshot.index.table(one.plural))
    else:
        snapshot = open_snapshot(registry, mode=settings.mode(mode))
    known = snapshot.index.table(kind.plural)
    found = rows(snapshot, pattern, kind, query, every=every)
    if as_json:
        emit_json(Listed.of(snapshot, found))
    elif found:
        emit(tables.cells(found) if kind is CELL else tables.artifacts(found, FORMS[kind.name]), wide=wide)
    asked = pattern if where is None else f"{pattern} where {where}"
    none = "" if found else f"; none matches {asked}" if known else "; the registry has none"
    say(f"{kind.plural}: {len(found)} of {len(known)} in {snapshot.store.url}{none}; {snapshot.signature.words}")


@app.command(rich_help_panel=BROWSE, epilog="batteries show low/fresnel-256")
def show(
    reference: OneReference,
    registry: Registry = None,
    mode: InMode = None,
    as_json: AsJson = False,
) -> None:
    """Show the manifest and the verdicts of an artifact."""
    from_file = reference.endswith(SUFFIX)
    located = _located_in_file(reference) if from_file else _one(reference, registry, settings.mode(mode))
    cache = Cache() if settings.is_remote(located.snapshot.store.url) else None
    signatures = {"signature": located.signature(), "index_signature": located.snapshot.signature}
    if located.reference.kind is CELL:
        cell = located.manifest(cache)
        answer: Answer = Shown.of(located, manifest=cell, **signatures)
        _emit(answer, tables.manifest(located, cell, signatures["signature"]), as_json)
    else:
        packed = located.packed_manifest(cache)
        answer = SHOWN[located.reference.kind.name].of(located, manifest=packed, **signatures)
        _emit(answer, tables.packed_manifest(located, packed, signatures["signature"]), as_json)


def _located_in_file(path: str) -> Located:
    """Find the one artifact of a file."""
    snapshot = snapshot_of_file(path)
    ((name, version, _),) = snapshot.index.everything()
    return snapshot.find(Reference.parse(name).at(version))


def _listed_kind(flags: Mapping[str, bool], pattern: str) -> ArtifactKind:
    """Choose the kind to list: from its flag, else from the pattern's folder, else the cell."""
    chosen = [kind for kind in KINDS.values() if flags.get(kind.plural)]
    if len(chosen) > 1:
        raise InputError("conflicting kinds", code="USAGE", expected=" or ".join(f"--{plural}" for plural in flags))
    return chosen[0] if chosen else NamePattern(None, pattern).kind


def _emit(answer: Answer, parts: Sequence[FittedTable], as_json: bool) -> None:
    if as_json:
        emit_json(answer)
    else:
        emit(*parts)


def _one(text: str, registry: str | None, mode: Mode) -> Located:
    """Find the artifact of a reference, or the one match of a pattern."""
    ((found, *more),) = located(named([text], registry, mode), registry, mode=mode)
    if more:
        matches = listed([one.reference.path for one in (found, *more)])
        raise InputError("more than one match", code="USAGE", expected="a pattern with one", found=matches, where=text)
    return found
