"""Alignment report as a page of HTML: related pairs of cells, residual spectra and swap scores."""

from __future__ import annotations

from collections.abc import Sequence

from registry.answers.alignment import Aligned, PairFigure, SwapFigure
from registry.reports import html
from registry.reports.bar_chart import Bar, Bars
from registry.reports.chart import Axis
from registry.reports.heatmap import Heatmap, Square
from registry.reports.markup import Markup, element, number, text

MOST_AXES = 24  # axes drawn; a frame of second moments has 136
MOST_BESIDE = 7  # cells up to which two heatmaps fit side by side
MOST_BARS = 60  # bars drawn at most; a larger number is only tabulated
LOWEST = -1.25  # lower end of the axis of shares: below 0 all are worse than the mean


def page(found: Aligned) -> str:
    """Return the page of an answer; the same answer gives the same bytes."""
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
    """Draw the lifts over each null on one scale of colour."""
    over = {"shuffled pairings": [pair.lift for pair in found.pairs]}
    untrained = [pair.lift_over_untrained for pair in found.pairs if pair.lift_over_untrained is not None]
    if untrained:
        over["untrained cells"] = untrained
    deepest = max(1e-9, *(lift for lifts in over.values() for lift in lifts))
    words = (
        "Share of the variance of one cell's tokens that the other's predict on held-out images, less the share under the "
        "null. The transposed map leads back, so one number holds for both directions, shown in both places."
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
    """Draw the residual variance by cell and axis, below each axis' share of variance."""
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
        "Each cell's tokens, mapped into the consensus of the other cells, predict it on held-out images. Shown is the share "
        "of variance left over on each principal axis of that consensus: 0 if the cell explains all of it, 1 if it explains "
        "nothing, above 1 if the mean predicts better."
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
    """Tabulate the swaps, below bars if they are few enough."""
    if found.swaps is None:
        return html.section("Swap scores", html.note("Not measured: --swap decodes one cell's omega or rows in another."))
    words = (
        f"The target decodes images with the {found.tokens} of the source in place of its own, by a map fitted on "
        "other images. Shown is the share recovered of the error that mean tokens add: 1 as good as its own, 0 no better."
    )
    columns = ("source", "target", "share", "95% interval", "mean adds", "own", "mapped", "mean", "shuffled")
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
            f"share {number(s.share)}; the mean adds {_cost(s)}",
        )
        for s in swaps
    ]
    known = [value for bar in bars if bar.sure for value in (bar.value, bar.low, bar.high) if value is not None]
    axis = Axis.over("share recovered", [0.0, 1.0, *known], floor=LOWEST)
    key = (
        "share that the source's tokens recover, with its 95% interval",
        "the mean adds less than 2% to the error: the target's own tokens carry almost nothing, the share is uninformative",
    )
    sure = sum(bar.sure for bar in bars)
    told = f"{len(bars)} swaps, {sure} of them into a cell whose own tokens carry something."
    return Bars("Share recovered, source in target", bars, axis, told, key).figure()


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
        "The lift's interval is that of R2 over images, or photographs, less the null's mean. If any pairing gives most of R2, "
        "as with rows, it is wider than the spread that p is based on. Through the frame: the same figure by way of the "
        "consensus of all cells, with one map per cell in place of one per pair."
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
        "images": f"{count} of {' by '.join(map(str, size))}, shuffled in {found.clusters} clusters",
        "images SHA-256": found.images_digest,
        "untrained cells": f"{found.untrained} of each spec at each end",
        "seed": found.seed,
        "package": found.package,
        "torch": found.torch,
        "command": found.command,
    }
    rows = [(text(cell.reference), text(cell.D), text(cell.sha256), text(cell.tensors)) for cell in found.cells]
    cells = html.table("cells", ("cell", "D", "SHA-256 of its file", "SHA-256 of its weights"), rows, words=(2, 3))
    return html.section("Provenance", html.facts(facts), cells)


def _word(pair: PairFigure) -> str:
    return "related" if pair.related else "not related"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


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
