"""Cross products of many pairs of tokens and their polar factors, by kernels where they serve.

They do on the CPU, in float64, for widths of cells, where there are more than a few pairs, no gradient is asked for and numba
is installed (the ``fast`` extra). Else these functions give None, and the caller takes torch's way. The answers agree to
rounding, not to the bit.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from batteries.kernels.jit import Kernels, share

__all__ = ["Moments", "Polar", "moments", "polar"]

WIDTHS = range(4, 33, 4)  # each is compiled on its first call, in two seconds
FEW = 16  # pairs from which the kernels are worth their calls, as in batteries.kernels.eigensolver
MOMENT_NANOSECONDS = 0.6  # of a row of a pair, times D
POLAR_NANOSECONDS = 10  # of a matrix, times D**2


class Moments(NamedTuple):
    """Means (2, ..., D) of source and target, their cross products (..., D, D) and squared lengths (2, ...) about them."""

    means: Tensor
    cross: Tensor
    squares: Tensor


class Polar(NamedTuple):
    """The orthogonal factors R (P, D, D) of matrices, trace(R' matrix) (P,), and the sign (P,) of R's determinant.

    The sign is 0, and the others nothing, where a matrix is too near to singular.
    """

    rotation: Tensor
    trace: Tensor
    determinant: Tensor


def moments(source: Tensor, target: Tensor, rows: Tensor | None) -> Moments | None:
    """Of pairs of tokens (..., n, D), over the rows (..., n) that are there; what stands in the others is not looked at.

    Leading axes are broadcast. Tokens that are not finite give squares that are not.
    """
    batch = torch.broadcast_shapes(source.shape[:-2], target.shape[:-2], () if rows is None else rows.shape[:-1])
    if source.shape[-2:] != target.shape[-2:] or (rows is not None and rows.shape[-1] != source.shape[-2]):
        return None
    kernel = _kernel(batch.numel(), source, target, *([] if rows is None else [rows]))
    return _run_moments(kernel.moments, source, target, rows, batch) if kernel else None


def polar(cross: Tensor) -> Polar | None:
    """Of square ones (P, D, D); all is NaN for one that is not finite."""
    if cross.shape[-2] != cross.shape[-1]:
        return None
    kernel = _kernel(len(cross), cross)
    return _run_polar(kernel.polar, cross) if kernel else None


def _kernel(pairs: int, *given: Tensor) -> Any:
    """Compiled kernels for these, or None where torch's way is the one to take."""
    width = given[0].shape[-1]
    return _products(width) if _products.serves(*given) and pairs >= FEW and width in WIDTHS else None


def _try(kernels: Any, width: int) -> None:
    tokens = torch.zeros(1, 1, width, dtype=torch.float64, device="cpu")
    eye = torch.eye(width, dtype=torch.float64, device="cpu")[None]
    _run_moments(kernels.moments, tokens, tokens, None, torch.Size([1]))
    _run_polar(kernels.polar, eye)


_products = Kernels(
    "composer.kernels.cross_products",
    lambda module, width: module.kernels(width),
    _try,
    dtypes=(torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.bool),  # tokens, in float64 then, and a mask
    forward_only=True,
)


def _run_moments(kernel: Any, source: Tensor, target: Tensor, rows: Tensor | None, batch: torch.Size) -> Moments:
    """Kernel over all pairs."""
    (height, width), count = source.shape[-2:], batch.numel()
    there = torch.ones(1, height, dtype=torch.bool, device="cpu") if rows is None else _flat(rows.bool(), batch, 1)
    x, y = (_flat(end.double(), batch, 2) for end in (source, target))
    means, cross, squares = (
        torch.empty(shape, dtype=torch.float64, device="cpu")
        for shape in ((2, count, width), (count, width, width), (2, count))
    )
    run = partial(kernel, x.numpy(), y.numpy(), there.numpy(), means.numpy(), cross.numpy(), squares.numpy())
    share(run, count, MOMENT_NANOSECONDS * height * width)
    return Moments(means.view(2, *batch, width), cross.view(*batch, width, width), squares.view(2, *batch))


def _run_polar(kernel: Any, cross: Tensor) -> Polar:
    """Kernel over all matrices."""
    given = cross.detach().contiguous()
    rotation, found = torch.empty_like(given), given.new_empty(2, len(given))
    run = partial(kernel, given.numpy(), rotation.numpy(), found.numpy())
    share(run, len(given), POLAR_NANOSECONDS * given.shape[-1] ** 2)
    return Polar(rotation, *found)


def _flat(part: Tensor, batch: torch.Size, own: int) -> Tensor:
    """One leading axis and ``own`` others, in one piece of memory; of length 1 where all pairs share it."""
    shape = part.shape[part.ndim - own :]
    if part.shape[: part.ndim - own].numel() == 1:
        return part.detach().reshape(1, *shape).contiguous()
    return part.detach().expand(*batch, *shape).reshape(-1, *shape).contiguous()
