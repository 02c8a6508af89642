"""The smoothing of many cells at once against that of each by itself, and that its answer depends on the image alone."""

import pytest
import torch

from batteries.model import boundary_smoothing as single
from batteries.model import smoothing_kernels
from composer.container import boundary_smoothing
from tests.support.laws import given, settings, st

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the largest of the answer
SIDES = st.sampled_from([(1, 1), (3, 5), (17, 33), (64, 64), (2, 130)]) | st.tuples(st.integers(1, 20), st.integers(1, 70))


def case(C=2, B=1, channels=3, width=16, height=9, across=21, dtype=torch.float32, seed=0):
    """Images, weights of two layers, and a gradient on the answer."""
    g = torch.Generator().manual_seed(seed)

    def drawn(*shape, scale=1.0):
        return (scale * torch.randn(shape, generator=g, dtype=torch.float64)).to(dtype)

    first = drawn(C, width, channels, 3, 3, scale=0.5), drawn(C, width)
    last = drawn(C, channels, width, 3, 3, scale=0.2), drawn(C, channels)
    return drawn(C, B, channels, height, across), first, last, drawn(C, B, channels, height, across)


def alone(images, first, last):
    """Every cell by itself."""
    cells = zip(images, *first, *last, strict=True)
    return torch.stack([single.smooth(x, (w1, b1), (w2, b2)) for x, w1, b1, w2, b2 in cells])


def answers(way, images, first, last, grad):
    x = images.detach().clone().requires_grad_()
    smoothed = way(x, first, last)
    smoothed.backward(grad)
    return smoothed.detach(), x.grad


def near(found, wanted, dtype=torch.float32):
    scale = float(wanted.abs().max()) if wanted.numel() else 1.0
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype == dtype
    assert torch.allclose(found, wanted, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(1, 18), SIDES, st.sampled_from(list(TOLERANCE)))
def test_values_and_gradients_are_those_of_each_cell(C, B, channels, width, sides, dtype):
    given = case(C, B, channels, width, *sides, dtype)
    for found, wanted in zip(answers(boundary_smoothing.smooth, *given), answers(alone, *given), strict=True):
        near(found, wanted, dtype)


@pytest.mark.parametrize("fast", [True, False])
def test_against_float64(monkeypatch, fast):
    if not fast:
        monkeypatch.setattr(smoothing_kernels, "serve", lambda *given, **wanted: False)
    images, first, last, grad = case(3, 2, height=40, across=70)
    wide = [images.double(), *(tuple(w.double() for w in pair) for pair in (first, last)), grad.double()]
    for found, wanted in zip(answers(boundary_smoothing.smooth, images, first, last, grad), answers(alone, *wide), strict=True):
        near(found, wanted.float())


def test_grouped_as_elsewhere_is_the_same():
    images, first, last, _ = case(3, 2, dtype=torch.float64)
    near(boundary_smoothing._grouped(images, *first, *last), alone(images, first, last), torch.float64)


def test_the_slope_by_differences():
    images, first, last, _ = case(2, 1, 2, 3, 4, 5, torch.float64)
    assert torch.autograd.gradcheck(lambda x: boundary_smoothing.smooth(x, first, last), images.requires_grad_())


def bent(x):
    """GELU of each number by the kernel: one channel, a middle of one, and weights that pass a pixel on."""
    images = x.reshape(1, 1, 1, 1, -1).clone().requires_grad_()
    tap = torch.zeros(1, 1, 1, 3, 3)
    tap[..., 1, 1] = 1.0
    nothing = torch.zeros(1, 1)
    smoothed = boundary_smoothing.smooth(images, (tap, nothing), (tap, nothing))
    (slope,) = torch.autograd.grad(smoothed.sum(), images)
    return (smoothed.detach() - images.detach()).flatten(), slope.flatten() - 1


@pytest.mark.parametrize(("low", "high"), [(-8, 8), (-1, 1), (-1e-3, 1e-3), (-1e6, 1e6), (5.3, 5.5), (-5.5, -5.3)])
def test_gelu_is_exact_to_float32(low, high):
    pytest.importorskip("numba")
    x = torch.linspace(low, high, 100_001)
    exact = x.double().requires_grad_()
    wanted = torch.nn.functional.gelu(exact)
    (slope,) = torch.autograd.grad(wanted.sum(), exact)
    found, found_slope = bent(x)
    size = x.abs().double().clamp_min(1)  # the image itself was added and taken off, which rounds
    assert ((found.double() - wanted.detach()).abs() / size).max() < 3e-7
    assert (found_slope.double() - slope).abs().max() < 5e-7


def test_gelu_of_zero_is_zero():
    assert bent(torch.zeros(3))[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", [(0, 0), (4, 7), (8, 20)])
def test_what_is_not_finite_spreads_as_it_does_in_a_cell_and_no_further(bad, where):
    images, first, last, grad = case(C=3, B=2)
    clean = answers(boundary_smoothing.smooth, images, first, last, grad)
    images[1, 1, 0, where[0], where[1]] = bad
    found = answers(boundary_smoothing.smooth, images, first, last, grad)
    wide = [images.double(), *(tuple(w.double() for w in pair) for pair in (first, last)), grad.double()]
    for ours, wanted, before in zip(found, answers(alone, *wide), clean, strict=True):
        assert torch.equal(ours.isfinite(), wanted.isfinite())
        assert torch.equal(ours.isnan(), wanted.isnan())
        assert not ours.isfinite().all()
        assert torch.equal(ours[wanted.isfinite()], before[wanted.isfinite()])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite(bad):
    images, first, last, grad = case(C=2, B=2)
    grad[1, 0, 1, 4, 4] = bad
    found, wanted = (answers(way, images, first, last, grad)[1] for way in (boundary_smoothing.smooth, alone))
    assert torch.equal(found.isfinite(), wanted.isfinite())
    assert not found[1, 0].isfinite().all()


def by_columns(tensor):
    """The same numbers, with strides the other way round."""
    axes = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(axes).contiguous().permute(axes)


def test_strides_do_not_matter():
    images, first, last, grad = case(3, 2, height=8, across=12)
    wanted = answers(boundary_smoothing.smooth, images, first, last, grad)
    spread = torch.empty(2, 3, 8, 12, 3).permute(1, 0, 4, 2, 3).copy_(images)
    assert not spread.is_contiguous()
    turned = (tuple(map(by_columns, pair)) for pair in (first, last))
    found = answers(boundary_smoothing.smooth, spread, *turned, by_columns(grad))
    shared = boundary_smoothing.smooth(images[:, :1].expand(3, 2, 3, 8, 12), first, last)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert torch.equal(shared[:, 0], shared[:, 1])
    x = images.clone().requires_grad_()
    boundary_smoothing.smooth(x, first, last).sum().backward()  # a gradient of stride zero
    near(x.grad, answers(alone, images, first, last, torch.ones_like(grad))[1])


def test_images_and_weights_are_left_alone_and_weights_get_no_gradient():
    images, first, last, grad = case()
    given = [images, *first, *last, grad]
    before = [t.clone() for t in given]
    answers(
        boundary_smoothing.smooth,
        images,
        tuple(w.requires_grad_() for w in first),
        tuple(w.requires_grad_() for w in last),
        grad,
    )
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(w.grad is None for w in (*first, *last))
    assert not boundary_smoothing.smooth(images, first, last).requires_grad


def test_the_fast_route_is_taken_where_it_is_meant_to_be():
    pytest.importorskip("numba")
    images, first, last, _ = case()
    assert smoothing_kernels.serve(images, *first, *last, pulled=True)
    assert not smoothing_kernels.serve(images.double(), *(w.double() for w in (*first, *last)))
    assert not smoothing_kernels.serve(images[:, :0], *first, *last)


@pytest.mark.cuda
def test_on_cuda_it_is_grouped():
    images, first, last, grad = case(dtype=torch.float64)
    there = [images.cuda(), *(tuple(w.cuda() for w in pair) for pair in (first, last)), grad.cuda()]
    for found, wanted in zip(
        answers(boundary_smoothing.smooth, *there), answers(alone, images, first, last, grad), strict=True
    ):
        near(found.cpu(), wanted, torch.float64)
