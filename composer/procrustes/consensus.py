"""Alignment of cells' tokens: one map per cell into a consensus frame, scored on held-out images.

The frame is made by :mod:`composer.procrustes.generalized`, maps by :mod:`composer.procrustes.similarity`, and scores by
:mod:`composer.procrustes.scores`. Each cell is scored against the consensus of the *others*, because a frame resembles every
cell that contributed to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from batteries import short_repr
from batteries.engine.torch_settings import neutral
from batteries.errors import ConflictError, InputError, NotFoundError, PolicyError, UnknownKeyError
from batteries.geometry.multiple_testing import holm
from batteries.lookup import Lookup
from batteries.text import listed
from composer.procrustes.fixed_point import frames_of
from composer.procrustes.generalized import Frame, generalised, maps_into
from composer.procrustes.provenance import Pairing, digest_of
from composer.procrustes.score_document import LEVEL, Score
from composer.procrustes.scores import score, shuffles_for
from composer.procrustes.similarity import Alignment
from composer.vocabulary import Grid, TokenKind

NO_MAP = "cell without a map into the consensus frame"
GROUPS = 16  # of cells; each is scored against the consensus of the other groups
FLOOR = LEVEL / 5  # lowest corrected p-value that all cells can reach
MOST_SHUFFLES = 2499  # of one cell, since those of all cells grow with the square of their number


@dataclass(frozen=True)
class Consensus(Lookup[Alignment]):
    """Consensus frame, with one map into it per cell: a mapping from names to maps.

    Attributes:
        names: Names of the cells.
        maps: Maps into the frame in the order of names, each with the digests of its ends.
        frame: Consensus frame, to which new cells can be joined, as wide as the widest cell; narrower tokens are padded.
        scores: Score of each cell against the consensus of the others, see :func:`held_out_scores`; empty for one cell.
        kind: Kind of tokens.
        grid: Rows and columns of the regions of an image on which tokens were paired.
        probe: SHA-256 of the images, see :func:`~composer.procrustes.provenance.digest_of`; empty if fitted from tokens.

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

    def __getitem__(self, name: str) -> Alignment:
        if name not in self:
            raise UnknownKeyError(NO_MAP, code="NO_MAP", expected=listed(self.names), found=name)
        return self.maps[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __repr__(self) -> str:
        grid = f"{self.kind} on {self.grid[0]} x {self.grid[1]} regions"
        head = short_repr.headed(self, short_repr.counted(len(self), "cell"), f"width {self.width}", grid)
        if not self.scores:
            return short_repr.rows(head, self.names)
        rows = zip(self.names, self.scores, strict=True)
        return short_repr.rows(head, [f"{name}: R2 {one.r2:.3f}, shuffled {one.shuffled.mean:.3f}" for name, one in rows])

    @property
    def width(self) -> int:
        """Width D of the frame."""
        return self.frame.width

    @property
    def regions(self) -> int:
        """Number of regions of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def pairings(self) -> tuple[Pairing, ...]:
        """Digests of the ends of each map: a cell's weights (or tokens), and the frame."""
        found = tuple(one.pairing for one in self.maps if one.pairing is not None)
        assert len(found) == len(self.maps), "a map of a consensus knows its ends"
        return found

    @property
    def p_values(self) -> tuple[float, ...]:
        """P-values of shuffled pairings, corrected for the number of cells by Holm's method.

        The number of shuffles grows with the number of cells, so that the p-values of up to 25 cells can all be 0.01, and
        those of up to 125 can all be 0.05; use uncorrected ones beyond. The same holds for cells that joined one by one,
        because Holm's factor is smaller for larger p-values.
        """
        return holm([one.p_value for one in self.scores])

    def of(self, places: Sequence[int]) -> Consensus:
        """Select some of the cells, with the same frame."""
        scores = tuple(self.scores[i] for i in places) if self.scores else ()
        names, maps = tuple(self.names[i] for i in places), tuple(self.maps[i] for i in places)
        return replace(self, names=names, maps=maps, scores=scores)

    def for_cells(self, digests: Mapping[str, str]) -> Consensus:
        """Select cells by the digest of their weights, under the names and in the order given.

        Args:
            digests: Digest of weights (``tensors`` in a lock) of each cell, by name.

        Raises:
            IntegrityError: a cell of a known name with other weights (``END_CHANGED``).
            NotFoundError: a cell that was not aligned (``NO_MAP``).
        """
        known = {pairing.source: place for place, pairing in enumerate(self.pairings)}
        for name, digest in digests.items():
            if digest in known:
                continue
            if name in self.names:
                self.pairings[self.names.index(name)].check(source=digest, where=name)
            raise NotFoundError(
                NO_MAP,
                code="NO_MAP",
                expected=listed(self.names),
                found=name,
                remedy="Add it with composer.join, on the images that the frame was made from; no other map changes.",
            )
        return replace(self.of([known[digest] for digest in digests.values()]), names=tuple(digests))

    def check(self, digests: Mapping[str, str]) -> None:
        """Check that the maps are of omega and of exactly these cells, in this order.

        Raises:
            PolicyError: maps of other tokens (``TOKENS``), or of other names (``OTHER_CELLS``).
            IntegrityError: maps of other weights (``END_CHANGED``).
        """
        if self.kind != "omega":
            remedy = "A container maps its omega: align it with tokens='omega'. Apply other maps directly to their tokens."
            raise PolicyError("maps of other tokens", code="TOKENS", expected="omega", found=self.kind, remedy=remedy)
        if self.names != tuple(digests):
            remedy = "Select the maps of some cells with Consensus.for_cells."
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
        """Map tokens (C, B, N, width) of several cells, each by its own map."""
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
    """Fit one frame for several cells on all images, and score their maps on halves.

    Args:
        tokens: Tokens (B, G, its own D) of each cell, by name, paired by image and region.
        kind: Kind of tokens.
        grid: Rows and columns of the regions of an image; defaults to one row of G.
        probe: Digest of the images.
        ends: Digest of each cell's weights, by name; defaults to digests of the tokens.
        clusters: Cluster labels (B,), integers, the same for images that are not independent, such as crops of one
            photograph; defaults to one cluster per image.
        seed: Seed of the halves and shuffles.

    Raises:
        InputError: no cell, tokens that do not pair (``PAIRS``), are constant or not finite, or, with more than one cell, too
            few images for two halves.

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
    """Add cells to a consensus; its frame and the other maps stay unchanged.

    A new cell did not contribute to the frame, so it is scored against the whole frame. If the consensus had a single cell,
    that cell is scored against the new ones.

    Args:
        before: Consensus to extend.
        tokens: Tokens (B, G, its own D) of each new cell, by name, of the frame's images and regions.
        ends: Digest of each new cell's weights, by name; defaults to digests of the tokens.
        clusters: Cluster labels (B,), see :func:`consensus`.
        seed: Seed of the halves and shuffles.

    Raises:
        ConflictError: a name that the consensus already has (``TWICE``).
        InputError: tokens that do not pair with the frame, a cell wider than the frame (``WIDER``), or the errors of
            :func:`consensus`.
    """
    twice = sorted(tokens.keys() & set(before.names))
    if twice:
        remedy = "Use another name, or align again."
        raise ConflictError("cell already in the consensus", code="TWICE", found=listed(twice), remedy=remedy)
    maps = _maps(before.frame, tokens, before.pairings[0], ends)
    shape = next(iter(tokens.values())).shape[:2]
    frame = before.frame.tokens.unflatten(0, shape)
    first = before.scores
    if not first:
        others = generalised(_flat(tokens)).tokens.unflatten(0, shape)
        first = (score(frame, others, clusters=clusters, seed=seed),)
    shuffles = _shuffles(len(before) + len(tokens))
    scores = (score(own, frame, clusters=clusters, seed=seed, shuffles=shuffles) for own in tokens.values())
    return replace(before, names=(*before.names, *tokens), maps=(*before.maps, *maps), scores=(*first, *scores))


@neutral()
def held_out_scores(tokens: Sequence[Tensor], *, clusters: Tensor | None = None, seed: int = 0) -> tuple[Score, ...]:
    """Score each cell by how well its tokens predict the consensus of the others on held-out images.

    More than 16 cells are dealt to 16 groups in turn, and each is scored against the consensus of the groups other than its
    own, so that at most 16 frames are fitted. Bounds take the consensus, which all images fitted, as given.

    Args:
        tokens: Tokens (B, G, its own D) of each cell.
        clusters: Cluster labels (B,), see :func:`consensus`.
        seed: Seed of the halves and shuffles.

    Raises:
        InputError: fewer than four images, or constant tokens.
    """
    pairs, shuffles = zip(tokens, frames_of_others(tokens), strict=True), _shuffles(len(tokens))
    return tuple(score(cell, frame, clusters=clusters, seed=seed, shuffles=shuffles) for cell, frame in pairs)


def _shuffles(cells: int) -> int:
    """Return the number of shuffles of each score of a consensus."""
    return min(MOST_SHUFFLES, shuffles_for(cells, FLOOR))


def frames_of_others(tokens: Sequence[Tensor]) -> list[Tensor]:
    """Return for each cell's tokens (B, G, its own D) the consensus (B, G, D) it is scored against, see held_out_scores."""
    groups = min(len(tokens), GROUPS)
    own = torch.arange(len(tokens)) % groups
    frames, _ = frames_of([cell.flatten(0, 1) for cell in tokens], own != torch.arange(groups)[:, None])
    return [frames[group].unflatten(0, tokens[0].shape[:2]) for group in own.tolist()]


def _maps(
    frame: Frame, tokens: Mapping[str, Tensor], pairing: Pairing, ends: Mapping[str, str] | None
) -> tuple[Alignment, ...]:
    """Fit one map per cell, and record its ends; ``pairing`` holds the fields common to all maps."""
    sources = ends or {name: digest_of(own) for name, own in tokens.items()}
    found = zip(tokens, maps_into(frame, _flat(tokens)), strict=True)
    return tuple(replace(one, pairing=replace(pairing, source=sources[name])) for name, one in found)


def _flat(tokens: Mapping[str, Tensor]) -> list[Tensor]:
    """Flatten the tokens of every cell to (B G, D).

    Raises:
        InputError: tokens with different B or G (``PAIRS``).
    """
    shapes = [tuple(own.shape) for own in tokens.values()]
    if not shapes or any(len(shape) != 3 or shape[:2] != shapes[0][:2] for shape in shapes):
        expected = "(B, G, D) of each cell, with the same B and G"
        raise InputError("tokens do not pair", code="PAIRS", expected=expected, found=shapes)
    return [own.flatten(0, 1) for own in tokens.values()]
