"""What compose answers under ``--json``; its schema is in ``docs/schema`` as well."""

from __future__ import annotations

from batteries.cell.manifest import Count, Positive, Sha256
from composer.artifact.model.manifest import ModelManifest
from composer.vocabulary import NodeKind
from registry.answers.answer import Answer
from registry.catalog.release import ExactVersion


class ComposedCell(Answer):
    """A cell of a composed model, run on some images; None where there is nothing to agree with.

    Attributes:
        cell: Its name in the model.
        version: Exact.
        D: Width.
        patches: Of an image.
        mse: On these images.
        residual: Share of variance that its map into the consensus frame leaves.
        determinant: Of that map: -1 where it reflects.
        r2: How well its tokens say the others', held out.
        null: The same with images shuffled, in the mean.
        null_sd: Its standard deviation.
        lift: ``r2`` over ``null``.
        p: Share of pairings that are as good, this one counted with the shuffled ones.
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
        cells: Run on the images.
        digest: Of all their weights.
        images: Shape of the batch.
        output: The node, or the cell, whose result is the model's.
        output_kind: Of it.
        nodes: How many there are.
        graph: Where the drawing is, if one was asked for.
        path: Where the model is, if it was to be written; its manifest is beside it.
        manifest: What that says.
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
