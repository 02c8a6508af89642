"""The manifest of a composed model, and what a list shows of it. No torch here."""

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
    """One node in short: its kind, and how many cells and nodes it reads."""

    name: Text
    kind: NodeKind
    reads: Positive


class ModelSummary(PackedSummary):
    """What a list shows of a model without reading its manifest."""

    cells: Positive
    groups: Positive
    parameters: Positive
    channels: Positive
    nodes: Count
    output_kind: NodeKind
    aligned: bool


class ModelManifest(PackedManifest):
    """Everything a model says of itself beside its file.

    Attributes:
        weights: Those of its cells are in the file: the cells need not be in the registry that has the model.
        groups: Specs among them.
        parameters: Of all cells.
        channels: Of an image.
        input: The input scale that the cells share.
        output: The node, or the cell, whose result is the model's.
        output_kind: Of it.
        aligned: Whether the cells' tokens have a consensus frame.
        counts: Nodes by kind.
        nodes: The first of them by name, 64 at most.

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
        """What a list shows of it."""
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
