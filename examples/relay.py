"""Relays: one cell's tokens, mapped, decoded by another cell on the same image in place of its own.

    python examples/relay.py           # prints the table; exit code 1 if a claim fails
    python examples/relay.py --write   # also writes its section of docs/results/wiring.md

Target B decodes an image four times with its own U and V of that image: with its own omega, with A's mapped omega, with A's
mapped omega of another image, and with the mean of its own. The score is the share of the error between own and mean that the
mapped omega recovers, (mean - mapped) / (mean - own). Maps are fitted on each half of the images and scored on the other; crops
of one photograph stay together. The null is the same relay from untrained cells.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pages import RESULTS, put, table

import batteries
import composer
import registry
from composer.alignment.relay import RelayKind
from composer.alignment.swap import HARDLY
from registry.viability.controls import untrained_cell

PAIRS = (
    ("low/johanna-64-s1", "low/johanna-64-s2"),
    ("low/johanna-64", "low/fresnel-64"),
    ("high/johanna-64-s1", "high/johanna-64-s2"),
    ("high/johanna-64", "high/attractor-64"),
    ("high/johanna-64", "high/fresnel-64"),
)
KINDS: tuple[RelayKind, ...] = ("omega", "rows")
PROBES = {"noise16-64": 4, "photos-64": 1}  # stride through the images of the probe
UNTRAINED = 3  # untrained sources per pair

WORDS = """`python examples/relay.py --write`: B decodes A's tokens, mapped into its coordinates, with its own U and V of the
same image (omega), or with an omega of its own making (rows: mapped rows of M in the place of its own, paired by their number).
*own* and *mean* are B's errors with its own tokens and with their mean. *mapped* is the share of the difference that A's
mapped tokens recover, with 95% bounds (jackknife by image, by photograph where there are several crops of one); *shuffled*
the share with A's tokens of another image; *untrained* the range of shares from {untrained} untrained cells in A's place.
Fitted on half of the images, scored on the other, both ways. *start*: whether both trainings began at one seed."""
CAUTION = """On photographs even the omega of an untrained cell recovers up to {most:.3f}: two functions of one image agree by
themselves. U and V of B are of the image that is decoded: a relay shows what A's tokens say in the place of B's, and it
sends no image."""


@dataclass(frozen=True)
class Relay:
    """One kind of token, from one cell to another, on one probe.

    Attributes:
        swap: Swap score; its cells are called ``source`` and ``target``.
        pair: Names of source and target.
        one_start: Whether both were trained from one seed.
        probe: Name of the probe.
        null: Shares recovered from untrained sources.
    """

    swap: composer.alignment.Swap
    pair: tuple[str, str]
    one_start: bool
    probe: str
    null: Sequence[float]

    @property
    def kind(self) -> str:
        """Kind of token."""
        return self.swap.kind

    @property
    def row(self) -> tuple[str, ...]:
        """Row of the table."""
        low, high = self.swap.bounds
        return (
            " to ".join(self.pair),
            "one" if self.one_start else "two",
            self.probe,
            self.kind,
            *(f"{self.swap.error(name):.4g}" for name in ("own", "mean")),
            f"{self.swap.worth:.6g}",
            f"{self.swap.share():.3f} ({low:.3f} to {high:.3f})",
            f"{self.swap.share('shuffled'):.3f}",
            f"{min(self.null):.3f} to {max(self.null):.3f}",
        )


def measure() -> list[Relay]:
    """Score the relays of every pair, probe and kind of token."""
    found = []
    for pair in PAIRS:
        cells = dict(zip(("source", "target"), registry.pull(*pair), strict=True))
        start = [cell.manifest.training.seed for cell in cells.values()]
        fresh = [{**cells, "source": untrained_cell(cells["source"], seed)} for seed in range(UNTRAINED)]
        trained, *nulls = [composer.compose(named) for named in (cells, *fresh)]
        for name, every in PROBES.items():
            probe = batteries.probe(name)
            images, clusters = probe.images[::every], probe.cluster[::every]
            for kind in KINDS:
                how = {"tokens": kind, "clusters": clusters}
                untrained = [composer.swap(null, "source", "target", images, **how).share() for null in nulls]
                swap = composer.swap(trained, "source", "target", images, **how)
                found.append(Relay(swap, pair, start[0] == start[1], name, untrained))
    return found


def claims(found: Sequence[Relay]) -> dict[str, bool]:
    """Test the claims about the table."""
    omega = [relay for relay in found if relay.kind == "omega"]
    low, high = ([relay for relay in omega if relay.pair[0].startswith(band)] for band in ("low/", "high/"))
    carries = [r.swap.bounds[0] > max(*r.null, r.swap.share("shuffled")) for r in high if r.one_start]
    rows = [relay.swap.bounds[1] < 0 for relay in found if relay.kind == "rows" and not relay.one_start]
    return {
        f"LOW, noise: the mean in the place of omega costs below {HARDLY:.0%} of the error, omega carries almost nothing": all(
            not relay.swap.carries for relay in low if relay.probe == "noise16-64"
        ),
        "HIGH: without its omega a cell has more than twice the error": all(relay.swap.worth > 2 for relay in high),
        "HIGH, one start: A's omega recovers more than that of any untrained cell, or of another image": (
            bool(carries) and all(carries)
        ),
        "rows of cells from two starts are worse than the mean: row i of one is not row i of the other": all(rows),
    }


def section(found: Sequence[Relay]) -> str:
    """Format the section with its table."""
    head = ("A to B", "start", "probe", "tokens", "own", "mean", "mean / own", "mapped", "shuffled", "untrained")
    claimed = "\n".join(f"- {claim}: {'yes' if holds else 'NO'}." for claim, holds in claims(found).items())
    words, rows = WORDS.format(untrained=UNTRAINED), [relay.row for relay in found]
    most = max(max(relay.null) for relay in found if relay.kind == "omega" and relay.probe == "photos-64")
    return "\n\n".join(["## Relays", words, table(head, rows), claimed, CAUTION.format(most=most)])


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Score relays between cells.")
    parser.add_argument("--write", action="store_true", help="also write the section of docs/results/wiring.md")
    given = parser.parse_args(words)
    found = measure()
    print(section(found))
    if given.write:
        put(RESULTS / "wiring.md", "Wired cells, measured", "relay", section(found))
    return 0 if all(claims(found).values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
