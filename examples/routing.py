"""Routing of patches to cells: photographs with noise pasted in, routed by error and by a small trained router.

    python examples/routing.py           # prints the tables; exit code 1 if a claim fails
    python examples/routing.py --write   # also writes docs/results/routing.md

Squares of noise are pasted into the probe's photographs; each region of an image goes to one of several frozen cells, of which
one learned noise and the others photographs. The claim: a router trained on eight photographs sends 95% of the noise in eight
others to the noise cell, and 90% of the rest to a photograph cell. Routing by error fails, for reasons that are measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from pages import RESULTS, put, table
from torch import Generator, Tensor
from torch.nn import functional as F

import batteries
import registry
from batteries.geometry import estimates
from batteries.noise import NAMES, random_batch
from composer import Composition, Route
from composer.wiring.nodes import Node
from composer.wiring.route import Router
from composer.wiring.wired_model import Wired, wire

LOW = {"noise": "low/johanna-64", "low": "low/fresnel-64", "wide": "low/fresnel-256", "mid": "mid/fresnel-64"}
HIGH = {"noise": "high/johanna-64", "high": "high/fresnel-64"}
TARGET = 0.95, 0.90  # shares of noise to the noise cell, and of photographs to photograph cells
SIDE, SHARE = 16, 0.3  # side of a pasted square in pixels, and share of an image's squares that are pasted
TRAIN, TEST = range(1000, 1016), range(2000, 2004)  # seeds of the pasted noise; every photograph appears once per seed
STEPS, BATCH, RATE = 300, 32, 1e-2
AT_ONCE = 96  # images
REACH = 2  # reach in pixels of the smoothing across patch borders: two convolutions of 3 x 3
DETAIL = ("smoothest", "smooth", "detailed", "most detailed")
LIGHT = ("darkest", "dark", "bright", "brightest")
MOST_MISSED = 0.05  # noise types with a larger share missed are listed

By = Literal["error", "router"]


@dataclass(frozen=True)
class Pasted:
    """Photographs with pasted noise.

    Attributes:
        images: Images (B, 3, 64, 64).
        noisy: True for squares of noise (B, rows, columns).
        type: Noise type (B,).
        photo: Photograph of each image (B,), the unit of standard errors.
    """

    images: Tensor
    noisy: Tensor
    type: Tensor
    photo: Tensor

    def of(self, grid: tuple[int, int]) -> Tensor:
        """Return a mask of the regions of a grid that are noise: (B, G)."""
        rows, columns = (side // squares for side, squares in zip(grid, self.noisy.shape[1:], strict=True))
        return self.noisy.repeat_interleave(rows, dim=1).repeat_interleave(columns, dim=2).flatten(1)


@dataclass(frozen=True)
class Routing:
    """Branches to which the regions of images were routed.

    Attributes:
        way: Description of cells and routing.
        names: Names of the branches; the first is the noise cell.
        choice: Index of the chosen branch (B, G).
        error: Error of every branch (B, G, K).
        pasted: Images that were routed.
        grid: Rows and columns of regions.
    """

    way: str
    names: tuple[str, ...]
    choice: Tensor
    error: Tensor
    pasted: Pasted
    grid: tuple[int, int]

    @property
    def noisy(self) -> Tensor:
        """Mask of the regions that are noise (B, G)."""
        return self.pasted.of(self.grid)

    def right(self, noisy: bool) -> estimates.Estimate:
        """Return the share of noise sent to the noise cell, or of photographs to the others, clustered by photograph."""
        chosen = self.noisy if noisy else ~self.noisy
        photo = self.pasted.photo[:, None].expand_as(chosen)[chosen]
        return estimates.clustered_mean(((self.choice == 0) == noisy)[chosen], photo)

    @property
    def holds(self) -> bool:
        """True if both shares reach the target."""
        return all(self.right(noisy).value >= least for noisy, least in zip((True, False), TARGET, strict=True))

    @property
    def row(self) -> tuple[str, ...]:
        """Row of the table."""
        return self.way, bounded(self.right(True)), bounded(self.right(False)), "yes" if self.holds else "no"

    def confusion(self) -> str:
        """Tabulate counts of regions by content and branch."""
        counts = [
            [int((self.choice[chosen] == k).sum()) for k in range(len(self.names))] for chosen in (self.noisy, ~self.noisy)
        ]
        rows = [(kind, *map(str, row)) for kind, row in zip(("pasted noise", "photograph"), counts, strict=True)]
        return table((self.way, *self.names), rows)


def bounded(share: estimates.Estimate) -> str:
    """Format a share with its 95% bounds, by Student's t over the photographs."""
    half = estimates.student(0.95, share.images - 1) * share.standard_error
    return f"{share.value:.4f} ({max(0.0, share.value - half):.4f} to {min(1.0, share.value + half):.4f})"


def paste(photos: Tensor, photo: Tensor, seeds: Sequence[int], matched: bool = False) -> Pasted:
    """Paste noise into every photograph, once per seed; if ``matched``, with mean and spread of the squares it hides."""
    parts = []
    for seed in seeds:
        grain, kind = random_batch(len(photos), (photos.shape[2], photos.shape[3]), seed)
        grain = alike(grain, photos) if matched else grain
        squares = photos.shape[2] // SIDE, photos.shape[3] // SIDE
        noisy = torch.rand(len(photos), *squares, generator=Generator().manual_seed(seed)) < SHARE
        plane = noisy.repeat_interleave(SIDE, dim=1).repeat_interleave(SIDE, dim=2)[:, None]
        parts.append((torch.where(plane, grain, photos), noisy, kind, photo))
    return Pasted(*(torch.cat(part) for part in zip(*parts, strict=True)))


def alike(grain: Tensor, photos: Tensor) -> Tensor:
    """Give noise the mean and spread of photographs, by square and channel."""
    ours, theirs = (rearrange(x, "B c (gh p) (gw q) -> B c gh gw p q", p=SIDE, q=SIDE) for x in (grain, photos))
    (spread, mean), (target, level) = (torch.std_mean(x, dim=(-2, -1), keepdim=True) for x in (ours, theirs))
    return rearrange((ours - mean) / spread.clamp_min(1e-6) * target + level, "B c gh gw p q -> B c (gh p) (gw q)")


def wired(references: Mapping[str, str], by: By) -> Wired:
    """Wire cells to one route over all of them."""
    nodes: dict[str, Node] = {"routed": Route(of=tuple(references), by=by)}
    composition = Composition(schema_version="1.0", output="routed", cells=dict(references), nodes=nodes)
    return wire(dict(zip(references, registry.pull(*references.values()), strict=True)), composition).eval()


@torch.no_grad()
def routed(model: Wired, pasted: Pasted, way: str) -> Routing:
    """Route the regions of images by a model."""
    outs = [model(images).output for images in pasted.images.split(AT_ONCE)]
    choice, error = (torch.cat([getattr(out, name) for out in outs]) for name in ("choice", "error"))
    return Routing(way, outs[0].names, choice, error, pasted, outs[0].grid)


def train(model: Wired, pasted: Pasted) -> None:
    """Train a model's router to separate noise from photographs; each has half of the loss.

    The cells are frozen, so their errors are computed only once.
    """
    found = routed(model, pasted, "")
    (router,) = model.routers.values()
    assert isinstance(router, Router)
    noisy = found.noisy.float()
    weight = torch.where(found.noisy, 0.5 / noisy.mean(), 0.5 / (1 - noisy.mean()))
    optimiser, generator = torch.optim.Adam(router.parameters(), lr=RATE), Generator().manual_seed(0)
    for _ in range(STEPS):
        chosen = torch.randint(len(noisy), (BATCH,), generator=generator)
        scores = router(found.error[chosen], pasted.images[chosen], found.grid)
        is_noise = scores[..., 0] - scores[..., 1:].logsumexp(dim=2)  # the log odds of the noise cell's share
        loss = F.binary_cross_entropy_with_logits(is_noise, noisy[chosen], weight=weight[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def halves(probe: batteries.Probe) -> tuple[Tensor, Tensor]:
    """Return masks of the images of the first and second half of the photographs."""
    first = probe.group < len(probe.groups) // 2
    return first, ~first


def by_router(references: Mapping[str, str], probe: batteries.Probe, ways: Mapping[str, bool]) -> list[Routing]:
    """Train a router on each half of the photographs, and route the other half; ``ways`` tells if its noise is matched."""
    parts = []
    for chosen in halves(probe):
        model = wired(references, "router")
        train(model, paste(probe.images[chosen], probe.group[chosen], TRAIN))
        others = probe.images[~chosen], probe.group[~chosen]
        parts.append([routed(model, paste(*others, TEST, matched), way) for way, matched in ways.items()])
    return [together(*both) for both in zip(*parts, strict=True)]


def by_error(references: Mapping[str, str], probe: batteries.Probe, ways: Mapping[str, bool]) -> list[Routing]:
    """Route the same images by error, with one model, since nothing is trained."""
    model = wired(references, "error")
    found = []
    for way, matched in ways.items():
        parts = [paste(probe.images[~chosen], probe.group[~chosen], TEST, matched) for chosen in halves(probe)]
        found.append(together(*(routed(model, part, way) for part in parts)))
    return found


def together(one: Routing, two: Routing) -> Routing:
    """Join the routings of two halves."""
    fields = ("images", "noisy", "type", "photo")
    pasted = Pasted(*(torch.cat([getattr(one.pasted, name), getattr(two.pasted, name)]) for name in fields))
    choice, error = torch.cat([one.choice, two.choice]), torch.cat([one.error, two.error])
    return Routing(one.way, one.names, choice, error, pasted, one.grid)


def detail(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the mean squared difference of neighbouring pixels in each region (B, G)."""
    regions = rearrange(images, "B c (gh p) (gw q) -> B (gh gw) c p q", gh=grid[0], gw=grid[1])
    across, down = (regions.diff(dim=dim).square().mean(dim=(2, 3, 4)) for dim in (3, 4))
    return across + down


def light(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the mean of each region (B, G)."""
    return rearrange(images, "B c (gh p) (gw q) -> B (gh gw) (c p q)", gh=grid[0], gw=grid[1]).mean(dim=2)


def neighbours(noisy: Tensor, grid: tuple[int, int]) -> Tensor:
    """Count the regions of noise among the eight around each region (B, G)."""
    plane = noisy.float().unflatten(1, grid)[:, None]
    return (F.conv2d(plane, torch.ones(1, 1, 3, 3), padding=1) - plane)[:, 0].flatten(1).round()


@torch.no_grad()
def inside(model: Wired, pasted: Pasted, grid: tuple[int, int]) -> Tensor:
    """Return the index of the cell with the least error away from the smoothed borders of each region (B, G)."""
    found = []
    for images in pasted.images.split(AT_ONCE):
        missing = (model(images).cells.recon - images[:, None]).square()
        regions = rearrange(missing, "B K c (gh p) (gw q) -> B (gh gw) K c p q", gh=grid[0], gw=grid[1])
        found.append(regions[..., REACH:-REACH, REACH:-REACH].mean(dim=(3, 4, 5)).argmin(dim=2))
    return torch.cat(found)


def misses_by_error(found: Routing, bare: Routing, inner: Tensor) -> str:
    """Tabulate photograph regions sent to the noise cell by detail and brightness, with and without noise nearby."""
    kept, beside = ~found.noisy, neighbours(found.noisy, found.grid)
    rows = []
    for names, measure in ((DETAIL, detail), (LIGHT, light)):
        values, whole = (measure(x.pasted.images, x.grid) for x in (found, bare))
        bounds = values[kept].quantile(torch.tensor([0.25, 0.5, 0.75]))
        quarter, of_bare = torch.bucketize(values, bounds), torch.bucketize(whole, bounds)
        for place, name in enumerate(names):
            alone, near = (kept & (quarter == place) & is_so for is_so in (beside == 0, beside > 0))
            groups = (bare.choice[of_bare == place], found.choice[alone], found.choice[near], inner[alone], inner[near])
            ahead = float((leads(bare)[of_bare == place] - 1).median())
            rows.append((name, *(f"{float((choice == 0).float().mean()):.4f}" for choice in groups), f"{ahead:.1%}"))
    return table(("quarter", "bare", "none around", "noise around", "inside, none", "inside, noise", "lead"), rows)


def leads(found: Routing) -> Tensor:
    """Return the error of the noise cell over that of the best photograph cell (B, G)."""
    return found.error[..., 0] / found.error[..., 1:].amin(dim=2)


def misses_by_router(found: Routing) -> str:
    """Tabulate the noise types that a router misses most, with the spread of their values."""
    rows = []
    kind = found.pasted.type[:, None].expand_as(found.noisy)
    gh, gw = found.grid
    regions = rearrange(found.pasted.images, "B c (gh p) (gw q) -> B (gh gw) c (p q)", gh=gh, gw=gw)
    spread = regions.std(dim=3).mean(dim=2)
    for place, name in enumerate(NAMES):
        here = found.noisy & (kind == place)
        missed = float((found.choice[here] != 0).float().mean())
        if missed > MOST_MISSED:
            rows.append((name, f"{missed:.4f}", f"{float(spread[here].median()):.3f}"))
    photo, other = (float(spread[chosen].median()) for chosen in (~found.noisy, found.noisy))
    rows += [("all noise", f"{1 - found.right(True).value:.4f}", f"{other:.3f}"), ("photographs", "", f"{photo:.3f}")]
    return table(("noise", "missed", "spread"), rows)


PAGE = """`python examples/routing.py --write`: squares of {side} pixels of the 16 noise types pasted over {share:.0%} of the
photographs of the probe photos-64, {tests} times over, and which cell has which region. LOW: {low}.
HIGH: {high}. The first of each is the noise cell.

A router is trained on the crops of eight photographs ({steps} steps of Adam at {rate:g}, {batch} images a step, cross-entropy
on the summed weights of each kind, which have half of the loss each) and tried on the eight others, both ways; by error
nothing is trained. Shares with 95% bounds by Student's t over {photos} photographs: regions of one are not independent.
Target: {noise:.0%} of noise to the noise cell, {photo:.0%} of photographs to photograph cells.
*Matched*: noise brought to the mean and spread of the square that it hides.

{shares}

{confusions}

{claims}

## What goes wrong by error

Share of photograph regions that go to the noise cell, LOW by error, in quarters of all by detail (mean squared difference
of neighbouring pixels) and by brightness: on the bare photographs; with noise in the image, but in none of the eight regions
around; with noise around; and, as *inside*, the last two by the error of the pixels alone that are {reach} or more from a
region's border. *Lead*: by how much the error of the noise cell is above the best photograph cell's, bare (median).

{by_error}

Two things go wrong. The smoothest regions are lost beside noise only, and not inside: the smoothing across patch borders,
which reaches {reach} pixels, carries noise over to where there is hardly an error else; of the darkest many are smooth.
Detailed regions are lost anywhere: there the photograph cells lead by little. On noise the noise cell leads by {on_noise:.1%}
(median), since white noise leaves a code of 64 numbers a twelfth of it to explain. At HIGH the bottleneck hardly binds: the
noise cell has the lower error on {high_wins:.0%} of the photograph regions, so that an error says nothing of what a region is.

## What goes wrong by router

Types of noise of which it misses more than {most:.0%}, LOW, and the median standard deviation of a region's values:

{by_router}

A router reads, beside the errors, the mean and spread of a region, and it leans on them: what it misses is noise as quiet as
a photograph, and noise that is matched it hardly finds. Its loss asks for noise or not, and not for which photograph cell."""


def claims(ways: Sequence[Routing]) -> dict[str, bool]:
    """Test the claims about the tables."""
    error, router, _, matched, high, _ = ways
    noise, photo = TARGET
    return {
        f"LOW, by router: {noise:.0%} of noise and {photo:.0%} of photographs go right": router.holds,
        f"LOW, by error: fewer than {photo:.0%} of photographs do": error.right(False).value < photo,
        "HIGH, by error: most photographs go to the noise cell": high.right(False).value < 0.5,
        "LOW, by router: most noise that is matched goes to photograph cells": matched.right(True).value < 0.5,
    }


def page(ways: Sequence[Routing], bare: Routing, inner: Tensor) -> str:
    """Format the page with its tables."""
    error, router, *_ = ways
    high = ways[4]
    return PAGE.format(
        side=SIDE,
        share=SHARE,
        tests=len(TEST),
        low=", ".join(LOW.values()),
        high=", ".join(HIGH.values()),
        steps=STEPS,
        rate=RATE,
        batch=BATCH,
        photos=error.right(False).images,
        noise=TARGET[0],
        photo=TARGET[1],
        shares=table(("cells, by", "noise to noise", "photograph to photograph", "both targets"), [way.row for way in ways]),
        confusions="\n\n".join(way.confusion() for way in (error, router)),
        by_error=misses_by_error(error, bare, inner),
        reach=REACH,
        on_noise=float((leads(error)[error.noisy].reciprocal() - 1).median()),
        claims="\n".join(f"- {claim}: {'yes' if holds else 'NO'}." for claim, holds in claims(ways).items()),
        high_wins=1 - high.right(False).value,
        most=MOST_MISSED,
        by_router=misses_by_router(router),
    )


def measure() -> tuple[list[Routing], Routing, Tensor]:
    """Measure the six ways of ``claims``; also LOW by error on bare photographs, and on the inside of regions."""
    probe = batteries.probe("photos-64")
    plain, matched = by_error(LOW, probe, {"LOW, error": False, "LOW, error, matched": True})
    learned, tried = by_router(LOW, probe, {"LOW, router": False, "LOW, router, matched": True})
    high = [*by_error(HIGH, probe, {"HIGH, error": False}), *by_router(HIGH, probe, {"HIGH, router": False})]
    nothing = torch.zeros(len(probe.images), 4, 4, dtype=torch.bool)
    model, bare = wired(LOW, "error"), Pasted(probe.images, nothing, torch.zeros(len(probe.images)), probe.group)
    inner = inside(model, plain.pasted, plain.grid)
    return [plain, learned, matched, tried, *high], routed(model, bare, ""), inner


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Route pasted noise and photographs to their cells.")
    parser.add_argument("--write", action="store_true", help="also write docs/results/routing.md")
    given = parser.parse_args(words)
    ways, bare, inner = measure()
    text = page(ways, bare, inner)
    print(text)
    if given.write:
        put(RESULTS / "routing.md", "Which patch goes to which cell", "routing", text)
    return 0 if all(claims(ways).values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
