"""Transfer of read-outs: a read-out trained on one cell's tokens names noise from another cell's mapped tokens.

    python examples/transfer.py           # prints the table; exit code 1 if a claim fails
    python examples/transfer.py --write   # also writes its section of docs/results/alignment.md

Maps are fitted on one set of images, the read-out on another, and both are tested on a third. A map from B to A is fitted
directly, or through the frame of the two. Controls are B's tokens unmapped, B's tokens by a map of shuffled pairings, and the
tokens of an untrained cell in B's place, by its own map.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from pages import RESULTS, put, table
from torch import Generator, Tensor

import batteries
import composer
import registry
from batteries.data.sources import seed_of
from batteries.geometry import estimates
from batteries.noise import NAMES, of_types
from batteries.readout import ReadOut
from composer import grids, procrustes
from composer.alignment import tokens
from composer.vocabulary import Grid, TokenKind
from registry.viability.controls import untrained_cell

PAIRS = (
    ("low/johanna-64-s1", "low/johanna-64-s2"),
    ("low/johanna-64", "low/attractor-64"),
    ("high/johanna-64-s1", "high/johanna-64-s2"),
    ("low/johanna-64", "high/johanna-64"),
    ("low/johanna-64", "low/fresnel-64"),
)
KINDS: tuple[TokenKind, ...] = ("omega", "S", "moment")
WAYS = ("own", "mapped", "least squares", "unturned", "untouched", "shuffled", "untrained")
SEEDS = 5
PARTS = {"map": 8, "learn": 32, "judge": 24}  # images of each noise type
PENALTY = 1e-2  # penalty of the read-out, which has many features for few images
PURPOSE = 7  # purpose of a seed, distinct from those of the library
SHUFFLES = 4  # shuffled pairings per seed, whose accuracies are averaged
SIZE, AT_ONCE = 64, 64  # pixels; images
CHANCE = 1 / len(NAMES)
CONTROLS = ("unturned", "untouched", "shuffled", "untrained")
LITTLE = 0.08  # accuracy close to chance

WORDS = """`python examples/transfer.py --write`: accuracy of a multinomial logistic regression that was fitted on mean and
spread of A's tokens over the regions of an image (penalty {penalty:g}) and names the {types} noise types from B's; chance is
{chance:.4f}. Means and standard errors over {seeds} seeds of images, untrained cells and shuffles; {map} images fit the maps,
{learn} the read-out, {judge} are judged. A narrower B is padded with zeros; its finer grid is averaged over A's regions.
*start*: whether both trainings began at one seed.

*own*: A's tokens. *mapped*: B's, by way of the frame of the two cells, which keeps A's spread. *kept*: what that leaves of
the lead of *own* over chance. *least squares*: B's by the direct map of least squares. *unturned*: the shift and scale of
*mapped* without its rotation. *untouched*: B's as they are. *shuffled*: as *mapped*, by maps of pairings shuffled by image
(mean of {shuffles}). *untrained*: those of an untrained cell of B's spec, by a map of its own."""
CAUTION = """The map of least squares shrinks what it predicts little of: its tokens have lost the spread that the read-out
looks at. The map by way of a frame has no such scale. No rotation changes how far a token is from the mean, so that even
shuffled pairings leave the read-out something."""

End = tuple[str, Grid]


@dataclass(frozen=True)
class Transfer:
    """Accuracies of A's read-out on one kind of B's tokens.

    Attributes:
        pair: Names of A and B.
        one_start: Whether both were trained from one seed.
        kind: Kind of token.
        found: Accuracies by way, one per seed.
    """

    pair: tuple[str, str]
    one_start: bool
    kind: TokenKind
    found: Mapping[str, tuple[float, ...]]

    def mean(self, way: str) -> float:
        """Return the mean accuracy of a way over seeds."""
        return statistics.mean(self.found[way])

    def above(self, way: str, other: str) -> float:
        """Return the lower 95% bound of the lead of one way over another, by Student's t over seeds."""
        lead = [one - two for one, two in zip(self.found[way], self.found[other], strict=True)]
        return statistics.mean(lead) - estimates.student(0.95, len(lead) - 1) * error_of(lead)

    @property
    def kept(self) -> float:
        """Lead of B's mapped tokens over chance, as a share of that of A's own."""
        return (self.mean("mapped") - CHANCE) / (self.mean("own") - CHANCE)

    @property
    def band(self) -> str:
        """Band of both cells; empty if they differ."""
        first, second = (name.split("/")[0] for name in self.pair)
        return first if first == second else ""

    @property
    def row(self) -> tuple[str, ...]:
        """Row of the table."""
        own, mapped, *others = (f"{self.mean(way):.3f} ± {error_of(self.found[way]):.3f}" for way in WAYS)
        return *self.pair, "one" if self.one_start else "two", self.kind, own, mapped, f"{self.kept:.2f}", *others


def error_of(values: Sequence[float]) -> float:
    """Return the standard error of a mean; 0 for a single value."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def images(part: str, seed: int) -> tuple[Tensor, Tensor]:
    """Make images of every noise type, and their types; they differ between parts and seeds."""
    types = torch.arange(len(NAMES)).repeat_interleave(PARTS[part])
    place = list(PARTS).index(part)
    return of_types(types, (SIZE, SIZE), Generator().manual_seed(seed_of(seed, place, PURPOSE))), types


@torch.no_grad()
def tokens_of(container: composer.Container, batch: Tensor, ends: Sequence[End]) -> dict[tuple[End, TokenKind], Tensor]:
    """Return every kind of token (B, G, width) of cells on their grids."""
    found: dict[tuple[End, TokenKind], list[Tensor]] = {}
    for part in batch.split(AT_ONCE):
        out = container(part, ("M", "S", "omega"))
        for end, kind in product(ends, KINDS):
            found.setdefault((end, kind), []).append(tokens.of(out[end[0]], kind, end[1]))
    return {what: torch.cat(parts) for what, parts in found.items()}


def features(found: Tensor) -> Tensor:
    """Return mean and standard deviation of tokens (B, G, width) over the regions: (B, 2 width)."""
    return torch.cat([found.mean(dim=1), found.std(dim=1, correction=0)], dim=1)


def least_squares(source: Tensor, target: Tensor) -> composer.procrustes.Alignment:
    """Fit a map between tokens (B, G, width) with a scale, which is small if they predict little."""
    return procrustes.fit(source.flatten(0, 1), target.flatten(0, 1), unequal="pad")


def by_frame(source: Tensor, target: Tensor) -> composer.procrustes.Alignment:
    """Fit a map by way of the consensus of both, which keeps the spread of the target."""
    ends = [target.flatten(0, 1), source.flatten(0, 1)]
    there, here = (composer.procrustes.map_into(composer.procrustes.generalised(ends), end) for end in ends)
    return here.then(there.inverse())


def unturned(found: composer.procrustes.Alignment) -> composer.procrustes.Alignment:
    """Return a map with the same shift and scale, without the rotation."""
    return replace(found, rotation=torch.eye(found.rotation.shape[-1], dtype=torch.float64))


@dataclass(frozen=True)
class Seen:
    """Tokens of cells on the three parts of a seed's images.

    Attributes:
        types: Noise types (B,) by part.
        tokens: Tokens (B, G, width) by part, then by end and kind.
    """

    types: Mapping[str, Tensor]
    tokens: Mapping[str, Mapping[tuple[End, TokenKind], Tensor]]

    def read_out(self, end: End, kind: TokenKind) -> ReadOut:
        """Fit the read-out of a cell's tokens."""
        return ReadOut.of(features(self.tokens["learn"][end, kind]), self.types["learn"], penalty=PENALTY)

    def accuracies(self, learned: ReadOut, a: End, b: End, fresh: End, kind: TokenKind, orders: Tensor) -> dict[str, float]:
        """Return the accuracies of A's read-out by way; ``orders`` (SHUFFLES, B) are those of shuffled pairings."""
        target, source, null = (self.tokens["map"][end, kind] for end in (a, b, fresh))
        own, other, untrained = (self.tokens["judge"][end, kind] for end in (a, b, fresh))
        mapped = by_frame(source, target)
        read = {
            "own": [own],
            "mapped": [mapped(other)],
            "least squares": [least_squares(source, target)(other)],
            "unturned": [unturned(mapped)(other)],
            "untouched": [grids.pad(other, own.shape[-1])],
            "shuffled": [by_frame(source[order], target)(other) for order in orders],
            "untrained": [by_frame(null, target)(untrained)],
        }
        truth = self.types["judge"]
        return {way: statistics.mean(learned.accuracy(features(one), truth) for one in found) for way, found in read.items()}


def see(cells: Mapping[str, batteries.Cell], ends: Sequence[End], seed: int) -> Seen:
    """Compute the tokens of cells on the images of a seed."""
    container, made = composer.compose(cells), {part: images(part, seed) for part in PARTS}
    found = {part: tokens_of(container, batch, ends) for part, (batch, _) in made.items()}
    return Seen({part: types for part, (_, types) in made.items()}, found)


def of_seed(cells: Mapping[str, batteries.Cell], pairs: Sequence[tuple[str, str]], seed: int) -> list[dict[str, float]]:
    """Return the accuracies by way, for every pair and kind."""
    fresh = {cells[b].spec: untrained_cell(cells[b], seed) for _, b in pairs}
    names = {spec: f"untrained, D={spec.D}" for spec in fresh}
    triples = []
    for a, b in pairs:
        grid = grids.coarsest([cells[name].spec.grid(SIZE, SIZE) for name in (a, b)])
        triples.append(((a, grid), (b, grid), (names[cells[b].spec], grid)))
    ends = list(dict.fromkeys(end for triple in triples for end in triple))
    seen = see({**cells, **{names[spec]: cell for spec, cell in fresh.items()}}, ends, seed)
    readers = dict.fromkeys((a, kind) for (a, _, _), kind in product(triples, KINDS))
    learned = {(a, kind): seen.read_out(a, kind) for a, kind in readers}
    generator = Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(len(seen.types["map"]), generator=generator) for _ in range(SHUFFLES)])
    return [seen.accuracies(learned[triple[0], kind], *triple, kind, orders) for triple, kind in product(triples, KINDS)]


def measure(pairs: Sequence[tuple[str, str]] = PAIRS, seeds: int = SEEDS) -> list[Transfer]:
    """Measure every pair and kind, over seeds of images, untrained cells and shuffled pairings."""
    cells = {cell.name: cell for cell in registry.pull(*dict.fromkeys(name for pair in pairs for name in pair))}
    runs = [of_seed(cells, pairs, seed) for seed in range(seeds)]
    found = []
    for place, (pair, kind) in enumerate(product(pairs, KINDS)):
        first, second = (cells[name].manifest.training.seed for name in pair)
        accuracies = {way: tuple(run[place][way] for run in runs) for way in WAYS}
        found.append(Transfer(pair, first == second, kind, accuracies))
    return found


def claims(found: Sequence[Transfer]) -> dict[str, bool]:
    """Test the claims about the table."""
    values = [one for one in found if one.kind != "moment"]
    moments = {one.pair: one for one in found if one.kind == "moment"}
    low = [one for one in moments.values() if one.band == "low"]
    return {
        "LOW, moment: B's mapped tokens are named more often than by any control": all(
            one.above("mapped", way) > 0 for one in low for way in CONTROLS
        ),
        "within a band more is kept of moments, which have directions, than of omega or S": all(
            moments[one.pair].kept > one.kept for one in values if one.band
        ),
        "omega and S, within a band: B's mapped tokens are named more often than by any control": all(
            one.above("mapped", way) > 0 for one in values if one.band for way in CONTROLS
        ),
        "omega and S: by the map of least squares the read-out is at chance": all(
            one.mean("least squares") < LITTLE for one in values
        ),
    }


def section(found: Sequence[Transfer]) -> str:
    """Format the section with its table."""
    counts = {part: each * len(NAMES) for part, each in PARTS.items()}
    words = WORDS.format(penalty=PENALTY, types=len(NAMES), chance=CHANCE, seeds=SEEDS, shuffles=SHUFFLES, **counts)
    head = ("A", "B", "start", "tokens", "own", "mapped", "kept", *WAYS[2:])
    claimed = "\n".join(f"- {claim}: {'yes' if holds else 'NO'}." for claim, holds in claims(found).items())
    return "\n\n".join(["## Aligned tokens used", words, table(head, [one.row for one in found]), claimed, CAUTION])


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Read one cell's tokens by another cell's read-out.")
    parser.add_argument("--write", action="store_true", help="also write the section of docs/results/alignment.md")
    given = parser.parse_args(words)
    found = measure()
    print(section(found))
    if given.write:
        put(RESULTS / "alignment.md", "Alignment, measured", "transfer", section(found))
    return 0 if all(claims(found).values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
