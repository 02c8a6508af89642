"""Batched boundary smoothing of cells, each with its own weights: x + conv3x3(GELU(conv3x3(x))).

The weights are frozen, so only images get a gradient. On the CPU, float32 is computed by the kernels of
kernels if numba is installed (the ``fast`` extra), which never hold the whole hidden layer or its
gradient in memory. Otherwise torch is used: cell by cell on the CPU, where grouped convolutions with few channels are slower,
and grouped on other devices.

Legend: C cells, B images of each.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.engine import dispatch
from batteries.engine.torch_settings import uncast_backward
from batteries.model import boundary_smoothing, derivatives, smoothing_kernels

__all__ = ["smooth"]

Pair = tuple[Tensor, Tensor]


def smooth(images: Tensor, first: Pair, last: Pair, out: Tensor | None = None) -> Tensor:
    """Add a small convolution of the zero-padded images to the images.

    Args:
        images: Images (C, B, channels, height, width).
        first: Weight (C, width, channels, 3, 3) and bias (C, width) of the first convolution.
        last: Weight (C, channels, width, 3, 3) and bias (C, channels) of the last convolution.
        out: Contiguous tensor of the images' shape to write the result to, without a gradient.

    Returns:
        Smoothed images (C, B, channels, height, width), with a gradient only with respect to the images.
    """
    weights = [weight.detach() for weight in (*first, *last)]
    if not smoothing_kernels.serve(images, *weights, pulled=torch.is_grad_enabled() and images.requires_grad):
        smoothed = _plainly(images, *weights)
        return smoothed if out is None else out.copy_(smoothed)
    if out is not None:
        smoothing_kernels.smooth(images.flatten(0, 1), *weights, out=out.view(-1, *out.shape[2:]))
        return out
    found: Tensor = _Smooth.apply(images, *weights)  # type: ignore[no-untyped-call]
    return found


# ---- kernels ---------------------------------------------------------------------------------------------------------


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(images, *weights)
        return smoothing_kernels.smooth(images.flatten(0, 1), *weights).view(images.shape)

    @staticmethod
    @uncast_backward
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        images, *weights = given = ctx.saved_tensors
        if derivatives.wanted(*grads):
            return derivatives.pulled(_grouped, given, ctx.needs_input_grad, grads)
        w1, b1, w2, _ = weights
        on_images = smoothing_kernels.pull(images.flatten(0, 1), grads[0].flatten(0, 1), w1, b1, w2)
        return on_images.view(images.shape), None, None, None, None


# ---- torch -----------------------------------------------------------------------------------------------------------


def _plainly(images: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    if images.device.type == "cpu" and not dispatch.followed(images):
        cells = zip(images, w1, b1, w2, b2, strict=True)
        return torch.stack([boundary_smoothing.smooth(x, (u1, c1), (u2, c2)) for x, u1, c1, u2, c2 in cells])
    return _grouped(images, w1, b1, w2, b2)


def _grouped(images: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    C = len(images)
    convolve = partial(F.conv2d, padding=1, groups=C)
    x = images.transpose(0, 1).flatten(1, 2)  # (B, C channels, height, width)
    middle = F.gelu(convolve(x, w1.flatten(0, 1), b1.flatten()))
    change = convolve(middle, w2.flatten(0, 1), b2.flatten())
    return (x + change).unflatten(1, (C, -1)).transpose(0, 1)
