"""Cells on images that none of their training had: sixteen noise laws, text, other contrasts, the other domain, other sizes.

python examples/out_of_distribution.py           # prints the page
python examples/out_of_distribution.py --write   # also writes docs/results/out-of-distribution.md
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pages import RESULTS, table
from panels import Curve, Panel, drawn
from torch import Generator, Tensor

import batteries
import registry
from batteries.cell.spec import CellSpec
from batteries.data.sources import seed_of
from batteries.data.unseen import CONTRASTS, LAWS, unseen
from batteries.geometry import estimates
from batteries.geometry.estimates import Estimate
from batteries.geometry.strata import ratio, stratified_mean
from batteries.io import atomic_files
from batteries.measurement.baselines import LinearCode, to_patches
from batteries.measurement.measure import read
from batteries.model.patch_svae import PatchSVAE
from batteries.noise import NAMES, of_types
from batteries.packaging.package import linear_code
from registry.reports.charts.chart import Axis

CELLS = ("high/johanna-64", "mid/johanna-64", "low/johanna-64", "high/fresnel-64", "mid/fresnel-64", "low/fresnel-64")
BANDS = ("high", "mid", "low")
IMAGES, SIZE, PURPOSE = 48, 64, 11  # images of a kind; pixels; purpose of a seed, distinct from those of the library
SIZES = (32, 128)
COMPONENTS = 64  # of the linear code, as wide as LOW's and MID's bottleneck
COLOURS = {"high": "#0072b2", "mid": "#d55e00", "low": "#009e73"}  # distinct for the colour-blind (Okabe and Ito 2008)
GREY = "#999999"
KNOWN = "known noise"
CLOSE = 1.4  # published bound of the error on unseen laws over that on known ones

HEAD = """# Out of distribution

Written by `python examples/out_of_distribution.py --write`. {images} images of {size} x {size} pixels of each kind; photographs
are those of the probe. *left*: sum of the squared errors of a kind's images over the sum of their squared differences from
their own mean colour: 0 is perfect, 1 as good as the mean colour of each image. PCA-{components}: linear code of 16 x 16
patches, fitted on the 16 known noise types. These are what the *johanna* cells learned, here with other seeds; the *fresnel*
cells learned photographs and some of this noise. *text*: words of English drawn at random (`batteries.data.english_like`), a
byte for each value."""
RATIOS = """## Error over the error on known noise

*ratio*: mean squared error on a kind over that on the known types, with 95% bounds (delta method on its logarithm, clustered by
image; the known types are fixed, so that the spread between them is no error of their mean). A published diagnostic speaks of
at most {close:g} on sixteen unseen laws; its laws are not defined, and ours have unit variance. *within*: upper bound at most
{close:g}; *beyond*: lower bound above it."""

Coder = Callable[[Tensor], Tensor]  # images to squared errors (B,) by image


@dataclass(frozen=True)
class Row:
    """Errors of every coder on one kind of images.

    Attributes:
        kind: Name of the kind.
        errors: Mean squared error by coder.
        left: Share of the squared differences that is left, by coder.
    """

    kind: str
    errors: dict[str, Estimate]
    left: dict[str, float]


def kinds() -> dict[str, tuple[Tensor, Tensor]]:
    """Make the images of every kind, and their clusters.

    The known types are one kind, with equally many images of each, and their clusters are the types.
    """
    known = torch.arange(len(NAMES)).repeat_interleave(IMAGES // len(NAMES))
    made = {KNOWN: of_types(known, (SIZE, SIZE), Generator().manual_seed(seed_of(0, 0, PURPOSE)))}
    names = [*LAWS, "text", *(f"contrast-{factor:g}" for factor in CONTRASTS)]
    made |= {name: unseen(name, IMAGES, SIZE, seed_of(0, place, PURPOSE)) for place, name in enumerate(names, 1)}
    for place, size in enumerate(SIZES, 100):
        generator = Generator().manual_seed(seed_of(0, place, PURPOSE))
        made[f"{KNOWN}, {size} pixels"] = of_types(known, (size, size), generator)
    found = {name: (images, known if name.startswith(KNOWN) else torch.arange(len(images))) for name, images in made.items()}
    photographs = batteries.probe("photos-64")
    return found | {"photographs": (photographs.images, photographs.cluster)}


def model_errors(model: PatchSVAE) -> Coder:
    """Return a cell's errors."""
    return lambda images: read(model, images, torch.arange(len(images))).mse


def linear_errors(code: LinearCode, spec: CellSpec) -> Coder:
    """Return a linear code's errors; see :meth:`LinearCode.error`."""
    return lambda images: torch.tensor([code.error(to_patches(one[None], spec), COMPONENTS) for one in images])


def row(kind: str, images: Tensor, cluster: Tensor, coders: dict[str, Coder]) -> Row:
    """Measure every coder on a kind; the clusters of known noise are its types."""
    found = {name: errors(images) for name, errors in coders.items()}
    mean = stratified_mean if kind.startswith(KNOWN) else estimates.clustered_mean
    differences = (images - images.mean(dim=(2, 3), keepdim=True)).double().square().mean(dim=(1, 2, 3))
    return Row(
        kind,
        {name: mean(errors, cluster) for name, errors in found.items()},
        {name: float(errors.double().sum() / differences.sum()) for name, errors in found.items()},
    )


def measure(made: dict[str, tuple[Tensor, Tensor]]) -> list[Row]:
    """Measure the shipped cells and the linear code on all kinds."""
    coders = {cell.name: model_errors(PatchSVAE.from_cell(cell)) for cell in registry.pull(*CELLS)}
    spec = CellSpec.preset("low")
    coders[f"PCA-{COMPONENTS}"] = linear_errors(linear_code(spec, SIZE, 0, batteries.NoiseSource()), spec)
    return [row(kind, images, cluster, coders) for kind, (images, cluster) in made.items()]


def ratios(rows: Sequence[Row], coder: str) -> dict[str, tuple[float, float, float]]:
    """Return the ratios of a coder's errors to that on known noise."""
    first, *others = rows
    return {one.kind: ratio(one.errors[coder], first.errors[coder]) for one in others}


def sentences(rows: Sequence[Row]) -> list[str]:
    """Say how many of the unseen laws are within the published bound, and what HIGH fails on."""
    said = []
    for band in BANDS:
        found = [value for kind, value in ratios(rows, f"{band}/johanna-64").items() if kind in LAWS]
        within, beyond = sum(high <= CLOSE for _, _, high in found), sum(low > CLOSE for _, low, _ in found)
        said.append(f"{band.upper()}, of {len(LAWS)} unseen laws: {within} within {CLOSE:g}, {beyond} beyond it.")
    most = max(rows, key=lambda one: one.left["high/johanna-64"])
    said.append(f"HIGH of noise leaves at most {most.left['high/johanna-64']:.2g} of a kind: {most.kind}.")
    on = {one.kind: one.errors for one in rows}
    for band in BANDS:
        ends = {KNOWN: ("fresnel", "johanna"), "photographs": ("johanna", "fresnel")}
        for kind, (other, own) in ends.items():
            found = estimates.holds(on[kind][f"{band}/{own}-64"], on[kind][f"{band}/{other}-64"])
            said.append(
                f"{band.upper()} on {kind}: the error of {other}-64 is {found.ratio:.3g} times that of {own}-64, whose domain "
                f"this is ({found.lower:.3g} to {found.upper:.3g})."
            )
    return said


def report(rows: Sequence[Row]) -> str:
    """Format the page."""
    coders = [*CELLS, f"PCA-{COMPONENTS}"]
    lefts = table(["kind", *coders], [[one.kind, *(f"{one.left[name]:.3g}" for name in coders)] for one in rows])
    found = {f"{band}/johanna-64": ratios(rows, f"{band}/johanna-64") for band in BANDS}
    cells = [[one.kind, *("{:.3g} ({:.3g} to {:.3g})".format(*found[name][one.kind]) for name in found)] for one in rows[1:]]
    return "\n\n".join(
        [
            HEAD.format(images=IMAGES, size=SIZE, components=COMPONENTS),
            lefts,
            RATIOS.format(close=CLOSE),
            table(["kind", *found], cells),
            "![Error over that on known noise, and the share left, by kind](out-of-distribution.svg)",
            "## What follows",
            "\n".join(f"- {sentence}" for sentence in sentences(rows)),
        ]
    )


class KindPanel(Panel):
    """Panel with a line for each kind of images, named on the left."""

    width: ClassVar[int] = 480
    left: ClassVar[int] = 176
    right: ClassVar[int] = 466


def picture(rows: Sequence[Row]) -> str:
    """Draw the ratios to the error on known noise, with intervals, and the share that is left, by kind."""
    coders = {f"{band}/johanna-64": colour for band, colour in COLOURS.items()}
    found = {name: ratios(rows, name) for name in coders}
    places = {one.kind: float(len(rows) - place) for place, one in enumerate(rows)}  # the first kind is at the top
    bounded = [
        Curve(colour, [(value, places[kind])], 0, (low, high))
        for name, colour in coders.items()
        for kind, (value, low, high) in found[name].items()
    ]
    left = [
        Curve(colour, [(one.left[name], places[one.kind])], 0)
        for name, colour in {**coders, f"PCA-{COMPONENTS}": GREY}.items()
        for one in rows
    ]
    ends = [bound for own in found.values() for _, low, high in own.values() for bound in (low, high)]
    ratio_panel = _panel("MSE over that on known noise, 95%", "ratio, log axis", bounded, places, [*ends, CLOSE])
    shaded = dataclasses.replace(ratio_panel, shaded=(min(ends), CLOSE))
    shares = _panel("Share of squared differences left", "left, log axis", left, places, [one.path[0][0] for one in left])
    shapes = [*((name, colour, 0) for name, colour in COLOURS.items()), (f"PCA-{COMPONENTS}", GREY, 0)]
    what = "By kind of images: the error of johanna cells over that on known noise, and the share of squared differences left."
    return drawn("Out of distribution", what, [[shaded, shares]], shapes, f"at most {CLOSE:g}, as published")


def _panel(title: str, words: str, curves: list[Curve], places: dict[str, float], across: Iterable[float]) -> KindPanel:
    ticks = tuple((place, kind) for kind, place in places.items())
    kinds_axis = Axis("", 0.4, len(places) + 0.6, False, ticks)
    return KindPanel(title, Axis.over(words, across, log=True), kinds_axis, curves, 80 + 16 * len(places))


def main(words: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Measure cells on images unlike those of their training.")
    parser.add_argument("--write", action="store_true", help="also write docs/results/out-of-distribution.md")
    given = parser.parse_args(words)
    rows = measure(kinds())
    text = report(rows)
    print(text)
    if given.write:
        atomic_files.replace(RESULTS / "out-of-distribution.svg", picture(rows).encode())
        atomic_files.replace(RESULTS / "out-of-distribution.md", f"{text}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
