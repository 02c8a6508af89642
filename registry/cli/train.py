"""``batteries train``: train a new cell. Torch is imported only when the command runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

import batteries
import registry
from batteries.cell.manifest import NoiseMix
from batteries.cell.spec import Preset
from batteries.errors import ConflictError, InputError
from batteries.packaging.measurable import refuse_unmeasurable
from batteries.training.plan import Hand, Optimiser
from batteries.training.recipe import Recipe
from batteries.training.schedules import Schedule
from registry.catalog.reference import Reference
from registry.cli.terminal.choices import choice
from registry.cli.terminal.console import NOT_VIABLE, AsJson, Wide, app, say
from registry.cli.terminal.help import MAKE
from registry.cli.terminal.options import (
    CellFolder,
    Description,
    Family,
    Seed,
    Threads,
    cell_label,
    command_line,
    photographs,
    use,
    write_cell,
)
from registry.cli.terminal.progress import TrainingBar
from registry.reports import summaries

OFF = "off"  # band outside the window of a cell's width
PLACES = {"out", "run", "events", "wide", "threads", "as_json"}  # options without an effect on the cell


@app.command(
    rich_help_panel=MAKE,
    epilog="batteries train high/mine-64 --noise --steps 1000 --batch 16 --optimiser muon",
)
def train(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="BAND/NAME[@VERSION]", help="Name of the new cell.")],
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps.")],
    noise: Annotated[
        NoiseMix | None,
        choice(NoiseMix, code="USAGE", metavar="[batteries|published]", help="Train on noise; no name: batteries."),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Noise types to train on.", show_default="all 16"),
    ] = None,
    photos: Annotated[list[str] | None, typer.Option(metavar="PLACE", help="Train on photographs: a folder or a glob.")] = None,
    allow_probe_photos: Annotated[
        bool,
        typer.Option("--allow-probe-photos", help="Allow photographs that a probe contains."),
    ] = False,
    mix: Annotated[float, typer.Option(metavar="SHARE", min=0, max=0.9, help="Share of noise images, at most 0.9.")] = 0.0,
    augment: Annotated[bool, typer.Option("--augment", help="Also turn images; negate and recolour crops.")] = False,
    size: Annotated[int, typer.Option(metavar="PIXELS", min=1, help="Side of the training images.")] = 64,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Images per step.")] = 64,
    optimiser: Annotated[Optimiser, choice(Optimiser, code="USAGE", help="Optimiser of the weights.")] = "adam",
    rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Peak learning rate.", show_default="the optimiser's")
    ] = None,
    momentum: Annotated[
        float | None, typer.Option(metavar="X", help="Classical momentum of sgd, from 0.", show_default="Nesterov's 0.9")
    ] = None,
    schedule: Annotated[Schedule, choice(Schedule, code="USAGE", help="Schedule of the learning rate.")] = "onecycle",
    clip: Annotated[
        float | None, typer.Option(metavar="NORM", help="Largest norm of the gradient; 0: any.", show_default="the optimiser's")
    ] = None,
    hand: Annotated[Hand, choice(Hand, code="USAGE", help="Form of the soft hand on the CV.")] = "loss",
    boost: Annotated[
        float | None, typer.Option(metavar="X", help="Strength of the soft hand; or 0.", show_default="the hand's")
    ] = None,
    fixed_batch: Annotated[bool, typer.Option("--fixed-batch", help="Every step sees the images of the first.")] = False,
    adaptive_clip: Annotated[bool, typer.Option("--adaptive-clip", help="Clip to a step's error where it is above.")] = False,
    later_boost: Annotated[
        float | None, typer.Option(metavar="X", help="Boost from the middle step on.", show_default="as --boost")
    ] = None,
    fixed_readout: Annotated[bool, typer.Option("--fixed-readout", help="Keep the start of the readout's matrices.")] = False,
    seed: Seed = 0,
    start: Annotated[
        str | None, typer.Option(metavar="REFERENCE|CELL_FILE", help="Start from the weights of this cell.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="REFERENCE|CELL_FILE", help="Learn from reconstructions of this cell.")
    ] = None,
    distil: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of these in the target.", show_default="0.5")
    ] = None,
    preset: Annotated[
        Preset | None, choice(Preset, code="PRESET", help="Spec to start from.", show_default="the band in the name")
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Field of the spec, such as D=32 or depth=2.")
    ] = None,
    rows: Annotated[int | None, typer.Option(metavar="V", min=1, help="Rows of M: --set V=N.", hidden=True)] = None,
    hidden: Annotated[int | None, typer.Option(metavar="N", min=1, help="Width: --set hidden=N.", hidden=True)] = None,
    family: Family = None,
    description: Description = "",
    license: Annotated[str, typer.Option(metavar="SPDX", help="Licence of the weights.")] = "Apache-2.0",
    data_license: Annotated[str, typer.Option(metavar="SPDX", help="Licences of the photographs.")] = "unknown",
    data_source: Annotated[str, typer.Option(metavar="TEXT", help="Source of the photographs, such as a URL.")] = "unknown",
    out: CellFolder = Path(),
    run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the checkpoint.", show_default="runs/BAND/NAME")
    ] = None,
    events: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write TensorBoard events.")] = None,
    wide: Wide = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train a cell, measure it and write it. After an interruption the same command resumes from its checkpoint."""
    use(context, threads)
    wanted = Reference.parse(reference)
    if wanted.registry or wanted.range or wanted.digest:
        raise InputError("invalid name for a new cell", code="NO_VERSION", expected="band/name[@version]", found=reference)
    recipe = Recipe.of(context.params)
    first = registry.load(start) if start else None
    taught = registry.load(teacher) if teacher else None
    plan = recipe.plan(first.digest if first else None, taught.digest if taught else None)
    refuse_unmeasurable(plan.spec, size, reference)
    source = recipe.source(photographs(photos) if photos else None)
    label = cell_label(wanted, family, license, description)
    if wanted.band != OFF:  # only the CV after training can tell
        _refuse_other_band(batteries.expected_band(plan.spec), wanted)
    facts = source.facts
    probe = batteries.probe(batteries.own_probe(facts.kind, size, facts.noise_mix, facts.noise_types))
    with TrainingBar(steps, wanted.path) as bar, contextlib.ExitStack() as open_logs:
        log = [open_logs.enter_context(contextlib.closing(batteries.Events(events)))] if events else []
        watchers: list[batteries.Watcher] = [bar, *log]
        finished = batteries.train(
            plan,
            source,
            probe,
            start=first,
            teacher=taught,
            folder=run or Path("runs") / wanted.band / wanted.name,
            allow_probe_photos=allow_probe_photos,
            watchers=watchers,
        )
    if finished.stopped:
        say(f"run stopped: {summaries.triage_words(finished.triage)}")
        raise typer.Exit(NOT_VIABLE)
    cell = batteries.package(finished, source, label, command_line(context, PLACES))
    _refuse_other_band(cell.manifest.identity.band, wanted)
    write_cell(cell, out, as_json, wide)


def _refuse_other_band(band: str | None, wanted: Reference) -> None:
    """Check the band of the name: against the spec before training, and against the measured CV after it."""
    if band != wanted.band:
        raise ConflictError(
            "band does not match the CV",
            code="BAND_DENIED",
            expected=band or "no band",
            found=wanted.band,
            where=str(wanted),
            remedy="Name the cell by its own band, or train another preset; a finished run is kept in its folder, for --run.",
        )
