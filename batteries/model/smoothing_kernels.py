"""Boundary smoothing by the kernels of :mod:`batteries.kernels.convolution`, if numba is installed (the ``fast`` extra).

They never hold the whole hidden layer or its gradient in memory. Weights are of C cells; images (C B, channels, height, width)
are those of each cell in turn. All is float32 on the CPU, see :func:`serve`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batteries.kernels.jit import Kernels, share

Layer = tuple[np.ndarray, np.ndarray]
NANOSECONDS = 0.25  # per image of a kernel, times channels, width and pixels


def serve(images: Tensor, *weights: Tensor, pulled: bool = False, whole: bool = False) -> bool:
    """Return whether the kernels accept images and weights.

    Args:
        images: Images.
        weights: Weights and biases of both convolutions.
        pulled: Whether the gradient on images may be wanted.
        whole: Whether that on weights may be wanted too.
    """
    if not _convolution.serves(images, *weights):
        return False
    names = ["smooth"] + ["pull"] * pulled + ["pull_all"] * whole
    return all(_convolution(name) is not None for name in names)


def smooth(images: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Add to images their convolution, see :func:`batteries.model.boundary_smoothing.smooth`.

    Args:
        images: Images (C B, channels, height, width).
        w1: Weight (C, width, channels, 3, 3).
        b1: Bias (C, width).
        w2: Weight (C, channels, width, 3, 3).
        b2: Bias (C, channels).
        out: Contiguous tensor of the images' shape for the result.

    Returns:
        Smoothed images.
    """
    out = torch.empty_like(images, memory_format=torch.contiguous_format) if out is None else out
    layers = _packed(_array(w1), _array(b1), _many()), _packed(_array(w2), _array(b2), _few())
    _run("smooth", [images], layers, [out])
    return out


def pull(images: Tensor, grad: Tensor, w1: Tensor, b1: Tensor, w2: Tensor) -> Tensor:
    """Return the gradient on images, of their shape; for the arguments see :func:`smooth`."""
    out, none = torch.empty_like(images, memory_format=torch.contiguous_format), torch.empty(0, device="cpu")
    _run("pull", [images, grad], _transposed(w1, b1, w2), [out, none, none, none])
    return out


def pull_all(images: Tensor, grad: Tensor, w1: Tensor, b1: Tensor, w2: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients on images (B, channels, height, width), w1, b1, w2 and b2 of a single cell.

    The shares of all images are summed in float64.
    """
    layers = _transposed(w1[None], b1[None], w2[None])
    B, (width, channels), middles = len(images), w1.shape[:2], layers[0][1].shape[1]
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    on_w1, on_w2 = (out.new_empty(B, middles, channels, 3, 3) for _ in range(2))
    on_b1 = out.new_empty(B, middles)
    _run("pull_all", [images, grad], layers, [out, on_w1.view(-1), on_b1.view(-1), on_w2.view(-1)])
    first, bias, last = (shares[:, :width].sum(0, dtype=torch.float64).float() for shares in (on_w1, on_b1, on_w2))
    return out, first, bias, last.flip(-2, -1).transpose(0, 1).contiguous(), grad.sum((0, 2, 3), dtype=torch.float64).float()


def _try(run: Any, name: str) -> None:
    ones = partial(torch.ones, dtype=torch.float32, device="cpu")
    image, weight, bias = ones(1, 1, 1, 1), ones(1, 1, 1, 3, 3), ones(1, 1)
    match name:
        case "smooth":
            layers = (_packed(_array(weight), _array(bias), count) for count in (_many(), _few()))
            run(_array(image), *layers, _array(image), 0, 1)
        case _:
            none = [np.zeros(4 * 9, np.float32) for _ in range(3)]
            run(_array(image), _array(image), *_transposed(weight, bias, weight), _array(image), *none, 0, 1)


_convolution = Kernels("batteries.kernels.convolution", getattr, _try, dtypes=(torch.float32,))


def _many() -> int:
    return int(_convolution.module.MANY)


def _few() -> int:
    return int(_convolution.module.FEW)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _run(name: str, images: list[Tensor], layers: tuple[Layer, ...], out: list[Tensor]) -> None:
    """Run a kernel over all images of all cells."""
    run = partial(_convolution(name), *map(_array, images), *layers, *(part.numpy() for part in out))
    share(run, len(images[0]), NANOSECONDS * layers[0][1].shape[1] * images[0][0].numel())


def _transposed(w1: Tensor, b1: Tensor, w2: Tensor) -> tuple[Layer, ...]:
    """Pack the first convolution, and both transposed: with channels exchanged and taps reversed."""
    back, home = (_array(weight)[..., ::-1, ::-1].swapaxes(1, 2) for weight in (w2, w1))
    outputs = np.zeros(w2.shape[:2], np.float32)
    first = _packed(_array(w1), _array(b1), _many())
    return first, _packed(back, np.zeros(b1.shape, np.float32), _many()), _packed(home, outputs, _few())


def _packed(weight: np.ndarray, bias: np.ndarray, count: int) -> Layer:
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
