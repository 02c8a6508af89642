"""Scores that can say no: nulls flagged at their level, planted signals found, and what one image alone cannot show."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from batteries import CellSpec
from batteries.errors import InputError
from batteries.model import untrained
from composer.procrustes import FewSamplesWarning, fit
from composer.scores import LEVEL, Null, holm, score
from tests.test_procrustes import draw, rotation

NULL_TRIALS, NULL_FLAGGED = 1000, 0.065  # at level 0.05, by two standard errors
PLANTED_TRIALS, PLANTED_FOUND = 100, 0.95
NOISE = 1.0  # as strong as the signal: the planted share of variance is a half


def related(b, g, d, noise=NOISE, seed=0):
    """Two cells that see one hidden thing, each in its own turn and with noise of its own."""
    hidden = draw(b, g, d, seed=seed)
    one, other = (hidden + noise / 2**0.5 * draw(b, g, d, seed=seed + i) for i in (1, 2))
    return one @ rotation(d, seed), 3 * other @ rotation(d, seed + 1, reflect=True) + 1


def test_unrelated_tokens_are_flagged_at_the_level_and_no_more():
    """From as many images as dimensions to ten times as many."""
    flagged = 0
    for trial in range(NULL_TRIALS):
        d = (2, 3, 4)[trial % 3]
        b = max(4, d * (1, 2, 3, 5, 10)[trial % 5])
        one, other = draw(b, 2, d, seed=2 * trial), draw(b, 2, d, seed=2 * trial + 1)
        flagged += score(one, other, seed=trial, shuffles=99).related()
    assert flagged <= NULL_FLAGGED * NULL_TRIALS


def test_images_whose_regions_agree_are_no_signal():
    """Regions of an image are nearly copies: a null that shuffled regions would find these related."""
    flagged = 0
    for trial in range(100):
        one, other = (
            draw(16, 1, 4, seed=2 * trial + i).expand(16, 8, 4) + 0.1 * draw(16, 8, 4, seed=9000 + 2 * trial + i)
            for i in (0, 1)
        )
        flagged += score(one, other, seed=trial, shuffles=99).related()
    assert flagged <= 11, "100 at 0.05: 5 and three standard errors"


def test_a_planted_signal_is_found():
    """Half of the variance planted, 16 images of 4 regions, D = 4."""
    found = [score(*related(16, 4, 4, seed=10 * trial), seed=trial, shuffles=99) for trial in range(PLANTED_TRIALS)]
    assert sum(one.related() for one in found) >= PLANTED_FOUND * PLANTED_TRIALS
    assert all(one.lift > 0 for one in found)


def test_the_score_is_what_the_planted_noise_leaves():
    """Both ends noisy: the best linear prediction of one by the other has R2 = (1 / (1 + noise^2 / 2))^2."""
    for noise in (0.1, 0.5, 1.0):
        one = score(*related(400, 4, 4, noise=noise), shuffles=19)
        wanted = 1 / (1 + noise**2 / 2) ** 2
        assert one.r2 == pytest.approx(wanted, abs=0.03)
        assert one.low < one.r2 < one.high
        assert one.high - one.low < 0.1
        assert one.cosine == pytest.approx(wanted**0.5, abs=0.1)
        assert one.samples_per_dimension == 200 * 4 / 4
        assert abs(one.shuffled.mean) < 0.01


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    wanted = 1 / (1 + NOISE**2 / 2) ** 2
    held = sum(one.low <= wanted <= one.high for one in (score(*related(60, 2, 3, seed=7 * t), shuffles=1) for t in range(200)))
    assert held >= 174, "95% of 200, less five standard errors: maps of half of the images are a little worse"


def test_sorted_positive_tokens_look_alike_until_they_are_centred_and_held_out():
    """The trap: omega of two unrelated cells has cosine near 1 without any fit."""
    one, two = (draw(50, 4, 16, seed=i).abs().sort(dim=-1, descending=True).values for i in (1, 2))
    cosine = torch.nn.functional.cosine_similarity(one.flatten(0, 1), two.flatten(0, 1), dim=-1).mean()
    assert cosine > 0.9
    found = score(one, two)
    assert not found.related()
    assert abs(found.cosine) < 0.1


def test_two_functions_of_one_image_are_related_but_not_above_untrained_ones():
    """Untrained cells of two specs: shuffling finds that they see the same images; other untrained pairs see it as well."""
    specs = CellSpec(V=16, D=4, patch_size=8, hidden=16), CellSpec(V=12, D=4, patch_size=8, hidden=8)
    images = 2 * draw(64, 1, 1, 1).expand(64, 3, 16, 16) + 0.2 * draw(64, 3, 16, 16, seed=1)  # of a brightness each
    pairs = 60
    with torch.no_grad():
        found = [
            [untrained(spec, 1000 * end + i).tokens(images.float()).omega for i in range(pairs)]
            for end, spec in enumerate(specs)
        ]
    tokens = [*zip(*found, strict=True)] * 2
    scores = [score(*tokens[i], untrained=tokens[i + 1 : i + 20], shuffles=19) for i in range(pairs)]
    assert sum(one.p_value <= LEVEL for one in scores) > pairs / 2, "by shuffling alone they would be taken for related"
    assert sum(one.related() for one in scores) <= 2 * LEVEL * pairs, "60 at 0.05: 3, and as many again by chance"
    assert scores[0].lift_over_untrained == pytest.approx(scores[0].r2 - scores[0].untrained.mean)


def test_a_trained_pair_is_above_pairs_that_only_share_the_image():
    one, other = related(24, 4, 4, noise=0.2)
    bright = draw(24, 1, 1, seed=5)
    untrained = [(bright + draw(24, 4, 4, seed=100 + i), bright + draw(24, 4, 4, seed=200 + i)) for i in range(19)]
    found = score(one, other, untrained=untrained, shuffles=19)
    assert found.related()
    assert (found.untrained.draws, found.untrained.exceeding, found.untrained.p_value) == (19, 0, LEVEL)
    assert not score(one, other, untrained=untrained[:18], shuffles=19).related(), "18 pairs cannot say 0.05"


def test_a_reflected_cell_is_found_and_its_map_says_that_it_reflects():
    one = draw(20, 4, 5)
    other = one @ rotation(5, 1, reflect=True)
    found = score(one, other)
    assert found.r2 == pytest.approx(1)
    assert (found.low, found.high) == (pytest.approx(1), pytest.approx(1))
    assert found.related()
    assert float(fit(one.flatten(0, 1), other.flatten(0, 1)).determinant) == -1


def test_unequal_widths_are_padded():
    hidden = draw(40, 4, 3)
    assert score(hidden @ rotation(3, 1), torch.nn.functional.pad(hidden, (0, 2)) @ rotation(5, 2)).r2 == pytest.approx(1)


def test_one_seed_gives_one_score():
    one, other = related(16, 4, 4)
    assert score(one, other, seed=3) == score(one, other, seed=3)
    assert score(one, other, seed=3) != score(one, other, seed=4)


@pytest.mark.parametrize(
    ("code", "source", "target"),
    [
        ("FEW_IMAGES", draw(1, 64, 4), draw(1, 64, 4, seed=1)),
        ("FEW_IMAGES", draw(3, 64, 4), draw(3, 64, 4, seed=1)),
        ("CONSTANT", torch.ones(8, 4, 4), draw(8, 4, 4)),
        ("CONSTANT", draw(8, 4, 4), torch.full((8, 4, 4), 0.1)),
        ("NOT_FINITE", draw(8, 4, 4).index_fill(0, torch.tensor(1), torch.nan), draw(8, 4, 4)),
        ("PAIRS", draw(8, 4, 4), draw(8, 16, 4)),
        ("PAIRS", draw(8, 4), draw(8, 4)),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(code, source, target):
    with pytest.raises(InputError) as caught:
        score(source, target)
    assert caught.value.code == code
    if source.ndim == 3:
        with pytest.raises(InputError):
            score(draw(*target.shape), draw(*target.shape), untrained=[(source, target)])


def test_tokens_that_vary_in_one_image_only_have_no_lift():
    one = torch.zeros(8, 4, 3, dtype=torch.float64)
    one[2] = draw(4, 3)
    found = score(one, draw(8, 4, 3, seed=1))
    assert not found.related()
    assert -1 < found.r2 < 0.2


def test_few_rows_are_warned_of_with_figures():
    with pytest.warns(FewSamplesWarning) as caught:
        found = score(draw(8, 1, 16), draw(8, 1, 16, seed=1))
    assert (caught[0].message.rows, caught[0].message.width) == (4, 16)
    assert found.samples_per_dimension == 0.25
    assert not found.related()


def test_a_p_value_counts_the_observed_pairing():
    assert Null(0, 1, 199, 0).p_value == 1 / 200
    assert Null(0, 1, 199, 199).p_value == 1


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_its_definition(p_values):
    """A null is rejected where it and all smaller ones pass: the corrected value is the least level at which that happens."""
    corrected = holm(p_values)
    order = sorted(p_values)
    for p, found in zip(p_values, corrected, strict=True):
        below = [min(1.0, (len(order) - rank) * q) for rank, q in enumerate(order) if q <= p]
        assert p <= found <= 1
        assert found >= max(below[: order.index(p) + 1])
        assert found in below
    assert sorted(corrected) == [c for _, c in sorted(zip(p_values, corrected, strict=True))]
