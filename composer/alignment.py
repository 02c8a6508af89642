"""The alignment of a container's cells: one map each into a consensus frame, scored on images it was not fitted on.

The maps are of :mod:`composer.procrustes`, the frame of :mod:`composer.consensus`, the scores of :mod:`composer.scores`: each
cell's tokens against the consensus of the *others*, for a frame that a cell has a part in is like it by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from composer.consensus import generalised, maps
from composer.procrustes import Alignment
from composer.scores import Score, holm, score


@dataclass(frozen=True)
class Consensus:
    """A frame, and one map into it per cell.

    Attributes:
        maps: In the order of the cells.
        frame: The consensus itself, by which new cells join; its width is the widest cell's, narrower tokens are padded.
        scores: Per cell, against the consensus of the others; empty for a single cell.
        kind: Of tokens.
        grid: Rows and columns of the regions of an image on which tokens were paired.
        probe: SHA-256 of the images, as :func:`~composer.pairing.digest_of` has it; empty for bare tokens.
    """

    maps: tuple[Alignment, ...]
    frame: Frame
    scores: tuple[Score, ...]
    kind: TokenKind
    grid: Grid
    probe: str

    @property
    def width(self) -> int:
        """D of the frame."""
        return self.frame.width

    @property
    def regions(self) -> int:
        """Of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def p_values(self) -> tuple[float, ...]:
        """Of shuffled pairings, corrected for the number of cells by Holm's method."""
        return holm([one.p_value for one in self.scores])

    def of(self, places: Sequence[int]) -> Consensus:
        """The same frame for some of the cells."""
        scores = tuple(self.scores[i] for i in places) if self.scores else ()
        return replace(self, maps=tuple(self.maps[i] for i in places), scores=scores)

    def mapped(self, places: Sequence[int], tokens: Tensor) -> Tensor:
        """Tokens (C, B, N, width) of some cells, each by its own map, at once."""
        chosen = [self.maps[i] for i in places]
        centre, turn, translation = (
            torch.stack(rows).to(tokens)
            for rows in ([m.centre for m in chosen], [m.matrix for m in chosen], [m.translation for m in chosen])
        )
        return (tokens - centre[:, None, None]) @ turn[:, None] + translation[:, None, None]


def consensus(tokens: Sequence[Tensor], *, seed: int = 0) -> Consensus:
    """One frame for many cells, fitted on all images, scored on halves.

    Args:
        tokens: Per cell (B, G, D), paired by image and region; all of one width.
        seed: Of the halves and the shuffles.

    Raises:
        InputError: constant tokens, or too few images for halves where there is more than one cell.
    """
    flat = [t.flatten(0, 1) for t in tokens]
    scores = held_out_scores(tokens, seed=seed) if len(tokens) > 1 else ()
    return Consensus(maps(generalised(flat), flat), tokens[0].shape[-1], scores, tokens[0].shape[1])


def held_out_scores(tokens: Sequence[Tensor], *, seed: int) -> tuple[Score, ...]:
    """Per cell: how well its tokens predict the consensus of the others on images that were not fitted.

    Raises:
        InputError: fewer than four images, or constant tokens.
    """
    found = []
    for index, own in enumerate(tokens):
        others = generalised([t.flatten(0, 1) for i, t in enumerate(tokens) if i != index])
        found.append(score(own, others.tokens.unflatten(0, own.shape[:2]), seed=seed))
    return tuple(found)
