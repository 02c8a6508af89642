"""Composed models as a kind of artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import composer
from batteries.cell.spec import CellSpec
from composer.artifact import model
from composer.artifact.form import ArtifactForm, CellOrigins, Column, yes_no
from composer.artifact.model.manifest import ModelManifest, ModelSummary

if TYPE_CHECKING:
    import numpy as np

    from composer.artifact.form import Arrays
    from composer.artifact.model.document import Artifact
    from composer.container.container import Container
    from composer.sealed.reader import Opened
    from composer.wiring.wired_model import Wired


class ModelForm(ArtifactForm["Artifact"]):
    """Form of a composed model, whose file includes the weights of its cells and their lock."""

    manifest = ModelManifest
    summary = ModelSummary
    takes = "a Wired or a Container"
    columns = (
        Column("cells", lambda summary: str(summary.cells)),
        Column("specs", lambda summary: str(summary.groups)),
        Column("parameters", lambda summary: f"{summary.parameters:,}"),
        Column("nodes", lambda summary: str(summary.nodes)),
        Column("output", lambda summary: summary.output_kind),
        Column("aligned", lambda summary: yes_no(summary.aligned), on_card=False),
    )

    def document(self) -> type[Artifact]:
        """See :meth:`ArtifactForm.document`."""
        return model.document.Artifact

    def holds(self, value: object) -> bool:
        """See :meth:`ArtifactForm.holds`."""
        return isinstance(value, composer.Wired | composer.Container)

    def take_apart(self, value: Wired | Container, lock: CellOrigins | None) -> tuple[Mapping[str, Any], Arrays]:
        """See :func:`composer.artifact.model.file.take_apart`."""
        return model.file.take_apart(value)

    def put_together(self, opened: Opened[Artifact]) -> Wired | Container:
        """See :func:`composer.artifact.model.file.put_together`."""
        return model.file.put_together(opened)

    def check_cells(self, opened: Opened[Artifact], where: object) -> None:
        """See :func:`composer.artifact.model.reader.check_lock`."""
        model.reader.check_lock(opened, where)

    def weights(self, opened: Opened[Artifact]) -> Iterator[tuple[str, CellSpec, dict[str, np.ndarray]]]:
        """See :meth:`ArtifactForm.weights`."""
        for cell, arrays in model.reader.weights(opened):
            yield cell.name, opened.document.groups[cell.group], arrays
