"""Held-out R2 from sums, against maps fitted and judged row by row; splits and pairings that keep clusters whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.procrustes import held_out
from composer.procrustes.held_out import Paired, Split, maps_of, r2_of, rows_of
from composer.procrustes.similarity import fit
from tests.composer.procrustes.test_procrustes import draw

LAW = settings(deadline=None, max_examples=40)
SEEDS, WIDTHS = st.integers(0, 1000), st.integers(1, 5)
MANY = 1000  # pairings, for which a table is made


def split_of(sizes, seed=0):
    clusters = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return Split.drawn(clusters, torch.Generator().manual_seed(seed))


def holes(b, g, seed, share=0.2):
    return torch.rand(b, g, generator=torch.Generator().manual_seed(seed)) >= share


def paired(x, y, kept, split, most):
    return Paired(
        *(rows_of(end[split.images], mask[split.images]) for end, mask in zip((x, y), kept, strict=True)), split, most
    )


def row_by_row(x, y, kept, split, order):
    """R2 of one pairing, by its definition: images moved one by one, missing rows dropped, each half judged by fit's map."""
    members = split.images.split(split.sizes.tolist())
    moved = [members[place] for place in order.tolist()]
    border = split.clusters[0].stop
    halves = [slice(0, border), slice(border, None)]
    left = total = 0.0
    rows = []
    for half in halves:
        sources, targets = torch.cat(moved[half]), torch.cat(members[half])
        both = kept[0][sources] & kept[1][targets]
        rows.append((x[sources][both], y[targets][both]))
    for judged, fitted in (rows, rows[::-1]):
        found = fit(*fitted, unequal="pad")
        truth = torch.nn.functional.pad(judged[1], (0, found.translation.shape[-1] - y.shape[-1]))
        left += (found(judged[0]) - truth).square().sum()
        total += (truth - found.translation).square().sum()
    return float(1 - left / total)


@pytest.mark.slow
@LAW
@given(
    SEEDS,
    WIDTHS,
    WIDTHS,
    st.sampled_from([[1] * 12, [2] * 6, [1, 1, 1, 2, 2, 3, 3, 3]]),
    st.booleans(),
    st.sampled_from([1, MANY]),
)
def test_sums_say_what_the_rows_say(seed, d, e, sizes, missing, most):
    """By a table of pairs of clusters and by products of each pairing, whole and with rows missing, of any widths."""
    split = split_of(sizes, seed)
    b, g = int(split.sizes.sum()), 6
    x, y = 3 * draw(b, g, d, seed=seed) + 5, 0.1 * draw(b, g, e, seed=seed + 1) - 1
    y[..., 0] += 0.1 * x[..., 0]
    kept = [holes(b, g, seed + i) if missing else torch.ones(b, g, dtype=torch.bool) for i in (2, 3)]
    pair = paired(x, y, kept, split, most)
    assert (pair.table is None) == (most == 1)
    orders = torch.cat([pair.observed, split.shuffled(5, torch.Generator().manual_seed(seed))])
    found = pair.r2(orders)
    for order, r2 in zip(orders, found.tolist(), strict=True):
        assert r2 == pytest.approx(row_by_row(x, y, kept, split, order), abs=1e-10)
    error, truth, cosine = pair.judged()
    assert float(1 - error.sum() / truth.sum()) == pytest.approx(float(found[0]), abs=1e-10)
    there = (kept[0] & kept[1])[split.images]
    assert all(bool((part[~there] == 0).all()) for part in (error, truth, cosine))
    assert bool((truth[there] > 0).all())
    assert float(cosine.abs().max()) <= 1 + 1e-12


@pytest.mark.slow
@LAW
@given(SEEDS)
def test_a_mean_far_from_zero_costs_few_digits(seed):
    """Sums of squares are taken about the mean of all rows: 1e4 spreads away, eight digits would be gone."""
    split = split_of([1] * 10, seed)
    x, y = draw(10, 6, 3, seed=seed), draw(10, 6, 3, seed=seed + 1)
    kept = [torch.ones(10, 6, dtype=torch.bool)] * 2
    orders = split.shuffled(20, torch.Generator().manual_seed(seed))
    near, far = paired(x, y, kept, split, MANY).r2(orders), paired(x + 1e4, y - 1e4, kept, split, MANY).r2(orders)
    assert torch.allclose(near, far, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "size"), [("TABLE", 0), ("CHUNK", 1)])
def test_memory_is_bounded_and_changes_nothing(monkeypatch, name, size):
    split = split_of([2] * 8)
    x, y = draw(16, 4, 3), draw(16, 4, 3, seed=1)
    kept = [holes(16, 4, 2), holes(16, 4, 3)]
    orders = split.shuffled(50, torch.Generator().manual_seed(4))
    wanted = paired(x, y, kept, split, MANY)
    assert wanted.table is not None
    monkeypatch.setattr(held_out, name, size)
    found = paired(x, y, kept, split, MANY)
    assert torch.allclose(found.r2(orders), wanted.r2(orders), rtol=0, atol=1e-12)
    assert (found.table is None) == (name == "TABLE")


@pytest.mark.slow
@LAW
@given(SEEDS)
def test_axes_that_a_fit_leaves_open_are_turned_every_way(seed):
    """Three rows of four dimensions: of a map that completes the fit and the one that completes it inversely, the mean."""
    split = split_of([1] * 6, seed)
    kept = [torch.ones(6, 1, dtype=torch.bool)] * 2
    pair = paired(draw(6, 1, 4, seed=seed), draw(6, 1, 4, seed=seed + 1), kept, split, MANY)
    sums = pair.sums(pair.observed)
    found, left = maps_of(sums), 0.0
    halves = [(pair.source[half, 0, :-2], pair.target[half, 0, :-2]) for half in split.halves]
    for judged in (0, 1):
        x, y = (end - mean[0, 1 - judged] for end, mean in zip(halves[judged], (found.centre, found.mean), strict=True))
        turn = found.rotation[0, 1 - judged]
        u, s, v = torch.linalg.svd(turn)
        assert s.tolist() == pytest.approx([1, 1, 0, 0], abs=1e-9), "three centred rows span a plane"
        open_ = u[:, 2:] @ v[2:]
        for way in (turn + open_, turn - open_):
            assert torch.allclose(way.mT @ way, torch.eye(4, dtype=way.dtype), atol=1e-9)
            left += float((found.scale[0, 1 - judged] * x @ way - y).square().sum()) / 2
    truth = pair.judged()[1].sum()
    assert float(r2_of(sums)) == pytest.approx(1 - left / float(truth), abs=1e-9)


def test_a_pairing_that_shares_no_rows_explains_nothing():
    """Source and target have the first half of the regions in the same images, and nothing when these change places."""
    first = torch.tensor([[True] * 3 + [False] * 3, [False] * 3 + [True] * 3]).repeat(4, 1)
    split = Split(torch.arange(8), torch.ones(8, dtype=torch.long))
    for most in (1, MANY):
        pair = paired(draw(8, 6, 2), draw(8, 6, 2, seed=1), [first, first], split, most)
        assert pair.r2(torch.tensor([[1, 0, 3, 2, 5, 4, 7, 6]])).tolist() == [0]
        assert pair.r2(torch.tensor([[2, 1, 0, 3, 4, 5, 6, 7]])).isfinite().all()


# Splits and pairings.


@LAW
@given(SEEDS, st.lists(st.integers(1, 4), min_size=4, max_size=10))
def test_clusters_stay_whole_and_change_places_with_their_size(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    given = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    mixed = given[torch.randperm(len(given), generator=generator)]
    split = Split.drawn(mixed, generator)
    assert sorted(split.images.tolist()) == [*range(len(mixed))]
    own = mixed[split.images]
    assert own.unique_consecutive(return_counts=True)[1].tolist() == split.sizes.tolist()
    for cluster in own.unique():
        images = split.images[own == cluster]
        assert images.tolist() == sorted(images.tolist()), "in the order given"
    for moved in split.placed(split.shuffled(5, generator)):
        assert sorted(moved.tolist()) == [*range(len(mixed))]
        assert bool((split.sizes[split.cluster[moved]] == split.sizes[split.cluster]).all())
        together = split.cluster[1:] == split.cluster[:-1]
        assert bool((moved.diff()[together] == 1).all()), "neighbours within a cluster stay neighbours"
    assert abs(len(split.sizes[split.clusters[0]]) - len(split.sizes[split.clusters[1]])) <= 1
    assert split.cluster[split.halves[1]].min() == split.clusters[1].start


def test_every_pairing_is_as_likely():
    split = Split(torch.arange(8), torch.tensor([1, 2, 1, 2, 1, 1]))
    found, counts = split.shuffled(9600, torch.Generator().manual_seed(0)).unique(dim=0, return_counts=True)
    assert len(found) == split.pairings == 48
    assert float(((counts - 200) ** 2 / 200).sum()) < 47 + 4 * (2 * 47) ** 0.5, "chi squared of 47 degrees of freedom"
