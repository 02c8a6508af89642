"""Answers of inspect and compare under ``--json``, also the source of tables and page; their schemas are in ``docs/schema``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from batteries.cell.manifest import Count, Positive, Sha256
from registry.answers.answer import Answer, finite

if TYPE_CHECKING:
    from batteries.diagnostics.comparison import ComparedRow, Comparison
    from batteries.diagnostics.figures import Definition, Figure
    from batteries.diagnostics.inspection import Column, Inspection


class DefinedFigure(Answer):
    """Definition of a figure.

    Attributes:
        key: Short name without blanks.
        title: Name in tables.
        stage: Part of a cell that it describes.
        formula: Formula, in one line.
        margin: Range of the ratio of two values that count as the same.
    """

    key: str
    title: str
    stage: str
    formula: str
    margin: tuple[float, float]

    @classmethod
    def of(cls, definition: Definition) -> Self:
        """Return the document of a definition."""
        return cls(**{name: getattr(definition, name) for name in cls.model_fields})


class MeasuredFigure(Answer):
    """Value of a figure.

    Attributes:
        key: Key of its definition.
        name: Title and place.
        place: Mode, layer, stage or group that it is of; empty if there is one place only.
        value: Value; None if it is undefined.
        standard_error: Standard error, clustered by image; None of an exact figure, or of a single cluster.
        tolerance: Largest value that rounding explains, of an exact figure; None of an estimate.
        undefined: Reason why it has no value; empty if it has one.
    """

    key: str
    name: str
    place: str
    value: float | None
    standard_error: float | None
    tolerance: float | None
    undefined: str

    @classmethod
    def of(cls, figure: Figure) -> Self:
        """Return the document of a figure."""
        return cls(
            key=figure.definition.key,
            name=figure.name,
            place=figure.place,
            value=figure.value,
            standard_error=finite(figure.standard_error),
            tolerance=figure.tolerance,
            undefined=figure.undefined,
        )


class InspectedSize(Answer):
    """Figures on images of one size.

    Attributes:
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        patches: Patches of an image.
        images: Number of images.
        clusters: Number of clusters of images.
        images_digest: SHA-256 of the values of the images.
        figures: Figures in the order of the pipeline.
    """

    height: Positive
    width: Positive
    patches: Positive
    images: Positive
    clusters: Positive
    images_digest: Sha256
    figures: tuple[MeasuredFigure, ...]

    @classmethod
    def of(cls, column: Column) -> Self:
        """Return the document of a column."""
        height, width = column.size
        return cls(
            height=height,
            width=width,
            patches=column.patches,
            images=column.images,
            clusters=column.clusters,
            images_digest=column.digest,
            figures=tuple(map(MeasuredFigure.of, column.figures)),
        )


class Inspected(Answer):
    """Answer of ``batteries inspect``.

    Attributes:
        cell: Name of the cell.
        probe: Name of the probe.
        definitions: Definitions of the figures, each once.
        sizes: Figures for each size of the images.
        page: Path of the page, if requested.
    """

    cell: str
    probe: str
    definitions: tuple[DefinedFigure, ...]
    sizes: tuple[InspectedSize, ...]
    page: str | None

    @classmethod
    def of(cls, found: Inspection, page: str | None = None) -> Self:
        """Return the document of an inspection."""
        figures = [figure.definition for column in found.columns for figure in column.figures]
        return cls(
            cell=found.name,
            probe=found.probe,
            definitions=tuple(map(DefinedFigure.of, dict.fromkeys(figures))),
            sizes=tuple(map(InspectedSize.of, found.columns)),
            page=page,
        )


class ComparedFigure(Answer):
    """A figure of two cells.

    Attributes:
        first_size: Side of the first cell's images in pixels.
        second_size: Side of the second cell's images in pixels.
        first: Figure of the first cell.
        second: Figure of the second cell.
        paired: Whether both were read on the same images.
        difference: Second less first; None if either is undefined.
        low: Lower 95% bound of the difference; None without a spread.
        high: Upper 95% bound of the difference; None without a spread.
        p: P-value corrected for the number of figures by Holm's method; None without a test.
        marked: Whether the difference counts.
    """

    first_size: Positive
    second_size: Positive
    first: MeasuredFigure
    second: MeasuredFigure
    paired: bool
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    marked: bool

    @classmethod
    def of(cls, row: ComparedRow) -> Self:
        """Return the document of a row."""
        found = row.contrast
        return cls(
            first_size=row.size[0],
            second_size=row.size[1],
            first=MeasuredFigure.of(row.first),
            second=MeasuredFigure.of(row.second),
            paired=row.paired,
            difference=None if found is None else found.difference,
            low=None if found is None else found.low,
            high=None if found is None else found.high,
            p=row.p,
            marked=row.marked,
        )


class ComparedCells(Answer):
    """Answer of ``batteries compare``.

    Attributes:
        first: Name of the first cell.
        second: Name of the second cell.
        probe: Name of the probe.
        level: Significance level of all figures together.
        marked: Number of figures whose difference counts.
        sentences: A sentence for each of these.
        definitions: Definitions of the figures, each once.
        figures: Figures of both, in the order of the pipeline.
    """

    first: str
    second: str
    probe: str
    level: float
    marked: Count
    sentences: tuple[str, ...]
    definitions: tuple[DefinedFigure, ...]
    figures: tuple[ComparedFigure, ...]

    @classmethod
    def of(cls, found: Comparison, probe: str, level: float) -> Self:
        """Return the document of a comparison."""
        return cls(
            first=found.first,
            second=found.second,
            probe=probe,
            level=level,
            marked=len(found.marked),
            sentences=found.sentences,
            definitions=tuple(map(DefinedFigure.of, dict.fromkeys(row.first.definition for row in found.rows))),
            figures=tuple(map(ComparedFigure.of, found.rows)),
        )


INSPECTING: dict[str, type[Answer]] = {"inspect": Inspected, "compare": ComparedCells}
