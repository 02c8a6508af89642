"""``batteries encode`` and ``batteries reconstruct``: cells over many images. Torch loads when they run, not before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import batteries
import composer
from batteries import path_patterns
from batteries.cell.cell import SUFFIX, Cell
from batteries.errors import InputError
from composer.encoding.arguments import PNG, checked_tokens, picture_place, token_file
from registry.answers.encoding import EncodeAnswer, ReconstructAnswer
from registry.cli.terminal.console import AsJson, Registry, Wide, app, emit, emit_json, say
from registry.cli.terminal.help import MAKE
from registry.cli.terminal.options import EngineOption, Threads, Workers, engine_of, use
from registry.cli.terminal.progress import ImageBar
from registry.reports import encoding_tables
from registry.transfer.pull import pull_cells
from registry.transfer.search import references_of

SIDES = re.compile(r"(\d{1,5})(?:x(\d{1,5}))?")

CellsAndImages = Annotated[
    list[str],
    typer.Argument(
        metavar="REFERENCE|CELL_FILE... IMAGE...",
        help="Cells, then images: files, folders, globs.",
    ),
]
FitOption = Annotated[
    Literal["crop", "pad", "resize"] | None,
    typer.Option("--fit", help="Framing of images whose sides do not fit."),
]
SizeOption = Annotated[str | None, typer.Option("--size", metavar="N|HxW", help="Side, or height and width, of all images.")]
Batch = Annotated[int, typer.Option("--batch", min=1, max=4096, help="Most images to run at once.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start again, without parts kept of a run.")]


@app.command(rich_help_panel=MAKE, epilog="batteries encode low/fresnel-64 photos --fit crop --size 256 --out tokens.npz")
def encode(
    context: typer.Context,
    arguments: CellsAndImages,
    out: Annotated[Path, typer.Option("--out", metavar="NAME.safetensors|.npz|.parquet", help="File to write.")],
    tokens: Annotated[str, typer.Option("--tokens", metavar="LIST", help="Some of omega, S and M, with commas.")] = "omega",
    fit: FitOption = None,
    size: SizeOption = None,
    batch: Batch = 16,
    fresh: Fresh = False,
    registry_: Registry = None,
    threads: Threads = None,
    engine: EngineOption = None,
    workers: Workers = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Run cells over images and write their tokens.

    Images are the last arguments that exist as paths, or the last one. The same command resumes a run that was stopped.
    With --engine groups of images are tasks.
    """
    use(context, threads)
    chosen = engine_of(engine, workers, threads)
    token_file(out)  # refused before anything is fetched
    wanted, sides = checked_tokens(_tokens(tokens)), _sides(size)
    cells, images = _cells_and_images(arguments, registry_)
    with ImageBar(len(images), resumes=True) as bar:
        encoded = composer.encode(
            cells,
            images,
            out,
            tokens=wanted,
            fit=fit,
            size=sides,
            batch=batch,
            fresh=fresh,
            progress=bar.moved,
            run=None if chosen is None else chosen.run,
        )
    answer = EncodeAnswer.of(encoded)
    if as_json:
        emit_json(answer)
    else:
        emit(encoding_tables.encoded(answer), wide=wide)
    _say_written(len(images), answer.reused, answer.path)


@app.command(rich_help_panel=MAKE, epilog="batteries reconstruct low/fresnel-64 photos --fit crop --out grid.png")
def reconstruct(
    context: typer.Context,
    arguments: CellsAndImages,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER|NAME.png", help="Folder of pictures, or one with all.")],
    fit: FitOption = None,
    size: SizeOption = None,
    batch: Batch = 16,
    fresh: Fresh = False,
    registry_: Registry = None,
    threads: Threads = None,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Run cells over images and write reconstructions.

    Images are the last arguments that exist as paths, or the last one. A folder is resumed where a run stopped.
    """
    use(context, threads)
    picture_place(out)  # refused before anything is fetched
    sides = _sides(size)
    cells, images = _cells_and_images(arguments, registry_)
    with ImageBar(len(images), resumes=out.suffix != PNG) as bar:
        made = composer.reconstruct(cells, images, out, fit=fit, size=sides, batch=batch, fresh=fresh, progress=bar.moved)
    answer = ReconstructAnswer.of(made)
    if as_json:
        emit_json(answer)
    else:
        emit(encoding_tables.reconstructed(answer), wide=wide)
    _say_written(len(images), answer.reused, answer.path)


def _cells_and_images(arguments: Sequence[str], registry: str | None) -> tuple[list[Cell], list[Path]]:
    """Return the cells and the image files that the arguments name.

    Raises:
        InputError: no cell before the images (``NO_CELLS``).
        BatteriesError: no such image, or no such cell.
    """
    names, places = _split(arguments)
    if not names:
        expected = "references, then images"
        remedy = "A cell whose name is a path here, too, can be written with its version: low/fresnel-256@2.0.0."
        raise InputError("no cell to run", code="NO_CELLS", expected=expected, found=" ".join(arguments)[:80], remedy=remedy)
    images = [path for place in places for path in batteries.images.files(Path(place).expanduser())]
    return _cells(names, registry), images


def _cells(names: Sequence[str], registry: str | None) -> list[Cell]:
    """Read cell files and pull references, the matches of patterns among them, in order."""
    wanted = [one for name in names for one in ([name] if name.endswith(SUFFIX) else references_of([name], registry))]
    pulled = iter(pull_cells(*(one for one in wanted if not isinstance(one, str)), registry=registry))
    return [Cell.read(one) if isinstance(one, str) else next(pulled) for one in wanted]


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return references and places of images: the last arguments that exist as paths or are patterns; one at least."""
    first = len(arguments)
    while first and _is_place(arguments[first - 1]):
        first -= 1
    first = min(first, len(arguments) - 1)
    return arguments[:first], arguments[first:]


def _is_place(text: str) -> bool:
    path = Path(text).expanduser()
    return not text.endswith(SUFFIX) and (
        path.exists() or (path_patterns.is_pattern(path) and bool(path_patterns.matching(path)[1]))
    )


def _tokens(text: str) -> Any:
    return [token.strip() for token in text.split(",") if token.strip()]


def _sides(text: str | None) -> int | tuple[int, int] | None:
    """Return a side, or height and width.

    Raises:
        InputError: neither (``SIZE``).
    """
    if text is None:
        return None
    found = SIDES.fullmatch(text)
    if not found:
        raise InputError("size of another form", code="SIZE", expected="a side such as 256, or 256x384", found=text[:40])
    height, width = found[1], found[2]
    return int(height) if width is None else (int(height), int(width))


def _say_written(images: int, reused: int, path: str) -> None:
    earlier = f", {reused} of them by an earlier run" if reused else ""
    say(f"{images} images{earlier}: {path}")
