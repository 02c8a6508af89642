"""The table of lifts: what is compared, and that the page is that of the attestations that ship."""

from types import SimpleNamespace

import pytest

from tests.support.examples import example, rows

lifts = example("lifts")


def check(lower, upper, name="lift, denoise"):
    return SimpleNamespace(name=name, value=(lower + upper) / 2, lower=lower, upper=upper)


@pytest.mark.parametrize(
    ("one", "other", "wanted"), [((0, 1), (0.5, 2), True), ((0, 1), (1.5, 2), False), ((1, 2), (0, 0.5), False)]
)
def test_bounds_overlap(one, other, wanted):
    assert lifts.overlap(check(*one), check(*other)) is wanted


def test_the_page_has_the_lifts_of_the_attestations_that_ship():
    found = list(lifts.rows())
    assert {row[0] for row in found} >= {"high/johanna-64", "low/fresnel-256", "mid/johanna-64"}
    assert [row for row in rows((lifts.RESULTS / "lifts.md").read_text()) if row[0] in {one[0] for one in found}] == found
