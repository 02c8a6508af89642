"""``batteries adapt``: a cell learns in a host and is held. Torch is imported only when the command runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import batteries
import composer
import registry
from batteries.cell.cell import SUFFIX, Cell
from batteries.errors import ConflictError, InputError, StoreError
from batteries.io import atomic_files
from composer.adaptation.hold import Hold
from registry.catalog.reference import Reference
from registry.cli.terminal.choices import choice
from registry.cli.terminal.console import AsJson, Registry, Wide, app, emit, emit_json, say
from registry.cli.terminal.help import MAKE
from registry.cli.terminal.options import (
    CellFolder,
    Description,
    Seed,
    Threads,
    command_line,
    photographs,
    print_cell,
    use,
)
from registry.cli.terminal.progress import AdaptationBar
from registry.cli.terminal.signing_options import Sign, refuse_no_attesting, signing_of_reports
from registry.reports import summaries

if TYPE_CHECKING:
    from batteries.data.sources import PhotoSource
    from composer.hosts.tasks import Task

AdaptTask = Literal["naming", "denoising"]
AdaptOptimiser = Literal["adam", "muon"]
RAW = "none"  # in place of a hold
PLACES = {"out", "attest", "sign", "registry_", "wide", "threads", "as_json"}  # options without an effect on the cell


@app.command(
    rich_help_panel=MAKE,
    epilog="batteries adapt high/johanna-64 --task naming --name mine-64",
)
def adapt(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REFERENCE|CELL_FILE", help="Cell to adapt; it is not changed.")],
    task: Annotated[AdaptTask, choice(AdaptTask, code="TASK", help="Task of the host, see above.")],
    hold: Annotated[
        str, typer.Option(metavar="NAME=NUMBER,...", help="Terms and bounds, or none, see above.", show_default="see above")
    ] = "",
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps.")] = 250,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Images of the task per step.")] = 32,
    optimiser: Annotated[
        AdaptOptimiser, choice(AdaptOptimiser, code="USAGE", help="Optimiser of the cell's weights.")
    ] = "muon",
    rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="First learning rate of the cell.", show_default="the optimiser's")
    ] = None,
    host_rate: Annotated[float, typer.Option(metavar="RATE", help="First learning rate of the host.")] = 2e-3,
    beside: Annotated[list[str] | None, typer.Option(metavar="REFERENCE", help="Cell frozen beside it in the host.")] = None,
    photos: Annotated[
        list[str] | None,
        typer.Option(metavar="PLACE", help="Photographs: a folder or a glob.", show_default="those that ship"),
    ] = None,
    seed: Seed = 0,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME[@VERSION]", help="Name of the new cell.", show_default="its own, next version"),
    ] = None,
    description: Description = "",
    license: Annotated[
        str | None, typer.Option(metavar="SPDX", help="Licence of the weights.", show_default="the parent's")
    ] = None,
    out: CellFolder = Path(),
    attest: Annotated[
        str | None, typer.Option("--attest", metavar="FOLDER", help="Publish what held to this registry.")
    ] = None,
    sign: Sign = None,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Adapt a cell in a host, hold it, and write a new cell.

    Tasks: naming, of the 16 noise types; denoising, of photographs. The cell's weights follow the host's gradient and, on
    images of its own domain, the terms of --hold: reconstruction (1), cv (1) and anchor (0), weights of terms; content
    (0.95), the least share kept; every (25), steps between two looks of the guard; backoffs (3), returns to the last state
    that held, each of which halves the cell's rate. Both rates fall along half a cosine. --hold none is the raw gradient,
    without terms and guard.

    The photographs that ship are those of the probes: the manifest then lists them as shown in training.
    """
    use(context, threads)
    chosen = None if hold == RAW else Hold.parse(hold) if hold else Hold()
    signing = signing_of_reports(sign, attest)
    parent = registry.load(reference, registry=registry_)
    frozen = composer.compose([registry.load(one, registry=registry_) for one in beside]) if beside else None
    label = _label(parent, name, description, license, task)
    _refuse_existing(parent.manifest.identity.band, label.name, out)
    _refuse_unwritable(out / parent.manifest.identity.band)
    if attest:
        refuse_no_attesting(attest, signing, [parent])  # before the work
    source = batteries.PhotoSource(photographs(photos), "unknown", "unknown") if photos else None
    with AdaptationBar(steps, parent.name) as bar:
        found = composer.adapt(
            parent,
            composer.hosts.residual_host(beside=frozen),
            _task(task, seed, source),
            hold=chosen,
            optimiser=optimiser,
            steps=steps,
            rate=rate,
            host_rate=host_rate,
            batch=batch,
            seed=seed,
            domain=composer.adaptation.own_domain(parent, _of_domain(parent, source)),
            label=label,
            command=command_line(context, PLACES),
            progress=bar.stepped,
        )
    _refuse_existing(found.cell.manifest.identity.band, label.name, out)
    path = found.cell.write(out / found.cell.manifest.identity.band)
    if attest:
        registry.attest(registry.certify(found, registry.current_certificate(parent, attest)), attest, signing=signing)
    if as_json:
        moments = [summaries.moment(moment) for moment in found.moments]
        manifest = found.cell.manifest.model_dump(mode="json")
        emit_json({"path": str(path), "manifest": manifest, "ended": found.ended, "moments": moments})
        return
    print_cell(found.cell, path, as_json, wide)
    emit(*summaries.adaptation(found), wide=wide)
    for moment in found.moments:
        if not moment.holds:
            say(f"step {moment.step}: {'; '.join(moment.faults)}")


def _label(parent: Cell, name: str | None, description: str, license: str | None, task: str) -> batteries.Label:
    """Return the label of the new cell: the parent's with the next minor version, and what the user says."""
    label = composer.adaptation.next_label(parent, task)
    said: dict[str, Any] = {"description": description or label.description, "license": license or label.license}
    if name is not None:
        wanted = Reference.parse(f"{parent.manifest.identity.band}/{name}")
        if wanted.registry or wanted.range or wanted.digest:
            raise InputError("invalid name for a new cell", code="NO_VERSION", expected="name[@version]", found=name)
        said |= {"name": wanted.name, "version": wanted.version or "1.0.0"}
    return label.model_copy(update=said)


def _task(name: AdaptTask, seed: int, source: PhotoSource | None) -> Task:
    if name == "denoising":
        return composer.adaptation.denoising(seed, photos=source)
    return composer.adaptation.naming(seed)


def _of_domain(parent: Cell, source: PhotoSource | None) -> PhotoSource | None:
    """Return the photographs if they are of the cell's own domain."""
    return source if parent.manifest.training.data.kind == "photos" else None


def _refuse_existing(band: str, name: str, out: Path) -> None:
    """Refuse to write over a file, which may be the parent.

    Raises:
        ConflictError: the file exists (``FILE_EXISTS``).
    """
    path = out / band / f"{name}{SUFFIX}"
    with atomic_files.typed(path):
        there = path.exists()
    if there:
        remedy = "Pass another --name or --out."
        raise ConflictError("file of a cell exists", code="FILE_EXISTS", where=path, remedy=remedy)


def _refuse_unwritable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before the work rather than after it.

    Raises:
        StoreError: no folder, or no permission (``DISK``).
    """
    with atomic_files.typed(folder):
        whole = folder.absolute()
        nearest = next(place for place in (whole, *whole.parents) if place.exists())
        usable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    if not usable:
        remedy = "Pass another --out."
        raise StoreError("folder cannot be written", code="DISK", expected="a writable folder", where=nearest, remedy=remedy)
