"""Error signatures: accuracy of naming the noise type from the errors of nine frozen cells, trained and untrained.

    python examples/signature.py           # prints the table; exit code 1 if the claim fails
    python examples/signature.py --write   # also writes its section of docs/results/wiring.md

A multinomial logistic regression predicts the type from the errors. The claim: with one error per cell, the trained container
is more accurate than each of three untrained ones, by non-overlapping 95% bounds, and more accurate than chance.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import torch
from pages import RESULTS, put, table, wilson
from torch import Generator, Tensor

import batteries
import composer
import registry
from batteries.noise import NAMES, of_types
from batteries.readout import ReadOut
from composer.hosts import features
from registry.viability.controls import untrained_cell

CELLS = (
    *("low/johanna-64", "low/attractor-64", "low/fresnel-64", "mid/johanna-64", "mid/fresnel-64"),
    *("high/johanna-64", "high/attractor-64", "high/freckles-64", "high/fresnel-64"),
)
TRAIN, TEST = 25, 25  # images of each noise type
SIZE, AT_ONCE = 64, 64  # pixels; images
UNTRAINED = 3  # containers
SEEDS = 100  # seeds set aside for each container, so that no two untrained cells share one
CHANCE = 1 / len(NAMES)

WAYS = ("error", "pattern", "error and spread")
WORDS = """`python examples/signature.py --write`: accuracy of a multinomial logistic regression that names the {types}
noise types from the errors of {cells} frozen cells ({train} training and {test} test images in all), beside the mean
and range of {untrained} containers of untrained cells. Bounds are 95% bounds of a share (Wilson); chance is {chance:.4f}.
The cells: {names}.

*error*: the log of each cell's mean error. *pattern*: the same less its mean over the cells, so that only which cell fails
more is left. *error and spread*: the log of mean and of standard deviation of the patches' errors."""
CAUTION = """With the spread of the patches' errors beside their mean, untrained cells name the noise nearly as well. They
explain nothing, so that their errors are the image's own energy (the logs correlate by {energy:.4f} or more in every
untrained cell), and its mean and spread over patches say most of what there is to say of noise. What training adds is in
one cell's errors beside another's."""


@dataclass(frozen=True)
class Named:
    """Accuracy of one set of features.

    Attributes:
        way: Name of the features, one of WAYS.
        trained: Test images classified right from the trained container's errors.
        untrained: Test images classified right from the errors of each untrained container.
        of: Number of test images.
    """

    way: str
    trained: int
    untrained: tuple[int, ...]
    of: int

    @property
    def holds(self) -> bool:
        """True if the trained container's lower bound is above chance and all upper bounds of untrained ones."""
        return wilson(self.trained, self.of)[0] > max(CHANCE, *(wilson(count, self.of)[1] for count in self.untrained))

    @property
    def row(self) -> tuple[str, ...]:
        """Row of the table."""
        low, high = wilson(self.trained, self.of)
        null = [count / self.of for count in self.untrained]
        spread = f"{min(null):.4f} to {max(null):.4f}"
        return self.way, f"{self.trained / self.of:.4f}", f"{low:.4f} to {high:.4f}", f"{sum(null) / len(null):.4f}", spread


def images(part: int, per_type: int) -> tuple[Tensor, Tensor]:
    """Make seeded images of every noise type, and their types."""
    types = torch.arange(len(NAMES)).repeat_interleave(per_type)
    return of_types(types, (SIZE, SIZE), Generator().manual_seed(part)), types


@torch.no_grad()
def errors(container: composer.Container, batch: Tensor) -> Tensor:
    """Return the logs of mean and standard deviation of every cell's patch errors: (B, cells, 2)."""
    parts = [features.of_image("signature", container(part, ("recon",)), part) for part in batch.split(AT_ONCE)]
    return torch.cat(parts).unflatten(1, (-1, 2))


def seen(found: Tensor, way: str) -> Tensor:
    """Select the features of the regression from :func:`errors`: (B, features)."""
    match way:
        case "error":
            return found[..., 0]
        case "pattern":
            return found[..., 0] - found[..., 0].mean(dim=1, keepdim=True)
        case _:
            return found.flatten(1)


def named_right(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> int:
    """Count the test images that a regression classifies right, from features (n, F) and types (n,) of each part."""
    return int((ReadOut.of(*train)(test[0]) == test[1]).sum())


def untrained(cells: list[batteries.Cell], seed: int) -> composer.Container:
    """Compose untrained cells of the same specs."""
    fresh = [untrained_cell(cell, SEEDS * seed + place) for place, cell in enumerate(cells)]
    return composer.compose(fresh)


def measure() -> tuple[list[Named], float]:
    """Score every set of features; also return the least correlation of untrained cells' log errors with log energy."""
    cells = registry.pull(*CELLS)
    containers = [composer.compose(cells), *(untrained(cells, seed) for seed in range(UNTRAINED))]
    (learned, types), (judged, truth) = images(1, TRAIN), images(2, TEST)
    read = [(errors(container, learned), errors(container, judged)) for container in containers]
    found = []
    for way in WAYS:
        first, *others = (named_right((seen(train, way), types), (seen(test, way), truth)) for train, test in read)
        found.append(Named(way, first, tuple(others), len(truth)))
    energy = judged.square().mean(dim=(1, 2, 3)).log()
    return found, min(least_correlation(test[..., 0], energy) for _, test in read[1:])


def least_correlation(found: Tensor, energy: Tensor) -> float:
    """Return the least correlation over cells of ``found`` (B, cells) with ``energy`` (B,)."""
    return float(torch.corrcoef(torch.cat([energy[:, None], found], dim=1).T)[0, 1:].min())


def section(found: list[Named], energy: float) -> str:
    """Format the section with its table."""
    words = WORDS.format(
        types=len(NAMES),
        cells=len(CELLS),
        names=", ".join(CELLS),
        train=TRAIN * len(NAMES),
        test=TEST * len(NAMES),
        untrained=UNTRAINED,
        chance=CHANCE,
    )
    head = ("read", "trained", "bounds", "untrained", "range")
    return f"## Error signatures\n\n{words}\n\n{table(head, [named.row for named in found])}\n\n{CAUTION.format(energy=energy)}"


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Name noise by error signatures.")
    parser.add_argument("--write", action="store_true", help="also write the section of docs/results/wiring.md")
    given = parser.parse_args(words)
    found, energy = measure()
    text = section(found, energy)
    print(text)
    if given.write:
        put(RESULTS / "wiring.md", "Wired cells, measured", "signature", text)
    print(f"\ntrained cells' errors name the noise better than untrained ones': {'yes' if found[0].holds else 'NO'}")
    return 0 if found[0].holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
