"""Convert options of the command line: to documents, photographs, a new cell, and the command line that a manifest records."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import batteries
from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.cell import SUFFIX, Cell
from batteries.cell.manifest import NAME_FORM, is_name
from batteries.engine.engine_address import EngineAddress
from batteries.engine.task_runner import MOST_WORKERS, run
from batteries.engine.tasks import Outcome, Task
from batteries.errors import ConflictError, InputError
from batteries.io import atomic_files
from batteries.training.recipe import BARE
from composer.artifact.manifest import PackedLabel
from registry.answers.answer import typed
from registry.catalog.reference import Reference
from registry.cli.terminal.console import emit, emit_json, emit_row, say
from registry.reports import summaries
from registry.transfer.search import references_of

MAX_SEED = 2**62
MOST_THREADS = 1024  # equals batteries.engine.threads.MOST_THREADS, whose import needs torch

Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        max=MOST_THREADS,
        help="Threads to compute on.",
        show_default="OMP_NUM_THREADS, one per core",
    ),
]
ENGINE_HELP = "Run in processes, or on ray[://HOST:PORT]."
EngineOption = Annotated[str | None, typer.Option("--engine", metavar="ENGINE", help=ENGINE_HELP, show_default="this process")]
OtherProcess = Annotated[str, typer.Option("--engine", metavar="ENGINE", help=ENGINE_HELP)]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=1, max=MOST_WORKERS, help="Tasks of the engine at a time.", show_default="one per core"
    ),
]

Family = Annotated[str | None, typer.Option(metavar="NAME", help="Family of the cell.", show_default="first word of its name")]
Description = Annotated[str, typer.Option(metavar="TEXT", help="Description, a sentence.")]
MaybeDescription = Annotated[str | None, typer.Option(metavar="TEXT", help="Description, a sentence.")]
ArtifactName = Annotated[str | None, typer.Option(metavar="NAME", help="Name to publish it by.", show_default="its file's")]
ArtifactVersion = Annotated[str | None, typer.Option(metavar="VERSION", help="Version.", show_default="1.0.0")]
ArtifactLicense = Annotated[str | None, typer.Option(metavar="SPDX", help="Licence.", show_default="those of the cells")]
CellFolder = Annotated[Path, typer.Option(metavar="FOLDER", help="Write FOLDER/BAND/NAME.safetensors.")]
Page = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page of HTML with charts.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, max=MAX_SEED, help="Seed of everything random.")]


def use(context: typer.Context, threads: int | None) -> None:
    """Set the number of compute threads until the command ends; None leaves torch's own."""
    if threads is not None:
        context.with_resource(batteries.threads(threads))


@dataclass(frozen=True)
class Engine:
    """Engine of a command.

    Attributes:
        address: Address of the engine.
        workers: Most tasks at a time; None for the engine's default.
    """

    address: str
    workers: int | None

    @contextlib.contextmanager
    def running(self, tasks: Iterable[Task]) -> Iterator[Iterator[Outcome]]:
        """Run tasks inside this ``with``. What libraries print meanwhile, as Ray does, goes to stderr."""
        with (
            contextlib.redirect_stdout(sys.stderr),
            contextlib.closing(run(tasks, engine=self.address, workers=self.workers)) as outcomes,
        ):
            yield outcomes

    def run(
        self, tasks: Iterable[Task], ended: Callable[[int, int | None], None] = lambda done, total: None
    ) -> Iterator[Outcome]:
        """Run tasks and yield their outcomes.

        Args:
            tasks: Tasks.
            ended: Called after each with the tasks that are done, and the tasks in all if they can be counted.
        """
        total = len(tasks) if isinstance(tasks, Sized) else None
        with self.running(tasks) as outcomes:
            for done, outcome in enumerate(outcomes, 1):
                ended(done, total)
                yield outcome


def engine_of(engine: str | None, workers: int | None, threads: int | None) -> Engine | None:
    """Return the engine that the options ask for; None without any, where the work is done in this process.

    Raises:
        InputError: an unknown engine (``ENGINE``), or one with ``--threads`` (``USAGE``).
    """
    if engine is None and workers is None:
        return None
    if threads is not None:
        remedy = "Leave out --threads, or --engine and --workers."
        raise InputError("each task of an engine has one thread", code="USAGE", found=f"--threads {threads}", remedy=remedy)
    EngineAddress.parse(engine or "processes")
    return Engine(engine or "processes", workers)


def cell_label(wanted: Reference, family: str | None, license: str, description: str) -> batteries.Label:
    """Make the label of a new cell.

    Raises:
        InputError: as :func:`registry.answers.answer.typed`.
    """
    family = family or wanted.name.split("-")[0]
    said = {"version": wanted.version or "1.0.0", "family": family, "license": license, "description": description}
    return typed(batteries.Label, name=wanted.name, **said)


def write_cell(cell: Cell, out: Path, as_json: bool, wide: bool) -> None:
    """Write a new cell into the folder of its band, and print it with its path."""
    print_cell(cell, cell.write(out / cell.manifest.identity.band), as_json, wide)


def print_cell(cell: Cell, path: Path, as_json: bool, wide: bool) -> None:
    """Print a new cell with its path."""
    if as_json:
        emit_json({"path": str(path), "manifest": cell.manifest.model_dump(mode="json")})
    else:
        emit_row(f"{cell.name}@{cell.version}", path)
        emit(summaries.cells([cell]), wide=wide)


def different(texts: Sequence[str], remedy: str, registry: str | None) -> dict[str, Reference]:
    """Parse references and key them by the paths of their cells.

    Raises:
        ConflictError: a cell given twice (``TWICE``).
    """
    references = references_of(texts, registry)
    twice = [path for path, count in Counter(reference.path for reference in references).items() if count > 1]
    if twice:
        raise ConflictError("duplicate cell", code="TWICE", found=", ".join(twice), remedy=remedy)
    return {reference.path: reference for reference in references}


def packed_label(
    kind: ArtifactKind, out: Path | None, name: str | None, version: str | None, license: str | None, description: str | None
) -> PackedLabel | None:
    """Build and check the label of an artifact before anything is computed; None if nothing is to be written.

    Raises:
        InputError: a label without ``out``, a path with another suffix (``SUFFIX``) or with a name that an artifact cannot have
            (``NAME``), or an invalid value.
    """
    said = {"name": name, "version": version, "license": license, "description": description}
    if out is None:
        if given := [f"--{option}" for option, value in said.items() if value is not None]:
            raise InputError("label without an output file", code="USAGE", expected="--out", found=", ".join(given))
        return None
    if out.suffix != SUFFIX:
        raise InputError(f"invalid path for {kind.words}", code="SUFFIX", expected=f"one ending in {SUFFIX}", found=out)
    if name is None and not is_name(out.stem):
        remedy = f"Name the file otherwise, or the {kind.name} by --name."
        found = repr(out.stem)
        raise InputError("file name that is no name", code="NAME", expected=NAME_FORM, found=found, where=out, remedy=remedy)
    said |= {"name": name or out.stem, "version": version or "1.0.0"}
    return typed(PackedLabel, **{option: value or "" for option, value in said.items()})


def licensed(label: PackedLabel, cells: Iterable[Cell]) -> PackedLabel:
    """Fill in the licence of a label: its own, or those of the cells joined by SPDX's ``AND``."""
    licences = " AND ".join(sorted({cell.manifest.identity.license for cell in cells}))
    return typed(PackedLabel, **{**label.model_dump(), "license": label.license or licences})


def refuse_no_folder(page: Path | None) -> None:
    """Check the folder of a page before anything is computed.

    Raises:
        InputError: the folder does not exist (``NO_FOLDER``).
    """
    if page is not None:
        with atomic_files.typed(page):
            there = page.parent.is_dir()
        if not there:
            raise InputError("missing parent folder", code="NO_FOLDER", where=page)


def refuse_no_place(folder: Path) -> None:
    """Check that a folder to write to is one, or can be made, before anything is computed.

    Raises:
        InputError: the path, or one on the way to it, is a file (``NOT_A_FOLDER``).
    """
    with atomic_files.typed(folder):
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
        if not there.is_dir():
            remedy = "Name another folder."
            raise InputError("not a folder", code="NOT_A_FOLDER", expected="a folder", where=there, remedy=remedy)


def photographs(places: Sequence[str]) -> batteries.Photos:
    """Read the photographs of folders and globs, and print which were skipped.

    Raises:
        NotFoundError: no photograph found.
    """
    read = batteries.read_photos(*places)
    for skipped in read.skipped:
        say(f"skipped {skipped.path}: {skipped.reason}")
    say(f"photographs: {len(read.names)} read, {len(read.skipped)} skipped")
    return read


def command_line(context: typer.Context, aside: Container[str]) -> str:
    """Return the command line that repeats a command, with every option that is not at its default.

    Args:
        context: Context of the command.
        aside: Names of options without an effect on the cell, such as paths.
    """
    words = ["batteries", context.command.name or ""]
    for parameter in context.command.params:
        value = context.params[parameter.name or ""]
        if parameter.name in aside or value in (parameter.default, None, (), []):
            continue
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif value is True or value == BARE.get(parameter.name or ""):
            words.append(parameter.opts[0])
        else:
            words += [
                word
                for item in (value if isinstance(value, list | tuple) else [value])
                for word in (parameter.opts[0], str(item))
            ]
    return shlex.join(words)
