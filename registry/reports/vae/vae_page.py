"""Page of a battery VAE: reconstructions, samples, which sector speaks where, CV of every sector along training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from batteries.geometry.attractor import ON_ATTRACTOR, sphere_cv
from batteries.short_repr import counted
from composer.vae.battery_vae import BatteryVAE
from composer.vae.reading_document import PLACES, TrainedRun, VaeReading
from registry.answers.vae import ShownVae
from registry.reports.charts.chart import Axis, Band, Chart, Look, Point, Rule, Series
from registry.reports.charts.png import data_uri, png, png_pair
from registry.reports.number_format import number
from registry.reports.templating import render
from registry.reports.vae import vae_tables

PICTURES, SAMPLES, SIDE = 6, 12, 64
LOOKS = {"encoder": Look("cell", "circle"), "inverse": Look("untrained", "triangle"), "arrays": Look("linear", "diamond")}
COLOURS = (
    *((0, 90, 181), (220, 50, 32), (26, 133, 74), (211, 158, 0)),
    *((120, 94, 240), (0, 158, 190), (130, 80, 40), (230, 97, 180)),
)
MIXED = (150, 150, 150)  # sectors beyond the colours


@dataclass(frozen=True)
class Picture:
    """Pictures of one image side by side, and a caption."""

    name: str
    note: str
    pictures: tuple[tuple[str, str], ...]


@torch.no_grad()
def vae_page(vae: BatteryVAE, found: ShownVae, images: Tensor, seed: int = 0) -> str:
    """Return the page of a battery VAE; the same model and images give the same bytes.

    Args:
        vae: Model.
        found: Facts about the model, and a reading of it.
        images: Images (B, channels, height, width), of which the first are shown.
        seed: Seed of the samples.

    >>> import batteries, composer, registry
    >>> from registry import reports
    >>> from registry.cli.vae import shown
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> found = shown(vae, "pair", batteries.probe("photos-64"), kl=1e-4)
    >>> "which sector speaks" in reports.vae_page(vae, found, batteries.probe("photos-64").images[:2]).lower()
    True
    """
    colours = _colours(found.reading)
    return render(
        "vae.html.j2",
        found=found,
        facts_shown=vae_tables.facts(found),
        pictures=[_picture(vae, image, place, colours) for place, image in enumerate(images[:PICTURES])],
        samples=_samples(vae, seed),
        key=[(name, f"#{r:02x}{g:02x}{b:02x}") for name, (r, g, b) in colours.items()],
        cv_charts=_cv_charts(found),
        charts_shown=_along(found.history),
        columns=vae_tables.SECTOR_COLUMNS,
        rows=[vae_tables.sector_row(one, found.widths[one.name]) for one in found.reading.sectors],
    )


def sample_pictures(vae: BatteryVAE, count: int, seed: int, size: int) -> list[bytes]:
    """Draw images of a side in pixels and return them as PNG, each on the scale of its own brightness.

    >>> import composer, registry
    >>> from registry import reports
    >>> vae = composer.BatteryVAE.from_cells(registry.pull("high/fresnel-64", "high/johanna-64"), bottleneck=8)
    >>> reports.sample_pictures(vae, count=1, seed=0, size=16)[0][1:4]
    b'PNG'
    """
    return [png_pair(image, image)[0] for image in vae.sample(count, Generator().manual_seed(seed), (size, size))]


def _colours(reading: VaeReading) -> dict[str, tuple[int, int, int]]:
    """Give the sectors of most weight a colour each, and all others a grey."""
    ranked = sorted(reading.sectors, key=lambda one: -one.weight)
    colours = {one.name: COLOURS[place] if place < len(COLOURS) else MIXED for place, one in enumerate(ranked)}
    return {one.name: colours[one.name] for one in reading.sectors}


def _picture(vae: BatteryVAE, image: Tensor, place: int, colours: dict[str, tuple[int, int, int]]) -> Picture:
    """Draw an image, its reconstruction, and the sector of the largest weight in each region."""
    size = image.shape[1], image.shape[2]
    decoded = vae.decode([code.mu for code in vae.encode(image[None])], size)
    original, result = png_pair(image, decoded.images[0])
    first = decoded.weights[0].argmax(dim=-1).view(decoded.grid)
    table = torch.tensor([colours[name] for name in vae.names]) / 255
    shown = table[first].permute(2, 0, 1)  # (3, rows, columns)
    for axis, side in enumerate(size, start=1):
        shown = shown.repeat_interleave(side // shown.shape[axis], dim=axis)
    largest = decoded.weights[0].amax(dim=-1).mean()
    error = float((decoded.images[0] - image).square().mean())
    pictures = (
        (data_uri(original), "Original"),
        (data_uri(result), "Reconstruction"),
        (data_uri(png(shown)), "Sector of the largest weight in each region"),
    )
    return Picture(f"image {place + 1}", f"MSE {number(error)}, mean largest weight {float(largest):.2f}", pictures)


def _samples(vae: BatteryVAE, seed: int) -> list[str]:
    """Draw images of about 64 pixels, a size that every sector can take."""
    unit = math.lcm(*(spec.patch_size for spec in vae.specs.values()))
    return [data_uri(found) for found in sample_pictures(vae, SAMPLES, seed, unit * -(-SIDE // unit))]


def _cv_charts(found: ShownVae) -> list[Chart]:
    """Chart the CV of every sector at each place along training, a chart for each width, with the exact attractor."""
    readings = [one for run in found.history[-1:] for one in run.readings] or [found.reading]
    charts = []
    for D in sorted({found.widths[one.name] for one in found.reading.sectors if one.cv is not None}):
        names = [name for name, width in found.widths.items() if width == D]
        charts.append(_cv_chart(D, names, readings))
    return charts


def _cv_chart(D: int, names: Sequence[str], readings: Sequence[VaeReading]) -> Chart:
    exact = sphere_cv(D)
    series = []
    for place, look in enumerate(LOOKS.values()):
        lines = [_line(name, place, exact, readings) for name in names]
        dots = tuple(point for line in lines for point in line)
        series.append(
            Series(PLACES[place], look, dots if len(readings) == 1 else (), tuple(lines) if len(readings) > 1 else ())
        )
    low, high = (bound * exact for bound in ON_ATTRACTOR)
    values = [point.y for one in series for line in (one.dots, *one.lines) for point in line]
    x = Axis.over("step", [float(one.step) for one in readings])
    y = Axis.over("CV", [low, high, *values])
    band = Band(f"{ON_ATTRACTOR[0]} to {ON_ATTRACTOR[1]} of exact", low, high)
    rule = Rule(f"exact: {number(exact)}", (exact,), style="exact")
    return Chart(f"CV of {counted(len(names), 'sector')} of D = {D}", x, y, tuple(series), (band,), (rule,))


def _line(name: str, place: int, exact: float, readings: Sequence[VaeReading]) -> tuple[Point, ...]:
    sectors = [(one.step, sector) for one in readings for sector in one.sectors if sector.name == name]
    return tuple(Point(float(step), sector.cv[place] * exact) for step, sector in sectors if sector.cv is not None)


def _along(history: Sequence[TrainedRun]) -> list[Chart]:
    """Chart error, divergence, evidence lower bound and active units along the last training."""
    readings = [one for run in history[-1:] for one in run.readings]
    if len(readings) < 2:
        return []
    lines = {
        "MSE": [Point(one.step, one.error) for one in readings],
        "KL, nats per value": [Point(one.step, one.divergence) for one in readings],
        "ELBO, nats per value": [_bounded(one) for one in readings],
        "Share of active units": [Point(one.step, one.active) for one in readings],
    }
    x = Axis.over("step", [float(one.step) for one in readings])
    return [
        Chart(
            title,
            x,
            Axis.over(title, [point.y for point in points], log=title == "MSE"),
            (Series("held-out images", LOOKS["encoder"], tuple(points), (tuple(points),)),),
        )
        for title, points in lines.items()
    ]


def _bounded(one: VaeReading) -> Point:
    half = one.elbo_standard_error
    return Point(one.step, one.elbo, None if half is None else one.elbo - half, None if half is None else one.elbo + half)
