"""``batteries adopt``: make a cell of a public checkpoint. Torch is imported only when the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

import batteries
from batteries.cell.input_scale import IMAGENET, of_unit_images
from batteries.cell.manifest import CLAIMED, InputScale, NoiseMix
from batteries.cell.spec import Activation, ActivationSites, Readout, RowNorm
from batteries.errors import InputError, PolicyError
from batteries.io.canonical_json import fields_of
from registry.catalog.reference import Reference
from registry.cli.console import AsJson, Wide, app, say
from registry.cli.options import (
    CellFolder,
    Description,
    Family,
    Threads,
    cell_label,
    command_line,
    photographs,
    use,
    write_cell,
)
from registry.cli.progress import working
from registry.cli.terminal.choices import choice
from registry.cli.terminal.help import MAKE

if TYPE_CHECKING:
    from batteries.cell.cell import Cell
    from batteries.data.sources import Source

CHANNELS = 3
PLACES = {"out", "wide", "threads", "as_json"}  # options without an effect on the cell
SCALES = {"plain": InputScale(), "imagenet": IMAGENET}


@app.command(
    rich_help_panel=MAKE,
    epilog="batteries adopt checkpoint.pt --name high/theirs --input imagenet \\\n    --photos ./pictures",
)
def adopt(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pt or .safetensors file.")],
    name: Annotated[str, typer.Option("--name", metavar="BAND/NAME[@VERSION]", help="Name of the new cell.")],
    input: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="plain|imagenet|MEAN/STD",
            help="Scale of its training images, see above.",
        ),
    ],
    noise: Annotated[
        NoiseMix | None, choice(NoiseMix, code="USAGE", metavar="[batteries|published]", help="Measure on the 16 noise types.")
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
    description: Description = "",
    license: Annotated[str, typer.Option(metavar="SPDX", help="Licence of the weights.")] = "unknown",
    out: CellFolder = Path(),
    wide: Wide = False,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Make a cell of a public PatchSVAE checkpoint. Its weights are kept and measured like those of a trained cell.

    Scales of training images: plain is [-1, 1], and noise as generated; imagenet is [0, 1] normalised with ImageNet's mean and
    std; MEAN/STD, one number each or R,G,B, is [0, 1] normalised with these.

    Without --noise the cell's domain is photographs; those of --photos fit the linear baselines. Attention changes a singular
    value by at most 20% unless --unbounded-alpha is given.

    What tensors do not tell is read from the file's config: heads, activation and its sites, row norm, size. Options win.
    """
    use(context, threads)
    wanted = Reference.parse(name)
    label = cell_label(wanted, family, license, description)
    with working(f"measuring {wanted.path}"):
        cell = batteries.adopt(
            checkpoint,
            label=label,
            input=_scale(input),
            source=_source(noise, photos or []),
            key=key,
            size=size,
            width=width,
            heads=heads,
            activation=activation,
            activation_sites=activation_sites,
            row_norm=row_norm,
            bounded_alpha=False if unbounded_alpha else None,
            readout=readout,
            command=command_line(context, PLACES),
        )
    _refuse_other_band(cell, wanted)
    write_cell(cell, out, as_json, wide)
    facts = cell.manifest.training
    say(f"training {facts.data.description}")
    for line in facts.reading:
        say(line)
    if facts.claimed:
        claims = facts.claimed.model_dump(exclude_none=True).items()
        say(f"{CLAIMED}: {', '.join(f'{name} {value}' for name, value in claims)}")
    say(f"parameters: {cell.spec.parameters:,}, of D {cell.spec.D}, V {cell.spec.V}, patch {cell.spec.patch_size}")
    say(
        f"not checked against the weights: heads {cell.spec.heads}, activation {cell.spec.activation} "
        f"({cell.spec.activation_sites}), row norm {cell.spec.row_norm}, input scale"
    )


def _scale(text: str) -> InputScale:
    """Parse ``plain``, ``imagenet``, or MEAN/STD with which images in [0, 1] were normalised."""
    if text in SCALES:
        return SCALES[text]
    try:
        mean, std = ([float(number) for number in part.split(",")] for part in text.split("/"))
        if not {len(mean), len(std)} <= {1, CHANNELS}:
            raise ValueError(f"{len(mean)} and {len(std)} numbers")
        return of_unit_images(mean * (CHANNELS // len(mean)), std * (CHANNELS // len(std)))
    except ValueError as error:  # pydantic's errors are ValueErrors
        found = f"{text!r} ({fields_of(error) if isinstance(error, ValidationError) else error})"
        expected = "plain, imagenet, or MEAN/STD such as 0.5/0.5 or 0.485,0.456,0.406/0.229,0.224,0.225"
        raise InputError("invalid input scale", code="USAGE", expected=expected, found=found, where="--input") from error


def _source(noise: NoiseMix | None, places: list[str]) -> Source:
    if bool(noise) == bool(places):
        expected = "--noise, or --photos PLACE with photographs for the linear baselines"
        raise InputError("missing or conflicting domain", code="USAGE", expected=expected)
    return batteries.NoiseSource(mix=noise) if noise else batteries.PhotoSource(photographs(places), "unknown", "unknown")


def _refuse_other_band(cell: Cell, wanted: Reference) -> None:
    band = cell.manifest.identity.band
    if band != wanted.band:
        raise PolicyError(
            "band does not match the CV",
            code="BAND_DENIED",
            expected=band,
            found=wanted.band,
            where=str(wanted),
            remedy=f"Name it {band}/{wanted.name}; or check the input scale, the width and the row norm.",
        )
