"""Coverage of the intervals in small, and the parts of examples/interval_coverage.py."""

import math

import pytest
import torch
from scipy.stats import binom

from batteries.geometry import Estimate, simplex_cv, sphere_cv
from tests.support.examples import example

coverage = example("interval_coverage")
DRAWS = 250
LEAST, MOST = 0.93, 0.97


def covers(found, expected):
    """A count that a coverage between 93% and 97% explains, at 99.9%."""
    found = list(found)
    count = coverage.covered(found, expected, Estimate.interval)
    return binom.ppf(0.0005, len(found), LEAST) <= count <= binom.ppf(0.9995, len(found), MOST)


def now(D, design, **options):
    return (corrected for _, corrected in coverage.cv_estimates(D, design, draws=DRAWS, **options))


@pytest.mark.slow
@pytest.mark.parametrize("axial", [True, False])
@pytest.mark.parametrize("D", [4, 8, 16, 32])
def test_intervals_of_a_cv_contain_the_exact_one(D, axial):
    assert covers(now(D, coverage.FEW, axial=axial), sphere_cv(D))


@pytest.mark.slow
@pytest.mark.parametrize("design", [coverage.Design(16, 12), coverage.Design(64, 1), coverage.Design(256, 1)], ids=str)
def test_intervals_of_a_cv_of_more_matrices_contain_the_exact_one(design):
    assert covers(now(16, design, axial=True), sphere_cv(16))


@pytest.mark.slow
@pytest.mark.parametrize("design", [coverage.FEW, coverage.Design(64, 1), coverage.Design(256, 1)], ids=str)
@pytest.mark.parametrize("D", [4, 16])
def test_intervals_of_a_rank_contain_its_mean(D, design):
    assert covers(coverage.rank_estimates(D, design), coverage.mean_rank(D))


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [16, 64, 256])
def test_intervals_of_a_skewed_error_contain_its_mean(clusters):
    found = coverage.mse_estimates(0.5, coverage.Design(clusters, 1), replicates=2000)
    assert covers(found, math.exp(0.125))


def test_intervals_as_before_contain_it_too_seldom():
    found = list(coverage.cv_estimates(4, coverage.FEW, axial=False, draws=DRAWS))
    before = coverage.covered([plain for plain, _ in found], sphere_cv(4), coverage.normal)
    assert before < binom.ppf(0.01, len(found), LEAST)


@pytest.mark.parametrize("axial", [True, False])
def test_the_fast_volumes_are_the_package_s(axial):
    generator = torch.Generator().manual_seed(0)
    M, rows = coverage.uniform(6, 20, 7, generator), simplex_cv.draw_rows(20, 6, 50, generator)
    signs = 2 * torch.randint(2, rows.shape, generator=generator) - 1 if axial else torch.ones_like(rows)
    points = M[torch.arange(6)[:, None, None], rows] * signs[..., None]
    assert torch.allclose(coverage.volumes(M, rows, signs), simplex_cv.simplex_volumes(points), rtol=1e-11)
