"""Batched encoders and decoders of cells, on the kernels of :mod:`composer.kernels.encoder_decoder`.

Without gradients, float32 on the CPU is computed there if numba is installed (the ``fast`` extra): layers, normalisation of
rows, gate and stitching, one tile of patches at a time. Otherwise :mod:`composer.container.batched_forward` uses torch. Results
of both agree to rounding, not bit by bit.

Legend: C cells, n patches of all images, V rows, D width, P = channels * patch_size**2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from batteries.cell.spec import CellSpec
from batteries.kernels.jit import Kernels, share
from composer.vocabulary import Grid

__all__ = ["decode", "encode", "fits"]

NARROW = (2, 4, 8, 16)  # D, as in composer.kernels.row_operations, which needs numba to import
DEEPEST, LARGEST = 8, 2**20  # blocks, each number of which is compiled separately; parameters, which are transposed at once
NANOSECONDS = 0.02  # per cell of a kernel, times parameters and patches

Weights = Mapping[str, Tensor]


def fits(spec: CellSpec, given: Tensor) -> bool:
    """Return whether the kernels support a spec and the given images or tokens."""
    if not _kernels.serves(given):
        return False
    if spec.activation != "gelu" or spec.D not in NARROW or not 1 <= spec.depth <= DEEPEST or _packed(spec) > LARGEST:
        return False
    return _kernels(spec.depth) is not None


def encode(spec: CellSpec, weights: Weights, patches: Tensor) -> Tensor:
    """Encode patches (n, P), the same for every cell, to M (C, n, V D).

    Rows have unit length if the spec's row norm is ``sphere``; otherwise they are not normalised yet.
    """
    stacks = _layers(spec, weights, "enc")
    out = patches.new_empty(len(stacks[0][0]), len(patches), spec.V * spec.D)
    width = spec.D if spec.row_norm == "sphere" else 0
    _run(_kernels.module.encode, spec, [patches.detach().contiguous().numpy(), stacks, width], out, len(patches))
    return out


def decode(spec: CellSpec, weights: Weights, M: Tensor, W: Tensor, ratio: Tensor, grid: Grid) -> Tensor:
    """Decode matrices M W diag(ratio) W' to images before smoothing.

    Args:
        spec: Spec of the cells.
        weights: Weights (C, *shape) by tensor name.
        M: Matrices (C, B, N, V, D).
        W: Axes as columns (C, B, N, D, D), float64, such as right singular vectors.
        ratio: Factor (C, B, N, D) of each mode.
        grid: Rows and columns of patches.

    Returns:
        Images (C, B, channels, height, width).
    """
    C, B, N = M.shape[:3]
    out = M.new_empty(C, B, spec.channels, grid[0] * spec.patch_size, grid[1] * spec.patch_size)
    axes = W.mT  # contiguous: the eigensolver stores them transposed
    rows = (x.reshape(C * B * N, *x.shape[3:]) for x in (M.flatten(3), axes, ratio))
    arrays = [x.detach().contiguous().numpy() for x in rows]
    _run(_kernels.module.decode, spec, [*arrays, _layers(spec, weights, "dec"), spec.patch_size], out, B * N)
    return out


def _packed(spec: CellSpec) -> int:
    """Return the number of parameters of a cell whose readout has none: that of ``linear`` is torch's to multiply by."""
    return spec.model_copy(update={"readout": "none"}).parameters


def _run(kernel: Any, spec: CellSpec, arguments: list[Any], out: Tensor, patches: int) -> None:
    chunk = _kernels.module.CHUNK
    chunks = -(-patches // chunk)
    work = partial(kernel, *arguments, out.numpy())
    share(work, len(out) * chunks, NANOSECONDS * _packed(spec) * min(patches, chunk))


def _layers(spec: CellSpec, weights: Weights, half: str) -> tuple[tuple[Any, ...], ...]:
    """Return weights and biases of a half's layers, and gains and shifts of its norms, in order."""
    blocks = [f"{half}_blocks.{block}" for block in range(spec.depth)]
    linear = [f"{half}_in", *(f"{block}.{part}" for block in blocks for part in (1, 3)), f"{half}_out"]
    norms = [f"{block}.0" for block in blocks]
    return tuple(
        tuple(_readable(weights[f"{name}.{part}"]) for name in names)
        for names, part in ((linear, "weight"), (linear, "bias"), (norms, "weight"), (norms, "bias"))
    )


def _readable(tensor: Tensor) -> Any:
    """Return a read-only array, as those of a mapped file are, so that a kernel is compiled for one array type."""
    array = tensor.detach().contiguous().numpy().view()
    array.flags.writeable = False
    return array


def _try(module: Any, depth: int) -> None:
    spec = CellSpec(V=5, D=2, patch_size=1, hidden=1, depth=depth, channels=1, heads=1)
    ones = partial(torch.ones, dtype=torch.float32, device="cpu")
    weights = {name: ones(1, *shape) for name, shape in spec.tensor_shapes().items()}
    M = encode(spec, weights, ones(1, 1)).view(1, 1, 1, 5, 2)
    decode(spec, weights, M, ones(1, 1, 1, 2, 2).double(), ones(1, 1, 1, 2), (1, 1))


_kernels = Kernels(
    "composer.kernels.encoder_decoder", lambda module, depth: module, _try, dtypes=(torch.float32,), forward_only=True
)
