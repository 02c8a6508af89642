"""Manifest of a battery VAE, and its summary for lists. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import MAX_BLOB, Count, InputScale, Positive, Text
from batteries.io.canonical_json import Document
from composer.artifact.manifest import LISTED, PackedManifest, PackedSummary

VAE = ArtifactKind("vae", "a battery VAE", MAX_BLOB, "1.3")


class Parent(Document):
    """Name and version of a cell that a sector started on; its digests are in the file."""

    name: Text
    cell: Text
    version: Text


class VaeSummary(PackedSummary):
    """Summary of a battery VAE, as shown in lists."""

    cells: Positive
    groups: Positive
    parameters: Positive
    bottleneck: Positive
    arrays: Positive
    steps: Count


class VaeManifest(PackedManifest):
    """Manifest of a battery VAE.

    Attributes:
        groups: Number of different specs.
        parameters: Number of its parameters.
        channels: Number of image channels.
        input: Input scale of the images.
        bottleneck: Numbers of a code of a patch and sector.
        arrays: Embedding arrays of each sector.
        steps: Optimiser steps of all its trainings.
        error: Mean squared error of the last reading; None without one.
        elbo: Evidence lower bound of the last reading, in nats per value; None without one.
        parents: Cells that the sectors started on, the first 64.

    >>> import composer, registry
    >>> label = composer.artifact.PackedLabel(name="pair", version="1.0.0", license="Apache-2.0", description="A test.")
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> manifest = composer.pack(vae, "pair.safetensors", label)
    >>> manifest.path, manifest.cells, manifest.steps
    ('vae/pair', 2, 0)
    """

    KIND = VAE

    kind: Literal["vae"] = "vae"
    groups: Positive
    parameters: Positive
    channels: Positive
    input: InputScale
    bottleneck: Positive
    arrays: Positive
    steps: Count
    error: float | None
    elbo: float | None
    parents: Annotated[tuple[Parent, ...], Field(min_length=1, max_length=LISTED)]

    @property
    def summary(self) -> VaeSummary:
        """Summary of the VAE for lists."""
        return VaeSummary(
            cells=self.cells,
            groups=self.groups,
            parameters=self.parameters,
            bottleneck=self.bottleneck,
            arrays=self.arrays,
            steps=self.steps,
            license=self.identity.license,
        )
