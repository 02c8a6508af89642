"""Error signatures: how often the errors of nine frozen cells name the noise type, beside the same container untrained.

    python examples/signature.py           # prints the table; exit code 1 where the claim does not hold
    python examples/signature.py --write   # the same, and its section of docs/results/wiring.md

A multinomial logistic regression reads the errors. The claim: one error a cell names the noise better than the errors of any
of three containers of untrained cells, by non-overlapping 95% bounds, and better than chance.
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
from registry.viability.controls import control_cell

CELLS = (
    *("low/johanna-64", "low/attractor-64", "low/fresnel-64", "mid/johanna-64", "mid/fresnel-64"),
    *("high/johanna-64", "high/attractor-64", "high/freckles-64", "high/fresnel-64"),
)
TRAIN, TEST = 25, 25  # images of each noise type
SIZE, AT_ONCE = 64, 64  # pixels; images
UNTRAINED = 3  # containers
SEEDS = 100  # of a container: no two of its cells, nor of another's, share one
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
    """How often a reading named the noise type.

    Attributes:
        way: What was read.
        trained: Test images named right by the trained container's errors.
        untrained: By those of each untrained one.
        of: Test images.
    """

    way: str
    trained: int
    untrained: tuple[int, ...]
    of: int

    @property
    def holds(self) -> bool:
        """Whether training is seen in it: its lower bound above every upper one, and above chance."""
        return wilson(self.trained, self.of)[0] > max(CHANCE, *(wilson(count, self.of)[1] for count in self.untrained))

    @property
    def row(self) -> tuple[str, ...]:
        """As the table has it."""
        low, high = wilson(self.trained, self.of)
        null = [count / self.of for count in self.untrained]
        spread = f"{min(null):.4f} to {max(null):.4f}"
        return self.way, f"{self.trained / self.of:.4f}", f"{low:.4f} to {high:.4f}", f"{sum(null) / len(null):.4f}", spread


def images(part: int, per_type: int) -> tuple[Tensor, Tensor]:
    """Seeded images of every noise type, and their types."""
    types = torch.arange(len(NAMES)).repeat_interleave(per_type)
    return of_types(types, (SIZE, SIZE), Generator().manual_seed(part)), types


@torch.no_grad()
def errors(container: composer.Container, batch: Tensor) -> Tensor:
    """Log of mean and of standard deviation of every cell's patch errors: (B, cells, 2)."""
    parts = [features.of_image("signature", container(part, ("recon",)), part) for part in batch.split(AT_ONCE)]
    return torch.cat(parts).unflatten(1, (-1, 2))


def seen(found: Tensor, way: str) -> Tensor:
    """What the regression reads of :func:`errors`: (B, features)."""
    match way:
        case "error":
            return found[..., 0]
        case "pattern":
            return found[..., 0] - found[..., 0].mean(dim=1, keepdim=True)
        case _:
            return found.flatten(1)


def named_right(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> int:
    """How many test images a multinomial logistic regression names right: features (n, F) and types (n,) of each part."""
    return int((ReadOut.of(*train)(test[0]) == test[1]).sum())


def untrained(cells: list[batteries.Cell], seed: int) -> composer.Container:
    """The same container, of cells that never learned."""
    fresh = [control_cell(cell, "untrained", SEEDS * seed + place) for place, cell in enumerate(cells)]
    return composer.compose(fresh)


def measure() -> tuple[list[Named], float]:
    """Every way to read the errors; and the least correlation of an untrained cell's log error with the images' log energy."""
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
    """Of (B, cells) with (B,), over the cells."""
    return float(torch.corrcoef(torch.cat([energy[:, None], found], dim=1).T)[0, 1:].min())


def section(found: list[Named], energy: float) -> str:
    """Words and the table."""
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
    """Command."""
    parser = argparse.ArgumentParser(description="Name noise by error signatures.")
    parser.add_argument("--write", action="store_true", help="write the section of docs/results/wiring.md, too")
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
