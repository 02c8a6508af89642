"""``batteries adopt``: make a cell of a public checkpoint. Torch is imported only when the command runs."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import batteries
from batteries import packaging
from batteries.cell.manifest import CLAIMED, NoiseMix
from batteries.cell.spec import Activation, ActivationSites, Readout, RowNorm
from batteries.errors import InputError
from batteries.io.home import home
from batteries.kept_documents import KeptDocuments
from batteries.packaging import checkpoint_places
from batteries.packaging.shelf import Options, ShelfItem, cells_of, items
from registry.adoption.measured_rows import Adoption
from registry.adoption.rows import DryRun, Rows
from registry.answers.adoption import AdoptAnswer, AdoptedFile, AdoptedModel
from registry.cli.terminal.choices import choice
from registry.cli.terminal.console import AnsweredError, AsJson, Wide, app, emit_json, emit_row, say
from registry.cli.terminal.help import MAKE
from registry.cli.terminal.options import CellFolder, Family, MaybeDescription, Threads, photographs, print_cell, use
from registry.cli.terminal.progress import AdoptionBar, working

if TYPE_CHECKING:
    from batteries.data.sources import Source


@app.command(
    rich_help_panel=MAKE,
    epilog="batteries adopt ./checkpoints --name '{band}/{stem}' --input imagenet \\\n    --photos ./pictures",
)
def adopt(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="PLACE...", help="Files, folders, globs or hf://, see above.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="BAND/NAME[@VERSION]", help="Name of the new cell, see above.")
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="plain|imagenet|MEAN/STD",
            help="Scale of its training images, see above.",
        ),
    ] = None,
    noise: Annotated[
        NoiseMix | None,
        choice(NoiseMix, code="USAGE", metavar="[batteries|published]", help="Measure on noise; no name: batteries."),
    ] = None,
    types: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Noise types it was trained on.", show_default="all 16")
    ] = None,
    photos: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Measure on photographs; a folder or glob.",
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Entry with the weights.", show_default="the usual ones")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", min=1, help="Side of its training images.", show_default="its config's, or 64"),
    ] = None,
    width: Annotated[int | None, typer.Option(metavar="D", min=1, help="Width, where the file does not tell it.")] = None,
    heads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Attention heads.", show_default="its config's, or as published")
    ] = None,
    activation: Annotated[
        Activation | None, choice(Activation, code="SPEC", help="Activation.", show_default="its config's, or gelu")
    ] = None,
    activation_sites: Annotated[
        ActivationSites | None,
        choice(ActivationSites, code="SPEC", help="Layers that have it.", show_default="its config's, or all"),
    ] = None,
    row_norm: Annotated[
        RowNorm | None, choice(RowNorm, code="SPEC", help="Norm of the rows of M.", show_default="its config's, or sphere")
    ] = None,
    readout: Annotated[
        Readout | None, choice(Readout, code="SPEC", help="Way from M to the decoder.", show_default="its config's, or svd")
    ] = None,
    unbounded_alpha: Annotated[
        bool, typer.Option("--unbounded-alpha", help="Attention without its 20% limit, see above.")
    ] = False,
    family: Family = None,
    description: MaybeDescription = None,
    license: Annotated[str | None, typer.Option(metavar="SPDX", help="Licence of the weights.", show_default="unknown")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the files and measure nothing.")] = False,
    out: CellFolder = Path(),
    wide: Wide = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Make cells of public PatchSVAE checkpoints. Their weights are kept and measured like those of a trained cell.

    A place is a file, folder, glob, or hf://owner/repo[@revision][:pattern]. In --name, measuring fills in {band}; {stem} and
    {parent} are those of the path; x_epoch10 and x_best become versions of one cell. After a refusal the next file follows; the
    exit code is the highest. Run again, the command measures no finished file again. A file adopt.toml, in the folder or
    beside it, may have options by glob.

    An array is a safetensors file of banks.N with a config.json: each bank becomes a cell, named by the config, and all of
    them one model, in FOLDER/model. --key banks.N takes one bank alone.

    Scales of training images: plain is [-1, 1], and noise as generated; imagenet is [0, 1] normalised with ImageNet's mean and
    std; MEAN/STD, one number each or R,G,B, is [0, 1] normalised with these.

    Without --noise the cell's domain is photographs; those of --photos fit the linear baselines. A cell of some noise types is
    measured on a probe of these alone: --noise --types pink,brown.

    Attention changes a singular value by at most 20% unless --unbounded-alpha is given.

    What tensors do not tell is read from the file's config: heads, activation and its sites, row norm, size. Options win.
    """
    use(context, threads)
    given = {name: context.params[name] for name in Options.model_fields}
    given["photos"] = tuple(photos or ())
    files = {file.where: file for place in places for file in checkpoint_places.files_at(place)}
    shelf = items(list(files.values()), given)
    if dry_run:
        return _answer(DryRun(shelf), as_json)
    shared = packaging.SharedFigures(KeptDocuments(home() / "adopted").recall)
    adoption = Adoption(shelf, out, shared, _source)
    if checkpoint_places.is_single(places):
        first, *_ = cells_of(shelf[0], packaging.opened(shelf[0].file))
        if first.array is None or key is not None:
            return _adopt_one(adoption, first, as_json, wide)
    return _answer(adoption, as_json)


def _adopt_one(adoption: Adoption, item: ShelfItem, as_json: bool, wide: bool) -> None:
    with working(f"measuring {item.where}"):
        cell, write = adoption.adopt(item)
    print_cell(cell, write(), as_json, wide)
    facts = cell.manifest.training
    say(f"training {facts.data.description}")
    for line in facts.reading:
        say(line)
    if facts.claimed:
        claims = facts.claimed.model_dump(exclude_none=True, exclude={"trajectory"}).items()
        say(f"{CLAIMED}: {', '.join(f'{name} {value}' for name, value in claims)}")
    say(f"parameters: {cell.spec.parameters:,}, of D {cell.spec.D}, V {cell.spec.V}, patch {cell.spec.patch_size}")
    say(
        f"not checked against the weights: heads {cell.spec.heads}, activation {cell.spec.activation} "
        f"({cell.spec.activation_sites}), row norm {cell.spec.row_norm}, input scale"
    )


def _answer(rows: Rows, as_json: bool) -> None:
    """Print a row for each cell and model as soon as it is done, and end with the worst exit code."""
    cells: list[AdoptedFile] = []
    models: list[AdoptedModel] = []
    worst = 0
    with AdoptionBar() as bar:
        for row, code in rows:
            cells.append(row) if isinstance(row, AdoptedFile) else models.append(row)
            worst = max(worst, code)
            bar.moved(len(cells), rows.total, row.fields[1])
            if not as_json:
                emit_row(*row.fields)
    if as_json:
        emit_json(AdoptAnswer(files=tuple(cells), models=tuple(models)))
    states = Counter([*(cell.state for cell in cells), *(model.state for model in models)])
    said = ", ".join(f"{number} {state}" for state, number in states.items())
    say(f"files: {len({row.file for row in cells})}; {said}")
    if worst:
        raise AnsweredError(worst)


def _source(options: Options) -> Source:
    """Return the images of a cell's own domain, which are read once for all cells of the same options."""
    stray = options.types is not None and not options.noise
    if stray or (options.noise and options.photos) or not (options.noise or options.photos):
        expected = "--noise (with --types for some of its types), or --photos PLACE with photographs for the linear baselines"
        raise InputError("missing or conflicting domain", code="USAGE", expected=expected)
    if options.noise:
        types = batteries.noise.NAMES if options.types is None else options.types.split(",")
        return batteries.NoiseSource(batteries.noise.indices_of(types), options.noise)
    return _photographs(options.photos)


@lru_cache
def _photographs(places: tuple[str, ...]) -> Source:
    return batteries.PhotoSource(photographs(places), "unknown", "unknown")
