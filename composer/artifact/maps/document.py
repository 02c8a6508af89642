"""Document of a file of maps: both ends of every map by digest, and the images of the fit. Imports no torch.

The same form serves a consensus, whose target is a frame with its tokens in the file, and a map from one cell to another, whose
target is a cell.

    frame.tokens, frame.rows                  (n, D) and (n,), the consensus frame, to which new cells can be joined
    maps.<i>.rotation, .centre, .translation  map of the i-th cell, as in :class:`composer.procrustes.Alignment`
    maps.<i>.before, .after                   matrices of a whitened map
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from batteries.cell.manifest import Count, Positive, Sha256
from batteries.errors import PolicyError
from batteries.io.canonical_json import Document
from batteries.text import listed
from composer.artifact.form import ArtifactDocument
from composer.artifact.manifest import LISTED
from composer.artifact.maps.manifest import MAPS, MappedCell, MapsFrame
from composer.artifact.model.document import NamedCell, Width
from composer.procrustes.score_document import FiniteScore
from composer.sealed.file_format import Form
from composer.sealed.reader import Opened
from composer.vocabulary import TokenKind
from composer.wiring.composition import MAX_ENTRIES

if TYPE_CHECKING:
    import numpy as np

FEWEST_ROWS = 2  # of a fit
MOST_ROWS = 2**24
ROUNDING = 1e-6  # tolerance for a rotation composed from others

NotNegative = Annotated[float, Field(ge=0)]
Condition = Annotated[float, Field(ge=1)]
Rows = Annotated[int, Field(ge=FEWEST_ROWS, le=MOST_ROWS)]
Side = Annotated[int, Field(gt=0, le=4096)]


class FrameTarget(Document):
    """Consensus frame as the target; its tokens are in the file.

    Attributes:
        rows: Number of rows of its tokens.
        width: Width D of the frame.
        residual: Share of the cells' variance that is not in the frame, averaged over cells.
    """

    kind: Literal["frame"] = "frame"
    rows: Rows
    width: Width
    residual: NotNegative


class CellTarget(NamedCell):
    """Cell as the target of a single map."""

    kind: Literal["cell"] = "cell"


class CellMap(Document):
    """Source and scalars of a map.

    Attributes:
        source: Cell whose tokens are mapped.
        shape: Shape of the rotation: widths of source and target, including padding.
        padded: Zeros appended to source and to target.
        scale: Scale of the map.
        residual: Share of the target's variance not explained on the rows of the fit; None for a composition of maps.
        determinant: Determinant of the rotation: 1, or -1 for a reflection; 0 if projected.
        paired: Number of rows of the fit.
        condition: Condition numbers of both ends' covariances, if whitened.
    """

    source: NamedCell
    shape: tuple[Side, Side]
    padded: tuple[Count, Count]
    scale: NotNegative
    residual: NotNegative | None
    determinant: Literal[-1, 0, 1]
    paired: Rows
    condition: tuple[Condition, Condition] | None

    @property
    def widths(self) -> tuple[int, int]:
        """D of source and of target."""
        return self.shape[0] - self.padded[0], self.shape[1] - self.padded[1]

    @model_validator(mode="after")
    def _is_a_map(self) -> Self:
        if min(self.widths) < 1:
            raise ValueError("nothing but padding")
        if self.determinant and self.shape[0] != self.shape[1]:
            raise ValueError("a determinant of a matrix that is not square")
        if self.condition is not None and not self.determinant:
            raise ValueError("whitened and projected")
        return self


class SavedMaps(ArtifactDocument):
    """Document of a file of maps.

    Attributes:
        tokens: Kind of tokens.
        grid: Rows and columns of the regions of an image on which tokens were paired.
        probe: SHA-256 of the images.
        target: Target of the maps: a consensus frame, or a cell.
        maps: Maps of the cells of a consensus, in order, or a single map to a cell.
        scores: Score of each cell of a consensus against the others; empty for one cell, or for a map to a cell.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> maps = composer.align(model, batteries.probe("photos-64").images[:8])
    >>> file = composer.save(maps, "maps.safetensors", lock=model.lock)
    >>> composer.read("maps.safetensors").tokens
    'omega'
    """

    KIND = MAPS
    SCHEMA_VERSION: ClassVar[str] = "1.0"

    schema_version: Literal["1.0"] = "1.0"
    tokens: TokenKind
    grid: tuple[Positive, Positive]
    probe: Sha256
    target: Annotated[FrameTarget | CellTarget, Field(discriminator="kind")]
    maps: Annotated[tuple[CellMap, ...], Field(min_length=1, max_length=MAX_ENTRIES)]
    scores: tuple[FiniteScore, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        rules = self._of_a_frame(self.target) if isinstance(self.target, FrameTarget) else self._of_a_cell(self.target)
        for what, right in rules.items():
            if not right:
                raise ValueError(what)
        return self

    def _of_a_frame(self, frame: FrameTarget) -> dict[str, bool]:
        """Return for each possible fault of maps into a frame whether the document is free of it."""
        shape = frame.width, frame.width
        return {
            "a cell with two maps": len({one.source.name for one in self.maps}) == len(self.maps),
            "maps that are not of the frame's width": all(one.shape == shape and not one.padded[1] for one in self.maps),
            "a map into a frame that projects": all(one.determinant for one in self.maps),
            "more rows paired than the frame has": all(one.paired <= frame.rows for one in self.maps),
            "a frame with an incomplete image": frame.rows % (self.grid[0] * self.grid[1]) == 0,
            "scores are not one for each cell": len(self.scores) in (0, len(self.maps)),
        }

    def _of_a_cell(self, cell: CellTarget) -> dict[str, bool]:
        """Return for each possible fault of a map to a cell whether the document is free of it."""
        source = self.maps[0].source
        return {
            "more than one map to a cell": len(self.maps) == 1,
            "one name for two cells": source.name != cell.name or source.digests == cell.digests,
            "scores without a frame": not self.scores,
        }

    @property
    def lock(self) -> dict[str, dict[str, str]]:
        """Version and digests of every cell at an end of a map, by name."""
        ends = [*(one.source for one in self.maps), *([self.target] if isinstance(self.target, CellTarget) else [])]
        return {cell.name: cell.digests for cell in ends}

    def facts(self) -> dict[str, Any]:
        """Return the manifest's fields that are specific to maps."""
        target = self.target
        frame = MapsFrame(rows=target.rows, residual=target.residual) if isinstance(target, FrameTarget) else None
        return {
            "tokens": self.tokens,
            "grid": self.grid,
            "probe": self.probe,
            "sources": tuple(_short(one.source) for one in self.maps[:LISTED]),
            "frame": frame,
            "target": _short(target) if isinstance(target, CellTarget) else None,
            "width": self.maps[0].widths[1],
            "scored": bool(self.scores),
        }

    def tensors(self) -> Iterator[Form]:
        """Yield the frame's tokens, and the parts of every map."""
        if isinstance(frame := self.target, FrameTarget):
            yield "frame.tokens", "F64", (frame.rows, frame.width)
            yield "frame.rows", "BOOL", (frame.rows,)
        for place, one in enumerate(self.maps):
            rows, columns = one.shape
            yield f"maps.{place}.rotation", "F64", (rows, columns)
            yield f"maps.{place}.centre", "F64", (rows,)
            yield f"maps.{place}.translation", "F64", (columns,)
            if one.condition is not None:
                yield f"maps.{place}.before", "F64", (rows, rows)
                yield f"maps.{place}.after", "F64", (columns, columns)


def _short(cell: NamedCell) -> MappedCell:
    return MappedCell(name=cell.name, cell=cell.cell, version=cell.version)


def check_numbers(opened: Opened[SavedMaps], where: object) -> None:
    """Refuse numbers that no fit can produce.

    Raises:
        PolicyError: rotations that are not orthogonal (``NOT_A_ROTATION``), or a frame with values in missing rows
            (``NOT_A_FRAME``).
    """
    maps = opened.document.maps
    wrong = [
        one.source.name for place, one in enumerate(maps) if not _turns(opened.array(f"maps.{place}.rotation"), one.determinant)
    ]
    if wrong:
        what, remedy = "rotations not orthogonal", "They are not the result of a fit: align again."
        raise PolicyError(what, code="NOT_A_ROTATION", found=listed(wrong), where=where, remedy=remedy)
    if isinstance(opened.document.target, FrameTarget):
        _check_frame(opened.array("frame.tokens"), opened.array("frame.rows"), max(one.paired for one in maps), where)


def _turns(rotation: np.ndarray, determinant: int) -> bool:
    """Return whether a matrix is orthogonal with the given determinant, or, for 0, a projection that lengthens nothing."""
    import numpy as np

    if np.abs(rotation).max() > 1 + ROUNDING:
        return False
    if determinant == 0:
        return bool(np.linalg.norm(rotation, 2) <= 1 + ROUNDING)
    error = np.abs(rotation.T @ rotation - np.eye(len(rotation))).max()
    return bool(error <= ROUNDING and np.linalg.slogdet(rotation)[0] == determinant)


def _check_frame(tokens: np.ndarray, rows: np.ndarray, paired: int, where: object) -> None:
    """Refuse a frame with values in rows that no cell has, or with fewer rows than a map was fitted on."""
    if tokens[~rows].any() or int(rows.sum()) < paired:
        what, expected = "frame with rows that no cell has", f"zeros in these rows, and at least {paired} other rows"
        found = f"{int(rows.sum())} rows"
        raise PolicyError(what, code="NOT_A_FRAME", expected=expected, found=found, where=where)
