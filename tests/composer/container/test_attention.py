"""Attention with narrow heads against torch's, and that its answer depends on the head alone."""

import pytest
import torch
from torch.nn import functional as F

from composer.container import attention
from tests.support.laws import given, settings, st

TOLERANCE = 2e-6  # of the largest value
TOKENS = st.sampled_from([1, 3, 15, 16, 17, 63, 64, 65, 130, 256])


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    monkeypatch.setattr(attention, "FEW", 1)


def parts(G=3, heads=2, N=20, d=2, dtype=torch.float32, seed=0, scale=1.0):
    """Queries, keys and values as a projection leaves them: parts of one tensor."""
    g = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(G, N, 3, heads, d, generator=g, dtype=torch.float64)
    return x.to(dtype).permute(2, 0, 3, 1, 4).unbind(0)


def exactly(q, k, v):
    q, k, v = (x.double() for x in (q, k, v))
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v


def near(found, q, k, v, tolerance=TOLERANCE):
    wanted = exactly(q, k, v)
    assert found.shape == wanted.shape
    assert found.dtype == q.dtype
    assert (found - wanted).abs().max() <= tolerance * v.abs().max()


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), TOKENS, st.integers(1, 9), st.integers(0, 100), st.booleans())
def test_random_heads(G, heads, N, d, seed, contiguous):
    given = parts(G, heads, N, d, seed=seed)
    given = [x.contiguous() for x in given] if contiguous else given
    near(attention.attend(*given), *given)


def test_float64_is_torchs():
    given = parts(dtype=torch.float64)
    assert torch.equal(attention.attend(*given), F.scaled_dot_product_attention(*given))


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 10.0, 100.0, 1e4])
def test_scores_of_any_size(scale):
    """Scores of a million round their own weights; so far from a tie it does not show."""
    q, k, v = parts(4, 2, 70, 2, scale=scale)
    k, v = k.sign(), v / scale
    near(attention.attend(q, k, v), q, k, v, tolerance=TOLERANCE * max(1.0, scale))


def test_scores_far_below_zero_and_far_above():
    """The largest is found, not bounded: every weight but its own may vanish."""
    q = torch.full((2, 2, 40, 2), 10.0)
    k, v = torch.full((2, 2, 40, 2), -100.0), torch.randn(2, 2, 40, 2, generator=torch.Generator().manual_seed(0))
    k[:, :, 7] = -50.0
    found = attention.attend(q, k, v)
    assert torch.equal(found, v[:, :, 7:8].expand_as(found))
    equal = attention.attend(q, -k[:, :, 8:9].expand_as(k), v)
    assert torch.allclose(equal, v.mean(dim=2, keepdim=True).expand_as(v), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_finite_stays_in_its_head(bad, which):
    given = [x.contiguous() for x in parts(3, 2, 70, 3)]
    clean = attention.attend(*given)
    given[which][1, 1, 66, 2] = bad
    found, wanted = attention.attend(*given), exactly(*given)
    assert torch.equal(found.isfinite(), wanted.isfinite())
    others = torch.ones(3, 2, dtype=torch.bool)
    others[1, 1] = False
    assert torch.equal(found[others], clean[others])
    finite = wanted.isfinite()
    assert torch.allclose(found[finite], wanted[finite].float(), atol=1e-5)


def test_strides_do_not_matter():
    pytest.importorskip("numba")  # to the bit, which torch does not promise
    given = parts(4, 3, 33, 4)
    wanted = attention.attend(*given)
    assert torch.equal(attention.attend(*(x.contiguous() for x in given)), wanted)
    turned = [x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) for x in given]
    assert torch.equal(attention.attend(*turned), wanted)
    q, k, v = given
    assert torch.equal(attention.attend(q, k[:1].expand_as(k), v)[0], wanted[0])
    assert torch.equal(attention.attend(q[1:3], k[1:3], v[1:3]), wanted[1:3])
    assert torch.equal(attention.attend(q[:, 1:], k[:, 1:], v[:, 1:]), wanted[:, 1:])


@pytest.mark.parametrize("shape", [(0, 2, 5, 2), (3, 0, 5, 2), (3, 2, 0, 2)])
def test_nothing_in_nothing_out(shape):
    empty = torch.empty(shape)
    assert attention.attend(empty, empty, empty).shape == shape


def test_with_a_gradient_it_is_torchs():
    given = [x.clone().requires_grad_() for x in parts()]
    assert attention._kernel(*given) is None
    attention.attend(*given).sum().backward()
    assert all(x.grad is not None for x in given)
    with torch.no_grad():
        near(attention.attend(*given), *given)


def test_other_shapes_are_torchs():
    q, k, v = parts(N=20)
    for other in ((q, k[:, :, :7], v[:, :, :7]), (q[0], k[0], v[0]), (q, k, v[..., :1])):
        assert torch.equal(attention.attend(*other), F.scaled_dot_product_attention(*other))


def test_the_fast_route_is_taken_where_it_is_meant_to_be(monkeypatch):
    pytest.importorskip("numba")
    assert attention._kernel(*parts(d=8)) is not None
    assert attention._kernel(*parts(d=9)) is None
    assert attention._kernel(*parts(dtype=torch.float64)) is None
    monkeypatch.undo()
    assert attention._kernel(*parts(1, 2, 256, 2)) is not None
    assert attention._kernel(*parts(1, 4, 16, 4)) is None
