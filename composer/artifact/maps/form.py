"""Maps between cells as a kind of artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import composer
from composer.artifact import maps
from composer.artifact.form import ArtifactForm, CellOrigins, Column, yes_no
from composer.artifact.maps.manifest import MapsManifest, MapsSummary

if TYPE_CHECKING:
    from composer.artifact.form import Arrays
    from composer.artifact.maps.document import SavedMaps
    from composer.procrustes.consensus import Consensus
    from composer.procrustes.similarity import Alignment
    from composer.sealed.reader import Opened


class MapsForm(ArtifactForm["SavedMaps"]):
    """Form of a consensus, or of the map from one cell to another; names and versions of the cells come from the lock."""

    manifest = MapsManifest
    summary = MapsSummary
    takes = "a Consensus or an Alignment"
    needs_lock = True
    columns = (
        Column("cells", lambda summary: str(summary.cells)),
        Column("tokens", lambda summary: summary.tokens),
        Column("grid", lambda summary: " x ".join(map(str, summary.grid))),
        Column("D", lambda summary: str(summary.width)),
        Column("target", lambda summary: summary.target),
        Column("scored", lambda summary: yes_no(summary.scored), on_card=False),
    )

    def document(self) -> type[SavedMaps]:
        """See :meth:`ArtifactForm.document`."""
        return maps.document.SavedMaps

    def holds(self, value: object) -> bool:
        """See :meth:`ArtifactForm.holds`."""
        return isinstance(value, composer.procrustes.Consensus | composer.procrustes.Alignment)

    def take_apart(self, value: Consensus | Alignment, lock: CellOrigins | None) -> tuple[Mapping[str, Any], Arrays]:
        """See :func:`composer.artifact.maps.file.take_apart`."""
        return maps.file.take_apart(value, lock or {})

    def put_together(self, opened: Opened[SavedMaps]) -> Consensus | Alignment:
        """See :func:`composer.artifact.maps.file.put_together`."""
        return maps.file.put_together(opened)

    def check_numbers(self, opened: Opened[SavedMaps], where: object) -> None:
        """See :func:`composer.artifact.maps.document.check_numbers`."""
        maps.document.check_numbers(opened, where)
