"""Exact attractors, Monte Carlo, degenerate inputs, the clustered error and the flags."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from batteries.geometry import attractor, estimates, row_figures, simplex_cv
from batteries.geometry.estimates import Estimate
from batteries.geometry.simplex_cv import Degenerate


@pytest.mark.parametrize(
    ("D", "exact"), [(4, 0.92307), (5, 0.62522), (8, 0.36240), (16, 0.20297), (24, 0.15305), (32, 0.12724)]
)
def test_the_exact_sphere_attractor(D, exact):
    assert attractor.sphere_cv(D) == pytest.approx(exact, abs=5e-6)


@pytest.mark.parametrize(("D", "exact"), [(4, 1.2910), (8, 0.6094), (16, 0.3856)])
def test_the_exact_bulk_attractor(D, exact):
    assert attractor.bulk_cv(D) == pytest.approx(exact, abs=5e-5)


@pytest.mark.parametrize("D", [4, 5, 8, 16, 32])
@pytest.mark.parametrize("exact", [attractor.sphere_cv, attractor.bulk_cv])
def test_monte_carlo_agrees_within_three_standard_errors(D, exact):
    points = torch.randn(200_000, 5, D, dtype=torch.float64, generator=torch.Generator().manual_seed(D))
    if exact is attractor.sphere_cv:
        points = torch.nn.functional.normalize(points, dim=-1)
    groups = simplex_cv.simplex_volumes(points).reshape(100, 2000)
    cvs = groups.std(dim=1) / groups.mean(dim=1)
    error = float(cvs.std() / math.sqrt(len(cvs)))
    # a CV of 2000 draws is biased by about -CV / 2000: far below the error
    assert abs(float(cvs.mean()) - exact(D)) < 3 * error


@pytest.mark.parametrize("D", [4, 8, 16])
def test_cv_of_uniform_rows_is_the_attractor(D):
    M = torch.nn.functional.normalize(torch.randn(400, 64, D, generator=torch.Generator().manual_seed(D)), dim=-1)
    found = simplex_cv.cv(M, torch.arange(400))
    # five of 64 points without replacement: the same expectation as independent points
    assert abs(found.value - attractor.sphere_cv(D)) < 4 * found.standard_error


@given(st.integers(0, 10_000), st.integers(4, 12))
def test_volumes_agree_with_the_determinant(seed, d):
    points = torch.randn(20, 5, d, generator=torch.Generator().manual_seed(seed))
    edges = points[:, 1:].double() - points[:, :1].double()
    oracle = torch.linalg.det(edges @ edges.mT).clamp_min(0).sqrt() / 24
    assert torch.allclose(simplex_cv.simplex_volumes(points), oracle, rtol=1e-6, atol=1e-9)


def test_volume_of_a_known_simplex():
    corner = torch.cat([torch.zeros(1, 3), torch.eye(3)])
    assert simplex_cv.simplex_volumes(corner).item() == pytest.approx(1 / 6)
    assert simplex_cv.simplex_volumes(torch.zeros(5, 4)).item() == 0


@pytest.mark.parametrize("D", [4, 8, 16])
@pytest.mark.parametrize("deficit", ["plane", "line", "point"])
def test_coplanar_rows_are_degenerate_not_a_number(D, deficit):
    generator = torch.Generator().manual_seed(0)
    rank = {"plane": 3, "line": 1, "point": 0}[deficit]
    M = torch.randn(8, 32, rank, generator=generator) @ torch.randn(8, rank, D, generator=generator)
    M = M + (torch.ones(D) if deficit == "point" else 0)
    found = simplex_cv.cv(torch.nn.functional.normalize(M, dim=-1), torch.arange(8))
    assert isinstance(found, Degenerate)
    assert found.flat == 8
    assert "hyperplane" in found.reason


def test_layernorm_rows_at_width_four_are_degenerate():
    M = torch.nn.functional.layer_norm(torch.randn(16, 32, 4, generator=torch.Generator().manual_seed(0)), (4,))
    assert isinstance(simplex_cv.cv(M, torch.arange(16)), Degenerate)


def test_widths_below_four_are_degenerate():
    assert isinstance(simplex_cv.cv(torch.randn(3, 8, 3), torch.arange(3)), Degenerate)


def test_draws_are_five_distinct_rows_in_equal_chance():
    drawn = simplex_cv.draw_rows(8, 1, 20_000, torch.Generator().manual_seed(1))[0]
    assert all(len(set(row)) == 5 for row in drawn[:2000].tolist())
    share = drawn.unique(return_counts=True)[1] / drawn.numel() * 8
    assert torch.allclose(share, torch.ones(8), atol=0.03)


def test_the_clustered_error_does_not_shrink_with_more_matrices_of_one_image():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, generator=generator)
    few = estimates.clustered_mean(images, torch.arange(40))
    many = estimates.clustered_mean(images.repeat_interleave(50), torch.arange(40).repeat_interleave(50))
    assert many.standard_error == pytest.approx(few.standard_error)
    assert few.standard_error == pytest.approx(float(images.double().std()) / math.sqrt(40))
    assert many.matrices == 2000
    assert many.images == 40


def test_one_image_has_no_spread():
    assert estimates.clustered_mean(torch.ones(5), torch.zeros(5)).standard_error == math.inf


@given(st.integers(2, 32), st.integers(0, 1000))
def test_effective_rank_lies_between_one_and_width(D, seed):
    S = torch.rand(10, D, generator=torch.Generator().manual_seed(seed)) + 1e-3
    rank = row_figures.effective_rank(S)
    assert (rank >= 1 - 1e-9).all()
    assert (rank <= D + 1e-9).all()


def test_effective_rank_of_the_extremes():
    assert row_figures.effective_rank(torch.ones(7)).item() == pytest.approx(7)
    assert row_figures.effective_rank(torch.tensor([3.0, 0.0, 0.0])).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("value", "D", "label"),
    [
        *((0.203, 16, "low"), (0.299, 16, "low"), (0.30, 16, "off"), (0.12, 16, "off"), (0.37, 16, "off")),
        *((0.36, 8, "mid"), (0.203, 8, "off"), (0.50, 8, "off"), (0.79, 4, "off"), (0.92, 4, "high"), (1.6, 4, "high")),
        *((0.13, 32, "open"), (0.203, 32, "off"), (0.62, 5, "open"), (0.92, 5, "off"), (0.0, 16, "off"), (-1.0, 24, "off")),
        *((math.nan, 16, None), (math.nan, 24, None), (math.inf, 4, None), (0.92, 3, None), (0.92, 1, None)),
    ],
)
def test_bands(value, D, label):
    assert attractor.band(value, D) == label


@given(st.floats(), st.integers(-1, 300))
def test_every_cv_at_every_width_has_one_band_or_is_no_number(value, D):
    label = attractor.band(value, D)
    assert (label is None) == (D < 4 or not math.isfinite(value))
    assert label in {None, "off", {4: "high", 8: "mid", 16: "low"}.get(D, "open")}
    assert label != "open" or attractor.on_attractor(value, D)
    assert not attractor.on_attractor(math.nan, D)


@pytest.mark.parametrize("D", range(4, 65))
def test_the_exact_value_is_in_the_band_of_its_width(D):
    assert attractor.band(attractor.sphere_cv(D), D) == {4: "high", 8: "mid", 16: "low"}.get(D, "open")


def test_the_flags_separate_every_published_figure():
    on = [(0.203, 16), (0.36, 8), (0.945, 4), (0.248, 16)]
    off = [(0.374, 16), (0.555, 8), (1.280, 4), (1.37, 4)]
    assert all(attractor.on_attractor(*pair) for pair in on)
    assert not any(attractor.on_attractor(*pair) for pair in off)


def test_an_interval_is_student_s_on_symmetric_images_and_reaches_farther_up_on_skewed_ones():
    even = Estimate(2.0, 0.5, 4, (1.0, 2.0, 2.0, 3.0))
    assert even.interval() == (pytest.approx(2 - 0.5 * t.ppf(0.975, 3)), pytest.approx(2 + 0.5 * t.ppf(0.975, 3)))
    assert even.interval(0.99)[1] == pytest.approx(2 + 0.5 * t.ppf(0.995, 3))
    lower, upper = _estimate([1.0] * 15 + [9.0]).interval()
    assert upper - 1.5 > 1.5 - lower > 0


def test_an_interval_of_one_image_is_infinite_or_as_its_error_says():
    assert estimates.clustered_mean(torch.ones(5), torch.zeros(5)).interval() == (-math.inf, math.inf)
    assert Estimate(1.0, 0.1, 1, (1.0,)).interval() == (pytest.approx(1 - 0.1959964), pytest.approx(1 + 0.1959964))


@settings(deadline=None)
@given(st.lists(st.floats(-1e80, 1e80), min_size=2, max_size=30), st.floats(0.5, 0.999))
def test_an_interval_contains_its_value_and_scales_with_it(values, confidence):
    found = _estimate(values)
    lower, upper = found.interval(confidence)
    assert lower <= found.value <= upper
    twice = Estimate(2 * found.value, 2 * found.standard_error, found.matrices, tuple(2 * v for v in found.by_image))
    assert twice.interval(confidence) == (pytest.approx(2 * lower), pytest.approx(2 * upper))


def _estimate(values):
    return estimates.clustered_mean(torch.tensor(values, dtype=torch.float64), torch.arange(len(values)))


def test_holds_needs_both_bounds_inside():
    before = _estimate([0.90, 0.92, 0.94, 0.92] * 8)
    assert estimates.holds(before, _estimate([0.91, 0.93, 0.96, 0.94] * 8)).holds
    assert not estimates.holds(before, _estimate([1.29, 1.30, 1.31, 1.30] * 8)).holds
    few = estimates.holds(_estimate([0.92, 0.94, 0.96]), _estimate([0.98, 0.96, 1.0]))
    pairs = [0.98 / 0.98 - 0.92 / 0.94, 0.96 / 0.98 - 0.94 / 0.94, 1.0 / 0.98 - 0.96 / 0.94]
    error = float(torch.tensor(pairs).std()) / math.sqrt(3)
    assert few.upper == pytest.approx(few.ratio * math.exp(t.ppf(0.975, 2) * error), rel=1e-6)
    noisy = Estimate(0.95, 0.2, 4, (0.5, 1.4, 0.6, 1.3))
    found = estimates.holds(before, noisy)
    assert 0.85 < found.ratio < 1.15
    assert not found.holds


@settings(deadline=None)
@given(st.floats(0.5, 2.0), st.integers(0, 1000))
def test_holds_is_exact_on_scaled_pairs(factor, seed):
    before = _estimate((torch.rand(20, generator=torch.Generator().manual_seed(seed)) + 1).tolist())
    after = Estimate(before.value * factor, 0.0, before.matrices, tuple(v * factor for v in before.by_image))
    found = estimates.holds(before, after)
    assert found.ratio == pytest.approx(factor)
    assert found.upper - found.lower == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(st.floats(0.01, 0.999), st.integers(1, 200))
def test_student_s_quantile_is_scipy_s(confidence, df):
    assert estimates.student(confidence, df) == pytest.approx(t.ppf((1 + confidence) / 2, df), rel=1e-9)


def test_student_s_quantile_of_infinite_freedom_is_normal():
    assert estimates.student(0.95, math.inf) == pytest.approx(estimates.Z95)


def test_radius_error():
    M = torch.nn.functional.normalize(torch.randn(3, 7, 4), dim=-1)
    assert row_figures.radius_error(M) < 1e-6
    assert row_figures.radius_error(2 * M) == pytest.approx(1, abs=1e-6)
