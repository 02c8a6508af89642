"""Scores that can say no: nulls flagged at their level, planted signals found, and what one image alone cannot show."""

import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from batteries import CellSpec
from batteries.errors import InputError
from batteries.geometry.multiple_testing import holm
from batteries.model.patch_svae import untrained
from composer.procrustes.score_document import FiniteScore, Score
from composer.procrustes.scores import ENOUGH, FIRST, LEVEL, SHUFFLES, Null, drawn_until_enough, score, shuffles_for
from composer.procrustes.similarity import FewSamplesWarning, fit
from tests.composer.procrustes.test_held_out import holes
from tests.composer.procrustes.test_procrustes import draw, rotation

NULL_TRIALS, NULL_FLAGGED = 1000, 0.065  # at level 0.05, by two standard errors
PLANTED_TRIALS, PLANTED_FOUND = 100, 0.95
LAW = settings(deadline=None, max_examples=20)
SEEDS = st.integers(0, 1000)
NOISE = 1.0  # as strong as the signal: the planted share of variance is a half


def related(b, g, d, noise=NOISE, seed=0):
    """Two cells that see one hidden thing, each in its own turn and with noise of its own."""
    hidden = draw(b, g, d, seed=seed)
    one, other = (hidden + noise / 2**0.5 * draw(b, g, d, seed=seed + i) for i in (1, 2))
    return one @ rotation(d, seed), 3 * other @ rotation(d, seed + 1, reflect=True) + 1


@pytest.mark.slow
def test_unrelated_tokens_are_flagged_at_the_level_and_no_more():
    """From as many images as dimensions to ten times as many."""
    flagged = 0
    for trial in range(NULL_TRIALS):
        d = (2, 3, 4)[trial % 3]
        b = max(4, d * (1, 2, 3, 5, 10)[trial % 5])
        one, other = draw(b, 2, d, seed=2 * trial), draw(b, 2, d, seed=2 * trial + 1)
        flagged += score(one, other, seed=trial, shuffles=99).related()
    assert flagged <= NULL_FLAGGED * NULL_TRIALS


@pytest.mark.slow
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


@pytest.mark.slow
def test_crops_of_one_photograph_are_no_signal():
    """Photographs of six crops that are nearly copies, as in the probe of photographs: 16 things seen, not 96."""
    flagged = {"by photograph": 0, "by crop": 0}
    photographs = torch.arange(16).repeat_interleave(6)
    for trial in range(200):
        one, other = (
            draw(16, 2, 3, seed=2 * trial + i).repeat_interleave(6, dim=0) + 0.1 * draw(96, 2, 3, seed=9000 + 2 * trial + i)
            for i in (0, 1)
        )
        flagged["by photograph"] += score(one, other, clusters=photographs, seed=trial, shuffles=99).related()
        flagged["by crop"] += score(one, other, seed=trial, shuffles=99).related()
    assert flagged["by photograph"] <= 19, "200 at 0.05: 10 and three standard errors"
    assert flagged["by crop"] > 50, "five times the level and more"


@pytest.mark.slow
def test_clusters_of_unequal_size_and_missing_rows_are_flagged_at_the_level():
    """Rows are missing more often in a cluster that has a brightness of its own, so that masks and tokens go together."""
    flagged = 0
    clusters = torch.arange(10).repeat_interleave(torch.tensor([1, 1, 1, 1, 2, 2, 2, 3, 3, 3]))
    for trial in range(200):
        own = [draw(10, 1, 1, seed=5000 + 2 * trial + i)[clusters] for i in (0, 1)]
        one, other = (own[i] + draw(19, 4, 2, seed=2 * trial + i) for i in (0, 1))
        rows = tuple(
            holes(19, 4, seed=trial + i) & ((own[i][..., 0] < 1) | holes(19, 4, seed=trial + 7 + i, share=0.5)) for i in (0, 1)
        )
        flagged += score(one, other, clusters=clusters, rows=rows, seed=trial, shuffles=99).related()
    assert flagged <= 19, "200 at 0.05: 10 and three standard errors"


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


# Laws.


def near(one, other):
    """Whether two scores are one, but for rounding."""
    figures = [(s.r2, s.cosine, s.low, s.high, s.samples_per_dimension, *asdict(s.shuffled).values()) for s in (one, other)]
    return figures[0] == pytest.approx(figures[1], abs=1e-9)


@pytest.mark.slow
@LAW
@given(SEEDS, st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_rotation_size_and_place_of_either_end_do_not_matter(seed, size, shift):
    one, other = related(12, 4, 3, seed=seed)
    rows = holes(12, 4, seed), holes(12, 4, seed + 1)
    first = score(one, other, rows=rows, shuffles=30)
    assert near(first, score(size * one @ rotation(3, seed + 2, reflect=True) + shift, other, rows=rows, shuffles=30))
    assert near(first, score(one, size * other @ rotation(3, seed + 3) - shift, rows=rows, shuffles=30))
    padded = score(torch.nn.functional.pad(one, (0, 2)), other, rows=rows, shuffles=30)
    assert near(first, replace(padded, samples_per_dimension=first.samples_per_dimension))


@pytest.mark.slow
@LAW
@given(SEEDS)
def test_the_order_of_regions_and_the_names_of_clusters_do_not_matter(seed):
    one, other = related(12, 4, 3, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    rows, order = (holes(12, 4, seed), None), torch.randperm(4, generator=generator)
    moved = score(one[:, order], other[:, order], rows=(rows[0][:, order], None), shuffles=30)
    assert near(score(one, other, rows=rows, shuffles=30), moved)
    names = torch.randperm(12, generator=generator)
    assert near(score(one, other, rows=rows, shuffles=30), score(one, other, rows=rows, clusters=names, shuffles=30))


@pytest.mark.slow
@LAW
@given(SEEDS, st.booleans())
def test_what_stands_in_missing_rows_is_not_looked_at(seed, same):
    """Regions that no image has are as good as dropped; other rows may be missing at either end."""
    one, other = related(12, 5, 3, seed=seed)
    there = torch.tensor([True, False, True, True, False]).expand(12, 5)
    rows = (there, there) if same else (there & holes(12, 5, seed), there & holes(12, 5, seed + 1))
    found = score(one, other, rows=rows, shuffles=30)
    filled = [torch.where(mask[..., None], end, torch.nan) for mask, end in zip(rows, (one, other), strict=True)]
    assert score(*filled, rows=rows, shuffles=30) == found
    kept = there[0].nonzero()[:, 0]
    dropped = score(one[:, kept], other[:, kept], rows=tuple(mask[:, kept] for mask in rows), shuffles=30)
    assert near(found, dropped)
    if same:
        assert near(found, score(one[:, kept], other[:, kept], shuffles=30))


def test_an_image_without_rows_is_as_good_as_none():
    """Six of sixty images have rows: halves and shuffles are of all, the interval of these."""
    one, other = related(60, 40, 3, noise=0.5)
    there = torch.zeros(60, 40, dtype=torch.bool)
    there[::10] = True
    with_them, without = score(one, other, rows=(there, None)), score(one[::10], other[::10])
    assert with_them.r2 == pytest.approx(without.r2, abs=0.02)
    assert with_them.high - with_them.low == pytest.approx(without.high - without.low, rel=0.3)


def test_untrained_pairs_lack_the_same_rows():
    one, other = related(12, 5, 3)
    rows = holes(12, 5, seed=1), None
    masked = torch.where(rows[0][..., None], one, torch.nan)
    found = score(one, other, rows=rows, untrained=[(masked, other)])
    assert found.untrained.mean == pytest.approx(found.r2)


def test_the_interval_is_by_cluster():
    """Copies of an image tell nothing new: six of each leave the interval where it was."""
    one, other = related(20, 4, 3)
    photographs = torch.arange(20).repeat_interleave(6)
    six = [end.repeat_interleave(6, dim=0) for end in (one, other)]
    once, by_cluster, by_image = score(one, other), score(*six, clusters=photographs), score(*six)
    assert (by_cluster.r2, by_cluster.low, by_cluster.high) == pytest.approx((once.r2, once.low, once.high))
    assert by_cluster.shuffled.mean == pytest.approx(once.shuffled.mean)
    assert by_image.high - by_image.low < 0.6 * (once.high - once.low)


# What is refused.


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
        with pytest.raises(InputError, match=code):
            score(draw(*target.shape), draw(*target.shape), untrained=[(source, target)])


ONE_IMAGE = torch.zeros(8, 4, dtype=torch.bool).index_fill(0, torch.tensor(0), True)
THREE_ROWS = torch.zeros(8, 4, dtype=torch.bool).index_put((torch.arange(3), torch.tensor(0)), torch.tensor(True))


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("FEW_IMAGES", {"clusters": torch.arange(8) % 3}),
        ("FEW_PAIRINGS", {"clusters": torch.tensor([0, 1, 2, 2, 3, 3, 3, 3])}),
        ("CLUSTERS", {"clusters": torch.arange(7)}),
        ("CLUSTERS", {"clusters": torch.rand(8)}),
        ("CLUSTERS", {"clusters": torch.zeros(8, 4, dtype=torch.long)}),
        ("ROWS", {"rows": (torch.ones(8, dtype=torch.bool), None)}),
        ("ROWS", {"rows": (None, torch.ones(8, 4))}),
        ("NO_ROWS", {"rows": (torch.zeros(8, 4, dtype=torch.bool), None)}),
        ("NO_ROWS", {"rows": (ONE_IMAGE, ~ONE_IMAGE)}),
        ("NO_ROWS", {"rows": (ONE_IMAGE, None)}),
        ("FEW_ROWS", {"rows": (None, THREE_ROWS)}),
        ("SHUFFLES", {"shuffles": 0}),
        ("PAIRS", {"untrained": [(draw(9, 4, 4), draw(9, 4, 4, seed=1))]}),
    ],
)
def test_what_cannot_be_shuffled_or_masked_is_refused_by_name(code, given):
    with pytest.raises(InputError) as caught:
        score(draw(8, 4, 4), draw(8, 4, 4, seed=1), **given)
    assert caught.value.code == code


def test_too_few_pairings_say_how_many_and_what_to_do():
    with pytest.raises(InputError, match=r"got 2, of clusters of 1, 1, 2, 4 images.*\n.*same number of crops"):
        score(draw(8, 4, 4), draw(8, 4, 4, seed=1), clusters=torch.tensor([0, 1, 2, 2, 3, 3, 3, 3]))


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


# Drawing until enough was seen, and correction for many.


def test_shuffling_ends_where_enough_were_as_high():
    """Every other draw is as high as the observed one: the 20th of them is draw 39."""
    asked = []

    def every_other(count):
        asked.append(count)
        return torch.arange(count).remainder(2).logical_not().double()

    found = drawn_until_enough(0.5, every_other, 10_000)
    assert asked == [FIRST]
    assert found.p_value == ENOUGH / 39
    assert (found.draws, found.exceeding, found.mean) == (38, ENOUGH - 1, 0.5)


def test_shuffling_goes_to_the_end_where_few_were_as_high():
    found = drawn_until_enough(0.5, lambda count: torch.zeros(count, dtype=torch.float64), 1999)
    assert (found.draws, found.exceeding, found.p_value, found.mean) == (1999, 0, 1 / 2000, 0)
    one, other = related(16, 4, 4, noise=0.1)
    assert score(one, other, shuffles=1999).p_value == 1 / 2000
    unrelated = score(one, draw(16, 4, 4, seed=77), shuffles=1999).shuffled
    assert unrelated.draws < 1999
    assert unrelated.exceeding == ENOUGH - 1


def test_four_images_have_24_pairings_whatever_is_drawn():
    """The given one is drawn again and again, and is as high as itself."""
    found = score(*related(4, 8, 2, noise=0.1), shuffles=1999)
    assert found.r2 > 0.9
    assert found.p_value == pytest.approx(1 / 24, abs=3 / 24 / ENOUGH**0.5)


@pytest.mark.parametrize("most", [19, 199, 999])
def test_p_values_of_unequal_numbers_of_draws_are_valid(most):
    """Under the null, p <= a in at most a of the trials, and in hardly fewer."""
    trials, generator = 3000, torch.Generator().manual_seed(most)
    observed = torch.rand(trials, generator=generator, dtype=torch.float64).tolist()
    nulls = [
        drawn_until_enough(o, lambda count: torch.rand(count, generator=generator, dtype=torch.float64), most) for o in observed
    ]
    for level in (0.05, 0.1, 0.25, 0.5):
        found = sum(null.p_value <= level for null in nulls)
        error = (trials * level * (1 - level)) ** 0.5
        assert trials * level - 4 * error - trials / ENOUGH / 10 < found < trials * level + 3 * error
    mean, error = sum(null.mean for null in nulls) / trials, 12**-0.5 * sum(1 / null.draws for null in nulls) ** 0.5 / trials
    assert abs(mean - 0.5) < 4 * error, "where drawing ends does not move the mean of the null"


@given(st.integers(1, 20_000), st.floats(0.001, 0.2))
def test_shuffles_are_as_many_as_holm_needs_and_no_more(tests, level):
    found = shuffles_for(tests, level)
    assert found >= SHUFFLES
    assert holm([1 / (1 + found)] * min(tests, 50))[0] <= level
    assert tests * (1 / (1 + found)) <= level
    assert found == SHUFFLES or tests * (1 / found) > level


@pytest.mark.slow
def test_all_of_many_related_pairs_are_found_after_correction():
    pairs = [related(16, 4, 3, noise=0.2, seed=10 * i) for i in range(15)]
    enough = shuffles_for(len(pairs))
    assert enough == 299
    assert max(holm([score(*pair, shuffles=enough).p_value for pair in pairs])) <= LEVEL
    assert min(holm([score(*pair, shuffles=SHUFFLES).p_value for pair in pairs])) > LEVEL


@pytest.mark.parametrize("level", [0, 1, -0.1, float("nan")])
def test_a_level_that_no_test_has_is_refused(level):
    with pytest.raises(InputError) as caught:
        shuffles_for(3, level)
    assert caught.value.code == "LEVEL"


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


def test_a_score_that_is_not_finite_is_computed_and_not_kept():
    empty = Score(math.nan, 0.0, 0.0, 0.0, 4.0, Null(0.0, 0.0, 19, 0))
    kept = TypeAdapter(FiniteScore)
    with pytest.raises(ValidationError, match="finite"):
        kept.validate_python(empty)
    whole = replace(empty, r2=0.5, untrained=Null(0.1, 0.0, 1, 10**400))
    assert kept.validate_python(whole) is whole
    with pytest.raises(ValidationError, match="finite"):
        kept.validate_python(replace(whole, untrained=Null(math.inf, 0.0, 1, 0)))
    with pytest.raises(ValidationError, match="greater than 0"):
        Null(0.0, 0.0, 0, 0)
