"""Attention over the patches of an image, batched over many narrow heads.

Heads at most 8 wide, in float32 on the CPU and without gradients, are computed by the kernels of
:mod:`composer.kernels.narrow_attention` if numba is installed (the ``fast`` extra), and all others by torch.

Legend: G groups, within each of which patches attend to one another, N patches, d width of a head.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from batteries.kernels.jit import Kernels, share
from batteries.model import attention

__all__ = ["attend"]

WIDEST = 8  # width of heads up to which the kernels are faster
FEW = 10_000  # attention scores below which calling a kernel, 20 microseconds, costs more than it saves
NANOSECONDS = 0.07  # per head of a kernel, times d N**2


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute softmax(q k' / sqrt(d)) v, as ``F.scaled_dot_product_attention`` does.

    Args:
        q: Queries (G, heads, N, d), with any strides.
        k: Keys (G, heads, N, d), with any strides.
        v: Values (G, heads, N, d), with any strides.

    Returns:
        Mixed values (G, heads, N, d); from a kernel, the heads of a patch are adjacent in memory.
    """
    kernel = _kernel(q, k, v)
    return _run(kernel, q, k, v) if kernel else attention.attend(q, k, v)


def _kernel(*given: Tensor) -> Any:
    """Return the compiled kernel for the given tensors, or None where torch is to be used."""
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
    """Run the kernel over all heads of all groups."""
    groups, heads, tokens, d = q.shape
    out = q.new_empty(groups, tokens, heads, d)
    run = partial(kernel, *map(_strided, (q, k, v)), out.numpy())
    share(run, groups * heads, NANOSECONDS * d * tokens**2)
    return out.transpose(1, 2)


def _strided(x: Tensor) -> tuple[Any, tuple[int, ...]]:
    """Return a tensor's memory as a flat array, and its strides except the last, which is one.

    Queries, keys and values are usually slices of one product, which a kernel reads without copying.
    """
    x = x.detach()
    if x.stride(-1) != 1:
        x = x.contiguous()
    extent = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided((extent,), (1,)).numpy(), x.stride()[:-1]
