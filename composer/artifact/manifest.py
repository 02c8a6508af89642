"""Base of the manifests of artifacts, which are sealed files of any kind. Imports no torch.

Manifests are small for files of any size: the cells' digests are in the file, and the manifest has only their number and the
file's seal, which covers all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Self

from batteries import short_repr
from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import MAX_MANIFEST, Name, Positive, SemanticVersion, Sha256, Size, Text
from batteries.io.canonical_json import Document, load_document

LISTED = 64  # nodes or cells that a manifest names: about 20 KiB


class PackedLabel(Document):
    """Label of an artifact, given by its author.

    Attributes:
        name: Name without the kind as a prefix.
        version: Semantic version.
        license: SPDX expression for the whole artifact.
        description: Description in a sentence or two.

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
    """Reference to a sealed file by ``sha256`` and ``size``; its ``seal`` covers every byte, too."""

    size: Size
    sha256: Sha256
    seal: Sha256


class PackedSummary(Document):
    """Base of the summaries of artifacts, as shown in lists; each kind adds fields."""

    license: Text

    @property
    def words(self) -> tuple[str, ...]:
        """Facts, in words."""
        return tuple(f"{name}={short_repr.shown(getattr(self, name))}" for name in type(self).model_fields)


class PackedManifest(Document, ABC):
    """Base of the manifests of artifacts, written at packaging.

    Attributes:
        identity: Name, version, license and description.
        file: Size and digests of the file.
        cells: Number of cells of the artifact.
        lock: SHA-256 of the cells' versions and digests, in canonical form.
        package: Version of this package at packaging.
        torch: Version of torch at packaging.
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

    def __repr__(self) -> str:
        size, cells = f"{self.file.size:,} bytes", short_repr.counted(self.cells, "cell")
        return short_repr.headed(
            self, f"{self.path}@{self.identity.version}", cells, size, f"license={self.identity.license!r}"
        )

    @property
    def path(self) -> str:
        """Reference without a version, ``model/name`` or ``maps/name``."""
        return f"{self.KIND.name}/{self.identity.name}"

    @property
    @abstractmethod
    def summary(self) -> PackedSummary:
        """Summary of the artifact for lists."""

    @classmethod
    def from_bytes(cls, data: bytes, *, where: object) -> Self:
        """Read a manifest strictly.

        Raises:
            FormatError: not canonical JSON of this schema, too large, or of a newer major schema.
        """
        return load_document(cls, data, where=where, limit=MAX_MANIFEST)
