"""Answer of compose under ``--json``; its schema is exported to ``docs/schema``."""

from __future__ import annotations

from batteries.cell.manifest import Count, Positive, Sha256
from composer.artifact.model.manifest import ModelManifest
from composer.vocabulary import NodeKind
from registry.answers.answer import Answer
from registry.catalog.release import ExactVersion


class ComposedCell(Answer):
    """A cell of a composed model, run on some images; agreement figures are None for a cell without others.

    Attributes:
        cell: Name of the cell in the model.
        version: Exact version.
        D: Width.
        patches: Number of patches per image.
        mse: Mean squared error on the images.
        residual: Share of variance left over by the cell's map into the consensus frame.
        determinant: Determinant of the map: -1 if it reflects.
        r2: Held-out R2 of predicting the other cells' tokens.
        null: Mean of ``r2`` with images shuffled.
        null_sd: Standard deviation of ``r2`` with images shuffled.
        lift: Difference of ``r2`` and ``null``.
        p: Share of pairings with at least this ``r2``, the observed one counted among the shuffled ones.
    """

    cell: str
    version: ExactVersion
    D: Positive
    patches: Positive
    mse: float
    residual: float | None = None
    determinant: int | None = None
    r2: float | None = None
    null: float | None = None
    null_sd: float | None = None
    lift: float | None = None
    p: float | None = None


class Composed(Answer):
    """Answer of ``batteries compose``.

    Attributes:
        cells: Cells, as run on the images.
        digest: Digest of all cells' weights.
        images: Shape of the batch.
        output: Node or cell whose result is the model's output.
        output_kind: Kind of the output.
        nodes: Number of nodes.
        graph: Path of the drawing, if requested.
        path: Path of the model file, if written; its manifest is beside it.
        manifest: Manifest of the model file, if written.
    """

    cells: tuple[ComposedCell, ...]
    digest: Sha256
    images: tuple[Positive, ...]
    output: str
    output_kind: NodeKind
    nodes: Count
    graph: str | None
    path: str | None
    manifest: ModelManifest | None


COMPOSING: dict[str, type[Answer]] = {"compose": Composed}
