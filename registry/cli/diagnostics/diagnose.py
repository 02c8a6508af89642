"""``batteries diagnose``: the universal diagnostic of a cell. Torch is imported only when the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

import registry
from batteries import diagnostics
from batteries.io import atomic_files
from batteries.io.home import home
from registry import reports
from registry.answers.diagnosis import DiagnoseAnswer
from registry.cli.terminal.console import AsJson, Registry, Wide, app, emit, emit_json, say
from registry.cli.terminal.help import TEST
from registry.cli.terminal.options import Page, Threads, refuse_no_folder, use
from registry.cli.terminal.progress import TaskBar
from registry.reports.diagnosis import diagnosis_tables

KEPT = "diagnostics"  # folder of the figures of untrained cells, in the user's cache folder


@app.command(rich_help_panel=TEST, epilog="batteries diagnose low/fresnel-64 --html diagnosis.html")
def diagnose(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="REFERENCE|CELL_FILE", help="Published cell, or cell file.")],
    html: Page = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure untrained cells again.")] = False,
    registry_: Registry = None,
    threads: Threads = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Diagnose a cell on kinds of images, sizes and noise.

    The kinds are 16 known and 16 unseen noise laws, photographs, text, gradients and extreme contrast; sizes 36 to 1024
    pixels; tiles encoded apart; signal in noise; compression; noise named by omega. The verdict is specialist or
    generalist. Beside each figure are those of five untrained cells and of PCA, kept for other cells of the spec.

    --json and the page also have each law and the singular values.
    """
    use(context, threads)
    refuse_no_folder(html)
    cell = registry.load(target, registry=registry_)
    with TaskBar("diagnosing", "parts", None, kept="parts") as bar:
        found = diagnostics.diagnose(
            cell, folder=home() / KEPT, fresh=fresh, progress=lambda words, done, parts: bar.moved(done, parts)
        )
    answer = DiagnoseAnswer.of(f"{cell.name}@{cell.version}", cell.digest, found)
    if html:
        atomic_files.replace(html, reports.diagnosis_page(answer, found).encode())
    if as_json:
        emit_json(answer)
    else:
        emit(diagnosis_tables.diagnosed(answer), wide=wide)
    say(f"{answer.reference}: {answer.verdict}; PCA-{answer.linear_width}: {answer.linear}")
