"""``batteries align``: score how closely cells are related. Torch is imported only when the command runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

import batteries
import composer
from batteries.errors import InputError, PolicyError
from batteries.io import atomic_files
from batteries.io.text import unicode
from composer.artifact.maps.manifest import MAPS
from composer.vocabulary import TokenKind
from registry.catalog.reference import Reference
from registry.cli.completion import MaybeReferences
from registry.cli.console import AsJson, Registry, app, emit, emit_json, say
from registry.cli.options import MAX_SEED, Threads, different, licensed, packed_label, refuse_no_folder, use
from registry.reports import summaries
from registry.reports.alignment_page import page
from registry.reports.alignment_report import Asked, compared
from registry.reports.progress import working
from registry.transfer.pull import pull_cells

MOST_PAIRS = 600  # a larger table takes minutes and is unreadable
SWAPPED = ("omega", "rows")  # tokens that a cell can decode


@app.command()
def align(
    context: typer.Context,
    references: MaybeReferences = None,
    tokens: Annotated[str, typer.Option(help="Tokens to compare: omega, S, moment, frames or rows.")] = "omega",
    grid: Annotated[
        str, typer.Option(help="coarsest averages finer cells over the regions of the coarsest; exact demands one grid.")
    ] = "coarsest",
    probe: Annotated[
        str | None, typer.Option(help="Probe images; default: photos-64 if all cells learned photographs, else noise16-64.")
    ] = None,
    untrained: Annotated[
        int | None,
        typer.Option(min=0, help="Untrained cells of each spec at each end; default: as many as the number of pairs requires."),
    ] = None,
    swap: Annotated[
        bool, typer.Option("--swap", help="Also decode each cell's tokens in every other cell: about half a second each.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of halves, shuffles and intervals.")] = 0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page of HTML with charts and residual spectra.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="NAME.safetensors", help="Write the maps, and NAME.json beside them, for publish.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the maps; default: that of their file.")] = None,
    version: Annotated[str | None, typer.Option(help="Version of the maps; default: 1.0.0.")] = None,
    license: Annotated[str | None, typer.Option(help="SPDX licence of the maps; default: those of the cells.")] = None,
    description: Annotated[str | None, typer.Option(help="Description for the manifest, one sentence.")] = None,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Score all pairs of cells: how well the tokens of one, rotated, predict the other's, against shuffled and untrained."""
    use(context, threads)
    label = packed_label(MAPS, out, name, version, license, description)
    refuse_no_folder(html)
    wanted = _wanted(references or [], registry_)
    _refuse_tokens(tokens, swap)
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


def _refuse_tokens(tokens: str, swap: bool) -> None:
    """Check the kind of tokens before anything is fetched.

    Raises:
        InputError: unknown tokens, or tokens to swap that no cell decodes (``TOKENS``).
    """
    if tokens not in get_args(TokenKind):
        raise InputError("unknown tokens", code="TOKENS", expected=" | ".join(get_args(TokenKind)), found=tokens)
    if swap and tokens not in SWAPPED:
        remedy = "Leave out --swap, or choose tokens that can be decoded."
        raise InputError("tokens cannot be decoded", code="TOKENS", expected=" | ".join(SWAPPED), found=tokens, remedy=remedy)
