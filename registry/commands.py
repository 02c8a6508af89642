"""``batteries`` list, show, pull, publish, verify. None of them needs torch."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from batteries.cell import Cell
from batteries.errors import InputError
from registry import tables
from registry.cache import Cache
from registry.config import open_store
from registry.console import AsJson, Registry, app, emit, emit_json, emit_row, error_object, say
from registry.publish import publish as publish_cell
from registry.pull import pull_located
from registry.reference import Reference
from registry.snapshot import Located, Snapshot, locate, open_snapshot
from registry.verify import Finding, verify_store
from registry.verify import verify as verify_references

References = Annotated[list[str], typer.Argument(metavar="REFERENCE...", help="[registry/]band/name[@version]")]


@app.command("list")
def list_cells(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern such as 'low/*'.")] = "*",
    every: Annotated[bool, typer.Option("--all", help="Every version, not only the newest.")] = False,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """List the cells of a registry."""
    snapshot = open_snapshot(registry)
    found = [located for located in _everything(snapshot, every) if _matches(located.reference.path, pattern)]
    if as_json:
        emit_json(
            {"registry": snapshot.store.url, "number": snapshot.index.number, "cells": [_row(located) for located in found]}
        )
    else:
        emit(tables.cells(found))
    say(f"cells: {len(found)} of {len(snapshot.index.cells)} in {snapshot.store.url}")


@app.command()
def show(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="[registry/]band/name[@version]")],
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show everything a cell says of itself, and what was found about it."""
    (located,) = locate([Reference.parse(reference)], registry)
    manifest = located.manifest()
    if as_json:
        emit_json({**_row(located), "manifest": manifest.model_dump(mode="json")})
    else:
        emit(*tables.manifest(located, manifest))


@app.command()
def pull(
    references: References,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Also write FOLDER/band/name.safetensors.")
    ] = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Fetch cells, check every byte, and say where they are."""
    found = locate([Reference.parse(reference) for reference in references], registry)
    _refuse_clash(found if out else [])
    cache = Cache()
    cache.sweep()
    cells = [pull_located(located, cache) for located in found]
    paths = [cell.write(out / cell.manifest.identity.band) if out else cache.path(cell.digest) for cell in cells]
    if as_json:
        rows = [{**_identity(located), "path": str(path)} for located, path in zip(found, paths, strict=True)]
        emit_json({"cells": rows})
    else:
        for located, path in zip(found, paths, strict=True):
            emit_row(located.reference, path)
    say(f"cells fetched and verified: {len(cells)}")


@app.command()
def publish(
    cell_file: Annotated[Path, typer.Argument(metavar="CELL_FILE", help="NAME.safetensors, with NAME.json beside it.")],
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="The registry to publish to.")],
    as_json: AsJson = False,
) -> None:
    """Publish a cell to a registry."""
    published = publish_cell(Cell.read(cell_file), to)
    if as_json:
        emit_json(
            {
                "reference": str(published.reference),
                "release": published.release.model_dump(mode="json"),
                "number": published.number,
                "new": published.new,
            }
        )
    else:
        emit_row(published.reference, f"sha256:{published.release.blob.sha256}")
    say(f"published, in index {published.number}" if published.new else "published before, with the same bytes")


@app.command()
def verify(
    references: Annotated[
        list[str] | None, typer.Argument(metavar="[REFERENCE...]", help="[registry/]band/name[@version]")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="The whole registry.")] = False,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Check cells where they are published: index, manifests, weights, attestations."""
    if bool(references) == every:
        raise InputError("nothing to verify, or too much", code="USAGE", expected="some references, or --all")
    _answer(verify_references(*references, registry=registry) if references else verify_store(open_store(registry)), as_json)


def _answer(findings: list[Finding], as_json: bool) -> None:
    faults = [finding.error for finding in findings if finding.error is not None]
    if as_json:
        emit_json({"ok": not faults, "findings": [_finding(finding) for finding in findings]})
    else:
        emit(tables.findings(findings))
    for fault in faults:
        say(f"error: {fault}")
    say(f"objects checked: {len(findings)}, faults: {len(faults)}")
    if faults:
        raise typer.Exit(max(fault.exit_code for fault in faults))


def _everything(snapshot: Snapshot, every: bool) -> list[Located]:
    """Each cell at its newest version, or at all; one that has only prereleases or yanked versions shows the last of these."""
    index = snapshot.index
    found = []
    for path in sorted(index.cells):
        versions = index.versions(path)
        shown = versions if every else [index.newest(path) or versions[-1]]
        found += [snapshot.find(Reference.parse(f"{path}@{version}")) for version in shown]
    return found


def _matches(path: str, pattern: str) -> bool:
    """A pattern without a wildcard may stand anywhere in the name."""
    return fnmatchcase(path, pattern) or pattern in path


def _refuse_clash(found: list[Located]) -> None:
    """Two versions of one cell would be one file."""
    paths = [located.reference.path for located in found]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise InputError(
            "a cell given twice", code="OUT_CLASH", found=", ".join(twice), remedy="Pull its versions into different folders."
        )


def _identity(located: Located) -> dict[str, Any]:
    blob = located.release.blob
    return {"reference": str(located.reference), "version": located.version, "sha256": blob.sha256, "size": blob.size}


def _row(located: Located) -> dict[str, Any]:
    attestations = {protocol: attested.model_dump(mode="json") for protocol, attested in sorted(located.attestations.items())}
    return {
        **_identity(located),
        "yanked": located.release.yanked,
        "summary": located.release.summary.model_dump(mode="json"),
        "attestations": attestations,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    error = None if finding.error is None else error_object(finding.error)
    return {"kind": finding.kind, "name": finding.name, "ok": finding.ok, "error": error}
