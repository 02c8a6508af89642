"""Answer of compose under ``--json``; its schema is exported to ``docs/schema``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from batteries.cell.manifest import Count, Positive, Sha256
from composer.artifact.model.manifest import ModelManifest
from composer.vocabulary import NodeKind
from registry.answers.answer import Answer
from registry.catalog.release import ExactVersion

if TYPE_CHECKING:
    from torch import Tensor

    from composer.wiring.wired_model import Wired

AT_A_TIME = 32  # images


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


class ComposedNode(Answer):
    """A node of a composed model, run on the same images.

    Attributes:
        name: Name of the node.
        kind: Kind of the node.
        mse: Mean squared error of its reconstruction; None where it has none, as a parallel, or where that is not finite.
        shares: Share of regions that each branch of a route has; None for other kinds.
    """

    name: str
    kind: NodeKind
    mse: float | None
    shares: dict[str, float] | None

    @classmethod
    def each(cls, model: Wired, images: Tensor) -> tuple[Self, ...]:
        """Return the figures of every node of a model, in the order in which they are computed.

        Args:
            model: Wired composition.
            images: Images (B, channels, height, width) on the cells' input scale.
        """
        names, kind = model.composition.order, model.composition.kind
        if all(kind(name) == "parallel" for name in names):
            return tuple(cls(name=name, kind="parallel", mse=None, shares=None) for name in names)
        import torch

        with torch.no_grad():
            parts = [(part, model(part, ("recon",)).nodes) for part in images.split(AT_A_TIME)]
        return tuple(cls._of(name, kind(name), [(part, nodes[name]) for part, nodes in parts]) for name in names)

    @classmethod
    def _of(cls, name: str, kind: NodeKind, parts: Sequence[tuple[Tensor, Any]]) -> Self:
        """Return the figures of a node from its outputs for parts of the images."""
        if kind == "parallel":
            return cls(name=name, kind=kind, mse=None, shares=None)
        count = sum(len(images) for images, _ in parts)
        mse = sum(len(images) * float((made.recon - images).square().mean()) for images, made in parts) / count
        shares = None
        if kind == "route":
            total = sum(made.weights.mean(dim=1).sum(dim=0) for _, made in parts) / count
            shares = dict(zip(parts[0][1].names, total.tolist(), strict=True))
        return cls(name=name, kind=kind, mse=mse if math.isfinite(mse) else None, shares=shares)


class Composed(Answer):
    """Answer of ``batteries compose``.

    Attributes:
        cells: Cells, as run on the images.
        digest: Digest of all cells' weights.
        images: Shape of the batch.
        output: Node or cell whose result is the model's output.
        output_kind: Kind of the output.
        nodes: Number of nodes.
        node_figures: Errors and shares of the nodes, in the order in which they are computed.
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
    node_figures: tuple[ComposedNode, ...] = ()
    graph: str | None
    path: str | None
    manifest: ModelManifest | None


COMPOSING: dict[str, type[Answer]] = {"compose": Composed}
