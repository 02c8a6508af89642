"""The spectral stage against LAPACK and float64 autograd, and its gradients where those of eigh do not exist."""

import pytest
import torch

from batteries.model import spectral
from tests.support.laws import given, settings, st

SHAPES = [(32, 4), (64, 8), (64, 16), (5, 5), (48, 12), (64, 32)]


def rows(n, V, D, seed=0, dtype=torch.float64):
    M = torch.randn(n, V, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(M, dim=-1).to(dtype)


def plain(M, ratio):
    """The same by torch's own eigh and autograd."""
    gram = M.mT @ M + spectral.RIDGE * torch.eye(M.shape[-1], dtype=M.dtype)
    values, vectors = torch.linalg.eigh(gram)
    S = values.flip(-1).clamp_min(1e-24).sqrt()
    W = vectors.flip(-1)
    return S, M @ (W * ratio[..., None, :]) @ W.mT


def own(M, ratio):
    found = spectral.spectrum(M)
    return found.S, spectral.gate(M, found, ratio)


@pytest.mark.parametrize(("V", "D"), SHAPES)
def test_singular_values_are_lapacks(V, D):
    M = rows(20, V, D)
    S, W = spectral.spectrum(M)
    assert torch.allclose(S, torch.linalg.svdvals(M), atol=1e-6 if V == D else 1e-9)
    assert (S.diff(dim=-1) <= 0).all()
    assert torch.allclose(W.mT @ W, torch.eye(D, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize(("V", "D"), SHAPES)
def test_squares_sum_to_the_number_of_rows(V, D):
    S, _ = spectral.spectrum(rows(20, V, D, dtype=torch.float32))
    assert torch.allclose(S.square().sum(dim=-1), torch.full((20,), float(V)), rtol=1e-5)


@pytest.mark.parametrize(("V", "D"), SHAPES)
def test_gradients_are_those_of_float64_autograd(V, D):
    M = rows(40, V, D, seed=D)
    gaps = torch.linalg.svdvals(M).square().diff(dim=-1).abs().amin(dim=-1) / V
    M = M[gaps > 1e-3 / D]
    generator = torch.Generator().manual_seed(1)
    ratio = 0.8 + 0.4 * torch.rand(M.shape[0], D, generator=generator, dtype=torch.float64)
    on_S = torch.randn(M.shape[0], D, generator=generator, dtype=torch.float64)
    on_M = torch.randn(M.shape, generator=generator, dtype=torch.float64)
    grads = []
    for stage in (plain, own):
        m, r = M.clone().requires_grad_(), ratio.clone().requires_grad_()
        S, gated = stage(m, r)
        ((S * on_S).sum() + (gated * on_M).sum()).backward()
        grads.append((m.grad, r.grad))
    for wanted, found in zip(*grads, strict=True):
        assert ((wanted - found).abs() / wanted.abs().max()).max() < 1e-6


def test_gradcheck():
    M = rows(2, 7, 4).requires_grad_()
    ratio = torch.linspace(0.9, 1.1, 4, dtype=torch.float64).expand(2, 4).clone().requires_grad_()
    assert torch.autograd.gradcheck(own, (M, ratio), eps=1e-6, atol=1e-5)


def orthonormal(V, D):
    return torch.linalg.qr(torch.randn(V, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]


DEGENERATE = {
    "orthonormal columns": lambda V, D: orthonormal(V, D),
    "rank one": lambda V, D: torch.ones(V, 1, dtype=torch.float64) * rows(1, 1, D)[0],
    "rank one, signs": lambda V, D: torch.sign(orthonormal(V, 1)) * rows(1, 1, D)[0],
    "zero": lambda V, D: torch.zeros(V, D, dtype=torch.float64),
    "a repeated column": lambda V, D: orthonormal(V, D)[:, [0] * (D - 1) + [1]],
}


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("V", "D"), [(32, 4), (64, 16)])
def test_gradients_are_finite_and_bounded_where_singular_values_meet(kind, dtype, V, D):
    M = DEGENERATE[kind](V, D).to(dtype).requires_grad_()
    ratio = torch.linspace(0.8, 1.2, D, dtype=dtype).requires_grad_()
    S, gated = own(M, ratio)
    weights = torch.randn(V, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
    (S.sum() + (gated * weights).sum()).backward()
    assert torch.isfinite(S).all()
    assert torch.isfinite(gated).all()
    assert torch.isfinite(M.grad).all()
    assert torch.isfinite(ratio.grad).all()


def test_equal_ratios_need_no_frame():
    """With one factor for all modes the gate is a multiple of M, whatever the frame: gradients stay exact at equal S."""
    M = orthonormal(16, 4).requires_grad_()
    _, gated = own(M, torch.full((4,), 1.1, dtype=torch.float64))
    gated.sum().backward()
    assert torch.allclose(M.grad, torch.full_like(M, 1.1), atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(SHAPES))
def test_the_gate_scales_singular_values(seed, shape):
    M = rows(1, *shape, seed=seed)[0]
    found = spectral.spectrum(M)
    ratio = torch.linspace(1.2, 0.8, shape[1], dtype=torch.float64)  # falling: the order stays
    gated = spectral.gate(M, found, ratio)
    assert torch.allclose(torch.linalg.svdvals(gated), found.S * ratio, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("V", "D"), [(32, 4), (64, 8), (5, 3), (9, 2), (48, 4)])
def test_the_kernels_of_narrow_matrices_give_torchs_numbers(monkeypatch, V, D, dtype):
    pytest.importorskip("numba")
    M = rows(3 * spectral.MANY, V, D, seed=V, dtype=dtype)
    M[5], M[6, :, 0] = M[5, :1], M[6, :, 1]  # rank one; two equal columns
    M = M.reshape(3, spectral.MANY, V, D)
    generator = torch.Generator().manual_seed(2)
    ratio = (0.8 + 0.4 * torch.rand(*M.shape[:2], D, generator=generator, dtype=dtype)).requires_grad_()
    on_M = torch.randn(M.shape, generator=generator, dtype=dtype)
    found = spectral.spectrum(M)

    def both():
        m = M.clone().requires_grad_()
        gated = spectral.gate(m, found, ratio)
        return gated, *torch.autograd.grad(gated, [m, ratio], on_M)

    assert spectral._kernels(M) is not None
    fast = both()
    monkeypatch.setattr(spectral, "_kernels", lambda *_: None)
    for ours, torchs in zip(fast, both(), strict=True):
        near = torchs.isfinite().all() and torch.allclose(
            ours, torchs, rtol=1e-4, atol=1e-4 if dtype == torch.float32 else 1e-7
        )
        assert near, (ours - torchs).abs().max()


def test_few_wide_or_odd_matrices_go_to_torch():
    for M in (rows(3, 32, 4), rows(100, 64, 16), rows(0, 32, 4), rows(100, 32, 4).half(), rows(1, 32, 4)[0]):
        assert spectral._kernels(M) is None


@pytest.mark.parametrize("D", [2, 4, 16])
def test_unit_rows_and_their_gradient(D):
    raw = torch.randn(3, 5, D, generator=torch.Generator().manual_seed(D), dtype=torch.float64, requires_grad=True)
    assert torch.equal(spectral.unit_rows(raw.float()).norm(dim=-1).round(decimals=5), torch.ones(3, 5))
    assert torch.autograd.gradcheck(spectral.unit_rows, raw)
    nothing = spectral.unit_rows(torch.zeros(1, 1, D))
    assert (nothing == 0).all()
