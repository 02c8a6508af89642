"""A jackknifed figure of a mean is the clustered mean; of a ratio, the delta method's."""

import math

import pytest
import torch

from batteries import diagnostics
from batteries.geometry import estimates

MEAN = diagnostics.Definition("mean", "mean", "test", "sum x / n")


def test_mean_is_the_clustered_mean():
    generator = torch.Generator().manual_seed(0)
    values, cluster = torch.randn(60, generator=generator).double(), torch.arange(60) // 5
    sums = torch.stack([torch.ones(60), values], dim=1)
    figure = diagnostics.jackknifed(MEAN, sums, cluster, lambda s: s[..., 1] / s[..., 0])
    expected = estimates.clustered_mean(values, cluster)
    assert figure.value == pytest.approx(expected.value, rel=1e-12)
    assert figure.standard_error == pytest.approx(expected.standard_error, rel=1e-12)
    assert figure.by_cluster == pytest.approx(expected.by_image, rel=1e-9)


def test_standard_deviation_over_mean_has_the_error_of_its_draws():
    def of(seed):
        values = 2 + torch.randn(100, 20, generator=torch.Generator().manual_seed(seed)).double()
        sums = torch.stack([torch.full((100,), 20.0), values.sum(1), values.square().sum(1)], dim=1)
        return diagnostics.jackknifed(MEAN, sums, torch.arange(100), _variation)

    found = [of(seed) for seed in range(100)]
    spread = torch.tensor([figure.value for figure in found]).std()
    claimed = torch.tensor([figure.standard_error for figure in found]).mean()
    assert claimed == pytest.approx(float(spread), rel=0.25)


def _variation(s):
    mean = s[..., 1] / s[..., 0]
    return (s[..., 2] / s[..., 0] - mean.square()).sqrt() / mean


def test_one_cluster_has_no_error_and_no_number_no_value():
    sums, one = torch.tensor([[1.0, 2.0]]), torch.zeros(1, dtype=torch.long)
    assert diagnostics.jackknifed(MEAN, sums, one, lambda s: s[..., 1] / s[..., 0]).standard_error == math.inf
    lost = diagnostics.jackknifed(MEAN, sums * 0, one, lambda s: s[..., 1] / s[..., 0])
    assert lost.value is None
    assert "finite" in lost.undefined


def test_name_has_the_place():
    assert diagnostics.Figure(MEAN, "mode 1", 1.0).name == "mean, mode 1"
