"""Consensus of two hundred cells: its cost, and new cells that join it by one map each.

    python examples/consensus.py           # prints the tables; exit code 1 if a claim fails
    python examples/consensus.py --write   # also writes its section of docs/results/alignment.md

The consensus is made of ten shipped noise cells of three bands, and of copies with Gaussian noise on their weights. Two cells
of other trainings and their copies then join, and for comparison photograph cells and untrained cells.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from pages import RESULTS, put, table
from torch import Tensor

import batteries
import composer
import registry
from batteries.cell import weights_file
from batteries.cell.cell import file_facts
from composer.alignment.align import paired
from composer.procrustes.consensus import MOST_SHUFFLES
from registry.viability.controls import untrained_cell

SHIPPED = (
    *("low/johanna-64", "low/attractor-64", "low/johanna-64-s1", "low/johanna-64-s2", "mid/johanna-64"),
    *("high/johanna-64", "high/attractor-64", "high/freckles-64", "high/johanna-64-s1", "high/johanna-64-s2"),
)
OTHERS = ("low/johanna-64-s3", "high/johanna-64-s3")
PHOTOGRAPHS = ("low/fresnel-64", "mid/fresnel-64", "high/fresnel-64")
CELLS, JOINING = 200, 10
UNTRAINED = 3  # untrained cells of each photograph cell's spec
NOISE = (0.005, 0.01, 0.02)  # noise on a copy's weights, as a share of the root mean square of each tensor
PROBE, EVERY = "noise16-64", 4  # stride through the images of the probe
BANDS = ("low", "mid", "high")
KINDS = ("in it, as it ships", "in it, a copy", "joined", "photograph cell", "untrained")
LEAST_RATIO, MOST_CHANGE = 10, 0.01

WORDS = """`python examples/consensus.py --write`: {cells} cells in one container, aligned by omega on every {every}th image of
{probe}: ten noise cells that ship ({low} LOW, {mid} MID, {high} HIGH), and copies of them with Gaussian noise on every tensor
of their weights, of {noise} of its root mean square. A copy is not another training: its error is that of the
cell times {worse}.
Then {joining} cells join, one after the other: {others}, trained from seeds that are not in
the frame, and copies of these. Times of one run: compare them with each other. Joining is composing, tokens, map and score."""
SCORES = """Held-out R2 of a cell's omega against the consensus: for cells in it against the cells of other groups, among
which are copies of the same cell, which is why they score high; for the others against the whole frame. *Shuffled*: mean
R2 of pairings shuffled by image; *above*: how many cells are above every shuffle ({shuffles} at most). The photograph cells
of LOW and MID were trained from the seed of a cell in the frame, that of HIGH was not; untrained cells are of their specs, and
{fooled} of {fresh} of them are above every shuffle: two functions of one image agree a little by themselves. Of the former
cells, which Adam trained, the photograph cells were nearer than the noise cells of another start; of these they are not."""

T = TypeVar("T")


def perturbed(cell: batteries.Cell, size: float, seed: int) -> batteries.Cell:
    """Copy a cell with Gaussian noise on every tensor, ``size`` times its root mean square."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, array in cell.weights.items():
        spread = size * float(np.sqrt(np.mean(np.square(array))))
        weights[name] = array + np.float32(spread) * rng.standard_normal(array.shape, dtype=np.float32)
    facts = file_facts(weights_file.write(weights), weights)
    return batteries.Cell(weights, cell.manifest.model_copy(update={"file": facts}))


def crowd(names: Sequence[str], count: int) -> dict[str, batteries.Cell]:
    """Return ``count`` cells: those of the names, then noisy copies of each in turn."""
    cells = {cell.name: cell for cell in registry.pull(*names)}
    for number in range(count - len(cells)):
        name, size = names[number % len(names)], NOISE[number // len(names) % len(NOISE)]
        cells[f"{name}, {size:.1%}, {number}"] = perturbed(cells[name], size, number)
    return cells


def strangers() -> dict[str, batteries.Cell]:
    """Return photograph cells, and untrained cells of their specs."""
    cells = {cell.name: cell for cell in registry.pull(*PHOTOGRAPHS)}
    fresh = {f"{name}, untrained, {seed}": untrained_cell(cells[name], seed) for name in cells for seed in range(UNTRAINED)}
    return {**cells, **fresh}


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return the result of a call and the seconds it took."""
    start = time.perf_counter()
    found = call()
    return found, time.perf_counter() - start


def memory(field: str) -> float:
    """Read a memory field of this process's status in MiB; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


@dataclass(frozen=True)
class Cost:
    """Times in seconds and memory in MiB.

    Attributes:
        composing: Time to compose the cells into a container.
        aligning: Time from images to consensus, in one call.
        forward: Time of the paired tokens of all cells, a part of ``aligning`` measured alone.
        frame: Time of the generalised Procrustes analysis, a part of ``aligning`` measured alone.
        joining: Time to compose and join one new cell, by cell.
        again: Time to align all cells with the new ones.
        weights: Size of the weights.
        added: Peak memory of the process while composing and aligning, over that before.
    """

    composing: float
    aligning: float
    forward: float
    frame: float
    joining: Sequence[float]
    again: float
    weights: float
    added: float

    @property
    def ratio(self) -> float:
        """Time of tokens and frame over that of joining one cell; only the latter includes scores."""
        return (self.forward + self.frame) / statistics.median(self.joining)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Rows of the table."""
        one = statistics.median(self.joining)
        return [
            ("composing them", f"{self.composing:.2f} s"),
            ("their tokens", f"{self.forward:.2f} s"),
            ("the frame", f"{self.frame:.2f} s"),
            ("maps and scores, which is the rest of aligning", f"{self.aligning - self.forward - self.frame:.2f} s"),
            (f"joining one cell, median of {len(self.joining)}", f"{one:.3f} s"),
            ("tokens and frame again, over joining one", f"{self.ratio:.0f}"),
            ("aligning all again, scores and all, over joining one", f"{self.again / one:.0f}"),
            ("their weights", f"{self.weights:.0f} MiB"),
            ("memory added at most", f"{self.added:.0f} MiB"),
        ]


@dataclass(frozen=True)
class Found:
    """Result of the measurement.

    Attributes:
        cost: Time and memory.
        cells: Number of cells in the consensus.
        scores: Scores by name of the cells in the consensus, those that joined, and :func:`strangers`.
        kept: Whether the frame and the first cells' maps are bit for bit unchanged after the others joined.
        change: Change of the frame if made again with the cells that joined.
        worse: Reconstruction errors of copies over that of the cell itself, by size of the noise.
    """

    cost: Cost
    cells: int
    scores: Mapping[str, composer.procrustes.Score]
    kept: bool
    change: float
    worse: Mapping[float, Sequence[float]]

    def of(self, what: str, band: str) -> list[composer.procrustes.Score]:
        """Return the scores of the cells of a kind and a band."""
        return [score for name, score in self.scores.items() if kind_of(name) == what and name.startswith(f"{band}/")]

    def r2(self, what: str, band: str) -> list[float]:
        """Return the R2 of the cells of a kind and a band."""
        return [score.r2 for score in self.of(what, band)]

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Rows of the table."""
        found = []
        for what, band in product(KINDS, BANDS):
            if r2 := self.r2(what, band):
                nulls = [score.shuffled for score in self.of(what, band)]
                shuffled = statistics.mean(null.mean for null in nulls)
                above = f"{sum(null.exceeding == 0 for null in nulls)} of {len(nulls)}"
                row = f"{statistics.mean(r2):.3f}", f"{min(r2):.3f} to {max(r2):.3f}", f"{shuffled:.3f}", above
                found.append((what, band, *row))
        return found


def kind_of(name: str) -> str:
    """Return the role of a cell in the consensus, one of :data:`KINDS`."""
    base = name.split(",")[0]
    if "untrained" in name:
        return "untrained"
    if base in SHIPPED:
        return "in it, as it ships" if base == name else "in it, a copy"
    return "joined" if base in OTHERS else "photograph cell"


def measure(count: int = CELLS, joining: int = JOINING) -> Found:
    """Make a consensus of ``count`` cells, and let ``joining`` others join it."""
    images = batteries.probe(PROBE).images[::EVERY]
    cells, new = crowd(SHIPPED, count), crowd(OTHERS, joining)
    composer.align(composer.compose([cells[name] for name in SHIPPED]), images)  # compiles the kernels before the timing
    before = memory("VmRSS")
    container, composing = timed(lambda: composer.compose(cells))
    consensus, aligning = timed(lambda: composer.align(container, images))
    added = memory("VmHWM") - before
    (tokens, _), forward = timed(lambda: paired(container, images, "omega", "coarsest"))
    _, frame = timed(lambda: composer.procrustes.generalised([own.flatten(0, 1) for own in tokens.values()]))
    joined, seconds = join_each(consensus, new, images)
    extended = composer.compose({**cells, **new})
    again, anew = timed(lambda: composer.align(extended, images))
    beside = composer.join(joined, composer.compose(strangers()), images)
    weights = sum(group.bytes for group in container.explain().groups) / 2**20
    return Found(
        cost=Cost(composing, aligning, forward, frame, seconds, anew, weights, added),
        cells=count,
        scores=dict(zip(beside.names, beside.scores, strict=True)),
        kept=same(consensus, beside),
        change=composer.procrustes.change(consensus.frame, again.frame),
        worse=worse(container, images),
    )


def join_each(
    consensus: composer.procrustes.Consensus, cells: Mapping[str, batteries.Cell], images: Tensor
) -> tuple[composer.procrustes.Consensus, list[float]]:
    """Join cells one after the other, and return the seconds that each took."""
    seconds = []
    for name, cell in cells.items():
        start = time.perf_counter()
        consensus = composer.join(consensus, composer.compose({name: cell}), images)
        seconds.append(time.perf_counter() - start)
    return consensus, seconds


def same(before: composer.procrustes.Consensus, after: composer.procrustes.Consensus) -> bool:
    """Tell whether a consensus contains the frame and the maps of an earlier one, bit for bit."""
    ends = [(before.frame.tokens, after.frame.tokens)]
    for mine, theirs in zip(before.maps, after.maps[: len(before.maps)], strict=True):
        ends += [(getattr(mine, part), getattr(theirs, part)) for part in ("rotation", "scale", "centre", "translation")]
    return all(torch.equal(one, other) for one, other in ends)


@torch.no_grad()
def worse(container: composer.Container, images: Tensor) -> dict[float, list[float]]:
    """Return the error of the first copy of every cell over the cell's own, by size of the noise."""
    found: dict[float, list[float]] = {}
    for place, size in enumerate(NOISE):
        copies = [f"{name}, {size:.1%}, {place * len(SHIPPED) + number}" for number, name in enumerate(SHIPPED)]
        both = [(name, copy) for name, copy in zip(SHIPPED, copies, strict=True) if copy in container.names]
        if both:
            names = [name for pair in both for name in pair]
            own, other = container(images, ("recon",), names).error.mean(dim=0).unflatten(0, (-1, 2)).unbind(dim=1)
            found[size] = (other / own).tolist()
    return found


def claims(found: Found) -> dict[str, bool]:
    """Test the claims about the tables."""
    joined, fresh = ({band: found.r2(what, band) for band in ("low", "high")} for what in ("joined", "untrained"))
    inside = {band: [*found.r2(KINDS[0], band), *found.r2(KINDS[1], band)] for band in joined}
    return {
        "cells join, and the frame and the maps of all others stay as they were, bit for bit": found.kept,
        f"joining one cell takes less than 1 / {LEAST_RATIO} of the time of all tokens and the frame again": found.cost.ratio
        > LEAST_RATIO,
        f"made again with those that joined, the frame changes by less than {MOST_CHANGE:.0%}": found.change < MOST_CHANGE,
        "cells of other trainings are nearer to the frame than any untrained one of their band": all(
            min(joined[band]) > max(fresh[band]) for band in joined
        ),
        "and farther from it than any cell of which copies are in it": all(
            max(joined[band]) < min(inside[band]) for band in joined
        ),
        "and LOW ones, of noise and of other starts, nearer than a photograph cell of a start that is in the frame": min(
            joined["low"]
        )
        > max(found.r2("photograph cell", "low")),
    }


def section(found: Found) -> str:
    """Format the section with its tables."""
    worse = "; ".join(f"{statistics.median(of):.3g} ({max(of):.3g} at most) at {size:.1%}" for size, of in found.worse.items())
    low, mid, high = (sum(name.startswith(f"{band}/") for name in SHIPPED) for band in BANDS)
    sizes = ", ".join(f"{size:.1%}" for size in NOISE)
    words = WORDS.format(
        cells=found.cells,
        every=EVERY,
        probe=PROBE,
        low=low,
        mid=mid,
        high=high,
        noise=sizes,
        worse=worse,
        joining=len(found.cost.joining),
        others=" and ".join(OTHERS),
    )
    head = ("cells", "band", "R2", "least to most", "shuffled", "above")
    claimed = "\n".join(f"- {claim}: {'yes' if holds else 'NO'}." for claim, holds in claims(found).items())
    changed = (
        f"Made again with the {len(found.cost.joining)} that joined, the frame changes by {found.change:.2%} of its variance."
    )
    costs, scores = table(("what", "of one run"), found.cost.rows), table(head, found.rows)
    nulls = [score.shuffled.exceeding == 0 for name, score in found.scores.items() if kind_of(name) == "untrained"]
    said = SCORES.format(shuffles=MOST_SHUFFLES, fooled=sum(nulls), fresh=len(nulls))
    return "\n\n".join(["## Two hundred cells in one frame", words, costs, changed, said, scores, claimed])


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Align two hundred cells, and let others join.")
    parser.add_argument("--write", action="store_true", help="also write the section of docs/results/alignment.md")
    given = parser.parse_args(words)
    found = measure()
    text = section(found)
    print(text)
    if given.write:
        put(RESULTS / "alignment.md", "Alignment, measured", "consensus", text)
    return 0 if all(claims(found).values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
