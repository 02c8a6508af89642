"""``batteries train``: train a new cell. Torch is imported only when the command runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import batteries
import registry
from batteries.cell.spec import CellSpec
from batteries.errors import ConflictError, InputError
from registry.catalog.reference import Reference
from registry.cli.console import NOT_VIABLE, AsJson, app, say
from registry.cli.options import MAX_SEED, Threads, cell_label, command_line, photographs, typed, use, write_cell
from registry.reports import summaries
from registry.reports.progress import TrainingBar

if TYPE_CHECKING:
    from batteries.data.sources import Source

PLACES = {"out", "run", "events", "threads", "as_json"}  # options without an effect on the cell


@app.command()
def train(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="BAND/NAME[@VERSION]", help="Name of the new cell.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")],
    noise: Annotated[bool, typer.Option("--noise", help="Train on the 16 noise types.")] = False,
    photos: Annotated[
        list[str] | None, typer.Option(metavar="PLACE", help="Train on the photographs of a folder or a glob; may be repeated.")
    ] = None,
    allow_probe_photos: Annotated[
        bool,
        typer.Option(
            "--allow-probe-photos", help="Allow training on photographs that a probe contains; the manifest records it."
        ),
    ] = False,
    mix: Annotated[float, typer.Option(min=0, max=0.9, help="Share of noise images among the photographs.")] = 0.0,
    size: Annotated[int, typer.Option(min=1, help="Side of the training images, in pixels.")] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Images per step.")] = 64,
    rate: Annotated[float, typer.Option(help="Peak learning rate of Adam.")] = 1e-3,
    schedule: Annotated[str, typer.Option(help="Learning rate schedule: constant, cosine or onecycle.")] = "onecycle",
    boost: Annotated[float, typer.Option(help="Strength of the soft hand on the loss; 0 turns it off.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of weights, data and draws.")] = 0,
    start: Annotated[
        str | None, typer.Option(metavar="REFERENCE|CELL_FILE", help="Start from this cell's weights in place of random ones.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Spec to start from: low, mid or high; default: the band in the name.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="V, the rows of M; default: the preset's.")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="Hidden width; default: the preset's.")] = None,
    family: Annotated[str | None, typer.Option(help="Family of the cell; default: the first word of its name.")] = None,
    description: Annotated[str, typer.Option(help="Description for the manifest, one sentence.")] = "",
    license: Annotated[str, typer.Option(help="SPDX licence of the weights.")] = "Apache-2.0",
    data_license: Annotated[str, typer.Option(help="SPDX expression of the photographs' licences.")] = "unknown",
    data_source: Annotated[str, typer.Option(help="Source of the photographs, such as a URL.")] = "unknown",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Write FOLDER/BAND/NAME.safetensors.")] = Path(),
    run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the checkpoint; default: runs/BAND/NAME.")
    ] = None,
    events: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write TensorBoard events.")] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Train a cell, measure it and write it. After an interruption the same command resumes from its checkpoint."""
    use(context, threads)
    wanted = Reference.parse(reference)
    if wanted.registry or wanted.range or wanted.digest:
        raise InputError("invalid name for a new cell", code="NO_VERSION", expected="band/name[@version]", found=reference)
    first = registry.load(start) if start else None
    values: dict[str, Any] = {
        "steps": steps,
        "size": size,
        "batch": batch,
        "rate": rate,
        "schedule": schedule,
        "boost": boost,
        "seed": seed,
    }
    values["start"] = first.digest if first else None
    changes = {field: value for field, value in {"V": rows, "hidden": hidden}.items() if value is not None}
    spec = CellSpec.preset(preset or wanted.band, **changes)  # type: ignore[arg-type]
    plan = typed(batteries.Plan, spec=spec, **values)
    source = _source(noise, photos or [], mix, data_license, data_source)
    label = cell_label(wanted, family, license, description)
    _refuse_other_band(batteries.expected_band(plan.spec), wanted)
    probe = batteries.probe(batteries.own_probe(source.facts.kind, size))
    with TrainingBar(steps) as bar, contextlib.ExitStack() as open_logs:
        log = [open_logs.enter_context(contextlib.closing(batteries.Events(events)))] if events else []
        watchers: list[batteries.Watcher] = [bar, *log]
        finished = batteries.train(
            plan,
            source,
            probe,
            start=first,
            folder=run or Path("runs") / wanted.band / wanted.name,
            allow_probe_photos=allow_probe_photos,
            watchers=watchers,
        )
    if finished.stopped:
        say(f"run stopped: {summaries.triage_words(finished.triage)}")
        raise typer.Exit(NOT_VIABLE)
    cell = batteries.package(finished, source, label, command_line(context, PLACES))
    _refuse_other_band(cell.manifest.identity.band, wanted)
    write_cell(cell, out, as_json)


def _source(noise: bool, places: list[str], mix: float, license: str, source: str) -> Source:
    if noise == bool(places) or (noise and mix):
        wanted = "--noise, or --photos PLACE (with --mix for a share of noise)"
        raise InputError("missing or conflicting training data", code="USAGE", expected=wanted)
    if noise:
        return batteries.NoiseSource()
    photos = batteries.PhotoSource(photographs(places), license, source)
    return batteries.MixedSource(photos, mix) if mix else photos


def _refuse_other_band(band: str | None, wanted: Reference) -> None:
    """Check the band of the name: against the spec before training, and against the measured CV after it."""
    if band != wanted.band:
        raise ConflictError(
            "band does not match the CV",
            code="BAND_DENIED",
            expected=band or "no band",
            found=wanted.band,
            where=str(wanted),
            remedy="Name the cell by its own band, or train another preset; a finished run is kept in its folder.",
        )
