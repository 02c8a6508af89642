"""``batteries align``: which cells are related, and how. Torch loads when it runs, not before."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

import batteries
import composer
from batteries.errors import ConflictError, InputError, PolicyError
from batteries.io import atomic_files
from batteries.io.text import unicode
from composer.artifact.maps.manifest import MAPS
from composer.vocabulary import TokenKind
from registry.catalog.reference import Reference
from registry.cli.completion import MaybeReferences
from registry.cli.console import AsJson, Registry, app, emit, emit_json, say
from registry.cli.options import MAX_SEED, Threads, licensed, packed_label, refuse_no_folder, use
from registry.cli.progress import working
from registry.reports import summaries
from registry.reports.alignment_page import page
from registry.reports.alignment_report import Asked, compared
from registry.transfer.pull import pull_cells
from registry.transfer.search import references_of

MOST_PAIRS = 600  # nobody reads a table of more, and it takes minutes
SWAPPED = ("omega", "rows")  # what a cell can decode


@app.command()
def align(
    context: typer.Context,
    references: MaybeReferences = None,
    tokens: Annotated[str, typer.Option(help="omega, S, moment, frames or rows.")] = "omega",
    grid: Annotated[str, typer.Option(help="coarsest: finer cells are averaged over its regions; or exact.")] = "coarsest",
    probe: Annotated[
        str | None, typer.Option(help="The images; else photos-64 where all cells learned photographs, and noise16-64.")
    ] = None,
    untrained: Annotated[
        int | None, typer.Option(min=0, help="Untrained cells of each spec at each end; else as many as the pairs take.")
    ] = None,
    swap: Annotated[
        bool, typer.Option("--swap", help="Decode each cell's tokens in every other, too: about half a second each.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of halves, shuffles and intervals.")] = 0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one page with pictures, and with residual spectra.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="NAME.safetensors", help="Write the maps, and NAME.json beside it, for publish.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the maps will be called; else as their file.")] = None,
    version: Annotated[str | None, typer.Option(help="Their version; else 1.0.0.")] = None,
    license: Annotated[str | None, typer.Option(help="SPDX licence of the maps; else those of the cells.")] = None,
    description: Annotated[str | None, typer.Option(help="A sentence for their manifest.")] = None,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Score all pairs of cells: whose tokens, turned, predict whose, better than shuffled images and untrained cells do."""
    use(context, threads)
    label = packed_label(MAPS, out, name, version, license, description)
    refuse_no_folder(html)
    wanted = _wanted(references or [], registry_)
    _refuse_tokens(tokens, swap)
    if probe is not None:
        batteries.probe(probe)  # told now, not after the pull
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
    with working(f"{math.comb(len(cells), 2)} pairs of cells"):
        found = compared(cells, asked)
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
        emit(*summaries.alignment(answer))
    for words in answer.warnings:
        say(f"warning: {words}")


def _wanted(texts: Sequence[str], registry: str | None) -> dict[str, Reference]:
    """References by the names of their cells: enough of them, each once, and not too many.

    Raises:
        InputError: fewer than two (``FEW_CELLS``), or one that cannot be.
        ConflictError: a cell twice (``TWICE``).
        PolicyError: too many pairs (``MANY_PAIRS``).
    """
    references = references_of(texts, registry)
    twice = [path for path, count in Counter(reference.path for reference in references).items() if count > 1]
    if twice:
        remedy = "Leave one out. In Python, composer.compose takes cells under names of one's own, for composer.compare."
        raise ConflictError("a cell given twice", code="TWICE", found=", ".join(twice), remedy=remedy)
    if len(references) < 2:
        remedy = "batteries list shows the cells there are."
        raise InputError(
            "too few cells to compare", code="FEW_CELLS", expected="2 or more", found=len(references), remedy=remedy
        )
    pairs = math.comb(len(references), 2)
    if pairs > MOST_PAIRS:
        raise PolicyError(
            "too many pairs for a table",
            code="MANY_PAIRS",
            expected=f"at most {MOST_PAIRS}",
            found=f"{pairs}, of {len(references)} cells",
            remedy="Align fewer cells at a time. In Python, composer.compare scores the pairs that it is given.",
        )
    return {reference.path: reference for reference in references}


def _refuse_tokens(tokens: str, swap: bool) -> None:
    """Told before anything is fetched.

    Raises:
        InputError: tokens that there are not, or that no cell decodes (``TOKENS``).
    """
    if tokens not in get_args(TokenKind):
        raise InputError("no such tokens", code="TOKENS", expected=" | ".join(get_args(TokenKind)), found=tokens)
    if swap and tokens not in SWAPPED:
        remedy = "Leave out --swap, or swap one of those."
        raise InputError(
            "tokens that no cell decodes", code="TOKENS", expected=" | ".join(SWAPPED), found=tokens, remedy=remedy
        )
