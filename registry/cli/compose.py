"""``batteries compose``: cells as one model, from references or a file. Torch loads when it runs, not before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import batteries
import composer
from batteries.errors import ConflictError, InputError
from batteries.io import atomic_files
from batteries.io.text import unicode
from composer.artifact.model.manifest import MODEL, ModelManifest
from registry.answers.composition import Composed, ComposedCell
from registry.cli.console import AsJson, Registry, app, emit, emit_json, say
from registry.cli.options import Threads, licensed, packed_label, photographs, use
from registry.reports import summaries
from registry.transfer.pull import pull_cells
from registry.transfer.search import references_of

if TYPE_CHECKING:
    from torch import Tensor

    from composer.wiring.composition import Composition
    from composer.wiring.wired_model import Wired

SEED = 0  # of the crops
TOML = ".toml"


@app.command()
def compose(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE.toml|REFERENCE...", help="A composition, or cells to put side by side: [registry/]band/name[@version]"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="NAME.safetensors", help="Write the model, and NAME.json beside it, for publish.")
    ] = None,
    graph: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw what feeds what.")] = None,
    name: Annotated[str | None, typer.Option(help="What the model will be called; else as its file.")] = None,
    version: Annotated[str | None, typer.Option(help="Its version; else 1.0.0.")] = None,
    license: Annotated[str | None, typer.Option(help="SPDX licence of the model; else those of its cells.")] = None,
    description: Annotated[str | None, typer.Option(help="A sentence for its manifest.")] = None,
    probe: Annotated[str, typer.Option(help="The probe that the cells are run and aligned on.")] = "photos-64",
    images: Annotated[
        list[str] | None, typer.Option(metavar="PLACE", help="Photographs in the probe's place: a folder or a glob.")
    ] = None,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run cells as one frozen model: errors, tokens, how far their tokens agree. Write it as one file, draw it."""
    use(context, threads)
    label = packed_label(MODEL, out, name, version, license, description)
    composition = _composition(sources or [], registry_)
    cells = dict(zip(composition.cells, pull_cells(*composition.cells.values(), registry=registry_), strict=True))
    plain = photographs(images).crops(32, 64, SEED) if images else batteries.probe(probe).images
    batch = batteries.images.to_input(plain, next(iter(cells.values())).manifest.identity.input)  # which all of them share
    model = composer.wire(cells, composition, batch)
    rows = summaries.composition(model.container, list(cells.values()), batch)
    if graph is not None:
        atomic_files.replace(graph, composer.draw(composition).encode())
    manifest: ModelManifest | None = None
    if out is not None and label is not None:
        packed = composer.pack(model, out, licensed(label, cells.values()))
        assert isinstance(packed, ModelManifest), "a model was packed"
        manifest = packed
        say(f"{manifest.path}@{manifest.identity.version}: {manifest.file.size} bytes in {out}")
    if as_json:
        emit_json(_answer(model, rows, batch, graph, out, manifest))
    else:
        emit(summaries.composition_table(rows))


def _composition(sources: Sequence[str], registry: str | None) -> Composition:
    """The one in a file, or of cells side by side, each called as its reference without a version."""
    if any(text.endswith(TOML) for text in sources):
        if len(sources) > 1:
            raise InputError("a composition and more", code="USAGE", expected=f"one {TOML} file, or references")
        return composer.Composition.read(sources[0])
    if not sources:
        expected = f"some references, or a {TOML} file"
        raise InputError("nothing to compose", code="NO_CELLS", expected=expected)
    references = references_of(sources, registry)
    twice = [path for path, count in Counter(reference.path for reference in references).items() if count > 1]
    if twice:
        remedy = f"Leave one out, or write a {TOML} file that gives them names of their own."
        raise ConflictError("a cell given twice", code="TWICE", found=", ".join(twice), remedy=remedy)
    return composer.Composition.parallel({reference.path: str(reference) for reference in references})


def _answer(
    model: Wired,
    rows: Sequence[Mapping[str, Any]],
    batch: Tensor,
    graph: Path | None,
    out: Path | None,
    manifest: ModelManifest | None,
) -> Composed:
    composition = model.composition
    return Composed(
        cells=tuple(ComposedCell.model_validate(row) for row in rows),
        digest=model.container.digest,
        images=tuple(batch.shape),
        output=composition.output,
        output_kind=composition.kind(composition.output),
        nodes=len(composition.nodes),
        graph=None if graph is None else unicode(graph),
        path=None if out is None else unicode(out),
        manifest=manifest,
    )
