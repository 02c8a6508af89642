"""Modes of HIGH cells: the error that each one saves, and the properties of a patch that its singular value follows.

python examples/modes.py           # prints the page
python examples/modes.py --write   # also writes docs/results/modes.md and docs/results/modes.svg
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from pages import RESULTS, table
from panels import Curve, Panel, drawn

import batteries
import registry
from batteries import diagnostics
from batteries.data.probes import Probe
from batteries.diagnostics import Figure, Modes
from batteries.diagnostics.mode_changes import CHANGES
from batteries.geometry import estimates
from batteries.io import atomic_files
from registry.reports.charts.chart import Axis

CELLS = ("high/johanna-64", "high/freckles-64", "high/fresnel-64")
SEEDS = range(3)  # of the untrained cells
PAGE = RESULTS / "modes.md"
EVEN = tuple(change for change in CHANGES if change != "removed")
COLOURS = {"removed": "#d55e00", "even size": "#0072b2"}
PROPERTIES = {"luminance": "#e69f00", "contrast": "#56b4e9", "gradient energy": "#009e73", "coherence": "#cc79a7"}
LINE = 124  # length of a line of the page
GREY, BLACK = "#999999", "#333333"

HEAD = """# What HIGH encodes

Written by `python examples/modes.py --write`. A cell of D = 4 gives its decoder the four singular directions of each patch;
here one of them at a time is changed in all patches (`diagnostics.modes`), on the cell's own probe, beside {seeds} untrained
cells of the same spec on the same images. *removed*: its gate is 0. *even gate*: its gate is the mean over the patches of the
image, so that attention no longer tells patches apart. *even size*: its omega is the mean over the patches of the image.
*ratio*: to the error without a change. Intervals are 95%, clustered by image or photograph; *untrained*: the lowest and highest
of the untrained cells. An error above the variance of the images is no loss of detail: the decoder receives matrices unlike
any of its training."""
CORRELATED = """## Singular values and properties of a patch

Spearman's rank correlation over the patches of an image, mean over images ± standard error; in brackets the largest absolute
value of the untrained cells. *Orientation 0* and *45* are the two components of the structure tensor, *coherence* is their
length. Images where either is constant are left out: at most {left}."""
TYPES = """## Error by noise type

Mean squared error with a mode removed, and with its size made even, over the error without a change. Without a change: the
mean squared error itself."""


@dataclass(frozen=True)
class Seen:
    """Modes of a cell and of untrained ones, on one probe.

    Attributes:
        name: Name of the cell.
        probe: Probe of all of them, the cell's own.
        modes: Modes of the cell.
        untrained: Modes of each untrained cell.
    """

    name: str
    probe: Probe
    modes: Modes
    untrained: tuple[Modes, ...]

    @property
    def D(self) -> int:
        """Number of modes."""
        return 1 + max(row.mode for row in self.modes.changes)

    @property
    def variance(self) -> float:
        """Variance of the probe about the mean of each channel."""
        return float(self.probe.images.double().var(dim=(0, 2, 3), correction=0).mean())


def seen(name: str, every: int = 1) -> Seen:
    """Measure a cell and untrained ones on every so many images of its own probe."""
    cell = registry.load(name)
    probe = batteries.probe(cell.manifest.own_probe)
    models = [batteries.PatchSVAE.from_cell(cell), *(batteries.untrained(cell.spec, seed) for seed in SEEDS)]
    images = (probe.images[::every], probe.group[::every], probe.cluster[::every])
    found = [diagnostics.modes(model, *images) for model in models]
    return Seen(name, probe, found[0], tuple(found[1:]))


def bounds(figure: Figure) -> tuple[float, float, float]:
    """Return value and 95% bounds of a figure."""
    assert figure.value is not None
    assert figure.standard_error is not None
    reach = estimates.student(0.95, max(len(figure.by_cluster) - 1, 1)) * figure.standard_error
    return figure.value, figure.value - reach, figure.value + reach


def changes(one: Seen) -> list[list[str]]:
    """Return a row per mode: its error under each change, with the ratio, and that of untrained cells."""
    rows = []
    for mode in range(one.D):
        row = [one.name, str(mode + 1)]
        for change in CHANGES:
            found = one.modes.change(mode, change)
            others = [_value(other.change(mode, change).ratio) for other in one.untrained]
            row += [f"{_value(found.error):.3g}", "{:.4g} ({:.4g} to {:.4g})".format(*bounds(found.ratio))]
            row.append(f"{min(others):.4g} to {max(others):.4g}")
        rows.append(row)
    return rows


def correlated(one: Seen) -> list[list[str]]:
    """Return a row per singular value: its correlation with each property."""
    names = list(dict.fromkeys(row.statistic for row in one.modes.correlations))
    rows = []
    for mode in range(one.D):
        row = [one.name, str(mode + 1)]
        for name in names:
            found = one.modes.correlation(mode, name).figure
            row.append(f"{_value(found):+.2f} ± {found.standard_error or 0:.2f} ({chance(one, mode, name):.2f})")
        rows.append(row)
    return rows


def chance(one: Seen, mode: int, name: str) -> float:
    """Return the largest absolute correlation of untrained cells."""
    return max(abs(_value(other.correlation(mode, name).figure)) for other in one.untrained)


def by_type(one: Seen) -> str:
    """Return a table of errors by noise type."""
    shown = [("removed", "without"), ("even size", "even")]
    head = ["type", "MSE", *(f"{word} {mode + 1}" for _, word in shown for mode in range(one.D))]
    rows = []
    for group in one.modes.whole:
        if group is None:
            continue
        ratios = [_value(one.modes.change(mode, change, group).ratio) for change, _ in shown for mode in range(one.D)]
        rows.append([one.probe.groups[group], f"{_value(one.modes.whole[group]):.2g}", *(f"{ratio:.3g}" for ratio in ratios)])
    return f"### {one.name}\n\n{table(head, rows)}"


def sentences(one: Seen) -> list[str]:
    """Answer for a cell, from its figures."""
    removed = [(mode, one.modes.change(mode, "removed")) for mode in range(one.D)]
    least, row = min(removed, key=lambda pair: _value(pair[1].ratio))
    most = max(_value(other.change(mode, "removed").ratio) for other in one.untrained for mode in range(one.D))
    low, high = (pick(_value(found.error) / one.variance for _, found in removed) for pick in (min, max))
    said = [
        "Removing a mode multiplies the error by at least {:.3g} ({:.3g} to {:.3g}), for mode {}; ".format(
            *bounds(row.ratio), least + 1
        )
        + f"of untrained cells by at most {most:.3g}. The error is then {low:.2g} to {high:.2g} times the probe's variance: "
        + ("the decoder needs every mode." if low > 1 else "the other modes still carry a part of the image.")
    ]
    evened = [(mode, one.modes.change(mode, "even size")) for mode in range(one.D)]
    mode, row = max(evened, key=lambda pair: _value(pair[1].ratio))
    said.append(
        "An even size multiplies it by at most {:.3g} ({:.3g} to {:.3g}), for mode {}, ".format(*bounds(row.ratio), mode + 1)
        + f"which is {_value(row.error) / one.variance:.2g} of the variance"
        + (
            ": patches differ for the decoder by directions far more than by one size."
            if _value(row.error) < 0.1 * one.variance
            else "."
        )
    )
    apart = max(abs(_value(one.modes.change(mode, "even gate").ratio) - 1) for mode in range(one.D))
    said.append(f"An even gate changes the error by {apart:.1g} of itself at most.")
    said.append(_followed(one))
    return said


def _followed(one: Seen) -> str:
    """Say which property each singular value follows more than those of untrained cells do."""
    words = []
    for mode in range(one.D):
        row = max((row for row in one.modes.correlations if row.mode == mode), key=lambda row: abs(_value(row.figure)))
        null = chance(one, mode, row.statistic)
        value, low, high = bounds(row.figure)
        beyond = min(abs(low), abs(high)) > null and low * high > 0
        verdict = "beyond" if beyond else "not beyond"
        words.append(f"S{mode + 1} {row.statistic} ({value:+.2f}, {low:+.2f} to {high:+.2f}; {verdict} untrained, {null:.2f})")
    return f"The property that each singular value follows most: {'; '.join(words)}."


def picture(cells: Sequence[Seen]) -> str:
    """Draw errors and correlations by mode, a column per cell; grey are untrained cells."""
    rows = [[_errors(one) for one in cells], [_correlations(one) for one in cells]]
    shapes = [("as it is", BLACK, 0), *((name, colour, 0) for name, colour in (*COLOURS.items(), *PROPERTIES.items()))]
    what = (
        "Above: MSE with one mode changed, by mode, log axis. Below: rank correlation of each singular value with properties."
    )
    return drawn("Modes of HIGH cells", what, rows, shapes, "grey: untrained")


def _errors(one: Seen) -> Panel:
    curves = [
        Curve(GREY, [(m + 1, _value(other.change(m, "removed").error)) for m in range(one.D)], 0) for other in one.untrained
    ]
    curves += [
        Curve(colour, [(m + 1, _value(one.modes.change(m, change).error)) for m in range(one.D)], 0)
        for change, colour in COLOURS.items()
    ]
    curves.append(Curve(BLACK, [(m + 1, _value(one.modes.whole[None])) for m in range(one.D)], 0))
    return _panel(f"{one.name}: MSE, log axis", "mode", curves, log=True)


def _correlations(one: Seen) -> Panel:
    def curve(found: Modes, name: str, colour: str) -> Curve:
        return Curve(colour, [(m + 1, _value(found.correlation(m, name).figure)) for m in range(one.D)], 0)

    curves = [curve(other, name, GREY) for other in one.untrained for name in PROPERTIES]
    curves += [curve(one.modes, name, colour) for name, colour in PROPERTIES.items()]
    return _panel(f"{one.name}: rank correlation", "singular value", curves, log=False)


def _panel(title: str, words: str, curves: list[Curve], log: bool) -> Panel:
    modes = [across for across, _ in curves[0].path]
    x = Axis(words, modes[0] - 0.3, modes[-1] + 0.3, False, tuple((mode, f"{mode:g}") for mode in modes))
    y = Axis.over("", [down for curve in curves for _, down in curve.path], log=log)
    return Panel(title, x, y, curves, 250)


def report(cells: Sequence[Seen]) -> str:
    """Format the page."""
    head = ["cell", "mode", *(word for change in CHANGES for word in (f"MSE, {change}", "ratio", "untrained"))]
    names = list(dict.fromkeys(row.statistic for row in cells[0].modes.correlations))
    whole = "; ".join(f"{one.name} {_value(one.modes.whole[None]):.3g} on `{one.probe.name}`" for one in cells)
    left = "; ".join(f"{_left(one)} of the {len(one.probe.images)} images for {one.name}" for one in cells)
    answers = "\n\n".join(textwrap.fill(f"**{one.name}.** {' '.join(sentences(one))}", LINE) for one in cells)
    parts = [
        HEAD.format(seeds=len(SEEDS)),
        answers,
        "![MSE with a changed mode, and correlations of singular values, by mode](modes.svg)",
        f"## Error with a changed mode\n\nWithout a change: {whole}.",
        table(head, [row for one in cells for row in changes(one)]),
        CORRELATED.format(left=left),
        table(["cell", "S", *names], [row for one in cells for row in correlated(one)]),
        TYPES,
        *(by_type(one) for one in cells if one.probe.domain == "noise"),
    ]
    return "\n\n".join(parts)


def _left(one: Seen) -> int:
    """Return the largest number of images that a correlation leaves out."""
    return len(one.probe.images) - min(row.images for row in one.modes.correlations)


def _value(figure: Figure) -> float:
    return math.nan if figure.value is None else figure.value


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Modes of cells of D = 4: what each one carries.")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} and its picture")
    arguments = parser.parse_args()
    cells = [seen(name) for name in CELLS]
    text = report(cells)
    print(text)
    if arguments.write:
        atomic_files.replace(PAGE, f"{text}\n".encode())
        atomic_files.replace(PAGE.with_suffix(".svg"), picture(cells).encode())


if __name__ == "__main__":
    main()
