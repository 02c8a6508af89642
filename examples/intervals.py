"""Coverage of the intervals of alignment, on simulated tokens of two cells.

    python examples/intervals.py           # prints the tables; exit code 1 if a claim fails
    python examples/intervals.py --write   # also writes its section of docs/results/coverage-alignment.md

Two cells see one hidden signal, with noise of their own; half of every variance is shared by the 16 regions of an image, and
images differ in contrast. A replicate is a new set of images. An interval covers if it holds its target, 95 times in 100.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, variance

import torch
from pages import RESULTS, put, table
from torch import Generator, Tensor

from composer.alignment import Swap
from composer.procrustes import fit
from composer.procrustes.held_out import Paired, rows_of
from composer.procrustes.intervals import log_bounds, log_variances
from composer.procrustes.score_document import Null, lift_bounds
from composer.procrustes.scores import null_of, split_of

REPLICATES = 400
IMAGES, WIDTHS = (8, 16, 64, 256), (4, 8, 16)
NOISES = (0.3, 1.0, 2.5)  # of both cells together, in units of the signal
REGIONS, SHARED, CONTRAST = 16, 0.5, 0.3  # of an image; share of the variance they share; spread of its logarithm
SHUFFLES = 49
DRAWS = 500  # bootstrap samples

R2_HEAD = (
    "images",
    "D",
    "noise",
    "mean R2",
    "best map",
    "before",
    "refitted",
    "now",
    "these maps",
    "best: before",
    "best: now",
)
OTHER_HEAD = ("images", "D", "noise", "mean lift", "shuffled", "lift: before", "lift: now", "swap: before", "swap: now")
WORDS = """`python examples/intervals.py --write`: share of {replicates} simulated sets of images in which a 95% interval
holds its target; the standard error of a share of 0.95 is 0.011. Two cells see one signal, each with noise of its own. The
{regions} regions of an image share half of every variance, variances of axes fall as 1 / k, and images differ in contrast."""
R2 = """*mean R2*: the target of the interval, R2 of as many other images, with halves and maps of their own. *before*: a
bootstrap over judged images with maps kept. *refitted*: a jackknife with maps refitted without each image. *now*: with the
mean of the variances of refitted and of kept maps. *these maps*: the bounds of now, as bounds of the set's own two maps on
unlimited images. *best*: bounds before and now, as bounds of the best map, which they are not: few images fit a worse one."""
OTHERS = """The bounds of the lift are of its mean over other sets, whose shuffled means differ. *shuffled* is the standard
deviation of that mean over sets, relative to that of single pairings of a set: the bounds before left it out, and now take it
as 0.5. The bounds of a swap are of its own maps on unlimited images: a bootstrap before, the jackknife with kept maps now.
Here the decoder's error is the squared distance of tokens."""

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Setting:
    """A planted relation.

    Attributes:
        images: Number B of images.
        width: Width D of both cells.
        noise: Standard deviation of the noise of both cells together.
    """

    images: int
    width: int
    noise: float

    @property
    def signal(self) -> Tensor:
        """Variance (D,) of the signal on each axis, falling as 1 / k, with mean 1."""
        falling = 1 / torch.arange(1, self.width + 1, dtype=torch.float64)
        return falling / falling.mean()

    @property
    def variance(self) -> Tensor:
        """Variance (D,) of either cell on each axis."""
        return self.signal + self.noise**2 / 2

    @property
    def best(self) -> float:
        """R2 of the best map, a scale, which is what unlimited images would fit."""
        return float(self.signal.sum() / self.variance.sum()) ** 2

    def drawn(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw the tokens (B, G, D) of both cells on new images."""
        contrast = _normal(generator, self.images, 1, 1)
        contrast = (CONTRAST * contrast - CONTRAST**2).exp()  # with mean square 1
        hidden, *own = (_by_image(generator, self.images, self.width) for _ in range(3))
        one, other = (contrast * (hidden * self.signal.sqrt() + self.noise / 2**0.5 * noise) for noise in own)
        return one, other

    def r2_of(self, source: Tensor, target: Tensor) -> tuple[float, float]:
        """Return error and squared length, on unlimited images, of the map fitted on tokens (b, G, D)."""
        found = fit(source.flatten(0, 1), target.flatten(0, 1))
        moved = found.translation - found.centre @ found.matrix
        left = (found.matrix.square() * self.variance[:, None]).sum() - 2 * (found.matrix.diagonal() * self.signal).sum()
        total = self.variance.sum()
        return float(left + total + moved.square().sum()), float(total + found.translation.square().sum())


@dataclass
class Coverage:
    """Figures of one setting, by replicate.

    Attributes:
        setting: Planted relation.
        r2: Held-out R2.
        nulls: Shuffled pairings.
        fitted: R2 of the replicate's maps on unlimited images.
        bounds: Bounds, by the name of the interval.
    """

    setting: Setting
    r2: list[float] = field(default_factory=list)
    nulls: list[Null] = field(default_factory=list)
    fitted: list[float] = field(default_factory=list)
    bounds: list[Mapping[str, Bounds]] = field(default_factory=list)

    def covered(self, name: str, targets: Sequence[float]) -> float:
        """Return the share of replicates whose bounds hold their target."""
        pairs = zip((own[name] for own in self.bounds), targets, strict=True)
        return mean(low <= target <= high for (low, high), target in pairs)

    @property
    def again(self) -> list[float]:
        """Mean of R2 over replicates, which is what its bounds are of, for each."""
        return [mean(self.r2)] * len(self.r2)

    @property
    def lifts(self) -> list[float]:
        """Mean of the lift over replicates, which is what its bounds are of, for each."""
        return [mean(self.r2) - mean(null.mean for null in self.nulls)] * len(self.r2)

    @property
    def between(self) -> float:
        """Standard deviation of the shuffled mean over sets, in that of single pairings, without the error of few draws."""
        within = mean(null.sd for null in self.nulls)
        return math.sqrt(max(0.0, variance(null.mean for null in self.nulls) - within**2 / SHUFFLES)) / within

    @property
    def rows(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Rows of the tables of R2, and of lift and swap."""
        size, best = len(self.r2), self.setting.best
        at = (str(self.setting.images), str(self.setting.width), f"{self.setting.noise:g}")
        targets = (("before", self.again), ("refitted", self.again), ("now", self.again), ("now", self.fitted))
        shares = [self.covered(name, target) for name, target in (*targets, ("before", [best] * size), ("now", [best] * size))]
        others = [self.between, *(self.covered(name, self.lifts) for name in ("lift before", "lift now"))]
        others += [self.covered(name, self.fitted) for name in ("before", "swap now")]
        figures = (f"{mean(self.r2):.3f}", f"{best:.3f}", *(f"{share:.3f}" for share in shares))
        return (*at, *figures), (*at, f"{self.lifts[0]:.3f}", *(f"{share:.3f}" for share in others))


def measure(setting: Setting, replicates: int = REPLICATES, seed: int = 0) -> Coverage:
    """Score new sets of images, and keep the bounds of each."""
    generator, found = Generator().manual_seed(seed), Coverage(setting)
    for _ in range(replicates):
        source, target = setting.drawn(generator)
        split = split_of(source, None, generator)
        whole = torch.ones(source.shape[:2], dtype=torch.bool)
        pair = Paired(rows_of(source[split.images], whole), rows_of(target[split.images], whole), split, SHUFFLES)
        fits = [setting.r2_of(source[split.images[half]], target[split.images[half]]) for half in split.halves]
        r2, shuffled = float(pair.r2(pair.observed)), pair.r2(split.shuffled(SHUFFLES, generator))
        null = null_of(r2, shuffled)
        found.r2.append(r2)
        found.nulls.append(null)
        found.fitted.append(1 - sum(left for left, _ in fits) / sum(total for _, total in fits))
        found.bounds.append(_bounds(pair, r2, null, generator))
    return found


def _bounds(pair: Paired, r2: float, null: Null, generator: Generator) -> dict[str, Bounds]:
    error, truth, _ = (part.sum(dim=1) for part in pair.judged())
    (refitted, kept), groups = log_variances(pair, error, truth)
    before, now = bootstrap_bounds(error, truth, generator), log_bounds(r2, (refitted + kept) / 2, groups)
    errors = {"own": torch.zeros_like(error), "mean": truth, "mapped": error}
    return {
        "before": before,
        "refitted": log_bounds(r2, refitted, groups),
        "now": now,
        "lift before": (before[0] - null.mean, before[1] - null.mean),
        "lift now": lift_bounds(r2, *now, null),
        "swap now": Swap("a", "b", "omega", errors, torch.arange(len(error))).bounds,
    }


def bootstrap_bounds(error: Tensor, truth: Tensor, generator: Generator) -> Bounds:
    """Return 95% bounds of R2 by resampling judged images with maps kept, as before the jackknife."""
    drawn = torch.randint(len(error), (DRAWS, len(error)), generator=generator)
    found = 1 - error[drawn].sum(dim=1) / truth[drawn].sum(dim=1)
    low, high = found.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def settings() -> list[Setting]:
    """List the settings: all images and widths at equal signal and noise, and other noise at one width."""
    equal = [Setting(images, width, 1.0) for width in WIDTHS for images in IMAGES]
    return equal + [Setting(images, 8, noise) for noise in NOISES if noise != 1.0 for images in IMAGES]


def claims(found: Sequence[Coverage]) -> dict[str, bool]:
    """Return each claim about the tables, and whether it holds."""
    r2 = {one.setting: one.covered("now", one.again) for one in found}
    enough = [share for setting, share in r2.items() if setting.images >= 16 and setting.best > 0.1]
    return {
        "from 8 images on, the bounds of R2 cover in 0.93 or more": min(r2.values()) >= 0.93,
        "from 16 images on they cover in 0.98 or less, unless the best map explains less than a tenth": max(enough) <= 0.98,
        "the bounds of the lift cover in 0.93 or more": min(one.covered("lift now", one.lifts) for one in found) >= 0.93,
        "the bounds of a swap cover in 0.9 or more": min(one.covered("swap now", one.fitted) for one in found) >= 0.9,
    }


def section(found: Sequence[Coverage]) -> str:
    """Format the section of the page."""
    claimed = "\n".join(f"- {claim}: {'yes' if holds else 'NO'}." for claim, holds in claims(found).items())
    r2, others = zip(*(one.rows for one in found), strict=True)
    words = WORDS.format(replicates=REPLICATES, regions=REGIONS)
    parts = (words, claimed, "## R2", R2, table(R2_HEAD, r2), "## Lift and swap", OTHERS, table(OTHER_HEAD, others))
    return "\n\n".join(parts)


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Measure the coverage of the intervals of alignment.")
    parser.add_argument("--write", action="store_true", help="also write its section of docs/results/coverage-alignment.md")
    given = parser.parse_args(words)
    found = [measure(setting) for setting in settings()]
    print(section(found))
    if given.write:
        put(RESULTS / "coverage-alignment.md", "Coverage of intervals, simulated", "intervals", section(found))
    return 0 if all(claims(found).values()) else 1


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _by_image(generator: Generator, images: int, width: int) -> Tensor:
    """Draw values (B, G, D) of variance 1, of which the regions of an image have a share in common."""
    common, own = _normal(generator, images, 1, width), _normal(generator, images, REGIONS, width)
    return SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
