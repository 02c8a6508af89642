"""The axial CV: signs of rows, rotations, permutations, its exact value, and the correction for the number of rows."""

import math

import pytest
import torch

from batteries import geometry
from batteries.geometry import attractor, jackknife, simplex_cv
from batteries.geometry.simplex_cv import Degenerate
from tests.support.laws import given, settings, st

FEW = 200  # draws


def uniform(n, V, D, seed=0):
    M = torch.randn(n, V, D, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(M, dim=-1)


def lopsided(n, V, D, seed=0):
    """Rows around one direction, whose published CV the signs of rows change most."""
    M = torch.randn(n, V, D, generator=torch.Generator().manual_seed(seed)) + 2 * torch.eye(D)[0]
    return torch.nn.functional.normalize(M, dim=-1)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(5, 24), st.integers(4, 20))
def test_signs_of_rows_change_no_bit_of_the_axial_cv(seed, V, D):
    M = lopsided(3, V, D, seed)
    M[0, 0], M[1, 1, : D - 1] = 0.0, 0.0  # a row of zeros, and one that begins with zeros
    signs = 2 * torch.randint(2, (3, V, 1), generator=torch.Generator().manual_seed(seed + 1)) - 1
    image = torch.arange(3)
    assert geometry.axial_cv(M, image, draws=FEW) == geometry.axial_cv(M * signs, image, draws=FEW)


def test_signs_of_rows_change_the_published_cv():
    M, image = lopsided(64, 32, 8), torch.arange(64)
    signs = 2 * torch.randint(2, (32, 1), generator=torch.Generator().manual_seed(1)) - 1
    before, after = geometry.cv(M, image, draws=FEW), geometry.cv(M * signs, image, draws=FEW)
    assert abs(after.value - before.value) > 10 * before.standard_error


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([4, 8, 16]))
def test_rotations_and_permutations_change_it_by_sampling_only(seed, D):
    M, image = lopsided(64, 24, D, seed), torch.arange(64)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
    order = torch.randperm(24, generator=generator)
    before = geometry.axial_cv(M, image, draws=FEW)
    for after in (geometry.axial_cv(M @ rotation, image, draws=FEW), geometry.axial_cv(M[:, order], image, draws=FEW)):
        change = torch.tensor(after.by_image) - torch.tensor(before.by_image)
        assert abs(float(change.mean())) < 5 * float(change.std()) / 8


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([4, 8, 16]))
def test_rotations_change_the_published_cv_by_rounding_only(seed, D):
    M, image = lopsided(4, 24, D, seed).double(), torch.arange(4)
    rotation = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))[0]
    before, after = geometry.cv(M, image, draws=FEW), geometry.cv(M @ rotation, image, draws=FEW)
    assert after.value == pytest.approx(before.value, rel=1e-9)


@pytest.mark.parametrize("D", [4, 8, 16, 24, 48])
def test_the_axial_cv_of_uniform_rows_is_the_exact_one(D):
    n = 256
    found = geometry.axial_cv(uniform(n, 64, D, seed=D), torch.arange(n))
    assert abs(found.value - attractor.sphere_cv(D)) < 4 * found.standard_error


def test_three_dimensions_have_no_four_volume():
    assert isinstance(geometry.axial_cv(uniform(3, 16, 3), torch.arange(3)), Degenerate)


def test_rows_in_a_plane_through_the_origin_are_degenerate_and_rows_beside_it_are_not():
    through = torch.nn.functional.pad(uniform(4, 32, 3), (0, 1))
    beside = torch.nn.functional.normalize(through + torch.eye(4)[3], dim=-1)  # one sign of each row puts them in a plane
    image = torch.arange(4)
    assert isinstance(geometry.axial_cv(through, image), Degenerate)
    assert isinstance(geometry.cv(beside, image), Degenerate)
    assert not isinstance(geometry.axial_cv(beside, image), Degenerate)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(12, 40), st.floats(0.1, 10))
def test_the_jackknife_leaves_equal_cvs_alone_and_scales(seed, V, factor):
    generator = torch.Generator().manual_seed(seed)
    rows = simplex_cv.draw_rows(V, 2, 500, generator)
    constant = jackknife.corrected_cv(torch.full((2, 500), factor, dtype=torch.float64), rows, V)
    assert torch.allclose(constant, torch.zeros(2, dtype=torch.float64))
    volumes = torch.rand(2, 500, dtype=torch.float64, generator=generator) + 0.1
    found = jackknife.corrected_cv(volumes, rows, V)
    assert torch.allclose(jackknife.corrected_cv(volumes * factor, rows, V), found)


def test_the_jackknife_is_that_of_its_definition():
    V, rows = 14, simplex_cv.draw_rows(14, 1, 300, torch.Generator().manual_seed(3))
    volumes = torch.rand(1, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    left_out = []
    for row in range(V):
        rest = volumes[(rows != row).all(dim=-1)]
        left_out.append(rest.std() / rest.mean())
    whole = volumes.std() / volumes.mean()
    expected = (V**2 * whole - (V - 1) ** 2 * torch.stack(left_out).mean()) / (2 * V - 1)
    assert jackknife.corrected_cv(volumes, rows, V).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("V", "D"), [(16, 4), (16, 16)])
def test_the_correction_removes_most_of_the_bias_of_few_rows(V, D):
    M, image, exact = uniform(1000, V, D, seed=7), torch.arange(1000), attractor.sphere_cv(D)
    plain, corrected = (geometry.cv(M, image, corrected=on) for on in (False, True))
    bias, left = (found.value - exact for found in (plain, corrected))
    assert bias < -3 * plain.standard_error
    assert abs(left) < max(0.4 * abs(bias), 2 * corrected.standard_error)


def test_fewer_than_twelve_rows_are_not_corrected():
    M, image = uniform(8, 11, 4), torch.arange(8)
    assert geometry.cv(M, image) == geometry.cv(M, image, corrected=False)
    assert geometry.cv(uniform(8, 12, 4), image) != geometry.cv(uniform(8, 12, 4), image, corrected=False)


def test_five_rows_have_one_simplex():
    found = geometry.axial_cv(uniform(4, 5, 4), torch.arange(4))
    assert 0 < found.value < math.inf  # of one simplex, under the signs of its rows
