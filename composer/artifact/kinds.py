"""The kinds of sealed file, for whoever keeps such files: opened, described, looked into by their kind. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from batteries.cell.artifact_kinds import MODEL, ArtifactKind
from batteries.cell.spec import CellSpec
from batteries.io.atomic_files import Data
from composer.artifact import maps_document, model_document, model_reader
from composer.artifact.manifest import AnyPacked, PackedFile, PackedLabel
from composer.artifact.maps_document import SavedMaps, open_maps
from composer.artifact.model_document import Artifact
from composer.artifact.model_reader import open_artifact
from composer.sealed.reader import Opened

if TYPE_CHECKING:
    import numpy as np

AnyOpened = Opened[Artifact] | Opened[SavedMaps]


def open_packed(kind: ArtifactKind, data: Data, *, where: object, seal: str | None = None) -> AnyOpened:
    """A whole file, every byte of it compared with the seal's word, and whatever else can be known without torch.

    Args:
        kind: Which it has to be.
        data: The file.
        where: What it is, for the message.
        seal: What somebody promised; left out, the file's own is believed.

    Raises:
        BatteriesError: as :func:`composer.artifact.model_reader.open_artifact`, or
            :func:`composer.artifact.maps_document.open_maps`.
    """
    return (open_artifact if kind is MODEL else open_maps)(data, where=where, seal=seal)


def describe(
    document: Artifact | SavedMaps,
    file: PackedFile,
    label: PackedLabel,
    *,
    package: str | None = None,
    torch: str | None = None,
) -> AnyPacked:
    """The manifest of a file.

    Args:
        document: What it says.
        file: Its size and digests.
        label: What a person says.
        package: Version of this package that made it; left out, the one that runs.
        torch: The same of torch.
    """
    if isinstance(document, Artifact):
        return model_document.describe(document, file, label, package=package, torch=torch)
    return maps_document.describe(document, file, label, package=package, torch=torch)


def weights(opened: AnyOpened) -> Iterator[tuple[str, CellSpec, dict[str, np.ndarray]]]:
    """Name, spec and arrays of every cell whose weights are in a file; in a file of maps there are none."""
    if isinstance(opened.document, Artifact):
        for cell, arrays in model_reader.weights(opened):
            yield cell.name, opened.document.groups[cell.group], arrays
