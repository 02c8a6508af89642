"""Battery VAEs as a kind of artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import composer
from composer.artifact import vae
from composer.artifact.form import ArtifactForm, CellOrigins, Column
from composer.artifact.vae.manifest import VaeManifest, VaeSummary

if TYPE_CHECKING:
    from composer.artifact.form import Arrays
    from composer.artifact.vae.document import SavedVae
    from composer.sealed.reader import Opened
    from composer.vae.battery_vae import BatteryVAE


class VaeForm(ArtifactForm["SavedVae"]):
    """Form of a battery VAE, whose file has its parameters, its history, and the lock of its parents."""

    manifest = VaeManifest
    summary = VaeSummary
    takes = "a BatteryVAE"
    columns = (
        Column("sectors", lambda summary: str(summary.cells)),
        Column("specs", lambda summary: str(summary.groups)),
        Column("parameters", lambda summary: f"{summary.parameters:,}"),
        Column("code", lambda summary: str(summary.bottleneck)),
        Column("arrays", lambda summary: str(summary.arrays), on_card=False),
        Column("steps", lambda summary: f"{summary.steps:,}"),
    )

    def document(self) -> type[SavedVae]:
        """See :meth:`ArtifactForm.document`."""
        return vae.document.SavedVae

    def holds(self, value: object) -> bool:
        """See :meth:`ArtifactForm.holds`."""
        return isinstance(value, composer.BatteryVAE)

    def take_apart(self, value: BatteryVAE, lock: CellOrigins | None) -> tuple[Mapping[str, Any], Arrays]:
        """See :func:`composer.artifact.vae.file.take_apart`."""
        return vae.file.take_apart(value)

    def put_together(self, opened: Opened[SavedVae]) -> BatteryVAE:
        """See :func:`composer.artifact.vae.file.put_together`."""
        return vae.file.put_together(opened)
