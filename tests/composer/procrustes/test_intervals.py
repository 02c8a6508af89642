"""Bounds of held-out R2: how often they hold what they are of, and the jackknife that they come from."""

import math

import pytest
import torch

from composer.procrustes.held_out import Paired, r2_of, rows_of
from composer.procrustes.intervals import GROUPS, groups_of, jackknife_variance, log_bounds, r2_bounds, without
from composer.procrustes.score_document import Null, lift_bounds
from composer.procrustes.scores import score
from tests.composer.procrustes.test_held_out import holes, paired, row_by_row, split_of
from tests.composer.procrustes.test_procrustes import draw
from tests.composer.procrustes.test_scores import related

REPLICATES = 400


def by_image(b, d, seed, noise=1.0):
    """Two cells that see one thing, each with noise; half of every variance is the same in all regions of an image."""
    hidden, one, other = (draw(b, 1, d, seed=3 * seed + i) + draw(b, 8, d, seed=9000 + 3 * seed + i) for i in range(3))
    return hidden + noise / 2**0.5 * one, hidden + noise / 2**0.5 * other


@pytest.mark.slow
@pytest.mark.parametrize(("images", "width", "noise"), [(8, 4, 0.3), (16, 8, 1.0), (48, 4, 1.0)])
def test_bounds_hold_r2_of_other_images_as_often_as_they_say(images, width, noise):
    """0.93 to 0.97, and three standard errors of the count beyond: the mean of R2 over sets of images, and no other."""
    found = [score(*by_image(images, width, seed, noise), seed=seed, shuffles=1) for seed in range(REPLICATES)]
    mean = sum(one.r2 for one in found) / REPLICATES
    covered = sum(one.low <= mean <= one.high for one in found) / REPLICATES
    assert 0.93 - 3 * (0.93 * 0.07 / REPLICATES) ** 0.5 <= covered <= 0.97 + 3 * (0.97 * 0.03 / REPLICATES) ** 0.5
    sides = [sum(low > mean for low in (one.low for one in found)), sum(one.high < mean for one in found)]
    assert max(sides) <= 0.06 * REPLICATES, "neither side misses much more than its half"


def whole(b, g, split, seed=0):
    kept = torch.ones(b, g, dtype=torch.bool)
    return paired(draw(b, g, 3, seed=seed), draw(b, g, 3, seed=seed + 1), (kept, kept), split, 1)


@pytest.mark.parametrize("sizes", [[1] * 8, [1] * 80, [3, 1, 2, 2, 1, 4]])
def test_groups_are_of_whole_clusters_and_their_sums_are_the_rows(sizes):
    split = split_of(sizes)
    pair = whole(sum(sizes), 4, split)
    group, count = groups_of(pair)
    assert count == min(GROUPS, len(sizes))
    assert sorted(set(group.tolist())) == list(range(count))
    assert all(len(group[split.cluster == cluster].unique()) == 1 for cluster in range(len(sizes)))
    sums = pair.sums_by_group(group, count)
    assert torch.allclose(sums.sum(dim=0), pair.sums(pair.observed)[0])
    own = [pair.source[group == some].flatten(0, 1).mT @ pair.target[group == some].flatten(0, 1) for some in range(count)]
    assert torch.allclose(sums.sum(dim=1), torch.stack(own))


def test_deleting_a_group_is_scoring_without_it():
    split = split_of([2] * 8)
    x, y = draw(16, 4, 3), draw(16, 4, 3, seed=1)
    kept = [holes(16, 4, seed) for seed in (2, 3)]
    pair = paired(x, y, kept, split, 1)
    group, count = groups_of(pair)
    found = r2_of(pair.sums(pair.observed) - pair.sums_by_group(group, count))
    for some, r2 in enumerate(found.tolist()):
        rest = torch.ones(16, 1, dtype=torch.bool)
        rest[split.images[group == some]] = False
        assert r2 == pytest.approx(row_by_row(x, y, [mask & rest for mask in kept], split, pair.observed[0]), abs=1e-10)


def test_clusters_without_common_rows_are_in_no_group_of_their_own():
    split = split_of([1] * 12)
    some = torch.zeros(12, 4, dtype=torch.bool)
    some[split.images[::2]] = True
    x, y = draw(12, 4, 2), draw(12, 4, 2, seed=1)
    pair = paired(x, y, (some, torch.ones_like(some)), split, 1)
    group, count = groups_of(pair)
    assert count == 6
    assert group[::2].tolist() == list(range(6))


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = draw(20)
    assert without(values, torch.arange(20), 20) == pytest.approx(values.sum() - values)
    means = without(values, torch.arange(20), 20) / 19
    assert jackknife_variance(means) == pytest.approx(float(values.var()) / 20)


def test_bounds_of_what_is_predicted_to_the_last_bit_are_finite():
    one = draw(8, 4, 3)
    split = split_of([1] * 8)
    rows = rows_of(one[split.images], torch.ones(8, 4, dtype=torch.bool))
    pair = Paired(rows, rows, split)
    error, truth, _ = (part.sum(dim=1) for part in pair.judged())
    assert r2_bounds(pair, error, truth) == pytest.approx((1, 1), abs=1e-9)
    low, high = log_bounds(0.5, 1e9, 4)
    assert math.isfinite(low)
    assert low < 0.5 < high <= 1


@pytest.mark.parametrize("end", [0, 1])
def test_bounds_of_tokens_that_vary_in_one_image_only_are_finite(end):
    ends = [draw(4, 2, 3), draw(4, 2, 3, seed=1)]
    ends[end] = torch.zeros(4, 2, 3, dtype=torch.float64).index_copy(0, torch.tensor([2]), draw(1, 2, 3, seed=2))
    found = score(*ends, shuffles=19)
    assert math.isfinite(found.low)
    assert found.low < found.high <= 1


def test_bounds_widen_as_images_are_fewer():
    widths = [found.high - found.low for found in (score(*related(b, 4, 3, seed=5), shuffles=1) for b in (4, 16, 64, 256))]
    assert widths == sorted(widths, reverse=True)


def test_bounds_of_the_lift_have_the_error_of_the_shuffled_mean():
    exact, drawn = Null(0.1, 0.0, 199, 0), Null(0.1, 0.4, 4, 0)  # error of 4 draws, and half of the spread: 0.2 each
    assert lift_bounds(0.5, 0.3, 0.6, exact) == pytest.approx((0.2, 0.5))
    low, high = lift_bounds(0.5, 0.3, 0.6, drawn)
    assert (0.4 - low, high - 0.4) == pytest.approx((math.hypot(0.2, 0.5544), math.hypot(0.1, 0.5544)), rel=1e-3)
    one = score(*related(16, 4, 3), shuffles=19)
    assert one.lift_bounds == lift_bounds(one.r2, one.low, one.high, one.shuffled)
