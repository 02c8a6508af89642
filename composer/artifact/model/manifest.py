"""Manifest of a composed model, and its summary for lists. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import MAX_BLOB, Count, InputScale, Positive, Text
from batteries.io.canonical_json import Document
from composer.artifact.manifest import LISTED, PackedManifest, PackedSummary
from composer.vocabulary import NodeKind

MODEL = ArtifactKind("model", "a composed model", MAX_BLOB, "1.1")


class ModelNode(Document):
    """Summary of a node: its kind, and the number of cells and nodes that it reads."""

    name: Text
    kind: NodeKind
    reads: Positive


class ModelSummary(PackedSummary):
    """Summary of a model, as shown in lists."""

    cells: Positive
    groups: Positive
    parameters: Positive
    channels: Positive
    nodes: Count
    output_kind: NodeKind
    aligned: bool


class ModelManifest(PackedManifest):
    """Manifest of a composed model.

    Attributes:
        weights: Always ``included``: the file holds the cells' weights, and the model's registry need not hold the cells.
        groups: Number of different specs.
        parameters: Number of parameters of all cells.
        channels: Number of image channels.
        input: Input scale of all cells.
        output: Name of the node or cell whose result the model returns.
        output_kind: Kind of the output node, or ``cell``.
        aligned: True if the cells' tokens have a consensus frame.
        counts: Number of nodes by kind.
        nodes: Summaries of nodes, the first 64 by name.

    >>> import composer, registry
    >>> label = composer.artifact.PackedLabel(name="one", version="1.0.0", license="Apache-2.0", description="A test.")
    >>> manifest = composer.pack(composer.compose(registry.load("low/fresnel-64")), "one.safetensors", label)
    >>> manifest.parameters, manifest.output_kind, manifest.aligned
    (250211, 'parallel', False)
    """

    KIND = MODEL

    kind: Literal["model"] = "model"
    weights: Literal["included"] = "included"
    groups: Positive
    parameters: Positive
    channels: Positive
    input: InputScale
    output: Text
    output_kind: NodeKind
    aligned: bool
    counts: dict[NodeKind, Count]
    nodes: Annotated[tuple[ModelNode, ...], Field(max_length=LISTED)]

    @property
    def summary(self) -> ModelSummary:
        """Summary of the model for lists."""
        return ModelSummary(
            cells=self.cells,
            groups=self.groups,
            parameters=self.parameters,
            channels=self.channels,
            nodes=sum(self.counts.values()),
            output_kind=self.output_kind,
            aligned=self.aligned,
            license=self.identity.license,
        )
