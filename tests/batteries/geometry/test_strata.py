"""Strata, ratios and shares: values by plain arithmetic, errors by their spread over draws."""

import math
from functools import partial

import pytest
import torch

from batteries.geometry import strata
from batteries.geometry.estimates import clustered_mean


def draws(seed, n=400):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_share_is_the_ratio_of_sums_and_has_the_error_of_its_draws():
    def of(seed):
        whole = 1 + draws(seed)
        part = whole * (0.3 + 0.1 * draws(seed + 1000))
        return part, whole

    over = partial(clustered_mean, image=torch.arange(400))
    found = [strata.share(*of(seed), over) for seed in range(200)]
    part, whole = of(0)
    assert found[0].value == pytest.approx(float(part.sum() / whole.sum()), rel=1e-12)
    spread = torch.tensor([one.value for one in found]).std()
    assert found[0].standard_error == pytest.approx(float(spread), rel=0.2)


def test_a_share_over_strata_leaves_out_the_spread_between_them():
    stratum = torch.arange(4).repeat_interleave(100)
    whole = 10.0 ** stratum.double()
    part = whole * 0.5
    found = strata.share(part, whole, partial(strata.stratified_mean, stratum=stratum))
    assert found.value == pytest.approx(0.5)
    assert found.standard_error == pytest.approx(0, abs=1e-12)
    assert isinstance(found, strata.Stratified)


def test_bounds_cover_in_95_of_100_cases():
    covered = 0
    for seed in range(300):
        first, second = (clustered_mean(1 + draws(seed + shift, 30), torch.arange(30)) for shift in (0, 5000))
        _, low, high = strata.ratio(first, second)
        covered += low <= 1 <= high
    assert 0.93 < covered / 300 < 0.99


def test_equal_strata_have_no_error_and_infinite_freedom():
    found = strata.stratified_mean(torch.ones(4), torch.tensor([0, 0, 1, 1]))
    assert (found.standard_error, found.freedom) == (0, math.inf)
    assert strata.bounds(found) == (1, 1)
    one = clustered_mean(torch.ones(1), torch.zeros(1))
    assert strata.ratio(one, found)[1:] == (0, math.inf)
