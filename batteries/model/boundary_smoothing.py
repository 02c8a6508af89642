"""Boundary smoothing of a cell, a few images at a time: x + conv3x3(GELU(conv3x3(x))).

The hidden activations are five times as large as the image, and those of a batch exceed the processor's cache: that, not the
arithmetic, dominates the time of two plain convolutions. So a batch is processed in chunks that fit the cache, in
channels-last order, and the backward pass recomputes the hidden activations instead of storing them. Where the weights get a
gradient, as in training, kernels do both passes if they can; elsewhere torch's convolutions remain, to the bit those that the
figures of published manifests were measured with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.engine import dispatch
from batteries.engine.torch_settings import uncast_backward
from batteries.model import derivatives, smoothing_kernels

CHUNK_PIXELS = 4 * 64 * 64  # pixels of one chunk; measured in docs/decisions/0008-training-step.md


def smooth(images: Tensor, first: tuple[Tensor, Tensor], last: tuple[Tensor, Tensor]) -> Tensor:
    """Add to images a small convolution of them.

    Args:
        images: Images (B, C, height, width).
        first: Weight (width, C, 3, 3) and bias (width,).
        last: Weight (C, width, 3, 3) and bias (C,).

    Returns:
        Smoothed images (B, C, height, width).
    """
    if dispatch.followed(images):  # a batch of unknown size cannot be split into chunks
        return derivatives.smooth(images, *first, *last)
    smoothed: Tensor = _Smooth.apply(images, *first, *last)  # type: ignore[no-untyped-call]
    return smoothed


def _chunk(images: Tensor) -> int:
    """Return the number of images of a chunk; all of them on an accelerator."""
    if images.device.type != "cpu":
        return max(1, len(images))
    return max(1, CHUNK_PIXELS // max(1, images.shape[2] * images.shape[3]))


def _last_channels(part: Tensor) -> Tensor:
    return part.contiguous(memory_format=torch.channels_last)


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        ctx.save_for_backward(images, w1, b1, w2, b2)
        if ctx.needs_input_grad[1] and smoothing_kernels.serve(images, w1, b1, w2, b2, whole=True):
            return smoothing_kernels.smooth(images, w1[None], b1[None], w2[None], b2[None])
        smoothed = torch.empty_like(images)
        chunk = _chunk(images)
        for part, into in zip(images.split(chunk), smoothed.split(chunk), strict=True):
            x = _last_channels(part)
            middle = F.gelu(F.conv2d(x, w1, b1, padding=1))
            torch.add(x, F.conv2d(middle, w2, b2, padding=1), out=into)
        return smoothed

    @staticmethod
    @uncast_backward
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        images, w1, b1, w2, _ = given = ctx.saved_tensors
        if derivatives.wanted(*grads):
            return derivatives.pulled(derivatives.smooth, given, ctx.needs_input_grad, grads)
        if all(ctx.needs_input_grad[1:]) and smoothing_kernels.serve(images, grads[0], w1, b1, w2, whole=True):
            return smoothing_kernels.pull_all(images, grads[0], w1, b1, w2)
        on_weights = any(ctx.needs_input_grad[1:])
        on_images = torch.empty_like(images)
        totals = [torch.zeros_like(w1), torch.zeros_like(b1), torch.zeros_like(w2), w2.new_zeros(len(w2))]
        chunk = _chunk(images)
        for part, grad, into in zip(images.split(chunk), grads[0].split(chunk), on_images.split(chunk), strict=True):
            x, grad = _last_channels(part), _last_channels(grad)
            before = F.conv2d(x, w1, b1, padding=1)
            on_middle, *on_last = _conv_backward(grad, F.gelu(before), w2, on_weights)
            on_x, *on_first = _conv_backward(torch.ops.aten.gelu_backward(on_middle, before), x, w1, on_weights)
            torch.add(grad, on_x, out=into)
            if on_weights:
                for total, share in zip(totals, (*on_first, *on_last), strict=True):
                    total += share
        return (on_images, *(totals if on_weights else [None] * 4))


def _conv_backward(grad: Tensor, x: Tensor, weight: Tensor, on_weights: bool) -> tuple[Tensor, ...]:
    """Compute the gradients of a padded 3 x 3 convolution on its input and, if requested, on weight and bias."""
    outputs = [True, on_weights, on_weights]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        grad, x, weight, [len(weight)], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, outputs
    )
    return found
