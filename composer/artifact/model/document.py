"""Document of a composed model's file. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from batteries.cell.manifest import Count, InputScale, Positive, Sha256, Text
from batteries.cell.spec import CellSpec
from batteries.cell.weights_file import TENSOR_NAME
from batteries.io.canonical_json import Document
from composer.artifact.form import ArtifactDocument
from composer.artifact.manifest import LISTED
from composer.artifact.model.manifest import MODEL, ModelNode
from composer.procrustes.score_document import FiniteScore
from composer.sealed.file_format import Form
from composer.wiring.composition import MAX_ENTRIES, Composition
from composer.wiring.nodes import Name, Relay, Route

ROUTER_WIDTH = 32  # as in composer.wiring.route, which needs torch to import
LARGEST_SIDE = 2**20  # of a router's tensor
MOST_AXES = 8

TensorName = Annotated[str, Field(pattern=f"^{TENSOR_NAME.pattern}$")]
Shape = Annotated[tuple[Annotated[int, Field(gt=0, le=LARGEST_SIDE)], ...], Field(max_length=MOST_AXES)]
Width = Annotated[int, Field(gt=0, le=4096)]
Rows = Annotated[int, Field(gt=0, le=2**31)]  # of a frame; the size of a file is limited elsewhere


class NamedCell(Document):
    """Name of a cell in a file, and its origin by digest.

    Attributes:
        name: Name in the file.
        cell: Published name, ``band/name``.
        version: Published version.
        sha256: SHA-256 of the published file.
        tensors: Digest of the weights, independent of the file format.
    """

    name: Name
    cell: Text
    version: Text
    sha256: Sha256
    tensors: Sha256

    @property
    def digests(self) -> dict[str, str]:
        """Entry of the cell in a container's lock."""
        return {"cell": self.cell, "version": self.version, "sha256": self.sha256, "tensors": self.tensors}


class SavedCell(NamedCell):
    """Cell whose weights are in the file.

    Attributes:
        group: Index of its spec; cells of one group are stacked in the order of the document.
    """

    group: Count


class SavedMap(Document):
    """Scalars of a map."""

    scale: float
    residual: float
    determinant: Literal[-1, 1]
    paired: Positive


class SavedRelay(SavedMap):
    """Scalars of a relay's map; ``width`` is D at both ends."""

    width: Width


class SavedFrame(Document):
    """Consensus frame of omega, with one map per cell, in the cells' order.

    The ends of the maps are implied: the cells' ``tensors`` and the digest of the frame's tokens. So is the padding of narrower
    tokens.

    Attributes:
        width: Width D of the frame.
        rows: Rows of the frame: regions of all images.
        residual: Share of the cells' variance that is not in the frame.
        grid: Rows and columns of an image's regions.
        probe: Digest of the images.
        maps: Maps of the cells.
        scores: Scores of the cells; empty for a frame of a single cell.
    """

    width: Width
    rows: Rows
    residual: float
    grid: tuple[Positive, Positive]
    probe: Sha256
    maps: tuple[SavedMap, ...]
    scores: tuple[FiniteScore, ...]


class Artifact(ArtifactDocument):
    """Document of a composed model's file.

    Attributes:
        composition: Composition, with its cells sorted by name; ``cells`` has their order.
        groups: Spec of each group.
        cells: Cells in order, with their digests, which make up the lock.
        input: Input scale of all cells.
        frame: Consensus frame; None if the cells were not aligned.
        relays: Scalars of the relays' maps, by node.
        routers: Shapes of the routers' tensors, by node.

    >>> import composer, registry
    >>> file = composer.save(composer.compose(registry.load("low/fresnel-64")), "model.safetensors")
    >>> document = composer.read("model.safetensors")
    >>> document.wiring.output, [*document.lock]
    ('all', ['low/fresnel-64'])
    """

    KIND = MODEL
    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    composition: Composition
    groups: Annotated[tuple[CellSpec, ...], Field(max_length=MAX_ENTRIES)]
    cells: Annotated[tuple[SavedCell, ...], Field(max_length=MAX_ENTRIES)]
    input: InputScale
    frame: SavedFrame | None
    relays: dict[Name, SavedRelay]
    routers: dict[Name, dict[TensorName, Shape]]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for rules in (self._names, self._shapes):  # shapes can be checked only once the names are valid
            for what, right in rules().items():
                if not right:
                    raise ValueError(what)
        return self

    def _names(self) -> dict[str, bool]:
        """Return for each possible fault of names and counts whether the document is free of it."""
        frame = self.frame
        return {
            "cells are not those of the composition, each once": sorted(c.name for c in self.cells)
            == sorted(self.composition.cells),
            "a group without a cell, or a cell without a group": {c.group for c in self.cells} == {*range(len(self.groups))},
            "relays are not those of the composition": self.relays.keys() == self._relays().keys(),
            "routers are not those of the composition": self.routers.keys() == self._routed().keys(),
            "maps are not one for each cell": frame is None or len(frame.maps) == len(self.cells),
            "scores are not one for each cell": frame is None or len(frame.scores) in (0, len(self.cells)),
            "maps are not of the rows of the frame": frame is None or {one.paired for one in frame.maps} == {frame.rows},
            "a frame with an incomplete image": frame is None or frame.rows % (frame.grid[0] * frame.grid[1]) == 0,
        }

    def _shapes(self) -> dict[str, bool]:
        """Return for each possible fault of maps and routers whether the document is free of it.

        A frame may be wider than all cells, because a part of a container keeps the frame of the whole.

        Raises:
            PolicyError: incompatible cells (``WIRING``).
        """
        specs = {cell.name: self.groups[cell.group] for cell in self.cells}
        self.composition.check(specs)
        widths = {name: specs[node.target].D for name, node in self._relays().items()}
        channels, widest = self.groups[0].channels, max(spec.D for spec in self.groups)
        routers = {name: router_shapes(len(node.of), channels) for name, node in self._routed().items()}
        return {
            "a frame that is narrower than its cells": self.frame is None or self.frame.width >= widest,
            "relays are not as wide as their cells": {name: saved.width for name, saved in self.relays.items()} == widths,
            "routers are not of the form that their routes need": self.routers == routers,
        }

    def _relays(self) -> dict[str, Relay]:
        return {name: node for name, node in self.composition.nodes.items() if isinstance(node, Relay)}

    def _routed(self) -> dict[str, Route]:
        """Return the nodes with a router, by name."""
        nodes = self.composition.nodes.items()
        return {name: node for name, node in nodes if isinstance(node, Route) and node.by == "router"}

    @property
    def wiring(self) -> Composition:
        """Composition, with its cells in their order."""
        cells = {cell.name: self.composition.cells[cell.name] for cell in self.cells}
        return self.composition.model_copy(update={"cells": cells})

    @property
    def lock(self) -> dict[str, dict[str, str]]:
        """Version and digests of each cell, as in a container's lock."""
        return {cell.name: cell.digests for cell in self.cells}

    @property
    def parameters(self) -> int:
        """Number of parameters of all cells."""
        counts = Counter(cell.group for cell in self.cells)
        return sum(counts[place] * spec.parameters for place, spec in enumerate(self.groups))

    def facts(self) -> dict[str, Any]:
        """Return the manifest's fields that are specific to models."""
        composition, nodes = self.composition, self.composition.nodes
        shown = (ModelNode(name=name, kind=nodes[name].kind, reads=len(nodes[name].reads)) for name in sorted(nodes)[:LISTED])
        return {
            "groups": len(self.groups),
            "parameters": self.parameters,
            "channels": self.groups[0].channels,
            "input": self.input,
            "output": composition.output,
            "output_kind": composition.kind(composition.output),
            "aligned": self.frame is not None,
            "counts": dict(Counter(node.kind for node in nodes.values())),
            "nodes": tuple(shown),
        }

    def tensors(self) -> Iterator[Form]:
        """Yield weights, stacked over the cells of a group, then maps and routers."""
        counts = Counter(cell.group for cell in self.cells)
        for place, spec in enumerate(self.groups):
            for name, shape in spec.tensor_shapes().items():
                yield f"groups.{place}.{name}", "F32", (counts[place], *shape)
        if (frame := self.frame) is not None:
            yield "frame.tokens", "F64", (frame.rows, frame.width)
            yield from _map("frame", (len(frame.maps),), frame.width)
        for place, (_, relay) in enumerate(sorted(self.relays.items())):
            yield from _map(f"relays.{place}", (), relay.width)
        for place, (_, shapes) in enumerate(sorted(self.routers.items())):
            for name, shape in shapes.items():
                yield f"routers.{place}.{name}", "F32", shape


def router_shapes(branches: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a :class:`composer.wiring.route.Router`."""
    return {
        "layers.0.weight": (ROUTER_WIDTH, branches + 2 * channels),
        "layers.0.bias": (ROUTER_WIDTH,),
        "layers.2.weight": (branches, ROUTER_WIDTH),
        "layers.2.bias": (branches,),
    }


def _map(prefix: str, outer: tuple[int, ...], width: int) -> Iterator[Form]:
    for name, shape in (("rotation", (width, width)), ("centre", (width,)), ("translation", (width,))):
        yield f"{prefix}.{name}", "F64", (*outer, *shape)
