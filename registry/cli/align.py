"""``batteries align``: score how closely cells are related. Torch is imported only when the command runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import batteries
import composer
from batteries.errors import InputError, PolicyError
from batteries.io import atomic_files
from batteries.short_repr import counted
from batteries.text import unicode
from composer.artifact.maps.manifest import MAPS
from composer.vocabulary import GridChoice, TokenKind
from registry.catalog.reference import Reference
from registry.cli.terminal.choices import choice
from registry.cli.terminal.completion import MaybeReferences
from registry.cli.terminal.console import AsJson, Registry, Wide, app, emit, emit_json, say
from registry.cli.terminal.help import TEST
from registry.cli.terminal.options import (
    ArtifactLicense,
    ArtifactName,
    ArtifactVersion,
    EngineOption,
    MaybeDescription,
    Page,
    Seed,
    Threads,
    Workers,
    different,
    engine_of,
    licensed,
    packed_label,
    refuse_no_folder,
    use,
)
from registry.cli.terminal.progress import TaskBar, working
from registry.reports import summaries
from registry.reports.alignment_page import page
from registry.reports.alignment_report import Asked, compared
from registry.transfer.pull import pull_cells

MOST_PAIRS = 600  # a larger table takes minutes and is unreadable
SWAPPED = ("omega", "rows")  # tokens that a cell can decode


@app.command(rich_help_panel=TEST, epilog="batteries align low/johanna-64 low/johanna-64-s1 --html pairs.html")
def align(
    context: typer.Context,
    references: MaybeReferences = None,
    tokens: Annotated[TokenKind, choice(TokenKind, code="TOKENS", help="Tokens to compare.")] = "omega",
    grid: Annotated[GridChoice, choice(GridChoice, code="GRIDS", help="Regions on which tokens pair, see above.")] = "coarsest",
    probe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Probe images.", show_default="by the cells' training data")
    ] = None,
    untrained: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Untrained cells of each spec at each end.", show_default="by the number of pairs"
        ),
    ] = None,
    swap: Annotated[bool, typer.Option("--swap", help="Also decode each cell's tokens in the others.")] = False,
    seed: Seed = 0,
    html: Page = None,
    out: Annotated[
        Path | None, typer.Option(metavar="NAME.safetensors", help="Write the maps, and NAME.json, for publish.")
    ] = None,
    name: ArtifactName = None,
    version: ArtifactVersion = None,
    license: ArtifactLicense = None,
    description: MaybeDescription = None,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    engine: EngineOption = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Score how well the tokens of each cell predict another's.

    The tokens of one cell of a pair, rotated, predict those of the other on held-out images; the score is compared with
    shuffled pairings and with untrained cells.

    Grids: coarsest averages finer cells over the regions of the coarsest; exact demands one grid. The probe is photos-64 if all
    cells learned photographs, noise16p-64 if all that learned noise learned the published mix, else noise16-64. A swap takes
    about half a second for each pair. With --engine untrained cells and pairs are tasks.
    """
    use(context, threads)
    chosen = engine_of(engine, workers, threads)
    label = packed_label(MAPS, out, name, version, license, description)
    refuse_no_folder(html)
    wanted = _wanted(references or [], registry_)
    if swap and tokens not in SWAPPED:
        remedy = "Leave out --swap, or choose tokens that can be decoded."
        raise InputError("tokens cannot be decoded", code="TOKENS", expected=" | ".join(SWAPPED), found=tokens, remedy=remedy)
    if probe is not None:
        batteries.probe(probe)  # refuse an unknown probe before the pull
    cells = dict(zip(wanted, pull_cells(*wanted.values(), registry=registry_), strict=True))
    exact = {path: wanted[path].at(cell.version) for path, cell in cells.items()}
    asked = Asked(
        references=exact,
        tokens=tokens,
        grid=grid,
        probe=probe,
        untrained=untrained,
        seed=seed,
        swap=swap,
        page=html,
        maps=out is not None,
        registry=registry_,
    )
    words = f"aligning {counted(math.comb(len(cells), 2), 'pair')} of cells"
    if chosen is None:
        with working(words):
            found = compared(cells, asked)
    else:
        with TaskBar(words, "tasks", None) as bar:
            found = compared(cells, asked, partial(chosen.run, ended=bar.moved))
    answer = found.answer
    if html is not None:
        answer = answer.model_copy(update={"page": unicode(html)})
        atomic_files.replace(html, page(answer).encode())
    if out is not None and label is not None and found.maps is not None:
        manifest = composer.pack(found.maps, out, licensed(label, cells.values()), lock=found.lock)
        answer = answer.model_copy(update={"path": unicode(out), "manifest": manifest})
        say(f"{manifest.path}@{manifest.identity.version}: {manifest.file.size} bytes in {out}")
    if as_json:
        emit_json(answer)
    else:
        emit(*summaries.alignment(answer), wide=wide)
    for words in answer.warnings:
        say(f"warning: {words}")


def _wanted(texts: Sequence[str], registry: str | None) -> dict[str, Reference]:
    """Parse references and key them by the paths of their cells.

    Raises:
        InputError: fewer than two references (``FEW_CELLS``), or one that cannot be parsed.
        ConflictError: a cell given twice (``TWICE``).
        PolicyError: too many pairs (``MANY_PAIRS``).
    """
    remedy = "Leave one out. In Python, composer.compose takes cells under names of your choice, for composer.compare."
    references = different(texts, remedy, registry)
    if len(references) < 2:
        remedy = "List the available cells with: batteries list"
        raise InputError("too few cells", code="FEW_CELLS", expected="2 or more", found=len(references), remedy=remedy)
    pairs = math.comb(len(references), 2)
    if pairs > MOST_PAIRS:
        raise PolicyError(
            "too many pairs",
            code="MANY_PAIRS",
            expected=f"at most {MOST_PAIRS}",
            found=f"{pairs}, of {len(references)} cells",
            remedy="Align fewer cells at a time. In Python, composer.compare scores any pairs it is given.",
        )
    return references
