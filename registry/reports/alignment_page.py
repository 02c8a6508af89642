"""An alignment as one page of HTML: which pairs of cells are related, along which axes, and what their tokens are worth."""

from __future__ import annotations

from collections.abc import Sequence

from registry.answers.alignment import Aligned, PairFigure, SwapFigure
from registry.reports import html
from registry.reports.bar_chart import Bar, Bars
from registry.reports.chart import Axis
from registry.reports.heatmap import Heatmap, Square
from registry.reports.markup import Markup, element, number, text

MOST_AXES = 24  # that are drawn; a frame of second moments has 136
MOST_BESIDE = 7  # cells whose two maps have room beside each other
MOST_BARS = 60  # more are in the table alone
LOWEST = -1.25  # where the axis of shares ends: worse than the mean is no share, however much worse


def page(found: Aligned) -> str:
    """Whole page; the same answer gives the same bytes."""
    asked = f"{found.tokens} of {len(found.cells)} cells on {found.probe}"
    body = [
        element("h1", text("Alignment report")),
        element("h2", text(asked)),
        _summary(found),
        *_lifts(found),
        *_spectra(found),
        *_swaps(found),
        *_pairs(found),
        *_provenance(found),
    ]
    return html.whole(f"Alignment: {asked}", (Markup(f"{part}\n") for part in body))


def _summary(found: Aligned) -> Markup:
    first, *others = found.summary
    parts = [element("p", element("strong", text(first)), text(" ".join(others)), class_="verdict none")]
    parts += [element("p", text(f"Warning: {words}."), class_="bad") for words in found.warnings]
    return element("div", *parts)


def _lifts(found: Aligned) -> list[Markup]:
    """Over both nulls, or the one there is, on one scale of colour."""
    over = {"shuffled pairings": [pair.lift for pair in found.pairs]}
    untrained = [pair.lift_over_untrained for pair in found.pairs if pair.lift_over_untrained is not None]
    if untrained:
        over["untrained cells"] = untrained
    deepest = max(1e-9, *(lift for lifts in over.values() for lift in lifts))
    words = (
        "Share of the variance of one cell's tokens that the other's predict on images that were not fitted, less the share "
        "under the null. A map turned round is the way back: one number stands for both directions, in both places of a pair."
    )
    maps = [_lift_map(found, null, lifts, deepest) for null, lifts in over.items()]
    beside = "charts" if len(found.cells) <= MOST_BESIDE else None
    return html.section("Lifts", html.note(words), element("div", *maps, class_=beside))


def _lift_map(found: Aligned, null: str, lifts: Sequence[float], deepest: float) -> Markup:
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
    return Heatmap(f"Lift over {null}", list(zip(numbered, squares, strict=True)), columns, told, key).figure()


def _spectra(found: Aligned) -> list[Markup]:
    """Per cell and axis what its map leaves over, below the axes' own shares of variance."""
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
    words = (
        "Each cell's tokens, mapped into the consensus of the other cells, predict it on images that were not fitted. Of each "
        "principal axis of that consensus this share of variance is left over: 0 where the cell has all of it, 1 where it says "
        "nothing, above 1 where the mean would have done better."
    )
    cut = [] if shown == axes else [html.note(f"The first {shown} of {axes} axes, with {sum(mean):.0%} of the variance.")]
    key = (
        (Square("", 1.0, "shade", ""), "nothing is left over; the paler, the more"),
        (Square("", 0.0, "unsure", ""), "all of it is left over, or more"),
    )
    lefts = [left for _, spectrum in known for left in spectrum.left]
    told = f"Share of variance left over of {shown} axes, for {len(known)} cells: {min(lefts):.2f} to {max(lefts):.2f}."
    title = "Share of each axis' variance that is left over"
    drawn = Heatmap(title, rows, [str(k) for k in range(1, shown + 1)], told, key).figure()
    return html.section("Residual spectrum", html.note(words), *cut, drawn)


def _left(name: str, axis: int, left: float) -> Square:
    said = f"{name}, axis {axis}: {left:.1%} left over"
    return Square(_short(left), 1 - left, "shade" if left < 1 else "unsure", said)


def _swaps(found: Aligned) -> list[Markup]:
    """Bars where there are not too many, and all figures."""
    if found.swaps is None:
        return html.section("Swap scores", html.note("Not asked for: --swap decodes one cell's omega, or rows, in another."))
    words = (
        f"The target decodes images with the {found.tokens} of the source in the place of its own, by a map of other images. "
        "Of the error that the mean in their place costs, this share comes back: 1 as good as its own, 0 no better than it."
    )
    columns = ("source", "target", "share", "95% interval", "mean costs", "own", "mapped", "mean", "shuffled")
    rows = [
        (
            text(swap.source),
            text(swap.target),
            text(number(swap.share)),
            text(_interval(swap.low, swap.high)),
            text(_cost(swap)),
            *(text(number(error)) for error in (swap.own, swap.mapped, swap.mean, swap.shuffled)),
        )
        for swap in found.swaps
    ]
    table = html.table("swap scores", columns, rows)
    if len(found.swaps) > MOST_BARS:
        return html.section("Swap scores", html.note(words), table)
    return html.section("Swap scores", html.note(words), _bars(found.swaps), html.fold(table))


def _bars(swaps: Sequence[SwapFigure]) -> Markup:
    bars = [
        Bar(
            f"{s.source} in {s.target}",
            s.share,
            s.low,
            s.high,
            s.carries,
            f"share {number(s.share)}; the mean costs {_cost(s)}",
        )
        for s in swaps
    ]
    known = [value for bar in bars if bar.sure for value in (bar.value, bar.low, bar.high) if value is not None]
    axis = Axis.over("share recovered", [0.0, 1.0, *known], floor=LOWEST)
    key = (
        "share that the source's tokens recover, with its 95% interval",
        "the mean costs less than 2% of the error: the target's own tokens carry almost nothing, and a share says little",
    )
    sure = sum(bar.sure for bar in bars)
    told = f"{len(bars)} swaps, of which {sure} into a cell whose own tokens carry something."
    return Bars("Share that comes back, source in target", bars, axis, told, key).figure()


def _pairs(found: Aligned) -> list[Markup]:
    columns = (
        "cell",
        "other",
        "related",
        "corrected p",
        "lift",
        "95% interval",
        "over untrained",
        "R2",
        "shuffled",
        "untrained",
        "cosine",
        "through the frame",
        "R2 through",
        "rows / D",
    )
    rows = [_pair(pair) for pair in found.pairs]
    words = (
        "The lift's interval is that of R2 over images, or photographs, less the null's mean: where most of R2 is there under "
        "any pairing, as it is with rows, it is wider than what p rests on. Through the frame: the same cosine by way of the "
        "consensus of all cells, with one map a cell in the place of one a pair."
    )
    return html.section("All pairs", html.note(words), html.table("all pairs", columns, rows))


def _pair(pair: PairFigure) -> tuple[Markup, ...]:
    untrained = pair.untrained
    figures = (
        number(pair.p),
        number(pair.lift),
        _interval(*pair.lift_bounds),
        number(pair.lift_over_untrained),
        number(pair.r2),
        f"{number(pair.shuffled.mean)} ± {number(pair.shuffled.sd)}",
        "" if untrained is None else f"{number(untrained.mean)} ± {number(untrained.sd)}",
        number(pair.cosine),
        number(pair.through_cosine),
        number(pair.through_r2),
        number(pair.samples_per_dimension),
    )
    related = element("span", text("yes" if pair.related else "no"), class_="good" if pair.related else "none")
    return text(pair.source), text(pair.target), related, *(text(figure) for figure in figures)


def _provenance(found: Aligned) -> list[Markup]:
    count, *size = found.images
    facts = {
        "tokens": found.tokens,
        "regions of an image": f"{found.regions[0]} by {found.regions[1]} (grid {found.grid})",
        "probe": f"{found.probe}: {found.probe_because}",
        "probe SHA-256": found.probe_digest,
        "images": f"{count} of {' by '.join(map(str, size))}, {found.clusters} to be shuffled",
        "images SHA-256": found.images_digest,
        "untrained cells": f"{found.untrained} of each spec at each end",
        "seed": found.seed,
        "package": found.package,
        "torch": found.torch,
        "once more": found.command,
    }
    rows = [(text(cell.reference), text(cell.D), text(cell.sha256), text(cell.tensors)) for cell in found.cells]
    cells = html.table("cells", ("cell", "D", "SHA-256 of its file", "of its weights"), rows, words=(2, 3))
    return html.section("Provenance", html.facts(facts), cells)


def _word(pair: PairFigure) -> str:
    return "related" if pair.related else "not related"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def _cost(swap: SwapFigure) -> str:
    """Of the mean in the place of the target's own tokens, as a share of its error."""
    return f"{swap.mean / swap.own - 1:.2%}"


def _short(value: float) -> str:
    """Two digits behind the point, without the nought before it.

    >>> _short(0.066), _short(-0.25), _short(1.0), _short(-12.3)
    ('.07', '−.25', '1.00', '−12')
    """
    if abs(value) >= 10:
        words = f"{value:.0f}"
    else:
        words = f"{round(value, 2) + 0.0:.2f}"  # no nought below zero
        words = words.replace("0.", ".", 1) if abs(value) < 0.995 else words
    return words.replace("-", "\N{MINUS SIGN}")
