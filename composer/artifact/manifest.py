"""Manifests of what is packed into a sealed file, whatever its kind. No torch here.

They are small whatever the file is: the cells' digests are in the file, and the manifest has their number and the seal of that
file, which stands for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Self

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import MAX_MANIFEST, Name, Positive, SemanticVersion, Sha256, Size, Text
from batteries.io.canonical_json import Document, load_document

LISTED = 64  # nodes or cells that a manifest names: about 20 KiB


class PackedLabel(Document):
    """What a person says of an artifact.

    Attributes:
        name: Without the kind before it.
        version: Semantic.
        license: SPDX, of the whole.
        description: A sentence or two.

    >>> from composer import artifact
    >>> label = artifact.PackedLabel(name="trio", version="1.0.0", license="Apache-2.0", description="Three cells.")
    >>> label.name
    'trio'
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


class PackedSummary(Document):
    """What a list shows of an artifact without reading its manifest; kinds add to it."""

    license: Text


class PackedManifest(Document, ABC):
    """What every such manifest says, as of packaging.

    Attributes:
        identity: Who it is.
        file: Its bytes.
        cells: How many it speaks of.
        lock: SHA-256 of their versions and digests, in canonical form.
        package: Version of this package.
        torch: Version of torch.
    """

    KIND: ClassVar[ArtifactKind]
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

    @property
    @abstractmethod
    def summary(self) -> PackedSummary:
        """What a list shows of it."""

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Self:
        """Read a manifest strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_MANIFEST)
