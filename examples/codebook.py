"""Codebooks of shipped cells: the deviation of their axes beside that of untrained cells, and errors with quantised rows.

python examples/codebook.py           # prints the page
python examples/codebook.py --write   # also writes docs/results/codebook.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pages import RESULTS, table

import batteries
import registry
from batteries.geometry import estimates
from batteries.io import atomic_files
from batteries.measurement.codebook import CodebookReading
from batteries.measurement.content import mean_error
from batteries.packaging.package import UNTRAINED_SEED

CELLS = ("low/johanna-64", "low/fresnel-64", "mid/johanna-64", "mid/fresnel-64", "high/johanna-64", "high/fresnel-64")
UNTRAINED = 3  # cells of each spec
CLEAN = 0.05  # largest deviation of a codebook that is published as clean

HEAD = """# Codebooks

Written by `python examples/codebook.py --write`: rows of a cell as axes, on its own probe (`batteries.codebook`). Mean rows
over patches and images; two that are each other's most opposite, with a cosine below -0.9, are one axis (a pair). *deviation*:
mean angle of two axes less that of uniform axes, in radians, ± its standard error (jackknife over images, or photographs);
below {clean} it is published as clean. *untrained*: the same of {untrained} untrained cells of the spec. *chance*: standard
deviation of the deviation of as many independent uniform axes. *smaller*: whether the size of the trained cell's deviation is
below those of all untrained cells, with 95% bounds that do not overlap."""
QUANTISED = """## Rows quantised to their axes

*constancy*: mean length of the mean rows, 1 if rows are the same for all patches. *angle*: of a row and its quantised one, in
radians. *bits*: of the quantised rows of a patch. Errors: with rows as they are, with quantised rows, of predicting the probe's
mean colour, and of untrained cells. *left*: share of what a cell explains beyond the mean colour that quantised rows still
explain; negative where they are worse than the mean colour."""


@dataclass(frozen=True)
class Row:
    """Figures of a cell and of untrained cells of its spec.

    Attributes:
        name: Name of the cell.
        found: Reading of the cell.
        null: Readings of the untrained cells.
        V: Rows of a matrix.
        mean: Error of predicting the probe's mean colour.
    """

    name: str
    found: CodebookReading
    null: tuple[CodebookReading, ...]
    V: int
    mean: float

    @property
    def smaller(self) -> bool:
        """True if the deviation is smaller in size than those of all untrained cells, by bounds that do not overlap."""
        return bounds(self.found)[1] < min(bounds(null)[0] for null in self.null)

    @property
    def by_chance(self) -> bool:
        """True if uniform axes would have so large a deviation in one of twenty cases or more."""
        return abs(self.found.codebook.deviation) <= estimates.Z95 * self.found.codebook.chance

    @property
    def left(self) -> float:
        """Share of what is explained beyond the mean colour that quantised rows still explain."""
        return (self.mean - self.found.quantised_mse.value) / (self.mean - self.found.mse.value)

    @property
    def axes(self) -> tuple[str, ...]:
        """Row of the table of deviations."""
        book, null = self.found.codebook, [reading.codebook.deviation for reading in self.null]
        deviation = f"{book.deviation:+.4f} ± {self.found.standard_error:.4f}"
        size = f"{len(book.axes)} ({len(book.pairs)} of pairs)"
        return (
            self.name,
            size,
            deviation,
            f"{min(null):+.4f} to {max(null):+.4f}",
            f"{book.chance:.4f}",
            "yes" if self.smaller else "no",
        )

    @property
    def quantised(self) -> tuple[str, ...]:
        """Row of the table of quantised rows."""
        found, null = self.found, [reading.mse.value for reading in self.null]
        angles = [reading.angle.value for reading in self.null]
        constant = [reading.constancy for reading in self.null]
        return (
            self.name,
            f"{found.constancy:.3f}",
            f"{min(constant):.3f} to {max(constant):.3f}",
            f"{found.angle.value:.3f}",
            f"{min(angles):.3f} to {max(angles):.3f}",
            f"{self.V * found.codebook.bits:.0f}",
            f"{found.mse.value:.4g}",
            f"{found.quantised_mse.value:.4g}",
            f"{self.mean:.4g}",
            f"{sum(null) / len(null):.4g}",
            f"{self.left:.2f}",
        )


def bounds(reading: CodebookReading) -> tuple[float, float]:
    """Return 95% bounds of the size of a deviation, with Student's quantile; at least 0."""
    reach = estimates.student(0.95, reading.mse.freedom) * reading.standard_error
    size = abs(reading.codebook.deviation)
    return max(0.0, size - reach), size + reach


def measure(name: str) -> Row:
    """Read the codebook of a shipped cell, and those of untrained cells of its spec."""
    cell = registry.load(name)
    own = batteries.probe(cell.manifest.own_probe)
    found = batteries.codebook(batteries.PatchSVAE.from_cell(cell), own)
    null = [batteries.codebook(batteries.untrained(cell.spec, UNTRAINED_SEED + seed), own) for seed in range(UNTRAINED)]
    return Row(name, found, tuple(null), cell.spec.V, mean_error(own.images))


def conclusion(rows: Sequence[Row]) -> str:
    """Say what the figures support."""
    smaller = [row.name for row in rows if row.smaller]
    clean = [row for row in rows if all(abs(n.codebook.deviation) < CLEAN for n in row.null)]
    chance = [row for row in rows if row.by_chance]
    first = f"The deviation is smaller than that of untrained cells in {len(smaller)} of {len(rows)} cells"
    first += f" ({', '.join(smaller)})." if smaller else ": training does not make it smaller."
    second = f"In {len(clean)} of {len(rows)} specs every untrained cell is clean by the published limit, too;"
    third = f"in {len(chance)} of {len(rows)} cells independent uniform axes would deviate as much by chance."
    return f"**{first}** {second} {third} A clean codebook says nothing of training."


def carried(rows: Sequence[Row]) -> str:
    """Say what quantised rows still carry of images."""
    shares = [row.left for row in rows]
    some = [row.name for row in rows if row.left > 0]
    words = f"Quantised rows keep {min(shares):.2f} to {max(shares):.2f} of what a cell explains"
    if not some:
        return (
            f"**{words}: they carry nothing that the decoder can use.** An image is in the small angles of rows to their axes."
        )
    return f"{words}; more than nothing in {len(some)} of {len(rows)} cells ({', '.join(some)})."


def page(rows: Sequence[Row]) -> str:
    """Format the page."""
    axes = table(("cell", "axes", "deviation", "untrained", "chance", "smaller"), [row.axes for row in rows])
    heads = ("cell", "constancy", "untrained", "angle", "untrained", "bits", "error", "quantised", "mean", "untrained", "left")
    quantised = table(heads, [row.quantised for row in rows])
    head = HEAD.format(clean=CLEAN, untrained=UNTRAINED)
    return "\n\n".join([head, axes, conclusion(rows), QUANTISED, quantised, carried(rows)]) + "\n"


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Read the codebooks of shipped cells.")
    parser.add_argument("--write", action="store_true", help="also write docs/results/codebook.md")
    given = parser.parse_args(words)
    text = page([measure(name) for name in CELLS])
    print(text)
    if given.write:
        atomic_files.replace(RESULTS / "codebook.md", text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
