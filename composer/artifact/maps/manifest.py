"""Manifest of maps, and their summary for lists. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from batteries.cell.artifact_kinds import ArtifactKind
from batteries.cell.manifest import Positive, Sha256, Text
from batteries.io.canonical_json import Document
from composer.artifact.manifest import LISTED, PackedManifest, PackedSummary
from composer.vocabulary import TokenKind

MAPS = ArtifactKind("maps", "maps between cells", 64 * 2**20, "1.2")


class MappedCell(Document):
    """Name and version of a cell at an end of a map; its digests are in the file."""

    name: Text
    cell: Text
    version: Text


class MapsFrame(Document):
    """Summary of a consensus frame.

    Attributes:
        rows: Number of rows of its tokens: one for each region of each image of the probe, or V for tokens ``rows``.
        residual: Share of the cells' variance that is not in the frame, averaged over cells.
    """

    rows: Positive
    residual: float


class MapsSummary(PackedSummary):
    """Summary of maps, as shown in lists; ``target`` is ``frame``, or a cell and its version."""

    cells: Positive
    tokens: TokenKind
    grid: tuple[Positive, Positive]
    width: Positive
    target: Text
    scored: bool


class MapsManifest(PackedManifest):
    """Manifest of maps.

    Attributes:
        tokens: Kind of tokens.
        grid: Rows and columns of the regions of an image on which tokens were paired.
        probe: SHA-256 of the images.
        sources: Cells that are mapped, the first 64.
        frame: Target of the maps, if it is a consensus frame.
        target: Target of the map, if it is a cell.
        width: Width of the target's tokens.
        scored: True if the file has held-out scores of the maps.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> maps = composer.align(model, batteries.probe("photos-64").images[:8])
    >>> label = composer.artifact.PackedLabel(name="two", version="1.0.0", license="Apache-2.0", description="A test.")
    >>> manifest = composer.pack(maps, "two.safetensors", label, lock=model.lock)
    >>> manifest.path, manifest.tokens, manifest.width
    ('maps/two', 'omega', 16)
    """

    KIND = MAPS

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
            raise ValueError("maps have a frame or a cell as their target, not both")
        return self

    @property
    def summary(self) -> MapsSummary:
        """Summary of the maps for lists."""
        target = self.target
        return MapsSummary(
            cells=self.cells,
            tokens=self.tokens,
            grid=self.grid,
            width=self.width,
            target="frame" if target is None else f"{target.cell}@{target.version}",
            scored=self.scored,
            license=self.identity.license,
        )
