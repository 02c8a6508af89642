"""All pairs of a container's cells: scored directly and by way of the frame, against shuffled images and untrained cells.

Three questions are asked of a pair. Do A's tokens predict B's on images that were not fitted, better than those of other images
do (**shuffled**)? Better than cells that never learned do, which see the same images (**untrained**)? And how much of that is
left by way of the consensus frame, with A's map and B's way back in the place of a map of the pair's own (**through**)?

*Direction.* The rotation from A to B is that from B to A turned round, so that the cosine of the two directions is one number,
and their R2 differ by chance alone, in the lengths that tokens have in one half and the other. So a pair is scored once, from
the cell that comes first. By way of the frame the cosine is one number, too, and R2 is not: a map onto the frame shrinks tokens
by as much as they are unlike it, and B's way back stretches them by as much as B is. What arrives is about as long as B's own
tokens, where the map of least squares would be shorter, and R2 is about 2 r - 1 where the direct one is r^2 by the same
rotation. The cosine does not see lengths, and is the one to compare.

*Untrained cells.* Of each spec U cells stand in A's place and U others in B's. If A were like the first and B like the second,
every entry of the (U + 1) x (U + 1) table of R2, {A and the first} by {B and the second}, would be as likely as any other to
be the observed one. The p-value is the share of entries that are as high: exact, although entries of one row or column go
together. It asks more than untrained pairs alone would: that B is predicted by every cell, trained or not, is no relation to A.
Mean and standard deviation of the null are of the U x U untrained pairs.

*Many pairs.* A pair is related where both nulls are rejected, so the larger of its two p-values counts, and Holm's method
corrects it for the number of pairs. How many shuffles and untrained cells there are follows from that number.
Legend: B images, G regions, D widths, U untrained cells, W two more than a width.

Source: Lehmann and Romano, Testing Statistical Hypotheses (2005), section 15.2, for tests by a group of permutations: here of
rows, and of columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Generator, Tensor

from batteries.engine.torch_settings import neutral
from batteries.errors import InputError, NotFoundError
from composer.alignment.align import GridChoice, paired
from composer.alignment.probe_images import ProbeImages, images_on
from composer.alignment.untrained_null import untrained_nulls, untrained_tokens
from composer.container.container import Container
from composer.grids import pad
from composer.procrustes.generalized import generalised, maps_into
from composer.procrustes.held_out import Split
from composer.procrustes.multiple_testing import holm
from composer.procrustes.provenance import digest_of
from composer.procrustes.score_document import LEVEL, Score
from composer.procrustes.scores import score, shuffles_for
from composer.vocabulary import Grid, TokenKind

FLOOR = LEVEL / 2  # corrected p-value that all pairs can come down to: one that stops at the level itself says little
FEWEST_UNTRAINED = 19  # of each spec, at each end: a p-value can be as low as 1 / 400

Names = tuple[str, str]


@dataclass(frozen=True)
class Through:
    """How well a pair goes together by way of the frame, held out: frame and maps are of the half that is not judged.

    Attributes:
        r2: Share of the target's variance; it suffers from the stretch of the way back, see above.
        cosine: Mean cosine of what arrives and what is there, both less the mean of the fitted images.

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
    """Two cells.

    Attributes:
        source: A.
        target: B, which A's tokens predict.
        direct: By a map of their own, with both nulls.
        through: By way of the frame of all cells.

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

    @property
    def p_value(self) -> float:
        """The larger of the nulls'."""
        return max(null.p_value for null in (self.direct.shuffled, self.direct.untrained) if null is not None)


@dataclass(frozen=True)
class PairTable:
    """Pairs of cells.

    Attributes:
        names: Of all cells, which the frame is of.
        ends: Digest of each cell's weights.
        pairs: Those that were scored.
        kind: Of tokens.
        grid: Rows and columns of the regions of an image.
        probe: Digest of the images.
        untrained: Cells of each spec at each end of that null; 0 where it was left out.

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

    @property
    def p_values(self) -> tuple[float, ...]:
        """Per pair, corrected for their number by Holm's method."""
        return holm([pair.p_value for pair in self.pairs])

    def related(self, level: float = LEVEL) -> tuple[bool, ...]:
        """Per pair, whether its corrected p-value says so."""
        return tuple(p_value <= level for p_value in self.p_values)

    def pair(self, one: str, other: str) -> PairScore:
        """That of two cells, in whichever direction it was scored.

        Raises:
            NotFoundError: it was not (``NO_PAIR``).
        """
        for pair in self.pairs:
            if {pair.source, pair.target} == {one, other}:
                return pair
        raise NotFoundError("no such pair", code="NO_PAIR", found=f"{one} and {other}", expected=f"of {', '.join(self.names)}")


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
) -> PairTable:
    """Score pairs of cells on their tokens, paired by image region.

    Args:
        container: The cells; the frame is of all of them.
        images: (B, channels, height, width) in the cells' input scale; or a probe or its name.
        tokens: Which.
        grid: As of :func:`composer.align`.
        clusters: (B,) integers, which images belong together; left out, each is by itself.
        pairs: Names of source and target; left out, every pair once, the earlier cell to the later.
        untrained: Cells of each spec at each end, U; left out, as many as Holm's method needs to be able to reject all
            pairs at 0.025, and at least 19. 0 leaves that null out.
        seed: Of halves, shuffles and intervals.

    Raises:
        InputError: no pair, or one of a cell with itself (``PAIRS``), fewer than no untrained cells (``UNTRAINED``), or as
            :func:`composer.align` and :func:`composer.procrustes.score` say.
        NotFoundError: no such cell.

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
        raise InputError("not a number of cells", code="UNTRAINED", expected="0 or more", found=count)
    images = images_on(container.scale, images)
    found, regions = paired(container, images, tokens, grid)
    found = {name: own.cpu() for name, own in found.items()}
    most = shuffles_for(len(chosen), FLOOR)
    direct = [score(found[one], found[other], clusters=clusters, seed=seed, shuffles=most) for one, other in chosen]
    split = Split.drawn(torch.arange(len(images)) if clusters is None else clusters, Generator().manual_seed(seed))
    if count:
        specs = {name: container.spec(name) for name in dict.fromkeys(name for names in chosen for name in names)}
        draws = {
            spec: [own.cpu() for own in untrained_tokens(spec, 2 * count, container, images, tokens, regions)]
            for spec in dict.fromkeys(specs.values())
        }
        nulls = untrained_nulls({name: found[name] for name in specs}, specs, draws, split, chosen)
        direct = [replace(one, untrained=null) for one, null in zip(direct, nulls, strict=True)]
    scored = zip(chosen, direct, _by_way_of_the_frame(found, split, chosen), strict=True)
    rows = tuple(PairScore(*names, own, through) for names, own, through in scored)
    return PairTable(container.names, container.ends, rows, tokens, regions, digest_of(images), count)


def untrained_for(tests: int, level: float = LEVEL) -> int:
    """Fewest untrained cells at each end, and no fewer than 19, at which Holm's method can reject all of so many tests.

    >>> from composer import alignment
    >>> alignment.untrained_for(1), alignment.untrained_for(45)
    (19, 29)
    """
    fewest = max(FEWEST_UNTRAINED, math.isqrt(math.ceil(tests / level)) - 1)
    while tests * (1 / (1 + fewest) ** 2) > level:  # as holm has it, rounding and all
        fewest += 1
    return fewest


def _chosen(container: Container, pairs: Sequence[Names] | None) -> list[Names]:
    """Pairs to be scored, each once.

    Raises:
        InputError: none, or a cell with itself (``PAIRS``).
        NotFoundError: no such cell.
    """
    chosen = list(combinations(container.names, 2)) if pairs is None else [(one, other) for one, other in dict.fromkeys(pairs)]
    for name in dict.fromkeys(name for names in chosen for name in names):
        container.place(name)
    alone = [one for one, other in chosen if one == other]
    if not chosen or alone:
        found = f"{alone[0]} with itself" if alone else "none"
        raise InputError("no pairs of cells", code="PAIRS", expected="two cells of each pair", found=found)
    return chosen


def _by_way_of_the_frame(found: Mapping[str, Tensor], split: Split, chosen: Sequence[Names]) -> list[Through]:
    """Per pair, of frame and maps of one half judged on the other, and the other way round."""
    errors = torch.zeros(len(chosen), 3, dtype=torch.float64)  # of each: left over, in all, cosine
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
