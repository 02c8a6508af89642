"""Cross products of many pairs of tokens and their polar factors, by compiled kernels where applicable.

The kernels apply on the CPU, in float64, to the widths of cells, with at least 16 pairs, without gradients and with numba
installed (the ``fast`` extra). Otherwise these functions return None, and the caller uses torch. Results of both agree to
rounding, not bit by bit.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from batteries.kernels.jit import Kernels, share

__all__ = ["Moments", "Polar", "moments", "polar"]

WIDTHS = range(4, 33, 4)  # each is compiled on its first call, in two seconds
FEW = 16  # pairs from which the kernels pay off, as in batteries.kernels.eigensolver
MOMENT_NANOSECONDS = 0.6  # per row of a pair, times D
POLAR_NANOSECONDS = 10  # per matrix, times D**2


class Moments(NamedTuple):
    """Means (2, ..., D) of source and target, their cross products (..., D, D) and squared lengths (2, ...) about them."""

    means: Tensor
    cross: Tensor
    squares: Tensor


class Polar(NamedTuple):
    """Orthogonal factors R (P, D, D) of matrices, trace(R' matrix) (P,), and the sign (P,) of R's determinant.

    For a matrix too close to singular the sign is 0, and the other values are undefined.
    """

    rotation: Tensor
    trace: Tensor
    determinant: Tensor


def moments(source: Tensor, target: Tensor, rows: Tensor | None) -> Moments | None:
    """Compute the moments of pairs of tokens (..., n, D) over the rows (..., n) present; missing rows are not read.

    Leading axes are broadcast. Tokens that are not finite give squares that are not finite.
    """
    batch = torch.broadcast_shapes(source.shape[:-2], target.shape[:-2], () if rows is None else rows.shape[:-1])
    if source.shape[-2:] != target.shape[-2:] or (rows is not None and rows.shape[-1] != source.shape[-2]):
        return None
    kernel = _kernel(batch.numel(), source, target, *([] if rows is None else [rows]))
    return _run_moments(kernel.moments, source, target, rows, batch) if kernel else None


def polar(cross: Tensor) -> Polar | None:
    """Compute the polar factors of square matrices (P, D, D); NaN for a matrix that is not finite."""
    if cross.shape[-2] != cross.shape[-1]:
        return None
    kernel = _kernel(len(cross), cross)
    return _run_polar(kernel.polar, cross) if kernel else None


def _kernel(pairs: int, *given: Tensor) -> Any:
    """Return the compiled kernels for the given tensors, or None where torch is to be used."""
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
    dtypes=(
        torch.bfloat16,
        torch.float16,
        torch.float32,
        torch.float64,
        torch.bool,
    ),  # tokens, cast to float64, and a mask
    forward_only=True,
)


def _run_moments(kernel: Any, source: Tensor, target: Tensor, rows: Tensor | None, batch: torch.Size) -> Moments:
    """Run the kernel over all pairs."""
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
    """Run the kernel over all matrices."""
    given = cross.detach().contiguous()
    rotation, found = torch.empty_like(given), given.new_empty(2, len(given))
    run = partial(kernel, given.numpy(), rotation.numpy(), found.numpy())
    share(run, len(given), POLAR_NANOSECONDS * given.shape[-1] ** 2)
    return Polar(rotation, *found)


def _flat(part: Tensor, batch: torch.Size, own: int) -> Tensor:
    """Flatten to one leading axis and the last ``own`` axes, contiguous; the leading axis is 1 if all pairs share it."""
    shape = part.shape[part.ndim - own :]
    if part.shape[: part.ndim - own].numel() == 1:
        return part.detach().reshape(1, *shape).contiguous()
    return part.detach().expand(*batch, *shape).reshape(-1, *shape).contiguous()
