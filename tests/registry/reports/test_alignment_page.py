"""The page of an alignment: whole, alone, readable without colour, without sight, and on a phone, for 2 cells and for 35."""

import re
from itertools import combinations, permutations

import pytest

from registry.answers.alignment import Aligned, AlignedCell, NullFigure, PairFigure, SpectrumFigure, SwapFigure
from registry.reports.alignment_page import MOST_AXES, MOST_BARS, _short, page
from tests.registry.reports.test_viability_page import (
    HOSTILE,
    PHONE,
    framed_title,
    needs_chromium,
    read,
    refuse_outside,
    shown,
    words_of,
)


def null(mean, p):
    return NullFigure(mean=mean, sd=0.002, draws=199, exceeding=round(200 * p) - 1, p=p)


def pair(source, target, r2=0.3, *, related=True, untrained=0.02):
    p = 0.005 if related else 0.4
    return PairFigure(
        source=source,
        target=target,
        r2=r2,
        low=r2 - 0.05,
        high=r2 + 0.05,
        cosine=0.4,
        samples_per_dimension=128.0,
        shuffled=null(-0.01, p),
        untrained=None if untrained is None else null(untrained, p),
        lift=r2 + 0.01,
        lift_over_untrained=None if untrained is None else r2 - untrained,
        p=p,
        related=related,
        through_r2=-0.2,
        through_cosine=0.37,
    )


def swap(source, target, share=0.6, *, carries=True):
    low, high = (None, None) if share is None else (share - 0.1, share + 0.1)
    errors = {"own": 0.8, "mapped": 0.86, "mean": 0.9 if carries else 0.801, "shuffled": 0.92}
    return SwapFigure(source=source, target=target, **errors, share=share, low=low, high=high, carries=carries)


def aligned(count=4, axes=16, swapped=True, untrained=0.02, names=None, **changes):
    names = names or [f"low/cell-{place}" for place in range(count)]
    left = tuple(0.4 + 0.07 * axis for axis in range(axes))
    spectrum = SpectrumFigure(variance=(1 / axes,) * axes, left=left, beyond=0.0)
    cells = [
        AlignedCell(
            cell=name, reference=f"{name}@1.0.0", version="1.0.0", sha256="a" * 64, tensors="b" * 64, D=16, spectrum=spectrum
        )
        for name in names
    ]
    pairs = [
        pair(*ends, 0.02 * place, related=place > 0, untrained=untrained) for place, ends in enumerate(combinations(names, 2))
    ]
    swaps = [swap(*ends, 0.1 * (place % 8)) for place, ends in enumerate(permutations(names, 2))] if swapped else None
    fields = {
        "summary": (f"{len(pairs) - 1} of {len(pairs)} pairs are related at 5% after Holm's correction.", "Beyond shuffled."),
        "tokens": "omega",
        "grid": "coarsest",
        "regions": (4, 4),
        "probe": "noise16-64",
        "probe_because": "all cells learned noise",
        "probe_digest": "c" * 64,
        "images": (256, 3, 64, 64),
        "images_digest": "d" * 64,
        "clusters": 256,
        "untrained": 0 if untrained is None else 19,
        "level": 0.05,
        "seed": 7,
        "command": "batteries align low/cell-0@1.0.0 low/cell-1@1.0.0 --seed 7",
        "package": "0.1.0",
        "torch": "2.6.0",
        "cells": tuple(cells),
        "pairs": tuple(pairs),
        "related": len(pairs) - 1,
        "swaps": None if swaps is None else tuple(swaps),
        "warnings": (),
        "page": None,
        "path": None,
        "manifest": None,
    }
    return Aligned(**{**fields, **changes})


CASES = {
    "four": aligned,
    "two": lambda: aligned(2),
    "many": lambda: aligned(35),
    "no untrained cells, no swaps": lambda: aligned(untrained=None, swapped=False),
    "moments": lambda: aligned(axes=136),
    "hostile": lambda: aligned(names=[HOSTILE, "low/b"], summary=(HOSTILE,), warnings=(HOSTILE,), command=HOSTILE),
    "no share": lambda: aligned(2, swaps=(swap("low/cell-0", "low/cell-1", None, carries=False),)),
}


def titles(html):
    """Title and description of every drawing."""
    return re.findall(r'<svg role="img"[^>]*><title>([^<]*)</title><desc>([^<]+)</desc>', html)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_page_is_whole_and_stands_alone(name):
    html = page(CASES[name]())
    reader = read(html)
    refuse_outside(html)
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html)
    assert {key for _, attributes in reader.started for key in attributes}.isdisjoint({"onload", "style"})
    assert len(titles(html)) == html.count('role="img"') >= 2
    assert page(CASES[name]()) == html


def test_everything_is_told():
    found = aligned(warnings=("8 rows for 10 dimensions",))
    words = words_of(page(found))
    for told in (*found.summary, "8 rows for 10 dimensions", found.command, found.probe_digest, found.images_digest):
        assert told in words
    assert all(f"{cell.cell}@1.0.0" in words for cell in found.cells)
    assert words.index(found.summary[0]) < words.index("Lifts")


def test_pairs_that_are_not_related_are_grey_and_the_others_outlined_in_both_places():
    found = aligned()
    shuffled, untrained, *_ = page(found).split("<figure>")[1:]
    for figure, lifts in ((shuffled, [p.lift for p in found.pairs]), (untrained, [p.lift_over_untrained for p in found.pairs])):
        squares = re.findall(r'<g class="(\w+)"><title>([^<]*)</title>.*?<text[^>]*>([^<]*)</text>', figure)
        assert len(squares) == 2 * len(found.pairs)
        for pair, lift in zip(found.pairs, lifts, strict=True):
            own = [(tone, label) for tone, words, label in squares if words.startswith(f"{pair.source} and {pair.target}:")]
            assert own == [("sure" if pair.related else "unsure", _short(lift))] * 2


def test_the_deepest_colour_is_the_highest_lift_of_both_maps():
    found = aligned()
    depths = [float(depth) for depth in re.findall('fill-opacity="([0-9.]+)"', "".join(page(found).split("<figure>")[1:3]))]
    highest = max(p.lift for p in found.pairs)
    assert max(depths) == 0.5
    assert min(depths) == pytest.approx(0.5 * min(p.lift_over_untrained for p in found.pairs if p.related) / highest, abs=0.001)


def test_one_null_makes_one_map():
    html = page(aligned(untrained=None))
    assert "Lift over shuffled pairings" in html
    assert "Lift over untrained cells" not in html


def test_a_frame_of_many_axes_is_cut_and_says_so():
    html = page(aligned(axes=136))
    assert f"The first {MOST_AXES} of 136 axes, with 18% of the variance." in html
    assert "low/cell-0, axis 24: " in html
    assert "low/cell-0, axis 25: " not in html


@pytest.mark.slow
def test_swaps_are_bars_or_where_there_are_too_many_a_table():
    few, many = page(aligned(4)), page(aligned(35))
    assert few.count('class="rod"') == 12 <= MOST_BARS
    assert many.count('class="rod"') == 0
    assert many.count("low/cell-3</th>") == 34 + 31  # in the tables of swaps and of pairs
    assert "Not measured: --swap" in page(aligned(swapped=False))


def test_a_share_that_says_little_is_grey_and_one_far_off_ends_at_the_axis_end():
    names = ["low/cell-0", "low/cell-1"]
    html = page(aligned(2, swaps=(swap(*names, 0.3, carries=False), swap(*names[::-1], -7.0))))
    drawn = html.split("<figure>")[4]
    assert re.findall(r'<rect [^>]*class="(\w+)"', drawn) == ["unsure", "sure", "sure", "unsure"]
    assert "beyond the axis, drawn to its end: 1" in drawn
    places = [float(x) for x in re.findall(r'\bx[12]?="([^"]+)"', drawn)]
    width = float(re.search(r'width="(\d+)"', drawn)[1])
    assert all(0 <= x <= width for x in places)


@needs_chromium
@pytest.mark.parametrize("name", CASES)
def test_no_page_is_wider_than_a_phone(name, tmp_path):
    assert framed_title(tmp_path, page(CASES[name]())) == f"{PHONE[0]} of {PHONE[0]}"


@needs_chromium
def test_a_browser_shows_every_figure(tmp_path):
    html = page(aligned())
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    dumped = shown(tmp_path / "page.html", tmp_path)
    assert dumped.count("<figure>") == html.count("<figure>") == 4
    assert "5 of 6 pairs are related" in words_of(dumped)
