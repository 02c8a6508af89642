"""Coverage of the intervals in small, and the parts of examples/interval_coverage.py."""

import functools
import math

import pytest
import torch
from scipy.stats import binom

from batteries.geometry import Estimate, clustered_mean, simplex_cv, sphere_cv
from tests.support.examples import example
from tests.support.soak import SOAK

coverage = example("interval_coverage")
DRAWS, REPLICATES = 200, 400
LEAST, MOST = 0.93, 0.97
MANY = 256 if SOAK else 64  # matrices of the largest design for a CV
OF_SOAK = pytest.mark.skipif(not SOAK, reason="four times the matrices; `make soak` runs it")


@functools.cache
def pool(D, axial, matrices):
    """CVs of matrices of uniform rows, corrected for the number of rows."""
    return coverage.cvs(matrices, coverage.V_OF[D], D, axial=axial, draws=DRAWS, seed=D)[1]


mean_rank = functools.cache(coverage.mean_rank)


def measured(values, design):
    """Simulated measurements, each of as many of these CVs as a design has."""
    size = len(design.image)
    return [clustered_mean(part, design.image) for part in values[: REPLICATES * size].split(size)]


def covers(found, expected):
    """A count that a coverage between 93% and 97% explains, at 99.9%."""
    found = list(found)
    count = coverage.covered(found, expected, Estimate.interval)
    return binom.ppf(0.0005, len(found), LEAST) <= count <= binom.ppf(0.9995, len(found), MOST)


@pytest.mark.slow
@pytest.mark.parametrize(("D", "axial"), [(4, True), (8, True), (32, True), (32, False)])
def test_intervals_of_a_cv_contain_the_exact_one(D, axial):
    assert covers(measured(pool(D, axial, 48 * REPLICATES), coverage.FEW), sphere_cv(D))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clusters", "each"), [(16, 3), (64, 1), pytest.param(16, 12, marks=OF_SOAK), pytest.param(256, 1, marks=OF_SOAK)]
)
def test_intervals_of_a_cv_of_any_design_contain_the_exact_one(clusters, each):
    assert covers(measured(pool(16, True, MANY * REPLICATES), coverage.Design(clusters, each)), sphere_cv(16))


@pytest.mark.slow
@pytest.mark.parametrize(("D", "clusters", "each"), [(4, 16, 3), (16, 16, 3), (16, 64, 1), (16, 256, 1)])
def test_intervals_of_a_rank_contain_its_mean(D, clusters, each):
    assert covers(coverage.rank_estimates(D, coverage.Design(clusters, each)), mean_rank(D))


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [16, 64, 256])
def test_intervals_of_a_skewed_error_contain_its_mean(clusters):
    found = coverage.mse_estimates(0.5, coverage.Design(clusters, 1), replicates=2000)
    assert covers(found, math.exp(0.125))


@pytest.mark.slow
def test_student_s_intervals_of_a_skewed_error_contain_its_mean_too_seldom():
    found = list(coverage.mse_estimates(1.0, coverage.Design(16, 1), replicates=1000))
    alone, now = (coverage.covered(found, math.exp(0.5), interval) for interval in (coverage.student, Estimate.interval))
    assert alone < binom.ppf(0.001, len(found), LEAST)
    assert now > alone


@pytest.mark.parametrize("axial", [True, False])
def test_the_fast_volumes_are_the_package_s(axial):
    generator = torch.Generator().manual_seed(0)
    M, rows = coverage.uniform(6, 20, 7, generator), simplex_cv.draw_rows(20, 6, 50, generator)
    signs = 2 * torch.randint(2, rows.shape, generator=generator) - 1 if axial else torch.ones_like(rows)
    points = M[torch.arange(6)[:, None, None], rows] * signs[..., None]
    assert torch.allclose(coverage.volumes(M, rows, signs), simplex_cv.simplex_volumes(points), rtol=1e-11)
