"""Scores of pairs of cells, direct and through the consensus frame, against shuffled images and untrained cells.

Three questions are asked of a pair (A, B). Do A's tokens predict B's on held-out images better than tokens of other images do
(**shuffled**)? Better than the tokens that untrained cells make of the same images (**untrained**)? And how much of the
prediction survives the consensus frame, with A's map and the inverse of B's in place of a map fitted to the pair (**through**)?

*Direction.* The rotation from B to A is the inverse of that from A to B, so the cosine is the same in both directions, and R2
differs only by chance, with the lengths of tokens in the two halves. A pair is therefore scored once, from the cell that comes
first. Through the frame the cosine is symmetric too, and R2 is not: a map onto the frame shrinks tokens the more they differ
from it, and the inverse of B's map stretches them the more B differs. The result is about as long as B's own tokens, where a
least-squares map would be shorter, and R2 is about 2 r - 1 where that of a direct map with the same rotation is r^2. The cosine
does not depend on lengths: compare cosines.

*Untrained cells.* Of each spec, U cells take A's place and U others take B's. If A were like the former and B like the latter,
every entry of the (U + 1) x (U + 1) table of R2, {A and the former} by {B and the latter}, would be equally likely to be the
observed one. The p-value is the share of entries as high as the observed one; it is exact, although entries of one row or
column are dependent. It is stricter than untrained pairs alone: if every cell, trained or not, predicts B, that is no relation
to A. Mean and standard deviation of the null are those of the U x U untrained pairs.

*Many pairs.* A pair is related if both nulls are rejected, so the larger of its two p-values counts, and Holm's method
corrects it for the number of pairs. The numbers of shuffles and of untrained cells follow from the number of pairs.
Legend: B images, G regions, D widths, U untrained cells, W two more than a width.

Source: Lehmann and Romano, Testing Statistical Hypotheses (2005), section 15.2, for tests by a group of permutations: here of
rows, and of columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import overload

import torch
from torch import Generator, Tensor

from batteries import short_repr
from batteries.engine.task_runner import Run, in_this_process
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError, UnknownKeyError
from batteries.geometry.multiple_testing import holm
from composer.alignment.align import paired
from composer.alignment.pair_tasks import Untrained, computed
from composer.alignment.probe_images import ProbeImages, images_on
from composer.alignment.untrained_null import untrained_nulls
from composer.container.container import Container
from composer.grids import pad
from composer.procrustes.generalized import generalised, maps_into
from composer.procrustes.held_out import Split
from composer.procrustes.provenance import digest_of
from composer.procrustes.score_document import LEVEL, Score
from composer.procrustes.scores import shuffles_for
from composer.vocabulary import Grid, GridChoice, TokenKind

FLOOR = LEVEL / 2  # lowest corrected p-value that all pairs can reach; the level itself would leave no margin
FEWEST_UNTRAINED = 19  # of each spec at each end, so that a p-value can be as low as 1 / 400

Names = tuple[str, str]


@dataclass(frozen=True)
class Through:
    """Held-out scores of a pair through the frame; frame and maps are fitted on the half that is not scored.

    Attributes:
        r2: Share of the target's variance that is predicted, lowered by the stretch of the inverse map (module docstring).
        cosine: Mean cosine of predicted and actual tokens, both less the mean of the fitted images.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> (pair,) = composer.compare(model, batteries.probe("photos-64").images[::12], untrained=0).pairs
    >>> pair.through.r2 < pair.direct.r2
    True
    """

    r2: float
    cosine: float


@dataclass(frozen=True)
class PairScore:
    """Scores of two cells.

    Attributes:
        source: Name of cell A.
        target: Name of cell B, whose tokens A's predict.
        direct: Score of a map fitted to the pair, with both nulls.
        through: Scores through the frame of all cells.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> (pair,) = composer.compare(model, batteries.probe("photos-64").images[::12], untrained=0).pairs
    >>> pair.source, pair.target, pair.direct.low <= pair.direct.r2 <= pair.direct.high
    ('low/fresnel-64', 'low/johanna-64', True)
    """

    source: str
    target: str
    direct: Score
    through: Through

    def __repr__(self) -> str:
        direct = self.direct
        nulls = {"shuffled": direct.shuffled, "untrained": direct.untrained}
        beside = [f"{name} {null.mean:.3f}" for name, null in nulls.items() if null is not None]
        through = f"cosine {direct.cosine:.3f}, through the frame {self.through.cosine:.3f}"
        return short_repr.headed(self, f"{self.source} -> {self.target}", f"R2 {direct.r2:.3f}", *beside, through)

    @property
    def ways(self) -> tuple[Names, Names]:
        """Names of source and target, and turned round."""
        return (self.source, self.target), (self.target, self.source)

    @property
    def p_value(self) -> float:
        """Larger p-value of the nulls."""
        return max(null.p_value for null in (self.direct.shuffled, self.direct.untrained) if null is not None)


@dataclass(frozen=True)
class PairTable:
    """Scores of pairs of cells: rows by number, and by the names of both, in either order.

    Attributes:
        names: Names of all cells of the frame.
        ends: Digest of each cell's weights, by name.
        pairs: Scored pairs.
        kind: Kind of tokens.
        grid: Rows and columns of the regions of an image.
        probe: Digest of the images.
        untrained: Number of untrained cells of each spec at each end; 0 without that null.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> table = composer.compare(model, batteries.probe("photos-64").images[::12], untrained=0)
    >>> table.names, len(table.pairs), table.p_values[0] < 0.05
    (('low/fresnel-64', 'low/johanna-64'), 1, True)
    """

    names: tuple[str, ...]
    ends: Mapping[str, str]
    pairs: tuple[PairScore, ...]
    kind: TokenKind
    grid: Grid
    probe: str
    untrained: int

    @overload
    def __getitem__(self, which: int | Names) -> PairScore: ...

    @overload
    def __getitem__(self, which: slice) -> tuple[PairScore, ...]: ...

    def __getitem__(self, which: int | slice | Names) -> PairScore | tuple[PairScore, ...]:
        if isinstance(which, int | slice):
            return self.pairs[which]
        return self.pair(*(which if isinstance(which, tuple) and len(which) == 2 else (which, None)))

    def __contains__(self, which: object) -> bool:
        if isinstance(which, PairScore):
            return which in self.pairs
        return any(which in pair.ways for pair in self.pairs)

    def __iter__(self) -> Iterator[PairScore]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        grid = f"{self.kind} on {self.grid[0]} x {self.grid[1]} regions"
        counts = f"{short_repr.counted(len(self), 'pair')} of {short_repr.counted(len(self.names), 'cell')}"
        return short_repr.rows(short_repr.headed(self, counts, grid), map(repr, self.pairs))

    @property
    def p_values(self) -> tuple[float, ...]:
        """P-value of each pair, corrected for the number of pairs by Holm's method."""
        return holm([pair.p_value for pair in self.pairs])

    def related(self, level: float = LEVEL) -> tuple[bool, ...]:
        """Return for each pair whether its corrected p-value is at most ``level``."""
        return tuple(p_value <= level for p_value in self.p_values)

    def pair(self, one: object, other: object) -> PairScore:
        """Return the score of two cells, given in either order.

        Raises:
            NotFoundError: a pair that was not scored (``NO_PAIR``).
        """
        for pair in self.pairs:
            if (one, other) in pair.ways:
                return pair
        names = f"of {', '.join(self.names)}"
        raise UnknownKeyError("no such pair", code="NO_PAIR", expected=names, found=f"{one} and {other}")


@neutral()
@torch.no_grad()
def compare(
    container: Container,
    images: ProbeImages,
    *,
    tokens: TokenKind = "omega",
    grid: GridChoice = "coarsest",
    clusters: Tensor | None = None,
    pairs: Sequence[Names] | None = None,
    untrained: int | None = None,
    seed: int = 0,
    run: Run | None = None,
) -> PairTable:
    """Score pairs of cells on their tokens, paired by image region.

    Args:
        container: Cells, all of which make the frame.
        images: Images (B, channels, height, width) in the cells' input scale, or a probe or its name.
        tokens: Kind of tokens, see :mod:`composer.alignment.tokens`.
        grid: Grid on which tokens are paired, see :func:`composer.align`.
        clusters: Cluster labels (B,), integers; defaults to one cluster per image.
        pairs: Names of source and target of each pair; defaults to every pair once, the earlier cell to the later.
        untrained: Number U of untrained cells of each spec at each end, 0 to omit that null. Defaults to as many as Holm's
            method needs to be able to reject all pairs at 0.025, and at least 19.
        seed: Seed of the halves, shuffles and intervals.
        run: Function that runs tasks and yields their outcomes, such as :func:`batteries.engine.task_runner.run`. Defaults to
            one after the other, in this process.

    Raises:
        InputError: no pair, or a cell paired with itself (``PAIRS``), a negative ``untrained`` (``UNTRAINED``), or the errors
            of :func:`composer.align` and :func:`composer.procrustes.score`.
        NotFoundError: unknown cell.

    Warns:
        FewSamplesWarning: fewer rows in a half than dimensions.

    >>> import batteries, composer, registry
    >>> model = composer.compose(registry.pull("low/fresnel-64", "low/johanna-64"))
    >>> table = composer.compare(model, batteries.probe("photos-64").images[::12], untrained=0)  # without that null, for speed
    >>> table.pair("low/fresnel-64", "low/johanna-64").source, table.related()
    ('low/fresnel-64', (True,))
    """
    chosen = _chosen(container, pairs)
    count = untrained_for(len(chosen), FLOOR) if untrained is None else untrained
    if count < 0:
        raise InputError("negative number of untrained cells", code="UNTRAINED", expected="0 or more", found=count)
    images = images_on(container.scale, images)
    found, regions = paired(container, images, tokens, grid)
    found = {name: own.cpu() for name, own in found.items()}
    most = shuffles_for(len(chosen), FLOOR)
    specs = {name: container.spec(name) for name in dict.fromkeys(name for names in chosen for name in names)} if count else {}
    how = {"clusters": clusters, "seed": seed, "shuffles": most}
    fresh = Untrained(tuple(dict.fromkeys(specs.values())), 2 * count, images, tokens, regions)
    direct, draws = computed(run or in_this_process, fresh, container, found, chosen, how)
    split = Split.drawn(torch.arange(len(images)) if clusters is None else clusters, Generator().manual_seed(seed))
    if count:
        nulls = untrained_nulls({name: found[name] for name in specs}, specs, draws, split, chosen)
        direct = [replace(one, untrained=null) for one, null in zip(direct, nulls, strict=True)]
    scored = zip(chosen, direct, _by_way_of_the_frame(found, split, chosen), strict=True)
    rows = tuple(PairScore(*names, own, through) for names, own, through in scored)
    return PairTable(container.names, container.ends, rows, tokens, regions, digest_of(images), count)


def untrained_for(tests: int, level: float = LEVEL) -> int:
    """Return the fewest untrained cells at each end, at least 19, with which Holm's method can reject all ``tests``.

    >>> from composer import alignment
    >>> alignment.untrained_for(1), alignment.untrained_for(45)
    (19, 29)
    """
    fewest = max(FEWEST_UNTRAINED, math.isqrt(math.ceil(tests / level)) - 1)
    while tests * (1 / (1 + fewest) ** 2) > level:  # the same floating-point expression as in holm
        fewest += 1
    return fewest


def _chosen(container: Container, pairs: Sequence[Names] | None) -> list[Names]:
    """List the pairs to score, without duplicates.

    Raises:
        InputError: no pair, or a cell paired with itself (``PAIRS``).
        NotFoundError: unknown cell.
    """
    chosen = list(combinations(container.names, 2)) if pairs is None else [(one, other) for one, other in dict.fromkeys(pairs)]
    for name in dict.fromkeys(name for names in chosen for name in names):
        container.place(name)
    alone = [one for one, other in chosen if one == other]
    if not chosen or alone:
        found = f"{alone[0]} with itself" if alone else "none"
        raise InputError("invalid pairs of cells", code="PAIRS", expected="two different cells in each pair", found=found)
    return chosen


def _by_way_of_the_frame(found: Mapping[str, Tensor], split: Split, chosen: Sequence[Names]) -> list[Through]:
    """Score each pair through the frame: fit frame and maps on one half, judge on the other, then exchange the halves."""
    errors = torch.zeros(len(chosen), 3, dtype=torch.float64)  # per pair: residual, total, cosine
    width = max(own.shape[-1] for own in found.values())
    halves = [split.images[half] for half in split.halves]
    for fitted, judged in (halves, halves[::-1]):
        learned = [own[fitted].flatten(0, 1) for own in found.values()]
        maps = dict(zip(found, maps_into(generalised(learned), learned), strict=True))
        for row, (source, target) in enumerate(chosen):
            way = maps[source].then(maps[target].inverse())
            arrived = way(found[source][judged].double()) - way.translation
            truth = pad(found[target][judged].double(), width) - way.translation
            cosine = torch.nn.functional.cosine_similarity(arrived, truth, dim=-1)
            sums = (arrived - truth).square().sum(), truth.square().sum(), cosine.sum()
            errors[row] += torch.stack(sums)
    count = len(split.images) * next(iter(found.values())).shape[1]
    return [Through(1 - left / total, cosine / count) for left, total, cosine in errors.tolist()]
