"""The manifest of a composed model: what it is, how large, of what. No torch here.

It is small whatever the model is: the cells' digests are in the model's own file, and the manifest has their number and the
seal of that file, which stands for all of them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from batteries.canonical import Document, load_document
from batteries.manifest import MAX_MANIFEST, Count, InputScale, Name, Positive, SemanticVersion, Sha256, Size, Text

MODEL = "model"  # stands where a band stands
LISTED = 64  # nodes that a manifest names: about 20 KiB

Kind = Literal["cell", "parallel", "relay", "route"]


class ModelLabel(Document):
    """What a person says of a model.

    Attributes:
        name: Without the ``model/`` before it.
        version: Semantic.
        license: SPDX, of the whole.
        description: A sentence or two.
    """

    name: Name
    version: SemanticVersion
    license: Text
    description: Text


class ModelFile(Document):
    """The model's file: reached by ``sha256``, bounded by ``size``; ``seal`` stands for every byte of it, too."""

    size: Size
    sha256: Sha256
    seal: Sha256


class ModelNode(Document):
    """One node in short: its kind, and how many cells and nodes it reads."""

    name: Text
    kind: Kind
    reads: Positive


class ModelManifest(Document):
    """Everything a model says of itself beside its file, as of packaging.

    Attributes:
        identity: Who it is.
        file: Its bytes.
        weights: Those of its cells are in the file: the cells need not be in the registry that has the model.
        cells: How many.
        lock: SHA-256 of their versions and digests, in canonical form.
        groups: Specs among them.
        parameters: Of all cells.
        channels: Of an image.
        input: The input scale that the cells share.
        output: The node, or the cell, whose result is the model's.
        output_kind: Of it.
        aligned: Whether the cells' tokens have a consensus frame.
        counts: Nodes by kind.
        nodes: The first of them by name, 64 at most.
        package: Version of this package.
        torch: Version of torch.
    """

    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    kind: Literal["model"] = "model"
    identity: ModelLabel
    file: ModelFile
    weights: Literal["included"] = "included"
    cells: Positive
    lock: Sha256
    groups: Positive
    parameters: Positive
    channels: Positive
    input: InputScale
    output: Text
    output_kind: Kind
    aligned: bool
    counts: dict[Kind, Count]
    nodes: Annotated[tuple[ModelNode, ...], Field(max_length=LISTED)]
    package: Text
    torch: Text

    @property
    def path(self) -> str:
        """``model/name``, the reference without a version."""
        return f"{MODEL}/{self.identity.name}"

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> ModelManifest:
        """Read a manifest strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_MANIFEST)
