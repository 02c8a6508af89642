"""The chunked boundary smoothing against the plain pair of convolutions."""

import pytest
import torch
from torch import nn

from batteries.model.boundary_smoothing import smooth


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
