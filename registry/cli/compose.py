"""``batteries compose``: combine cells into one model. Torch is imported only when the command runs."""

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
from registry.stores import settings
from registry.transfer.pull import pull_cells

if TYPE_CHECKING:
    from torch import Tensor

    from composer.wiring.composition import Composition
    from composer.wiring.diagram import Syntax
    from composer.wiring.wired_model import Wired

SEED = 0  # of crops of the photographs
TOML = ".toml"
SYNTAXES: dict[str, Syntax] = {".mmd": "mermaid", ".dot": "dot"}


@app.command()
def compose(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE.toml|REFERENCE...",
            help="A composition file, or cells to run in parallel: [registry/]band/name[@version].",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="NAME.safetensors", help="Write the model, and NAME.json beside it, for publish.")
    ] = None,
    graph: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mmd|FILE.dot", help="Write the graph of nodes as a diagram, for Mermaid or Graphviz."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model; default: that of its file.")] = None,
    version: Annotated[str | None, typer.Option(help="Version of the model; default: 1.0.0.")] = None,
    license: Annotated[str | None, typer.Option(help="SPDX licence of the model; default: those of its cells.")] = None,
    description: Annotated[str | None, typer.Option(help="Description for the manifest, one sentence.")] = None,
    probe: Annotated[str, typer.Option(help="Probe on which the cells are run and aligned.")] = "photos-64",
    images: Annotated[
        list[str] | None, typer.Option(metavar="PLACE", help="Photographs to use in place of the probe: a folder or a glob.")
    ] = None,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run cells as one frozen model and report errors, tokens and their agreement. Optionally write and draw it."""
    use(context, threads)
    syntax = _syntax(graph)
    label = packed_label(MODEL, out, name, version, license, description)
    composition = _composition(sources or [])
    cells = dict(zip(composition.cells, pull_cells(*composition.cells.values(), registry=registry_), strict=True))
    plain = photographs(images).crops(32, 64, SEED) if images else batteries.probe(probe).images
    batch = batteries.images.to_input(
        plain, next(iter(cells.values())).manifest.identity.input
    )  # all cells share one input scale
    model = composer.wire(cells, composition, batch)
    rows = summaries.composition(model.container, list(cells.values()), batch)
    if graph is not None and syntax is not None:
        atomic_files.replace(graph, composer.draw(composition, syntax).encode())
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


def _syntax(graph: Path | None) -> Syntax | None:
    """Return the syntax of a diagram, by the suffix of its file."""
    if graph is None:
        return None
    if graph.suffix not in SYNTAXES:
        expected, remedy = " | ".join(SYNTAXES), "For a picture, write FILE.dot and run: dot -Tsvg FILE.dot -o FILE.svg"
        raise InputError("unknown suffix of --graph", code="USAGE", expected=expected, found=graph.name, remedy=remedy)
    return SYNTAXES[graph.suffix]


def _composition(sources: Sequence[str]) -> Composition:
    """Read a composition from a file, or put cells in parallel, each named by its reference without a version."""
    if any(text.endswith(TOML) for text in sources):
        if len(sources) > 1:
            raise InputError("conflicting sources", code="USAGE", expected=f"one {TOML} file, or references")
        return composer.Composition.read(sources[0])
    if not sources:
        expected = f"references, or one {TOML} file"
        raise InputError("nothing to compose", code="NO_CELLS", expected=expected)
    references = [settings.expand(text) for text in sources]
    twice = [path for path, count in Counter(reference.path for reference in references).items() if count > 1]
    if twice:
        remedy = f"Leave one out, or write a {TOML} file that gives each its own name."
        raise ConflictError("duplicate cell", code="TWICE", found=", ".join(twice), remedy=remedy)
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
