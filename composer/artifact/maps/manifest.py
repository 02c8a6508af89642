"""The manifest of maps, and what a list shows of them. No torch here."""

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


class MapsSummary(PackedSummary):
    """What a list shows of maps without reading their manifest; ``target`` is ``frame``, or a cell at its version."""

    cells: Positive
    tokens: TokenKind
    grid: tuple[Positive, Positive]
    width: Positive
    target: Text
    scored: bool


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
            raise ValueError("maps lead to a frame or to a cell, and not to both")
        return self

    @property
    def summary(self) -> MapsSummary:
        """What a list shows of them."""
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
