"""The CV of a loss: that of the differentiable one in float32, with a gradient also where rows have collapsed."""

import torch
from torch import Generator

from batteries.geometry import simplex_cv, sphere_cv


def rows(*shape, seed=0):
    return torch.nn.functional.normalize(torch.randn(*shape, generator=Generator().manual_seed(seed)), dim=-1)


def test_uniform_rows_have_the_exact_cv_whatever_their_signs():
    for D in (4, 8, 16):
        M = rows(2, 16, 64, D)
        signs = torch.tensor([1.0, -1.0]).repeat(32)[:, None]
        for one in (M, M.abs() * signs):
            assert simplex_cv.pooled_cv(one, draws=200, generator=Generator().manual_seed(1)).shape == (2,)
        found = simplex_cv.pooled_cv(M, draws=400, generator=Generator().manual_seed(1))
        assert float((found / sphere_cv(D) - 1).abs().max()) < 0.08


def test_it_stays_in_the_type_of_its_rows_and_equals_the_double_one():
    M = rows(8, 32, 4)
    single, double = (simplex_cv.pooled_cv(x, draws=100, generator=Generator().manual_seed(2)) for x in (M, M.double()))
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0)


def test_a_collapsed_matrix_has_a_finite_gradient_and_leaves_the_others_alone():
    M = rows(2, 4, 12, 4)
    collapsed = torch.cat([M[:1], torch.ones(1, 4, 12, 4) / 2]).requires_grad_()
    found = simplex_cv.pooled_cv(collapsed, draws=64, generator=Generator().manual_seed(3))
    alone = simplex_cv.pooled_cv(M, draws=64, generator=Generator().manual_seed(3))
    assert found[0] == alone[0]
    (gradient,) = torch.autograd.grad(found.sum(), collapsed)
    assert bool(gradient.isfinite().all())
    assert float(gradient[0].abs().max()) > 0
