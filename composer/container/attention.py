"""Attention over the patches of an image, for many narrow heads at once.

Where a head is a few numbers wide and no gradient is asked for, float32 on the CPU goes to the kernels of
:mod:`composer.kernels.narrow_attention` if numba is installed (the ``fast`` extra). Everything else is torch's own.

Legend: G groups that attend each within itself, N patches, d width of a head.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from batteries.kernels.jit import Kernels, share
from batteries.model import attention

__all__ = ["attend"]

WIDEST = 8  # heads for which the kernels are the faster
FEW = 10_000  # scores below which the call of a kernel, twenty microseconds, costs more than it saves
NANOSECONDS = 0.07  # of a kernel, times d N**2


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(d)) v, as ``F.scaled_dot_product_attention`` computes it.

    Args:
        q: (G, heads, N, d), with any strides.
        k: The same.
        v: The same.

    Returns:
        (G, heads, N, d), in memory with a patch's heads side by side where a kernel made it.
    """
    kernel = _kernel(q, k, v)
    return _run(kernel, q, k, v) if kernel else attention.attend(q, k, v)


def _kernel(*given: Tensor) -> Any:
    """Compiled kernel for these, or None where torch's is the one to use."""
    q = given[0]
    if q.ndim != 4 or not _softmax.serves(*given) or q.shape[:3].numel() * q.shape[2] < FEW:
        return None
    if q.shape[-1] > WIDEST or any(x.shape != q.shape for x in given):
        return None
    return _softmax(q.shape[-1])


def _try(kernel: Any, d: int) -> None:
    one = torch.ones(1, 1, 1, d, dtype=torch.float32, device="cpu")
    _run(kernel, one, one, one)


_softmax = Kernels(
    "composer.kernels.narrow_attention",
    lambda module, d: module.kernels(d),
    _try,
    dtypes=(torch.float32,),
    forward_only=True,
)


def _run(kernel: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Kernel over all heads of all groups."""
    groups, heads, tokens, d = q.shape
    out = q.new_empty(groups, tokens, heads, d)
    run = partial(kernel, *map(_strided, (q, k, v)), out.numpy())
    share(run, groups * heads, NANOSECONDS * d * tokens**2)
    return out.transpose(1, 2)


def _strided(x: Tensor) -> tuple[Any, tuple[int, ...]]:
    """Memory of a tensor from its first number to its last, and its strides but the last, which is one.

    Queries, keys and values are usually parts of one product: a kernel reads them where they are.
    """
    x = x.detach()
    if x.stride(-1) != 1:
        x = x.contiguous()
    extent = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided((extent,), (1,)).numpy(), x.stride()[:-1]
