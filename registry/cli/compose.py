"""``batteries compose``: combine cells into one model. Torch is imported only when the command runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import batteries
import composer
from batteries.errors import InputError
from batteries.io import atomic_files
from batteries.text import unicode
from composer.artifact.model.manifest import MODEL, ModelManifest
from registry.answers.composition import Composed, ComposedCell, ComposedNode
from registry.cli.terminal.console import AsJson, Registry, Wide, app, emit, emit_json, say
from registry.cli.terminal.help import MAKE
from registry.cli.terminal.options import (
    ArtifactLicense,
    ArtifactName,
    ArtifactVersion,
    MaybeDescription,
    Threads,
    different,
    licensed,
    packed_label,
    photographs,
    use,
)
from registry.cli.terminal.progress import working
from registry.reports import summaries
from registry.transfer.pull import pull_cells

if TYPE_CHECKING:
    from torch import Tensor

    from composer.wiring.composition import Composition
    from composer.wiring.diagram import Syntax
    from composer.wiring.wired_model import Wired

SEED = 0  # of crops of the photographs
TOML = ".toml"
SYNTAXES: dict[str, Syntax] = {".mmd": "mermaid", ".dot": "dot"}


@app.command(rich_help_panel=MAKE, epilog="batteries compose low/fresnel-256 high/johanna-64 --out pair.safetensors")
def compose(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE.toml|REFERENCE...",
            help="A composition, or cells to run in parallel.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="NAME.safetensors", help="Write the model, and NAME.json, for publish.")
    ] = None,
    graph: Annotated[
        Path | None, typer.Option(metavar="FILE.mmd|FILE.dot", help="Write the graph for Mermaid or Graphviz.")
    ] = None,
    name: ArtifactName = None,
    version: ArtifactVersion = None,
    license: ArtifactLicense = None,
    description: MaybeDescription = None,
    probe: Annotated[str, typer.Option(metavar="NAME", help="Probe on which cells are run and aligned.")] = "photos-64",
    images: Annotated[list[str] | None, typer.Option(metavar="PLACE", help="Photographs instead: a folder or a glob.")] = None,
    wide: Wide = False,
    registry_: Registry = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Combine cells into one frozen model and measure it.

    The answer is each cell's error on the images, and how well its tokens agree with the others'. The model can be written, for
    publish, and drawn.
    """
    use(context, threads)
    syntax = _syntax(graph)
    label = packed_label(MODEL, out, name, version, license, description)
    composition = _composition(sources or [], registry_)
    cells = dict(zip(composition.cells, pull_cells(*composition.cells.values(), registry=registry_), strict=True))
    plain = photographs(images).crops(32, 64, SEED) if images else batteries.probe(probe).images
    batch = batteries.images.to_input(
        plain, next(iter(cells.values())).manifest.identity.input
    )  # all cells share one input scale
    with working(f"composing {len(cells)} cells"):
        model = composer.wire(cells, composition, batch)
        rows = summaries.composition(model.container, list(cells.values()), batch)
        nodes = ComposedNode.each(model, batch)
    if graph is not None and syntax is not None:
        atomic_files.replace(graph, composer.draw(composition, syntax).encode())
    manifest: ModelManifest | None = None
    if out is not None and label is not None:
        packed = composer.pack(model, out, licensed(label, cells.values()))
        assert isinstance(packed, ModelManifest), "a model was packed"
        manifest = packed
        say(f"{manifest.path}@{manifest.identity.version}: {manifest.file.size} bytes in {out}")
    if as_json:
        emit_json(_answer(model, rows, nodes, batch, graph, out, manifest))
    else:
        emit(*summaries.composition_tables(rows, nodes), wide=wide)


def _syntax(graph: Path | None) -> Syntax | None:
    """Return the syntax of a diagram, by the suffix of its file."""
    if graph is None:
        return None
    if graph.suffix not in SYNTAXES:
        expected, remedy = " | ".join(SYNTAXES), "For a picture, write FILE.dot and run: dot -Tsvg FILE.dot -o FILE.svg"
        raise InputError("unknown suffix of --graph", code="USAGE", expected=expected, found=graph.name, remedy=remedy)
    return SYNTAXES[graph.suffix]


def _composition(sources: Sequence[str], registry: str | None) -> Composition:
    """Read a composition from a file, or put cells in parallel, each named by its reference without a version."""
    if any(text.endswith(TOML) for text in sources):
        if len(sources) > 1:
            raise InputError("conflicting sources", code="USAGE", expected=f"one {TOML} file, or references")
        return composer.Composition.read(sources[0])
    if not sources:
        expected = f"references, or one {TOML} file"
        raise InputError("nothing to compose", code="NO_CELLS", expected=expected)
    references = different(sources, f"Leave one out, or write a {TOML} file that gives each its own name.", registry)
    return composer.Composition.parallel({path: str(reference) for path, reference in references.items()})


def _answer(
    model: Wired,
    rows: Sequence[Mapping[str, Any]],
    nodes: tuple[ComposedNode, ...],
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
        node_figures=nodes,
        graph=None if graph is None else unicode(graph),
        path=None if out is None else unicode(out),
        manifest=manifest,
    )
