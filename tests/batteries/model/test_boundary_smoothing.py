"""The boundary smoothing, by kernels and in chunks, against the plain pair of convolutions."""

import pytest
import torch
from torch import nn

import batteries
from batteries.model import smoothing_kernels
from batteries.model.boundary_smoothing import smooth
from tests.support.laws import given, settings, st


def plain(images, first, last):
    middle = nn.functional.gelu(nn.functional.conv2d(images, *first, padding=1))
    return images + nn.functional.conv2d(middle, *last, padding=1)


def weights(channels=3, width=16, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    shapes = [(width, channels, 3, 3), (width,), (channels, width, 3, 3), (channels,)]
    tensors = [(0.3 * torch.randn(s, generator=g, dtype=torch.float64)).to(dtype).requires_grad_() for s in shapes]
    return (tensors[0], tensors[1]), (tensors[2], tensors[3])


@pytest.mark.parametrize(
    "shape", [(1, 3, 16, 16), (9, 3, 64, 64), (2, 3, 256, 256), (5, 3, 48, 80), (3, 1, 4, 4), (0, 3, 16, 16)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_values_and_gradients_are_the_plain_ones(shape, dtype, tolerance):
    g = torch.Generator().manual_seed(1)
    images, on = (torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for _ in range(2))
    results = []
    for way in (plain, smooth):
        x = images.clone().requires_grad_()
        first, last = weights(shape[1], dtype=dtype)
        out = way(x, first, last)
        (out * on).sum().backward()
        results.append([out, x.grad, *(w.grad for w in (*first, *last))])
    for wanted, found in zip(*results, strict=True):
        assert wanted.shape == found.shape
        scale = float(wanted.detach().abs().max()) if wanted.numel() else 1
        assert torch.allclose(wanted, found, atol=scale * tolerance, rtol=0)


def test_frozen_weights_get_no_gradient_and_images_do():
    first, last = weights()
    frozen = [tuple(w.detach() for w in pair) for pair in (first, last)]
    x = torch.randn(6, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    smooth(x, *frozen).square().sum().backward()
    y = x.detach().clone().requires_grad_()
    plain(y, *frozen).square().sum().backward()
    assert torch.allclose(x.grad, y.grad)


def test_gradcheck():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    first, last = weights(width=2)
    assert torch.autograd.gradcheck(lambda x, *w: smooth(x, w[:2], w[2:]), (x, *first, *last))


def pulled(images, first, last, grad):
    x = images.clone().requires_grad_()
    own = [tuple(w.detach().clone().requires_grad_() for w in pair) for pair in (first, last)]
    out = smooth(x, *own)
    return out.detach(), *torch.autograd.grad(out, [x, *own[0], *own[1]], grad)


def drawn(*shape):
    g = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=g), torch.randn(shape, generator=g)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 18), st.integers(1, 20), st.integers(1, 140))
def test_gradients_on_weights_are_near_those_in_float64(B, channels, width, height, across):
    pytest.importorskip("numba")
    images, grad = drawn(B, channels, height, across)
    first, last = weights(channels, width, torch.float32)
    assert smoothing_kernels.serve(images, *first, *last, whole=True)
    wide = [[w.double() for w in pair] for pair in (first, last)]
    # the size of a gradient on weights whose terms, one a pixel, do not happen to cancel; rounding does not cancel with them
    usual = float(grad.norm() * last[0].detach().abs().max())
    exacts = pulled(images.double(), *wide, grad.double())
    for place, (found, exact) in enumerate(zip(pulled(images, first, last, grad), exacts, strict=True)):
        assert found.shape == exact.shape
        of_weights = place >= 2
        assert (found - exact).abs().max() <= 3e-6 * max(1e-3, float(exact.abs().max()), usual if of_weights else 0.0)


def test_a_gradient_on_weights_is_the_same_to_the_bit_on_any_number_of_threads():
    images, grad = drawn(9, 3, 64, 64)
    first, last = weights(dtype=torch.float32)
    found = []
    for count in (1, 2):
        with batteries.threads(count):
            found.append(pulled(images, first, last, grad))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_gradient_on_some_weights_is_that_on_all():
    images, grad = drawn(2, 3, 16, 16)
    first, last = weights(dtype=torch.float32)
    whole = pulled(images, first, last, grad)
    for chosen in range(4):
        own = [w.detach().requires_grad_(i == chosen) for i, w in enumerate((*first, *last))]
        (found,) = torch.autograd.grad(smooth(images, own[:2], own[2:]), [own[chosen]], grad)
        assert torch.allclose(found, whole[2 + chosen], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_the_weights(bad):
    images, grad = drawn(2, 3, 16, 16)
    first, last = weights(dtype=torch.float32)
    images[1, 0, 4, 7] = bad
    assert not any(part.isfinite().all() for part in pulled(images, first, last, grad)[2:4])


def test_without_a_gradient_on_weights_it_is_torchs_to_the_bit(monkeypatch):
    images, _ = drawn(6, 3, 64, 64)
    frozen = [tuple(w.detach() for w in pair) for pair in weights(dtype=torch.float32)]
    before = smooth(images, *frozen)
    monkeypatch.setattr(smoothing_kernels, "serve", lambda *given, **wanted: False)
    assert torch.equal(smooth(images, *frozen), before)
