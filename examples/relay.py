"""What a relay carries: one cell's tokens, mapped, decoded by another cell on the same image in the place of its own.

    python examples/relay.py           # prints the table; exit code 1 where a claim does not hold
    python examples/relay.py --write   # the same, and its section of docs/results/wiring.md

Target B decodes an image four times with its own U and V of that image: with its own omega, with A's omega mapped, with A's
of another image, and with the mean of its own. The score is the share of the error between own and mean that the mapped one
recovers, (mean - mapped) / (mean - own). Maps are fitted on half of the images and scored on the other half, and the other
way round; crops of one photograph stay together. The null is the same relay from untrained cells.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pages import RESULTS, put, table
from torch import Generator, Tensor

import batteries
import composer
import registry
from batteries import spectral
from composer.outputs import TAPS
from composer.relaying import Kind, fit, paired
from registry.controls import control_cell

PAIRS = (
    ("low/johanna-64-s1", "low/johanna-64-s2"),
    ("low/johanna-64", "low/fresnel-64"),
    ("high/johanna-64-s1", "high/johanna-64-s2"),
    ("high/johanna-64", "high/fresnel-64"),
)
KINDS: tuple[Kind, ...] = ("omega", "rows")
PROBES = {"noise16-64": 4, "photos-64": 1}  # every how many-th image of it is taken
UNTRAINED = 3  # sources
DRAWS = 2000  # of the bootstrap
HARDLY = 0.02  # of its error: what a cell loses with the mean in the place of its omega, where omega carries almost nothing

WORDS = """`python examples/relay.py --write`: B decodes A's tokens, mapped into its coordinates, with its own U and V of the
same image (omega), or with an omega of its own making (rows: mapped rows of M in the place of its own, paired by their number).
*own* and *mean* are B's errors with its own tokens and with their mean. *mapped* is the share of the difference that A's
mapped tokens recover, with 95% bounds (bootstrap by image, by photograph where there are several crops of one); *shuffled*
the share with A's tokens of another image; *untrained* the range of shares from {untrained} untrained cells in A's place.
Fitted on half of the images, scored on the other, both ways. *start*: whether both trainings began at one seed."""
CAUTION = """On photographs even the omega of an untrained cell recovers up to {most:.3f}: two functions of one image agree by
themselves. U and V of B are of the image that is decoded: a relay shows what A's tokens say in the place of B's, and it
sends no image."""


@dataclass(frozen=True)
class Swap:
    """One kind of token, from one cell to another, on one probe.

    Attributes:
        source: A.
        target: B.
        one_start: Whether they were trained from one seed.
        probe: Its name.
        kind: Of token.
        errors: (n,) of every image, with ``own``, ``mean``, ``mapped`` and ``shuffled`` tokens.
        untrained: (n,) with the mapped tokens of each untrained source.
        cluster: (n,) which images belong together.
    """

    source: str
    target: str
    one_start: bool
    probe: str
    kind: Kind
    errors: Mapping[str, Tensor]
    untrained: Sequence[Tensor]
    cluster: Tensor

    @property
    def worth(self) -> float:
        """The error with the mean, over the error with own tokens."""
        return float(self.errors["mean"].mean() / self.errors["own"].mean())

    def share(self, found: Tensor) -> float:
        """What errors (n,) recover of the cost of the mean."""
        own, mean = self.errors["own"].mean(), self.errors["mean"].mean()
        return float((mean - found.mean()) / (mean - own))

    @property
    def bounds(self) -> tuple[float, float]:
        """95% bounds of the mapped share, by a bootstrap over clusters."""
        of = torch.unique(self.cluster, return_inverse=True)[1]
        count = int(of.max()) + 1
        sums = torch.stack(
            [torch.zeros(count, dtype=torch.float64).index_add_(0, of, self.errors[k]) for k in ("own", "mean", "mapped")]
        )
        drawn = torch.randint(count, (DRAWS, count), generator=Generator().manual_seed(0))
        own, mean, mapped = sums[:, drawn].sum(dim=2)
        low, high = ((mean - mapped) / (mean - own)).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return low, high

    @property
    def null(self) -> list[float]:
        """The shares from untrained sources."""
        return [self.share(found) for found in self.untrained]

    @property
    def row(self) -> tuple[str, ...]:
        """As the table has it."""
        errors = (f"{float(self.errors[name].mean()):.4g}" for name in ("own", "mean"))
        low, high = self.bounds
        return (
            f"{self.source} to {self.target}",
            "one" if self.one_start else "two",
            self.probe,
            self.kind,
            *errors,
            f"{self.worth:.6g}",
            f"{self.share(self.errors['mapped']):.3f} ({low:.3f} to {high:.3f})",
            f"{self.share(self.errors['shuffled']):.3f}",
            f"{min(self.null):.3f} to {max(self.null):.3f}",
        )


def tokens_of(kind: Kind, cell: composer.CellOutput) -> Tensor:
    """Omega (B, N, D), or rows (B, N, V, D)."""
    return cell.omega if kind == "omega" else cell.M


def error(container: composer.Container, kind: Kind, target: composer.CellOutput, tokens: Tensor, images: Tensor) -> Tensor:
    """Mean squared error (n,) of the target with tokens of some other origin in the place of its own."""
    if kind == "omega":
        recon = container.decode("target", target.M, target.grid, tokens)
    else:
        recon = container.decode("target", spectral.unit_rows(tokens.contiguous()), target.grid)
    return (recon - images).square().mean(dim=(1, 2, 3)).double()


def swapped(container: composer.Container, kind: Kind, learned: Tensor, judged: Tensor) -> dict[str, Tensor]:
    """Errors on images, by whose tokens are decoded; maps and means are of other images."""
    fitted, out = container(learned, ("M", "omega")), container(judged, TAPS)
    source, target = out["source"], out["target"]
    mapped = fit(kind, fitted["source"], fitted["target"])(paired(kind, source, target.grid))
    own = tokens_of(kind, target)
    mean = tokens_of(kind, fitted["target"]).mean(dim=(0, 1)).expand_as(own)
    order = torch.randperm(len(judged), generator=Generator().manual_seed(0))
    whose = {"own": own, "mean": mean, "mapped": mapped, "shuffled": mapped[order]}
    return {name: error(container, kind, target, tokens, judged) for name, tokens in whose.items()}


def both_ways(container: composer.Container, kind: Kind, images: Tensor, cluster: Tensor) -> dict[str, Tensor]:
    """:func:`swapped` with maps of each half for the images of the other, in the order of the second half and the first."""
    odd = cluster % 2 == 1
    parts = [swapped(container, kind, images[learned], images[~learned]) for learned in (~odd, odd)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def measure() -> list[Swap]:
    """Every pair, probe and kind."""
    found = []
    for source, target in PAIRS:
        cells = dict(zip(("source", "target"), registry.pull(source, target), strict=True))
        start = [cell.manifest.training.seed for cell in cells.values()]
        fresh = [{**cells, "source": control_cell(cells["source"], "untrained", seed)} for seed in range(UNTRAINED)]
        trained, *nulls = [composer.compose(named) for named in (cells, *fresh)]
        for name, every in PROBES.items():
            probe = batteries.probe(name)
            images, cluster = probe.images[::every], probe.cluster[::every] // every
            order = torch.cat([cluster[cluster % 2 == 1], cluster[cluster % 2 == 0]])
            for kind in KINDS:
                untrained = [both_ways(null, kind, images, cluster)["mapped"] for null in nulls]
                errors = both_ways(trained, kind, images, cluster)
                found.append(Swap(source, target, start[0] == start[1], name, kind, errors, untrained, order))
    return found


def claims(found: Sequence[Swap]) -> dict[str, bool]:
    """What the table is said to show, and whether it does."""
    omega = [swap for swap in found if swap.kind == "omega"]
    low, high = ([swap for swap in omega if swap.source.startswith(band)] for band in ("low/", "high/"))
    carries = [s.bounds[0] > max(*s.null, s.share(s.errors["shuffled"])) for s in high if s.one_start]
    rows = [swap.bounds[1] < 0 for swap in found if swap.kind == "rows" and not swap.one_start]
    return {
        f"LOW: the mean in the place of omega costs less than {HARDLY:.0%} of the error, omega carries almost nothing": all(
            swap.worth < 1 + HARDLY for swap in low
        ),
        "HIGH: without its omega a cell has more than twice the error": all(swap.worth > 2 for swap in high),
        "HIGH, one start: A's omega recovers more than that of any untrained cell, or of another image": all(carries),
        "rows of cells from two starts are worse than the mean: row i of one is not row i of the other": all(rows),
    }


def section(found: Sequence[Swap]) -> str:
    """The words and the table."""
    head = ("A to B", "start", "probe", "tokens", "own", "mean", "mean / own", "mapped", "shuffled", "untrained")
    claimed = "\n".join(f"- {claim}: {'yes' if holds else 'NO'}." for claim, holds in claims(found).items())
    words, rows = WORDS.format(untrained=UNTRAINED), [swap.row for swap in found]
    most = max(max(swap.null) for swap in found if swap.kind == "omega" and swap.probe == "photos-64")
    return "\n\n".join(["## Relays", words, table(head, rows), claimed, CAUTION.format(most=most)])


def main(words: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Score relays between cells.")
    parser.add_argument("--write", action="store_true", help="write the section of docs/results/wiring.md, too")
    given = parser.parse_args(words)
    found = measure()
    print(section(found))
    if given.write:
        put(RESULTS / "wiring.md", "Wired cells, measured", "relay", section(found))
    return 0 if all(claims(found).values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
