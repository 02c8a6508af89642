"""Pictures of the concepts, from the shipped cells and the committed tables: ``python -m manual pictures`` writes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

import registry
from batteries.geometry import axial_cv, sphere_cv
from manual.drawing import COLOURS, GREY, SHADE, Drawing, Frame

DOCS = Path(__file__).parents[1] / "docs"
WINDOWS = {16: (0.13, 0.30, "low"), 8: (0.35, 0.50, "mid"), 4: (0.80, 1.20, "high")}
PAIRS = r"\| {probe} *\| {pairs} *\| {tokens} *\| (\S+) *\| (\S+) *\| (\S+)"


def cell() -> Drawing:
    """Draw the path of a patch through a cell."""
    drawing = Drawing(
        760, 250, "A patch is encoded as a matrix of rows on the sphere, and decoded from it and its singular values"
    )
    steps = (
        ("patch", "C x p x p pixels"),
        ("M", "V rows of D, length 1"),
        ("S", "D singular values"),
        ("omega", "S, scaled by attention"),
        ("patch'", "U diag(omega) V^T, decoded"),
    )
    for number, (name, words) in enumerate(steps):
        x = 20 + 148 * number
        drawing.box(x, 70, 120, 90, fill=SHADE if name == "omega" else "#ffffff")
        drawing.text(x + 60, 62, name, size=15)
        drawing.text(x + 60, 180, words, size=11)
        if number:
            drawing.arrow(x - 26, 115, x - 4, 115)
    for row in range(4):
        for column in range(4):
            drawing.box(40 + 20 * column, 75 + 20 * row, 20, 20, fill="#cfd8d2" if (row * column + row) % 3 else "#8fb09d")
    generator = torch.Generator().manual_seed(0)
    drawing.dot(228, 115, radius=38, fill="none", stroke=GREY)
    for x, y in torch.nn.functional.normalize(torch.randn(24, 3, generator=generator), dim=1)[:, :2].tolist():
        drawing.dot(228 + 38 * x, 115 + 38 * y, radius=2.5, fill=COLOURS[2])
    for place, (shift, heights) in enumerate(((316, (60, 38, 26, 14)), (464, (64, 36, 22, 17)))):
        for column, height in enumerate(heights):
            drawing.box(shift + 16 + 24 * column, 150 - height, 14, height, fill=COLOURS[place], stroke="none")
    for row in range(4):
        for column in range(4):
            drawing.box(632 + 20 * column, 75 + 20 * row, 20, 20, fill="#d4dcd6" if (row * column + row) % 3 else "#98b6a5")
    drawing.text(
        380,
        225,
        "encoder, once for every patch; attention over the patches of an image; decoder, then one smoothing of the seams",
        size=12,
    )
    return drawing


def attractor() -> Drawing:
    """Draw the exact CV over D, the windows of the bands, and the shipped cells."""
    drawing = Drawing(
        640, 400, "Exact CV of uniform rows by width D, with the windows of the bands and the axial CV of the shipped cells"
    )
    frame = Frame(drawing, 60, 40, 610, 340, (3, 24), (0, 1.2))
    for D, (low, high, name) in WINDOWS.items():
        (left, top), (right, bottom) = frame.at(D - 0.7, high), frame.at(D + 0.7, low)
        drawing.box(left, top, right - left, bottom - top, fill=SHADE, stroke="none")
        drawing.text(right + 6, top + 12, name, anchor="start")
    frame.axes((4, 8, 12, 16, 20, 24), (0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2), "D, width of a row", "CV")
    drawing.path([frame.at(D, sphere_cv(D)) for D in range(4, 25)], colour=COLOURS[0])
    for one in registry.find(registry="embedded"):
        (found,) = registry.pull(one, registry="embedded")
        drawing.dot(*frame.at(found.spec.D, found.manifest.own.axial_cv.value), radius=3.5, fill=COLOURS[1])
    drawing.text(600, 70, "line: exact, of uniform rows; dots: the shipped cells", anchor="end")
    return drawing


def cv() -> Drawing:
    """Draw the volumes of simplices of uniform rows and of rows around one direction, at D = 4."""
    drawing = Drawing(
        760, 330, "Volumes of random simplices of five rows, for rows spread evenly and for rows around one direction"
    )
    generator = torch.Generator().manual_seed(0)
    around = torch.tensor([1.0, 0, 0, 0])
    samples = {"rows spread evenly": 0.0, "rows around one axis": 4.0}
    for number, (name, pull) in enumerate(samples.items()):
        signs = torch.randint(0, 2, (256, 32, 1), generator=generator) * 2.0 - 1
        rows = torch.nn.functional.normalize(torch.randn(256, 32, 4, generator=generator) + pull * signs * around, dim=-1)
        edges = rows[:, 1:5] - rows[:, :1]
        volumes = torch.linalg.det(edges).abs()
        found = axial_cv(rows, torch.arange(256))
        left = 60 + 370 * number
        frame = Frame(drawing, left, 60, left + 310, 270, (0, 4), (0, 0.5))
        frame.axes(
            (0, 1, 2, 3, 4), (0, 0.25, 0.5), "volume of a simplex / mean", f"{name}: share of simplices, CV {found.value:.2f}"
        )
        counts = torch.histc(volumes / volumes.mean(), bins=20, min=0, max=4).tolist()
        for place, count in enumerate(counts):
            (x, y), (right, bottom) = frame.at(place / 5, min(count / 256, 0.5)), frame.at((place + 1) / 5, 0)
            drawing.box(x, y, right - x, bottom - y, fill=COLOURS[2 * number], stroke="#ffffff")
    return drawing


def alignment() -> Drawing:
    """Draw how much of one seed's tokens a map predicts of another's, and how much of that untrained cells have too."""
    table = (DOCS / "results" / "alignment.md").read_text()
    drawing = Drawing(
        700, 360, "Share of the variance of one cell's tokens that a map predicts from another's, by token and band"
    )
    frame = Frame(drawing, 60, 40, 680, 280, (0, 8), (0, 1))
    frame.axes((), (0, 0.25, 0.5, 0.75, 1), "", "R2 of a held-out map between seeds")
    cases = [
        (probe, pairs, tokens)
        for probe in ("noise16-64", "photos-64")
        for pairs in ("LOW", "HIGH")
        for tokens in ("omega", "moment")
    ]
    for number, (probe, pairs, tokens) in enumerate(cases):
        found = re.search(PAIRS.format(probe=probe, pairs=f"{pairs}, seeds", tokens=tokens), table)
        if found is None:
            raise LookupError(f"no row of {probe}, {pairs}, {tokens} in docs/results/alignment.md")
        r2, _, lift = map(float, found.groups())
        for place, (value, colour) in enumerate(((r2, COLOURS[2]), (lift, COLOURS[0]))):
            (x, y), (_, bottom) = frame.at(number + 0.15 + 0.35 * place, max(value, 0)), frame.at(0, 0)
            drawing.box(x, y, 24, bottom - y, fill=colour, stroke="none")
        centre, _ = frame.at(number + 0.5, 0)
        for line, words in enumerate((tokens, pairs, probe.partition("-")[0])):
            drawing.text(centre, 298 + 15 * line, words, size=11)
    drawing.text(
        70, 58, "left bar: R2; right bar: its lift over untrained cells, whose R2 may be negative", anchor="start", size=12
    )
    return drawing


def viability() -> Drawing:
    """Draw the shipped cells and their untrained twins by CV and by error."""
    drawing = Drawing(640, 400, "Shipped cells and untrained cells of their specs: the same CV, other errors")
    frame = Frame(drawing, 70, 40, 610, 340, (0.9, 1.1), (1e-6, 10), log=True)
    frame.axes((0.9, 0.95, 1, 1.05, 1.1), (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10), "axial CV / exact", "mean squared error")
    for one in registry.find(registry="embedded"):
        (found,) = registry.pull(one, registry="embedded")
        exact, own = sphere_cv(found.spec.D), found.manifest.own_probe
        for figures, colour in ((found.manifest.untrained[own], COLOURS[1]), (found.manifest.measured[own], COLOURS[0])):
            drawing.dot(*frame.at(figures.axial_cv.value / exact, figures.mse.value), fill=colour)
    drawing.dot(430, 60, fill=COLOURS[1])
    drawing.text(440, 64, "untrained", anchor="start")
    drawing.dot(520, 60, fill=COLOURS[0])
    drawing.text(530, 64, "trained", anchor="start")
    return drawing


PICTURES: dict[str, Callable[[], Drawing]] = {one.__name__: one for one in (cell, attractor, cv, alignment, viability)}


def write(folder: Path = DOCS / "concepts") -> list[Path]:
    """Write every picture into a folder."""
    paths = [folder / f"{name}.svg" for name in PICTURES]
    for path in paths:
        path.write_text(PICTURES[path.stem]().svg())
    return paths
