"""Batched boundary smoothing of cells, each with its own weights: x + conv3x3(GELU(conv3x3(x))).

The weights are frozen, so only images get a gradient. On the CPU, float32 is computed by the kernels of
:mod:`composer.kernels.convolution` if numba is installed (the ``fast`` extra), which never hold the whole hidden layer or its
gradient in memory. Otherwise torch is used: cell by cell on the CPU, where grouped convolutions with few channels are slower,
and grouped on other devices.

Legend: C cells, B images of each.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.engine import dispatch
from batteries.engine.torch_settings import uncast_backward
from batteries.kernels.jit import Kernels, share
from batteries.model import boundary_smoothing, derivatives

__all__ = ["smooth"]

Pair = tuple[Tensor, Tensor]
NANOSECONDS = 0.25  # per image of a kernel, times channels, width and pixels


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
    if not _fast(images, weights):
        smoothed = _plainly(images, *weights)
        return smoothed if out is None else out.copy_(smoothed)
    if out is not None:
        _run(_convolution("smooth"), [images.flatten(0, 1)], _layers("smooth", *weights), out.view(-1, *out.shape[2:]))
        return out
    found: Tensor = _Smooth.apply(images, *weights)  # type: ignore[no-untyped-call]
    return found


# ---- kernels ---------------------------------------------------------------------------------------------------------


def _fast(images: Tensor, weights: list[Tensor]) -> bool:
    """Return whether the kernels can be used, including that of the gradient if it may be needed."""
    if not _convolution.serves(images, *weights):
        return False
    names = ["smooth", "pull"] if torch.is_grad_enabled() and images.requires_grad else ["smooth"]
    return all(_convolution(name) is not None for name in names)


def _try(kernel: Any, name: str) -> None:
    ones = partial(torch.ones, dtype=torch.float32, device="cpu")
    image, weight, bias = ones(1, 1, 1, 1), ones(1, 1, 1, 3, 3), ones(1, 1)
    _run(kernel, [image, image] if name == "pull" else [image], _layers(name, weight, bias, weight, bias))


_convolution = Kernels("composer.kernels.convolution", getattr, _try, dtypes=(torch.float32,))


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(images, *weights)
        smoothed = _run(_convolution("smooth"), [images.flatten(0, 1)], _layers("smooth", *weights))
        return smoothed.view(images.shape)

    @staticmethod
    @uncast_backward
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        images, *weights = given = ctx.saved_tensors
        if derivatives.wanted(*grads):
            return derivatives.pulled(_grouped, given, ctx.needs_input_grad, grads)
        on_images = _run(_convolution("pull"), [images.flatten(0, 1), grads[0].flatten(0, 1)], _layers("pull", *weights))
        return on_images.view(images.shape), None, None, None, None


def _run(kernel: Any, images: list[Tensor], layers: list[Any], out: Tensor | None = None) -> Tensor:
    """Run the kernel over all images of all cells, (C B, channels, height, width)."""
    given = [image.detach().contiguous() for image in images]
    out = torch.empty_like(given[0]) if out is None else out
    run = partial(kernel, *(image.numpy() for image in given), *layers, out.numpy())
    share(run, len(out), NANOSECONDS * layers[0][1].shape[1] * out[0].numel())
    return out


def _layers(name: str, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> list[Any]:
    """Pack weights for a kernel; a transposed convolution has its channels exchanged and its taps reversed."""
    to_middle, to_image = partial(_packed, count=_convolution.module.MANY), partial(_packed, count=_convolution.module.FEW)
    first = to_middle(w1.numpy(), b1.numpy())
    if name == "smooth":
        return [first, to_image(w2.numpy(), b2.numpy())]
    back, home = (weight.numpy()[..., ::-1, ::-1].swapaxes(1, 2) for weight in (w2, w1))
    return [first, to_middle(back, np.zeros_like(b1.numpy())), to_image(home, np.zeros_like(b2.numpy()))]


def _packed(weight: np.ndarray, bias: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack weights (C, outputs, inputs, 3, 3) as (C, groups, inputs, 9, count), and biases as (C, groups * count).

    Missing outputs are zero. Uses numpy, because torch would start threads that then spin on the cores of the kernels.
    """
    C, outputs, inputs = weight.shape[:3]
    groups = -(-outputs // count)
    padded = np.zeros((C, groups * count, inputs * 9), dtype=weight.dtype)
    padded[:, :outputs] = weight.reshape(C, outputs, inputs * 9)
    biases = np.zeros((C, groups * count), dtype=bias.dtype)
    biases[:, :outputs] = bias
    taps = padded.reshape(C, groups, count, inputs, 9).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(taps), biases


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
