"""Sixteen cells, each trained on one noise type: whose error names the type, against untrained cells and one generalist.

    python examples/experts.py                       # prints the page; exit code 1 if the claim fails
    python examples/experts.py --write               # also writes docs/results/experts.md
    python examples/experts.py --registry ./cells    # experts of another registry

The claim: a regression on the errors of the experts names the type more accurately than one on those of each container of 16
untrained cells, and than one on the error of the generalist, by non-overlapping 95% bounds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pages import RESULTS, table, wilson
from signature import errors, images, named_right
from torch import Tensor

import batteries
import composer
import registry
from batteries.io import atomic_files
from batteries.noise import NAMES
from registry.viability.controls import untrained_cell

EXPERTS = tuple(f"high/expert-{name}-64" for name in NAMES)
GENERALIST = "high/johanna-64"
TRAIN, TEST = (11, 20), (12, 40)  # seed, and images of each noise type
UNTRAINED = 3  # containers
SEEDS = 100  # seeds set aside for each container, so that no two untrained cells share one
RULES = ("least error", "least relative error")
READS = ("error", "error and spread")

HEAD = """# Experts of one noise type each

Written by `python examples/experts.py --write`: {experts} cells of HIGH, each trained on one of the {types} noise types, in one
container, beside {untrained} containers of as many untrained cells and the one generalist `{generalist}`. {train} training
and {test} test images in all, of seeds that no cell and no probe has. Bounds are 95% bounds of a share (Wilson); chance is
{chance:.4f}.

*least error*: the type of the expert with the least error on the image. *least relative error*: the same with each error
divided by that cell's mean error on the training images of its own type. *regression*: a multinomial logistic regression on
the logs of all errors, or on these and the logs of the standard deviations of the patches' errors, fitted on the training
images; the same for all containers."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Log errors of a container's cells on training and test images.

    Attributes:
        train: Logs of mean and standard deviation of the patches' errors (n, cells, 2), and types (n,).
        test: Logs and types of the test images, in the same form.
    """

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, container: composer.Container) -> Errors:
        """Run a container over the training and the test images."""
        parts = [images(*part) for part in (TRAIN, TEST)]
        train, test = ((errors(container, batch), types) for batch, types in parts)
        return cls(train, test)

    @property
    def own(self) -> Tensor:
        """Mean error (cells,) of each cell on the training images of its own type, as many cells as types."""
        found, types = self.train
        return torch.stack([found[types == kind, kind, 0].exp().mean() for kind in range(len(NAMES))])

    def named(self, rule: str) -> Tensor:
        """Name the types (n,) of the test images by the expert that a rule chooses."""
        error = self.test[0][..., 0]
        return (error if rule == RULES[0] else error - self.own.log()).argmin(dim=1)

    def right(self, rule: str) -> int:
        """Count the test images whose type a rule names."""
        return int((self.named(rule) == self.test[1]).sum())

    def read(self, reads: str) -> int:
        """Count the test images whose type a regression names."""
        train, test = (
            (found[..., 0] if reads == READS[0] else found.flatten(1), types) for found, types in (self.train, self.test)
        )
        return named_right(train, test)


@dataclass(frozen=True)
class Named:
    """Test images that a way names right.

    Attributes:
        way: Name of the way.
        experts: Count of the experts.
        untrained: Count of each container of untrained cells.
        generalist: Count of the generalist; None where a single error names nothing.
        of: Number of test images.
    """

    way: str
    experts: int
    untrained: tuple[int, ...]
    generalist: int | None
    of: int

    @property
    def beats(self) -> tuple[bool, bool | None]:
        """Tell if the experts' lower bound is above the upper ones of all untrained containers, and of the generalist."""
        low = wilson(self.experts, self.of)[0]
        one = None if self.generalist is None else low > wilson(self.generalist, self.of)[1]
        return low > max(wilson(count, self.of)[1] for count in self.untrained), one

    @property
    def row(self) -> tuple[str, ...]:
        """Row of the table."""
        null = [count / self.of for count in self.untrained]
        one = "-" if self.generalist is None else share(self.generalist, self.of)
        return self.way, share(self.experts, self.of), f"{min(null):.4f} to {max(null):.4f}", one


def share(count: int, of: int) -> str:
    """Format a share with its bounds."""
    low, high = wilson(count, of)
    return f"{count / of:.4f} ({low:.4f} to {high:.4f})"


def measure(experts: Sequence[batteries.Cell], generalist: batteries.Cell) -> tuple[Errors, list[Named]]:
    """Score every way of naming; experts are in the order of the noise types."""
    found = Errors.of(composer.compose(experts))
    null = [Errors.of(untrained(experts, seed)) for seed in range(UNTRAINED)]
    one, of = Errors.of(composer.compose(generalist)), len(found.test[1])
    ways = [Named(rule, found.right(rule), tuple(n.right(rule) for n in null), None, of) for rule in RULES]
    for reads in READS:
        counts = tuple(n.read(reads) for n in null)
        ways.append(Named(f"regression: {reads}", found.read(reads), counts, one.read(reads), of))
    return found, ways


def untrained(cells: Sequence[batteries.Cell], seed: int) -> composer.Container:
    """Compose untrained cells of the same specs."""
    return composer.compose([untrained_cell(cell, SEEDS * (seed + 1) + place) for place, cell in enumerate(cells)])


def confusion(found: Errors, rule: str) -> str:
    """Format the counts of a rule: a row per type, a column per expert, and the share of the right ones with its bounds."""
    named, types = found.named(rule), found.test[1]
    rows = []
    for kind, name in enumerate(NAMES):
        counts = named[types == kind].bincount(minlength=len(NAMES)).tolist()
        shown = [str(count) if count else "." for count in counts]
        rows.append((name, *shown, share(counts[kind], sum(counts))))
    columns = [str(kind) for kind in range(len(NAMES))]
    heads = ("type", *columns, "right")
    return table(heads, [(f"{kind} {row[0]}", *row[1:]) for kind, row in enumerate(rows)])


def conclusion(ways: Sequence[Named]) -> str:
    """Say what the figures support, a sentence for each way."""
    return "\n".join(f"- {sentence(way)}" for way in ways)


def sentence(way: Named) -> str:
    """Say whether the experts name the type better than untrained cells, and than the generalist."""
    null, one = way.beats
    words = f"*{way.way}*: the experts are {'' if null else 'not '}more accurate than untrained cells"
    return words + ("." if one is None else f", and {'' if one else 'not '}more accurate than the generalist.")


def page(found: Errors, ways: Sequence[Named]) -> str:
    """Format the page."""
    head = HEAD.format(
        experts=len(EXPERTS),
        types=len(NAMES),
        untrained=UNTRAINED,
        generalist=GENERALIST,
        train=TRAIN[1] * len(NAMES),
        test=TEST[1] * len(NAMES),
        chance=1 / len(NAMES),
    )
    rows = table(("way", "experts", "untrained", "generalist"), [way.row for way in ways])
    own = table(("expert", "mean error on its own type"), [*zip(NAMES, (f"{e:.3g}" for e in found.own.tolist()), strict=True)])
    parts = [head, rows, f"Where 95% bounds do not overlap:\n\n{conclusion(ways)}", own]
    none = f"Rows are types of test images, {TEST[1]} of each; columns are experts by number. No image: {share(0, TEST[1])}."
    parts += ["## Confusion", none, *(f"By *{rule}*:\n\n{confusion(found, rule)}" for rule in RULES)]
    return "\n\n".join(parts) + "\n"


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Name noise by the expert of least error.")
    parser.add_argument("--write", action="store_true", help="also write docs/results/experts.md")
    parser.add_argument("--registry", help="registry of the experts")
    given = parser.parse_args(words)
    experts = registry.pull(*EXPERTS, registry=given.registry)
    found, ways = measure(experts, registry.load(GENERALIST))
    text = page(found, ways)
    print(text)
    if given.write:
        atomic_files.replace(RESULTS / "experts.md", text.encode())
    holds = all(ways[len(RULES)].beats)
    print(f"experts' errors name the noise better than untrained cells' and the generalist's: {'yes' if holds else 'NO'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
