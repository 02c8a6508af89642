"""Alignment report as a page of HTML: related pairs of cells, residual spectra and swap scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.answers.alignment import Aligned, PairFigure, SwapFigure
from registry.reports.charts.bar_chart import Bar, Bars
from registry.reports.charts.chart import Axis
from registry.reports.charts.heatmap import Heatmap, Square
from registry.reports.number_format import interval, number
from registry.reports.templating import render

MOST_AXES = 24  # axes drawn; a frame of second moments has 136
MOST_BESIDE = 7  # cells up to which two heatmaps fit side by side
MOST_BARS = 60  # bars drawn at most; a larger number is only tabulated
LOWEST = -1.25  # lower end of the axis of shares: below 0 all are worse than the mean


def page(found: Aligned) -> str:
    """Return the page of an answer; the same answer gives the same bytes."""
    return render(
        "alignment.html.j2",
        found=found,
        lift_maps=_lift_maps(found),
        beside=len(found.cells) <= MOST_BESIDE,
        spectra=_spectra(found),
        swap_bars=_bars(found.swaps) if found.swaps and len(found.swaps) <= MOST_BARS else None,
        cost=_cost,
        pair_cells=_pair,
    )


def _lift_maps(found: Aligned) -> list[Heatmap]:
    """Draw the lifts over each null on one scale of colour."""
    over = {"shuffled pairings": [pair.lift for pair in found.pairs]}
    untrained = [pair.lift_over_untrained for pair in found.pairs if pair.lift_over_untrained is not None]
    if untrained:
        over["untrained cells"] = untrained
    deepest = max(1e-9, *(lift for lifts in over.values() for lift in lifts))
    return [_lift_map(found, null, lifts, deepest) for null, lifts in over.items()]


def _lift_map(found: Aligned, null: str, lifts: Sequence[float], deepest: float) -> Heatmap:
    names = [cell.cell for cell in found.cells]
    place = {name: index for index, name in enumerate(names)}
    squares: list[list[Square | None]] = [[None] * len(names) for _ in names]
    for pair, lift in zip(found.pairs, lifts, strict=True):
        said = f"{pair.source} and {pair.target}: lift {number(lift)} over {null}, corrected p {number(pair.p)}, {_word(pair)}"
        square = Square(_short(lift), lift / deepest, "sure" if pair.related else "unsure", said)
        one, other = place[pair.source], place[pair.target]
        squares[one][other] = squares[other][one] = square
    level = f"{found.level:.0%}"
    key = (
        (
            Square("", 1.0, "sure", ""),
            f"related at {level} after Holm's correction; the deeper, the higher, up to {number(deepest)}",
        ),
        (Square("", 0.0, "unsure", ""), "not related"),
    )
    numbered = [f"{name}  {index}" for index, name in enumerate(names, start=1)]
    columns = [str(index) for index in range(1, len(names) + 1)]
    told = f"Lift over {null} of {len(names)} cells by {len(names)}: {min(lifts):.3f} to {max(lifts):.3f}. {found.summary[0]}"
    return Heatmap(f"Lift over {null}", list(zip(numbered, squares, strict=True)), columns, told, key)


@dataclass(frozen=True)
class _Spectra:
    """Residual variance by cell and axis, below each axis' share of variance.

    Attributes:
        map: Heatmap of the first axes.
        shown: Axes drawn.
        axes: Axes in total.
        share: Share of the variance on the axes drawn.
    """

    map: Heatmap
    shown: int
    axes: int
    share: float


def _spectra(found: Aligned) -> _Spectra:
    known = [(cell.cell, cell.spectrum) for cell in found.cells if cell.spectrum is not None]
    axes = max(len(spectrum.left) for _, spectrum in known)
    shown = min(axes, MOST_AXES)
    mean = [sum(s.variance[k] for _, s in known if k < len(s.variance)) / len(known) for k in range(shown)]
    rows: list[tuple[str, list[Square | None]]] = [
        (
            "share of variance",
            [Square(f"{share:.0%}", 0.0, "plain", f"axis {k}: {share:.1%}") for k, share in enumerate(mean, start=1)],
        )
    ]
    rows += [(name, [_left(name, k, left) for k, left in enumerate(s.left[:shown], start=1)]) for name, s in known]
    key = (
        (Square("", 1.0, "shade", ""), "nothing is left over; the paler, the more"),
        (Square("", 0.0, "unsure", ""), "all of it is left over, or more"),
    )
    lefts = [left for _, spectrum in known for left in spectrum.left]
    told = f"Share of variance left over of {shown} axes, for {len(known)} cells: {min(lefts):.2f} to {max(lefts):.2f}."
    title = "Share of each axis' variance that is left over"
    return _Spectra(Heatmap(title, rows, [str(k) for k in range(1, shown + 1)], told, key), shown, axes, sum(mean))


def _left(name: str, axis: int, left: float) -> Square:
    said = f"{name}, axis {axis}: {left:.1%} left over"
    return Square(_short(left), 1 - left, "shade" if left < 1 else "unsure", said)


def _bars(swaps: Sequence[SwapFigure]) -> Bars:
    bars = [
        Bar(
            f"{s.source} in {s.target}",
            s.share,
            s.low,
            s.high,
            s.carries,
            f"share {number(s.share)}; the mean adds {_cost(s)}",
        )
        for s in swaps
    ]
    known = [value for bar in bars if bar.sure for value in (bar.value, bar.low, bar.high) if value is not None]
    axis = Axis.over("share recovered", [0.0, 1.0, *known], floor=LOWEST)
    key = (
        (True, "share that the source's tokens recover, with its 95% interval"),
        (
            False,
            "the mean adds less than 2% to the error: the target's own tokens carry almost nothing, the share is uninformative",
        ),
    )
    sure = sum(bar.sure for bar in bars)
    told = f"{len(bars)} swaps, {sure} of them into a cell whose own tokens carry something."
    return Bars("Share recovered, source in target", bars, axis, told, key)


def _pair(pair: PairFigure) -> tuple[str, ...]:
    """Format the figures of a pair, from its corrected p on."""
    untrained = pair.untrained
    return (
        number(pair.p),
        number(pair.lift),
        interval(*pair.lift_bounds),
        number(pair.lift_over_untrained),
        number(pair.r2),
        f"{number(pair.shuffled.mean)} ± {number(pair.shuffled.sd)}",
        "" if untrained is None else f"{number(untrained.mean)} ± {number(untrained.sd)}",
        number(pair.cosine),
        number(pair.through_cosine),
        number(pair.through_r2),
        number(pair.samples_per_dimension),
    )


def _word(pair: PairFigure) -> str:
    return "related" if pair.related else "not related"


def _cost(swap: SwapFigure) -> str:
    """Format the error that mean tokens add, as a share of the error with the target's own."""
    return f"{swap.mean / swap.own - 1:.2%}"


def _short(value: float) -> str:
    """Format two decimals, without a leading zero.

    >>> _short(0.066), _short(-0.25), _short(1.0), _short(-12.3)
    ('.07', '−.25', '1.00', '−12')
    """
    if abs(value) >= 10:
        words = f"{value:.0f}"
    else:
        words = f"{round(value, 2) + 0.0:.2f}"  # no negative zero
        words = words.replace("0.", ".", 1) if abs(value) < 0.995 else words
    return words.replace("-", "\N{MINUS SIGN}")
