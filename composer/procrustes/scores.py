"""Held-out scores of the prediction of one cell's tokens from another's, against two nulls.

A map always fits its own points, omegas of any two cells look alike, and any two functions of one image are correlated.
Therefore every image is predicted by a map fitted on other images; patches of one image, and images of one cluster, stay
together in splits, shuffles and intervals; and the score is judged by its lift over shuffled pairings, and over pairs of
untrained cells. The computation is described in :mod:`composer.procrustes.held_out`.
Legend: B images, C clusters of them, G regions of an image, D_s and D_t widths.

Sources: p-values that count the observed pairing, Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010); shuffling until
enough was seen, Besag and Clifford, Biometrika 78 (1991).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from batteries.engine import dispatch
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError
from composer.procrustes.centering import checked
from composer.procrustes.held_out import Paired, Split, rows_of
from composer.procrustes.intervals import r2_bounds
from composer.procrustes.score_document import LEVEL, Null, Score
from composer.procrustes.similarity import FewSamplesWarning

FEWEST_CLUSTERS = 4  # two in each half
FEWEST_PAIRINGS = 20  # so that a p-value can be as low as 0.05
SHUFFLES = 199  # so that a p-value can be as low as 0.005
ENOUGH = 20  # shuffled pairings as high as the observed one, at which drawing stops: the p-value is known to about a fifth
FIRST = 64  # shuffled pairings before the first check
TIE = 1e-9  # rounding difference of equal scores


def null_of(observed: float, drawn: Tensor) -> Null:
    """Summarise draws (draws,) of a null against the observed value."""
    sd = float(drawn.std()) if len(drawn) > 1 else 0.0
    return Null(float(drawn.mean()), sd, len(drawn), int((drawn >= observed - TIE).sum()))


def drawn_until_enough(observed: float, draw: Callable[[int], Tensor], most: int) -> Null:
    """Draw from a null until ``ENOUGH`` draws are as high as the observed value: unrelated pairs need few.

    The last draw, which is as high by construction, is not counted, because it would bias the mean.

    Args:
        observed: Observed value.
        draw: Function that returns a given number of draws.
        most: Largest number of draws.
    """
    drawn = torch.empty(0, dtype=torch.float64)
    while len(drawn) < most:
        drawn = torch.cat([drawn, draw(min(max(FIRST, len(drawn)), most - len(drawn)))])
        high = (drawn >= observed - TIE).nonzero()[:, 0]
        if len(high) >= ENOUGH:
            return null_of(observed, drawn[: int(high[ENOUGH - 1])])
    return null_of(observed, drawn)


@neutral()
def score(
    source: Tensor,
    target: Tensor,
    *,
    clusters: Tensor | None = None,
    rows: tuple[Tensor | None, Tensor | None] | None = None,
    untrained: Sequence[tuple[Tensor, Tensor]] = (),
    seed: int = 0,
    shuffles: int = SHUFFLES,
) -> Score:
    """Score a pair of cells: predict each half of the images by a map fitted on the other half.

    A shuffled pairing exchanges whole clusters of equal size, with their masks, and is scored on the rows that both ends then
    have.

    Args:
        source: Tokens (B, G, D_s) of the source.
        target: Tokens (B, G, D_t) of the target, paired by image and region; the narrower of the two is padded with zeros.
        clusters: Cluster labels (B,), integers, the same for images that are not independent, such as crops of one
            photograph; defaults to one cluster per image.
        rows: Masks (B, G), boolean, of the rows present in source and target, or None for all; other rows are not read.
        untrained: Pairs of tokens of untrained cells on the same images and rows, scored in the same way.
        seed: Seed of halves and shuffles.
        shuffles: Largest number of shuffled pairings, see :func:`shuffles_for`.

    Raises:
        InputError: tokens that do not pair (``PAIRS``), invalid cluster labels or masks (``CLUSTERS``, ``ROWS``), fewer than
            four clusters (``FEW_IMAGES``), too few clusters of equal size to shuffle (``FEW_PAIRINGS``), a half with fewer
            than two rows present at both ends (``NO_ROWS``, ``FEW_ROWS``), tokens that are not finite (``NOT_FINITE``) or
            constant (``CONSTANT``), or no shuffles (``SHUFFLES``).

    Warns:
        FewSamplesWarning: fewer rows in a half than dimensions.

    >>> import torch
    >>> from composer import procrustes
    >>> source = torch.randn(12, 16, 4, generator=torch.Generator().manual_seed(0))  # images, regions, width
    >>> found = procrustes.score(source, source.flip(2))
    >>> round(found.r2, 6), found.p_value, found.related()
    (1.0, 0.005, True)
    """
    dispatch.refuse_transform("a score", source, target)
    _refuse_shapes(source, target, source)
    if shuffles < 1:
        raise InputError("too few shuffles", code="SHUFFLES", expected="at least 1", found=shuffles)
    generator = Generator().manual_seed(seed)
    split = split_of(source, clusters, generator)
    kept = _kept(source, rows)
    pair = _paired(source, target, kept, split, shuffles)
    count, width = int(pair.sums(pair.observed)[0, :, -1, -1].min()), max(source.shape[-1], target.shape[-1])
    if count < width:
        warnings.warn(FewSamplesWarning(count, width), stacklevel=2)
    r2 = float(pair.r2(pair.observed))
    error, truth, cosine = (part.sum(dim=1) for part in pair.judged())
    low, high = r2_bounds(pair, error, truth)
    shuffled = drawn_until_enough(r2, lambda draws: pair.r2(split.shuffled(draws, generator)), shuffles)
    others = []
    for one, other in untrained:
        _refuse_shapes(one, other, source)
        unrelated = _paired(one, other, kept, split)
        others.append(unrelated.r2(unrelated.observed))
    return Score(
        r2=r2,
        cosine=float(cosine.sum() / (kept[0] & kept[1]).sum()),
        low=low,
        high=high,
        samples_per_dimension=count / width,
        shuffled=shuffled,
        untrained=null_of(r2, torch.cat(others)) if others else None,
    )


def shuffles_for(tests: int, level: float = LEVEL) -> int:
    """Return the fewest shuffles, at least ``SHUFFLES``, with which Holm's method can reject all ``tests``.

    Args:
        tests: Number of p-values that are corrected together.
        level: Significance level.

    Raises:
        InputError: a level that is not between 0 and 1 (``LEVEL``).

    >>> shuffles_for(45)
    899
    """
    if not 0 < level < 1:
        raise InputError("invalid significance level", code="LEVEL", expected="between 0 and 1", found=level)
    fewest = max(SHUFFLES, math.ceil(tests / level) - 2)
    while tests * (1 / (1 + fewest)) > level:  # the same floating-point expression as in holm
        fewest += 1
    return fewest


def _refuse_shapes(source: Tensor, target: Tensor, like: Tensor) -> None:
    if source.ndim != 3 or not source.shape[:-1] == target.shape[:-1] == like.shape[:-1]:
        expected = "(B, G, D_s) and (B, G, D_t), untrained ones with the same B and G"
        found = f"{tuple(source.shape)} and {tuple(target.shape)}"
        raise InputError("tokens do not pair", code="PAIRS", expected=expected, found=found)


def split_of(source: Tensor, clusters: Tensor | None, generator: Generator) -> Split:
    """Draw halves of a source's images (B, ...) by cluster; refuse too few clusters to split or shuffle.

    Raises:
        InputError: invalid clusters or too few images, as in :func:`score`.
    """
    own = torch.arange(len(source)) if clusters is None else clusters
    if own.shape != source.shape[:1] or own.dtype.is_floating_point or own.dtype.is_complex:
        found = f"{tuple(own.shape)} {own.dtype}"
        raise InputError("invalid cluster labels", code="CLUSTERS", expected=f"({len(source)},) integers", found=found)
    split = Split.drawn(own, generator)
    if len(split.sizes) < FEWEST_CLUSTERS:
        raise InputError(
            "too few images to score an alignment",
            code="FEW_IMAGES",
            expected=f"at least {FEWEST_CLUSTERS}, or clusters of them",
            found=len(split.sizes),
            remedy="Use a probe with more images; regions of one image, or crops of one photograph, are not independent.",
        )
    if split.pairings < FEWEST_PAIRINGS:
        raise InputError(
            "too few clusters of equal size to shuffle",
            code="FEW_PAIRINGS",
            expected=f"at least {FEWEST_PAIRINGS} pairings",
            found=f"{split.pairings}, of clusters of {', '.join(str(size) for size in sorted(split.sizes.tolist()))} images",
            remedy="Use the same number of crops of each photograph, or more photographs.",
        )
    return split


def _kept(source: Tensor, rows: tuple[Tensor | None, Tensor | None] | None) -> tuple[Tensor, Tensor]:
    """Return masks (B, G) of the rows present in source and target."""
    whole = torch.ones(source.shape[:2], dtype=torch.bool)
    for mask in rows or ():
        if mask is not None and (mask.shape != whole.shape or mask.dtype != torch.bool):
            found = f"{tuple(mask.shape)} {mask.dtype}"
            raise InputError("invalid row mask", code="ROWS", expected=f"{tuple(whole.shape)} boolean", found=found)
    one, other = (whole if mask is None else mask.cpu() for mask in rows or (None, None))
    return one, other


def _paired(source: Tensor, target: Tensor, kept: tuple[Tensor, Tensor], split: Split, most: int = 1) -> Paired:
    """Put both ends in the order of the split, and check that they have rows in each half and vary."""
    x, y = (end.detach().cpu().double()[split.images] for end in (source, target))
    there, other = (mask[split.images] for mask in kept)
    for half in split.halves:
        checked(x[half].flatten(0, 1), y[half].flatten(0, 1), (there & other)[half].flatten())
    return Paired(rows_of(x, there), rows_of(y, other), split, most)
