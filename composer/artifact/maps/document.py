"""What a file of maps says of itself: both ends of every map by digest, and what it was fitted on. No torch here.

One form for a consensus, where the target is a frame whose tokens are in the file, and for the map from one cell to another,
where the target is a cell.

    frame.tokens, frame.rows                  (n, D) and (n,): the consensus, by which new cells join
    maps.<i>.rotation, .centre, .translation  of the map of the i-th cell, as :class:`composer.procrustes.Alignment` has them
    maps.<i>.before, .after                   where it whitens
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from batteries.cell.manifest import Count, Positive, Sha256
from batteries.errors import PolicyError
from batteries.io.canonical_json import Document
from batteries.io.text import listed
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

FEWEST_ROWS = 2  # that a map can be fitted on
MOST_ROWS = 2**24
ROUNDING = 1e-6  # of a rotation that was put together from others

NotNegative = Annotated[float, Field(ge=0)]
Condition = Annotated[float, Field(ge=1)]
Rows = Annotated[int, Field(ge=FEWEST_ROWS, le=MOST_ROWS)]
Side = Annotated[int, Field(gt=0, le=4096)]


class FrameTarget(Document):
    """A consensus frame; its tokens are in the file.

    Attributes:
        rows: Of them.
        width: D.
        residual: Share of the cells' variance that is not in the frame, in the mean over cells.
    """

    kind: Literal["frame"] = "frame"
    rows: Rows
    width: Width
    residual: NotNegative


class CellTarget(NamedCell):
    """A cell; the one map that there is leads to its tokens."""

    kind: Literal["cell"] = "cell"


class CellMap(Document):
    """What a map is beside its tensors.

    Attributes:
        source: The cell whose tokens it maps.
        shape: Of its rotation: widths of source and target, with the zeros that were appended.
        padded: Zeros appended to either.
        scale: Of the tokens.
        residual: Share of the target's variance left over on the points of the fit; None for a map made of others.
        determinant: 1, or -1 where it reflects; 0 where one end was projected.
        paired: Rows that it was fitted on.
        condition: Condition numbers of both ends' covariances, where they were whitened.
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
            raise ValueError("a determinant of what is not square")
        if self.condition is not None and not self.determinant:
            raise ValueError("whitened and projected")
        return self


class SavedMaps(ArtifactDocument):
    """Everything that a file of maps says of itself.

    Attributes:
        tokens: What is mapped.
        grid: Rows and columns of the regions of an image on which tokens were paired.
        probe: SHA-256 of the images.
        target: What is mapped to: a consensus frame, or a cell.
        maps: One for each cell of a consensus, in their order; else one.
        scores: Of each cell of a consensus against the others, where there is more than one.

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
        """By what would be wrong, whether the maps lead into a frame."""
        shape = frame.width, frame.width
        return {
            "a cell with two maps": len({one.source.name for one in self.maps}) == len(self.maps),
            "maps that are not of the frame's width": all(one.shape == shape and not one.padded[1] for one in self.maps),
            "a map into a frame that projects": all(one.determinant for one in self.maps),
            "more rows paired than the frame has": all(one.paired <= frame.rows for one in self.maps),
            "a frame that is not of whole images": frame.rows % (self.grid[0] * self.grid[1]) == 0,
            "scores are not one for each cell": len(self.scores) in (0, len(self.maps)),
        }

    def _of_a_cell(self, cell: CellTarget) -> dict[str, bool]:
        """By what would be wrong, whether there is one map, to a cell."""
        source = self.maps[0].source
        return {
            "more than one map to a cell": len(self.maps) == 1,
            "one name for two cells": source.name != cell.name or source.digests == cell.digests,
            "scores without a frame": not self.scores,
        }

    @property
    def lock(self) -> dict[str, dict[str, str]]:
        """Version and digests by cell, of every end that is one."""
        ends = [*(one.source for one in self.maps), *([self.target] if isinstance(self.target, CellTarget) else [])]
        return {cell.name: cell.digests for cell in ends}

    def facts(self) -> dict[str, Any]:
        """What the manifest says, beside what every manifest does."""
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
        """Frame's tokens, and every map's parts."""
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
    """Refuse numbers that no fit makes.

    Raises:
        PolicyError: rotations that do not turn (``NOT_A_ROTATION``), or a frame of rows that nobody has (``NOT_A_FRAME``).
    """
    maps = opened.document.maps
    wrong = [
        one.source.name for place, one in enumerate(maps) if not _turns(opened.array(f"maps.{place}.rotation"), one.determinant)
    ]
    if wrong:
        what, remedy = "rotations that do not turn", "They were made by something else than a fit; align again."
        raise PolicyError(what, code="NOT_A_ROTATION", found=listed(wrong), where=where, remedy=remedy)
    if isinstance(opened.document.target, FrameTarget):
        _check_frame(opened.array("frame.tokens"), opened.array("frame.rows"), max(one.paired for one in maps), where)


def _turns(rotation: np.ndarray, determinant: int) -> bool:
    """Whether a matrix keeps lengths and is of its determinant; one that projects lengthens nothing."""
    import numpy as np

    if np.abs(rotation).max() > 1 + ROUNDING:
        return False
    if determinant == 0:
        return bool(np.linalg.norm(rotation, 2) <= 1 + ROUNDING)
    error = np.abs(rotation.T @ rotation - np.eye(len(rotation))).max()
    return bool(error <= ROUNDING and np.linalg.slogdet(rotation)[0] == determinant)


def _check_frame(tokens: np.ndarray, rows: np.ndarray, paired: int, where: object) -> None:
    """Rows that no cell has are zeros, and no map was fitted on more than there are."""
    if tokens[~rows].any() or int(rows.sum()) < paired:
        what, expected = "a frame of rows that no cell has", f"zeros there, and at least {paired} others"
        found = f"{int(rows.sum())} rows"
        raise PolicyError(what, code="NOT_A_FRAME", expected=expected, found=found, where=where)
