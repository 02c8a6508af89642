"""What a composed model's file says of itself. No torch here."""

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

ROUTER_WIDTH = 32  # as in composer.wiring.route, which takes torch
LARGEST_SIDE = 2**20  # of a router's tensor
MOST_AXES = 8

TensorName = Annotated[str, Field(pattern=f"^{TENSOR_NAME.pattern}$")]
Shape = Annotated[tuple[Annotated[int, Field(gt=0, le=LARGEST_SIDE)], ...], Field(max_length=MOST_AXES)]
Width = Annotated[int, Field(gt=0, le=4096)]
Rows = Annotated[int, Field(gt=0, le=2**31)]  # of a frame; the bytes of a file are bounded elsewhere


class NamedCell(Document):
    """One cell: what it is called in a file, and where it came from, by digest.

    Attributes:
        name: In the file.
        cell: ``band/name``.
        version: Of it.
        sha256: Of its file.
        tensors: Digest of its weights, whatever holds them.
    """

    name: Name
    cell: Text
    version: Text
    sha256: Sha256
    tensors: Sha256

    @property
    def digests(self) -> dict[str, str]:
        """Its row of a lock, as a container has them."""
        return {"cell": self.cell, "version": self.version, "sha256": self.sha256, "tensors": self.tensors}


class SavedCell(NamedCell):
    """A cell whose weights are in the file.

    Attributes:
        group: Place of its spec; cells of one group are stacked in their order here.
    """

    group: Count


class SavedMap(Document):
    """What a map is beside its tensors."""

    scale: float
    residual: float
    determinant: Literal[-1, 1]
    paired: Positive


class SavedRelay(SavedMap):
    """The map of a relay; ``width`` is D at both of its ends."""

    width: Width


class SavedFrame(Document):
    """The consensus frame of omega, and a map for each cell, in their order.

    The ends of the maps follow: the cells' ``tensors`` and the digest of the frame's tokens. So do the zeros that narrower
    tokens are padded with.

    Attributes:
        width: D of the frame.
        rows: Of the frame: regions of all images.
        residual: Share of the cells' variance that is not in it.
        grid: Rows and columns of an image's regions.
        probe: Digest of the images.
        maps: Of the cells.
        scores: Of the cells; empty where the frame was made of one.
    """

    width: Width
    rows: Rows
    residual: float
    grid: tuple[Positive, Positive]
    probe: Sha256
    maps: tuple[SavedMap, ...]
    scores: tuple[FiniteScore, ...]


class Artifact(ArtifactDocument):
    """Everything that a composed model's file says of itself.

    Attributes:
        composition: The wiring; its cells are sorted here, ``cells`` has their order.
        groups: The specs.
        cells: With their digests: the lock.
        input: The input scale that they share.
        frame: None where nothing was aligned.
        relays: By name of the node.
        routers: Shapes of the tensors of each, by name of the node.

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
        for rules in (self._names, self._shapes):  # shapes mean something where the names are right
            for what, right in rules().items():
                if not right:
                    raise ValueError(what)
        return self

    def _names(self) -> dict[str, bool]:
        """By what would be wrong, whether everything is there, once."""
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
            "a frame with parts of an image": frame is None or frame.rows % (frame.grid[0] * frame.grid[1]) == 0,
        }

    def _shapes(self) -> dict[str, bool]:
        """By what would be wrong, whether maps and routers fit the cells.

        A frame may be wider than they are: a part of a container keeps the frame of the whole.

        Raises:
            PolicyError: cells that do not go together (``WIRING``).
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
        """Nodes that have a router."""
        nodes = self.composition.nodes.items()
        return {name: node for name, node in nodes if isinstance(node, Route) and node.by == "router"}

    @property
    def wiring(self) -> Composition:
        """The composition, its cells in their order."""
        cells = {cell.name: self.composition.cells[cell.name] for cell in self.cells}
        return self.composition.model_copy(update={"cells": cells})

    @property
    def lock(self) -> dict[str, dict[str, str]]:
        """Version and digests by cell, as a container has them."""
        return {cell.name: cell.digests for cell in self.cells}

    @property
    def parameters(self) -> int:
        """Of all cells."""
        counts = Counter(cell.group for cell in self.cells)
        return sum(counts[place] * spec.parameters for place, spec in enumerate(self.groups))

    def facts(self) -> dict[str, Any]:
        """What the manifest says, beside what every manifest does."""
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
        """Weights, stacked over the cells of a group; maps; routers."""
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
    """Of every tensor of a :class:`composer.wiring.route.Router`."""
    return {
        "layers.0.weight": (ROUTER_WIDTH, branches + 2 * channels),
        "layers.0.bias": (ROUTER_WIDTH,),
        "layers.2.weight": (branches, ROUTER_WIDTH),
        "layers.2.bias": (branches,),
    }


def _map(prefix: str, outer: tuple[int, ...], width: int) -> Iterator[Form]:
    for name, shape in (("rotation", (width, width)), ("centre", (width,)), ("translation", (width,))):
        yield f"{prefix}.{name}", "F64", (*outer, *shape)
