"""How well one cell's tokens predict another's, on images the map was not fitted on, against two nulls.

A map always fits its own points, omega of any two cells looks alike, and two functions of one image agree by themselves.
Hence: every image is predicted by a map fitted on other images; patches of one image stay together in splits, shuffles and
intervals; and the score is read as a lift over pairings shuffled by image, and over pairs of untrained cells.
Legend: B images, G regions of an image, D_s and D_t widths, P shufflings.

Sources: p-values that count the observed pairing, Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010); bootstrap by
cluster, Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8; Holm, Scand. J. Statist. 6 (1979).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from batteries.errors import InputError
from composer import tokens as widths
from composer.centring import centred, checked
from composer.procrustes import FewSamplesWarning, solve

FOLDS = 2  # images are predicted from the other half
FEWEST_IMAGES = 2 * FOLDS
SHUFFLES = 199  # a p-value can be as low as 0.005
DRAWS = 2000  # of the bootstrap
LEVEL = 0.05
TIE = 1e-9  # two pairings that are one, but for rounding
CHUNK = 2**23  # numbers of shuffled tokens at a time: 64 MiB


@dataclass(frozen=True)
class Null:
    """Held-out R2 of pairs that are known not to belong together.

    Attributes:
        mean: Over draws.
        sd: Standard deviation over draws; 0 for a single one.
        draws: How many.
        exceeding: How many of them are as high as the observed one.
    """

    mean: float
    sd: float
    draws: int
    exceeding: int

    @property
    def p_value(self) -> float:
        """(1 + exceeding) / (1 + draws): exact where the observed pair is one like the others."""
        return (1 + self.exceeding) / (1 + self.draws)


@dataclass(frozen=True)
class Score:
    """How well one cell's tokens predict another's, held out.

    Attributes:
        r2: Share of variance explained on images that were not fitted; negative where the mean would have done better.
        cosine: Mean cosine of predicted and true tokens there, both less the mean of the fitted images.
        low: Lower 95% bound of r2, by a bootstrap over images; the maps stay as they are.
        high: Upper 95% bound.
        samples_per_dimension: Rows of the smaller fit over D, the wider of the two.
        shuffled: The same under pairings shuffled by image.
        untrained: Of pairs of untrained cells, where they were given.
    """

    r2: float
    cosine: float
    low: float
    high: float
    samples_per_dimension: float
    shuffled: Null
    untrained: Null | None = None

    @property
    def lift(self) -> float:
        """r2 over the mean of shuffled pairings."""
        return self.r2 - self.shuffled.mean

    @property
    def p_value(self) -> float:
        """Of pairings shuffled by image."""
        return self.shuffled.p_value

    @property
    def lift_over_untrained(self) -> float | None:
        """r2 over the mean of untrained pairs; None where there were none."""
        return None if self.untrained is None else self.r2 - self.untrained.mean

    def related(self, level: float = LEVEL) -> bool:
        """Whether both nulls, or the one there is, are rejected at a level, which takes 1 / level - 1 draws at least."""
        return all(null.p_value <= level for null in (self.shuffled, self.untrained) if null is not None)


def score(
    source: Tensor,
    target: Tensor,
    *,
    untrained: Sequence[tuple[Tensor, Tensor]] = (),
    seed: int = 0,
    shuffles: int = SHUFFLES,
) -> Score:
    """Score a pair of cells: half of the images predicted by a map fitted on the other half, and the other way round.

    Args:
        source: (B, G, D_s).
        target: (B, G, D_t), paired by image and region; the narrower of the two is padded with zeros.
        untrained: Such pairs from untrained cells on the same images, scored in the same way.
        seed: Of halves, shuffles and bootstrap.
        shuffles: Pairings of the null.

    Raises:
        InputError: tokens that do not pair (``PAIRS``), fewer than four images (``FEW_IMAGES``), not finite
            (``NOT_FINITE``), or constant (``CONSTANT``).

    Warns:
        FewSamplesWarning: fewer rows in a half than dimensions.
    """
    x, y = _checked(source, target)
    generator = Generator().manual_seed(seed)
    halves = torch.randperm(len(x), generator=generator).tensor_split(FOLDS)
    rows, width = len(halves[-1]) * x.shape[1], x.shape[2]
    if rows < width:
        warnings.warn(FewSamplesWarning(rows, width), stacklevel=2)
    predicted, truth = _predicted(x[None], y, halves)
    r2 = float(_r2(predicted, truth))
    low, high = _bounds(predicted[0], truth, generator)
    null = _shuffled(x, y, halves, torch.stack([torch.randperm(len(x), generator=generator) for _ in range(shuffles)]))
    cosine = torch.nn.functional.cosine_similarity(predicted[0], truth, dim=-1).mean()
    others = [_r2(*_predicted(one[None], other, halves)) for one, other in (_checked(*pair) for pair in untrained)]
    return Score(r2, float(cosine), low, high, rows / width, _null(r2, null), _null(r2, torch.cat(others)) if others else None)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for their number by Holm's step-down method, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return tuple(corrected)


def _checked(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 and of one width, once they are found to pair and to vary."""
    if source.ndim != 3 or source.shape[:-1] != target.shape[:-1]:
        found = f"{tuple(source.shape)} and {tuple(target.shape)}"
        expected = "(B, G, D_s) and (B, G, D_t)"
        raise InputError("tokens that do not pair", code="PAIRS", expected=expected, found=found)
    if len(source) < FEWEST_IMAGES:
        raise InputError(
            "too few images to score an alignment",
            code="FEW_IMAGES",
            expected=f"at least {FEWEST_IMAGES}",
            found=len(source),
            remedy="Use a probe of more images; regions of one image are not independent.",
        )
    flat = source.flatten(0, 1), target.flatten(0, 1)
    checked(*flat, None)
    for end in flat:
        centred(end, None)
    width = max(source.shape[-1], target.shape[-1])
    return widths.pad(source.double(), width), widths.pad(target.double(), width)


def _predicted(x: Tensor, y: Tensor, halves: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What maps of the other half make of x (P, B, G, D), and y (B, G, D), both less the mean of y in the fitted half."""
    predicted, truth = torch.empty_like(x), torch.empty_like(y)
    for index, judged in enumerate(halves):
        fitted = torch.cat([half for other, half in enumerate(halves) if other != index])
        source, target = x[:, fitted].flatten(1, 2), y[fitted].flatten(0, 1)
        centre, middle = source.mean(dim=1, keepdim=True), target.mean(dim=0)
        rotation, scale, _ = solve(source - centre, target - middle, scale=True, reflection="allowed")
        matrix = scale[:, None, None] * rotation
        predicted[:, judged] = (x[:, judged] - centre[:, None]) @ matrix[:, None]
        truth[judged] = y[judged] - middle
    return predicted, truth


def _r2(predicted: Tensor, truth: Tensor) -> Tensor:
    """(P,) share of the truth's variance."""
    return 1 - (predicted - truth).square().sum(dim=(-3, -2, -1)) / truth.square().sum()


def _shuffled(x: Tensor, y: Tensor, halves: Sequence[Tensor], orders: Tensor) -> Tensor:
    """(P,) R2 with the images of x in these orders (P, B), a few at a time."""
    parts = orders.split(max(1, CHUNK // x.numel()))
    return torch.cat([_r2(*_predicted(x[part], y, halves)) for part in parts])


def _null(observed: float, drawn: Tensor) -> Null:
    sd = float(drawn.std()) if len(drawn) > 1 else 0.0
    return Null(float(drawn.mean()), sd, len(drawn), int((drawn >= observed - TIE).sum()))


def _bounds(predicted: Tensor, truth: Tensor, generator: Generator) -> tuple[float, float]:
    """95% bounds of R2 over images drawn again."""
    left, total = ((part).square().sum(dim=(-2, -1)) for part in (predicted - truth, truth))
    drawn = torch.randint(len(left), (DRAWS, len(left)), generator=generator)
    found = 1 - left[drawn].sum(dim=1) / total[drawn].sum(dim=1)
    low, high = found.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
