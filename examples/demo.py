"""Tour of the packages: pull three cells, compose and align them, run photographs, validate, draw a picture.

    python examples/demo.py [PICTURE]

All cells come from the registry that ships with the package; nothing is downloaded.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import matplotlib as mpl
import torch
from rich.console import Console
from torch import Tensor

import batteries
import composer
import registry
from batteries.data.photos import to_float, to_tensor
from batteries.data.probes import photographs
from batteries.geometry import attractor
from batteries.images.decoding import read_image
from registry.reports import summaries

mpl.use("Agg")
from matplotlib import pyplot as plt

CELLS = ("low/fresnel-256", "low/johanna-64", "high/johanna-64")
VALIDATED = CELLS[0]
SHOWN = ("astronaut", "chelsea", "coffee", "rocket")
SIDE = 256


def main(picture: Path) -> int:
    """Run the tour; the exit code is 0 if the validated cell is viable, else 7."""
    console, started = Console(width=None if sys.stdout.isatty() else 120, highlight=False), time.perf_counter()
    cells = registry.pull(*CELLS)
    console.print(f"pulled and verified {len(cells)} cells from the embedded registry")
    console.print(summaries.cells(cells))

    images = shown_photographs()
    model = composer.compose(cells, probe=batteries.probe("photos-64").images)
    with torch.no_grad():
        out = model(images)
    console.print(f"composed {len(model.names)} frozen cells, omega aligned on photos-64; errors on {len(images)} photographs:")
    console.print(summaries.composition_table(summaries.composition(model, cells, images)))

    console.print(f"validating {VALIDATED} (untrained null, negative controls, a host around it, frozen and not) ...")
    report = registry.validate(VALIDATED)
    for part in summaries.viability(report.attestation):
        console.print(part)

    picture.parent.mkdir(parents=True, exist_ok=True)
    report.to_html(picture.with_name("report.html"))
    console.print(f"report: {picture.with_name('report.html')}")
    draw(cells, images, out, picture)
    console.print(f"picture: {picture}; {time.perf_counter() - started:.0f} s in all")
    return 0 if report.verdict == "viable" else 7


def shown_photographs() -> Tensor:
    """Return centre crops of held-out photographs, (4, 3, 256, 256) in [-1, 1]."""
    crops = []
    for path in photographs():
        if path.stem in SHOWN:
            pixels = to_tensor(read_image(path))
            top, left = ((side - SIDE) // 2 for side in pixels.shape[1:])
            crops.append(pixels[:, top : top + SIDE, left : left + SIDE])
    return to_float(torch.stack(crops))


def draw(cells: list[batteries.Cell], images: Tensor, out: composer.ContainerOutput, picture: Path) -> None:
    """Draw originals and reconstructions, and below them the trajectories along training."""
    columns = 1 + len(cells)
    figure = plt.figure(figsize=(3 * columns, 3 * len(images) + 3.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[3 * len(images), 3.4])
    grid = above.subplots(len(images), columns, squeeze=False)
    for row, image in enumerate(images):
        panels = [("original", image), *((name, out[name].recon[row]) for name in out)]
        for axis, (name, pixels) in zip(grid[row], panels, strict=True):
            axis.imshow(pixels.clamp(-1, 1).add(1).div(2).permute(1, 2, 0).numpy())
            axis.set_axis_off()
            error = f"\nMSE {float((pixels - image).square().mean()):.4f}" if name != "original" else ""
            axis.set_title((f"{name}{error}" if row == 0 else error.strip()), fontsize=9)
    trajectories(cells, below.subplots(1, 2))
    figure.savefig(picture, dpi=80)
    plt.close(figure)


def trajectories(cells: list[batteries.Cell], axes: list[plt.Axes]) -> None:
    """Plot CV with error bars and exact attractors, and MSE, along training, each on the cell's own probe."""
    left, right = axes
    for cell in cells:
        points = [point for point in cell.manifest.training.trajectory if point.deciding_cv[0] is not None]
        steps = [point.step for point in points]
        cvs, errors = zip(*(point.deciding_cv for point in points), strict=True)
        left.errorbar(steps, cvs, yerr=[1.96 * (error or 0) for error in errors], marker=".", label=cell.name)
        right.plot(steps, [point.mse for point in points], marker=".", label=cell.name)
    for width in sorted({cell.spec.D for cell in cells}):
        exact = attractor.sphere_cv(width)
        left.axhline(exact, color="black", linewidth=0.8, linestyle="--")
        place = {"xy": (0.98, exact), "xycoords": left.get_yaxis_transform(), "ha": "right"}
        words = f"exact attractor, D = {width}: {exact:.4f}"
        left.annotate(words, xytext=(0, -11 if width == 4 else 14), textcoords="offset points", fontsize=8, **place)
    left.set(xlabel="step", ylabel="CV, 95% bars", yscale="log", title="CV along training", yticks=[0.2, 0.3, 0.5, 0.9])
    left.yaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
    left.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    right.set(xlabel="step", ylabel="MSE on the own probe", yscale="log", title="error along training")
    right.legend(fontsize=8)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/demo.png")))
