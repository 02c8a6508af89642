"""CV with a gradient: that of the reading, its gradient by differences, its laws, and rows without volume."""

import pytest
import torch

from batteries.geometry.simplex_cv import Degenerate, cv, differentiable_cv
from tests.support.laws import given, settings, st

IMAGE = torch.zeros(1, dtype=torch.int64)


def rows(V, D, seed=0):
    M = torch.randn(V, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(M, dim=-1)


def with_gradient(M, seed=0, draws=60):
    M = M.detach().requires_grad_()
    found = differentiable_cv(M, draws=draws, seed=seed)
    return found, torch.autograd.grad(found, M)[0]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(5, 40), st.integers(4, 20), st.sampled_from([torch.float32, torch.float64]))
def test_it_is_the_reading_of_the_same_draws(seed, V, D, dtype):
    M = rows(V, D, seed).to(dtype)
    reading = cv(M[None], IMAGE, draws=60, seed=seed, corrected=False)
    assert differentiable_cv(M, draws=60, seed=seed).item() == pytest.approx(reading.value, rel=1e-12)


@pytest.mark.parametrize(("V", "D"), [(5, 4), (8, 4), (9, 6), (12, 16)])
def test_its_gradient_is_that_of_differences(V, D):
    M = rows(V, D, seed=V).requires_grad_()
    assert torch.autograd.gradcheck(lambda M: differentiable_cv(M, draws=40, seed=1), M)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([4, 8, 16]))
def test_size_and_rotation_leave_it_as_it_is(seed, D):
    M = rows(16, D, seed)
    found, slope = with_gradient(M, seed)
    assert abs(float((slope * M).sum())) < 1e-9 * float(slope.norm() * M.norm())  # no slope towards larger rows
    assert float(slope.sum(dim=0).norm()) < 1e-9 * float(slope.norm())  # nor towards a shift of all
    rotation = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    turned, along = with_gradient(M @ rotation, seed)
    assert turned.item() == pytest.approx(found.item(), rel=1e-9)
    assert torch.allclose(along, slope @ rotation, atol=1e-9 * float(slope.norm()))


def test_a_step_along_it_changes_the_cv_of_other_draws_too():
    M = rows(32, 8)
    other = differentiable_cv(M, draws=2000, seed=5)
    _, slope = with_gradient(M, draws=2000)
    moved = torch.nn.functional.normalize(M - 0.5 * slope, dim=-1)
    assert differentiable_cv(moved, draws=2000, seed=5) < other


def test_a_row_twice_has_a_finite_gradient():
    M = rows(16, 6)
    M[1] = M[0]
    found, slope = with_gradient(M)
    assert found.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize(
    ("M", "says"),
    [
        (torch.ones(8, 4), "hyperplane"),
        (torch.zeros(8, 4), "hyperplane"),
        (rows(8, 4) - rows(8, 4).mean(dim=1, keepdim=True), "hyperplane"),  # as LayerNorm leaves them
        (rows(8, 3), "D = 3 has no 4-volume"),
    ],
)
def test_rows_without_volume_have_none(M, says):
    found = differentiable_cv(M.requires_grad_(), draws=60, seed=0)
    assert isinstance(found, Degenerate)
    assert says in found.reason
