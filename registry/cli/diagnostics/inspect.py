"""``batteries inspect``: every figure of a cell's pipeline. Torch is imported only when the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

import batteries
import registry
from batteries import diagnostics
from batteries.io import atomic_files
from batteries.text import unicode
from registry import reports
from registry.answers.inspection import Inspected
from registry.cli.terminal.completion import OneReference
from registry.cli.terminal.console import AsJson, Registry, Wide, app, emit, emit_json
from registry.cli.terminal.help import TEST
from registry.cli.terminal.options import Page, Threads, refuse_no_folder, use
from registry.cli.terminal.progress import working
from registry.reports.inspections import inspection_tables

if TYPE_CHECKING:
    from batteries.diagnostics import Inspection

Sizes = Annotated[
    list[int] | None,
    typer.Option("--size", metavar="N", min=1, help="Side of the images; may be repeated.", show_default="the probe's"),
]
ProbeName = Annotated[str | None, typer.Option("--probe", metavar="NAME", help="Probe images.", show_default="the cell's own")]


@app.command(rich_help_panel=TEST, epilog="batteries inspect high/freckles-64 --size 64 --size 256 --html figures.html")
def inspect(
    context: typer.Context,
    reference: OneReference,
    size: Sizes = None,
    probe: ProbeName = None,
    html: Page = None,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure every stage of a cell, from spectrum to errors.

    Each figure has its formula, and a standard error clustered by image or an exact tolerance. Images of another size
    than the probe's are of the same noise types, or crops of the same photographs.
    """
    use(context, threads)
    refuse_no_folder(html)
    if probe is not None:
        batteries.probe(probe)  # refused before the pull
    cell = registry.load(reference, registry=registry_)
    with working(f"inspecting {cell.name}"):
        found = inspected(cell, probe or cell.manifest.own_probe, size)
    answer = Inspected.of(found, None if html is None else unicode(html))
    if html is not None:
        atomic_files.replace(html, reports.inspected_page(answer).encode())
    if as_json:
        emit_json(answer)
    else:
        emit(*inspection_tables.inspection(answer), wide=wide)


def inspected(cell: batteries.Cell, probe: str, size: list[int] | None) -> Inspection:
    """Inspect a cell."""
    model, input = batteries.PatchSVAE.from_cell(cell), cell.manifest.identity.input
    return diagnostics.inspect(model, probe, sizes=size or (), name=f"{cell.name}@{cell.version}", input=input)
