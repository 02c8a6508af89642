"""Manifests of what is packed into a sealed file: a composed model, or maps between cells. No torch here.

They are small whatever the file is: the cells' digests are in the file, and the manifest has their number and the seal of that
file, which stands for all of them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from batteries.cell import artifact_kinds
from batteries.cell.manifest import MAX_MANIFEST, Count, InputScale, Name, Positive, SemanticVersion, Sha256, Size, Text
from batteries.io.canonical_json import Document, load_document
from composer.vocabulary import NodeKind, TokenKind

LISTED = 64  # nodes or cells that a manifest names: about 20 KiB


class PackedLabel(Document):
    """What a person says of a model, or of maps.

    Attributes:
        name: Without the ``model/`` or ``maps/`` before it.
        version: Semantic.
        license: SPDX, of the whole.
        description: A sentence or two.
    """

    name: Name
    version: SemanticVersion
    license: Text
    description: Text


class PackedFile(Document):
    """The sealed file: reached by ``sha256``, bounded by ``size``; ``seal`` stands for every byte of it, too."""

    size: Size
    sha256: Sha256
    seal: Sha256


class PackedManifest(Document):
    """What every such manifest says, as of packaging.

    Attributes:
        identity: Who it is.
        file: Its bytes.
        cells: How many it speaks of.
        lock: SHA-256 of their versions and digests, in canonical form.
        package: Version of this package.
        torch: Version of torch.
    """

    KIND: ClassVar[artifact_kinds.ArtifactKind]
    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    identity: PackedLabel
    file: PackedFile
    cells: Positive
    lock: Sha256
    package: Text
    torch: Text

    @property
    def path(self) -> str:
        """``model/name`` or ``maps/name``, the reference without a version."""
        return f"{self.KIND.name}/{self.identity.name}"

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Self:
        """Read a manifest strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_MANIFEST)


class ModelNode(Document):
    """One node in short: its kind, and how many cells and nodes it reads."""

    name: Text
    kind: NodeKind
    reads: Positive


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
    """

    KIND = artifact_kinds.MODEL

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


class MappedCell(Document):
    """One end of a map in short; its digests are in the file."""

    name: Text
    cell: Text
    version: Text


class MapsFrame(Document):
    """A consensus frame in short.

    Attributes:
        rows: Of its tokens: one for each region of each image of the probe, or V of them.
        residual: Share of the cells' variance that is not in the frame, in the mean over cells.
    """

    rows: Positive
    residual: float


class MapsManifest(PackedManifest):
    """Everything that maps say of themselves beside their file.

    Attributes:
        tokens: What is mapped.
        grid: Rows and columns of the regions of an image on which tokens were paired.
        probe: SHA-256 of the images.
        sources: What is mapped, the first 64 cells.
        frame: What it is mapped to, if that is a consensus frame.
        target: What it is mapped to, if that is a cell.
        width: Of the tokens that are mapped to.
        scored: Whether the file says how well each map does on images that it was not fitted on.
    """

    KIND = artifact_kinds.MAPS

    kind: Literal["maps"] = "maps"
    tokens: TokenKind
    grid: tuple[Positive, Positive]
    probe: Sha256
    sources: Annotated[tuple[MappedCell, ...], Field(min_length=1, max_length=LISTED)]
    frame: MapsFrame | None
    target: MappedCell | None
    width: Positive
    scored: bool

    @model_validator(mode="after")
    def _have_one_target(self) -> Self:
        if (self.frame is None) == (self.target is None):
            raise ValueError("maps lead to a frame or to a cell, and not to both")
        return self


AnyPacked = ModelManifest | MapsManifest
MANIFESTS: dict[str, type[ModelManifest] | type[MapsManifest]] = {"model": ModelManifest, "maps": MapsManifest}
