"""The alignment of cells' tokens: one map each into a consensus frame, scored on images it was not fitted on.

The maps are of :mod:`composer.procrustes`, the frame of :mod:`composer.procrustes.generalized`, the scores of
:mod:`composer.procrustes.scores`: each cell's tokens against the consensus of the *others*, for a frame that a cell has a part
in is like it by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from batteries.engine.torch_settings import neutral
from batteries.errors import ConflictError, InputError, NotFoundError, PolicyError
from batteries.io.text import listed
from composer.procrustes.fixed_point import frames_of
from composer.procrustes.generalized import Frame, generalised, maps_into
from composer.procrustes.multiple_testing import holm
from composer.procrustes.provenance import Pairing, digest_of
from composer.procrustes.score_document import Score
from composer.procrustes.scores import score
from composer.procrustes.similarity import Alignment
from composer.vocabulary import Grid, TokenKind

GROUPS = 16  # of cells, of which each is scored against the consensus of the others


@dataclass(frozen=True)
class Consensus:
    """A frame, and one map into it per cell.

    Attributes:
        names: Of the cells.
        maps: In their order, each with the digests of its ends.
        frame: The consensus itself, by which new cells join; its width is the widest cell's, narrower tokens are padded.
        scores: Per cell, against the consensus of the others, see :func:`held_out_scores`; empty for a single cell.
        kind: Of tokens.
        grid: Rows and columns of the regions of an image on which tokens were paired.
        probe: SHA-256 of the images, as :func:`~composer.procrustes.provenance.digest_of` has it; empty for bare tokens.

    >>> import batteries, composer, registry
    >>> cells = registry.pull("low/fresnel-64", "low/johanna-64")
    >>> consensus = composer.compose(cells, probe=batteries.probe("photos-64").images[:8]).consensus
    >>> consensus.names, consensus.regions, len(consensus.maps)
    (('low/fresnel-64', 'low/johanna-64'), 16, 2)
    >>> composer.compose(cells[0], maps=consensus).consensus.names
    ('low/fresnel-64',)
    """

    names: tuple[str, ...]
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
    def pairings(self) -> tuple[Pairing, ...]:
        """The ends of the maps: each cell's weights, or bare tokens, and the frame."""
        found = tuple(one.pairing for one in self.maps if one.pairing is not None)
        assert len(found) == len(self.maps), "a map of a consensus knows its ends"
        return found

    @property
    def p_values(self) -> tuple[float, ...]:
        """Of shuffled pairings, corrected for the number of cells by Holm's method.

        A score has 199 shuffles, by which no more than ten cells can come below 0.05; of more, each score has its own.
        """
        return holm([one.p_value for one in self.scores])

    def of(self, places: Sequence[int]) -> Consensus:
        """The same frame for some of the cells."""
        scores = tuple(self.scores[i] for i in places) if self.scores else ()
        names, maps = tuple(self.names[i] for i in places), tuple(self.maps[i] for i in places)
        return replace(self, names=names, maps=maps, scores=scores)

    def for_cells(self, digests: Mapping[str, str]) -> Consensus:
        """Maps of some cells, found by the digest of their weights, under the names and in the order given.

        Args:
            digests: Of weights (``tensors`` in a lock), by name.

        Raises:
            IntegrityError: other weights than a cell of that name had (``END_CHANGED``).
            NotFoundError: a cell that was not aligned (``NO_MAP``).
        """
        known = {pairing.source: place for place, pairing in enumerate(self.pairings)}
        for name, digest in digests.items():
            if digest in known:
                continue
            if name in self.names:
                self.pairings[self.names.index(name)].check(source=digest, where=name)
            raise NotFoundError(
                "a cell without a map into the consensus frame",
                code="NO_MAP",
                expected=listed(self.names),
                found=name,
                remedy="Add it with composer.join, on the images that the frame was made from; no other map changes.",
            )
        return replace(self.of([known[digest] for digest in digests.values()]), names=tuple(digests))

    def check(self, digests: Mapping[str, str]) -> None:
        """Refuse maps of tokens other than omega, of other cells than these, or in another order.

        Raises:
            PolicyError: other tokens (``TOKENS``), or other names (``OTHER_CELLS``).
            IntegrityError: other weights (``END_CHANGED``).
        """
        if self.kind != "omega":
            remedy = "A container maps its omega: align it with tokens='omega'. Other maps are applied by hand."
            raise PolicyError("maps of other tokens", code="TOKENS", expected="omega", found=self.kind, remedy=remedy)
        if self.names != tuple(digests):
            remedy = "Consensus.for_cells picks the maps of some cells."
            raise PolicyError(
                "maps of other cells",
                code="OTHER_CELLS",
                expected=listed(tuple(digests)),
                found=listed(self.names),
                remedy=remedy,
            )
        for name, pairing in zip(self.names, self.pairings, strict=True):
            pairing.check(source=digests[name], where=name)

    def mapped(self, places: Sequence[int], tokens: Tensor) -> Tensor:
        """Tokens (C, B, N, width) of some cells, each by its own map, at once."""
        chosen = [self.maps[i] for i in places]
        centre, turn, translation = (
            torch.stack(rows).to(tokens)
            for rows in ([m.centre for m in chosen], [m.matrix for m in chosen], [m.translation for m in chosen])
        )
        return (tokens - centre[:, None, None]) @ turn[:, None] + translation[:, None, None]


@neutral()
def consensus(
    tokens: Mapping[str, Tensor],
    *,
    kind: TokenKind = "omega",
    grid: Grid | None = None,
    probe: str = "",
    ends: Mapping[str, str] | None = None,
    clusters: Tensor | None = None,
    seed: int = 0,
) -> Consensus:
    """One frame for many cells, fitted on all images, scored on halves.

    Args:
        tokens: By cell (B, G, its own D), paired by image and region.
        kind: What they are.
        grid: Rows and columns of the regions of an image; left out, one row of G.
        probe: Digest of the images.
        ends: Digest of each cell's weights; left out, of its tokens.
        clusters: (B,) integers, which images belong together, as crops of one photograph do; left out, each is by itself.
        seed: Of the halves and the shuffles.

    Raises:
        InputError: no cell, tokens that do not pair (``PAIRS``), constant or not finite ones, or too few images for halves
            where there is more than one cell.

    Warns:
        FewSamplesWarning: fewer rows than dimensions.
    """
    frame = generalised(_flat(tokens))
    scores = held_out_scores(list(tokens.values()), clusters=clusters, seed=seed) if len(tokens) > 1 else ()
    grid = grid or (1, next(iter(tokens.values())).shape[1])
    pairing = Pairing(kind, grid, probe, "", digest_of(frame.tokens))
    return Consensus(tuple(tokens), _maps(frame, tokens, pairing, ends), frame, scores, kind, grid, probe)


@neutral()
def joined(
    before: Consensus,
    tokens: Mapping[str, Tensor],
    *,
    ends: Mapping[str, str] | None = None,
    clusters: Tensor | None = None,
    seed: int = 0,
) -> Consensus:
    """More cells in a frame that stays as it is, and so do the maps of the others.

    A new cell has no part in the frame, so that its score is against all of them; that of a cell that was alone is against
    the new ones.

    Args:
        before: The consensus.
        tokens: By new cell (B, G, its own D), of the frame's images and regions.
        ends: As of :func:`consensus`.
        clusters: As of :func:`consensus`.
        seed: Of the halves and the shuffles.

    Raises:
        ConflictError: a name that the consensus has already (``TWICE``).
        InputError: tokens that do not pair with the frame, a cell that is wider than the frame (``WIDER``), or as
            :func:`consensus` says.
    """
    twice = sorted(tokens.keys() & set(before.names))
    if twice:
        remedy = "Give it another name, or align again."
        raise ConflictError("a cell that is in the consensus already", code="TWICE", found=listed(twice), remedy=remedy)
    maps = _maps(before.frame, tokens, before.pairings[0], ends)
    shape = next(iter(tokens.values())).shape[:2]
    frame = before.frame.tokens.unflatten(0, shape)
    first = before.scores
    if not first:
        others = generalised(_flat(tokens)).tokens.unflatten(0, shape)
        first = (score(frame, others, clusters=clusters, seed=seed),)
    scores = (score(own, frame, clusters=clusters, seed=seed) for own in tokens.values())
    return replace(before, names=(*before.names, *tokens), maps=(*before.maps, *maps), scores=(*first, *scores))


@neutral()
def held_out_scores(tokens: Sequence[Tensor], *, clusters: Tensor | None = None, seed: int = 0) -> tuple[Score, ...]:
    """Per cell: how well its tokens predict the consensus of the others on images that were not fitted.

    Up to 16 cells those are all the others. More are dealt out to 16 groups in turn, and a cell is scored against the consensus
    of all groups but its own: 16 frames, however many cells there are.

    Args:
        tokens: Per cell (B, G, its own D).
        clusters: As of :func:`consensus`.
        seed: Of the halves and the shuffles.

    Raises:
        InputError: fewer than four images, or constant tokens.
    """
    pairs = zip(tokens, frames_of_others(tokens), strict=True)
    return tuple(score(cell, frame, clusters=clusters, seed=seed) for cell, frame in pairs)


def frames_of_others(tokens: Sequence[Tensor]) -> list[Tensor]:
    """Per cell the consensus (B, G, D) that :func:`held_out_scores` has it predict, of tokens (B, G, its own D)."""
    groups = min(len(tokens), GROUPS)
    own = torch.arange(len(tokens)) % groups
    frames, _ = frames_of([cell.flatten(0, 1) for cell in tokens], own != torch.arange(groups)[:, None])
    return [frames[group].unflatten(0, tokens[0].shape[:2]) for group in own.tolist()]


def _maps(
    frame: Frame, tokens: Mapping[str, Tensor], pairing: Pairing, ends: Mapping[str, str] | None
) -> tuple[Alignment, ...]:
    """One map per cell, each with its ends; ``pairing`` has what they share."""
    sources = ends or {name: digest_of(own) for name, own in tokens.items()}
    found = zip(tokens, maps_into(frame, _flat(tokens)), strict=True)
    return tuple(replace(one, pairing=replace(pairing, source=sources[name])) for name, one in found)


def _flat(tokens: Mapping[str, Tensor]) -> list[Tensor]:
    """Tokens (B G, D) of every cell.

    Raises:
        InputError: not of one B and G (``PAIRS``).
    """
    shapes = [tuple(own.shape) for own in tokens.values()]
    if not shapes or any(len(shape) != 3 or shape[:2] != shapes[0][:2] for shape in shapes):
        expected = "(B, G, D) of each cell, of one B and G"
        raise InputError("tokens that do not pair", code="PAIRS", expected=expected, found=shapes)
    return [own.flatten(0, 1) for own in tokens.values()]
