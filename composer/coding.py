"""The encoders and decoders of many cells at once, on the kernels of :mod:`composer.layers`.

Where no gradient is asked for, float32 on the CPU goes there if numba is installed (the ``fast`` extra): layers, rows of unit
length, the gate and the stitching, a tile of patches at a time. Everything else is :mod:`composer.batched`'s, with torch's
products. The answers agree to rounding, not to the bit.

Legend: C cells, n patches of all images, V rows, D width, P = channels * patch_size**2.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import lazy_loader
import torch
from torch import Tensor

from batteries import compiled, dispatch
from batteries.spec import CellSpec
from composer.tokens import Grid

layers: Any = lazy_loader.load("composer.layers", suppress_warning=True)  # imports numba, on first use

__all__ = ["decode", "encode", "fits"]

NARROW = (2, 4, 8, 16)  # D, as in composer.rows, which takes numba
DEEPEST, LARGEST = 8, 2**20  # blocks, each number of which is compiled by itself; parameters, which are transposed as a whole
NANOSECONDS = 0.02  # of a kernel, times parameters and patches
_loading = threading.Lock()

Weights = Mapping[str, Tensor]


def fits(spec: CellSpec, given: Tensor) -> bool:
    """Whether the kernels take cells of a spec, and images or tokens such as these."""
    if not dispatch.plain(given) or not given.numel() or given.dtype != torch.float32:
        return False
    if torch.is_grad_enabled() and given.requires_grad:
        return False
    if spec.activation != "gelu" or spec.D not in NARROW or not 1 <= spec.depth <= DEEPEST or spec.parameters > LARGEST:
        return False
    with _loading:
        return _load(spec.depth) is not None


def encode(spec: CellSpec, weights: Weights, patches: Tensor) -> Tensor:
    """Patches (n, P), the same for every cell, to M (C, n, V D).

    Its rows are of unit length where the spec wants them so; else they are as the encoder leaves them.
    """
    stacks = _layers(spec, weights, "enc")
    out = patches.new_empty(len(stacks[0][0]), len(patches), spec.V * spec.D)
    width = spec.D if spec.row_norm == "sphere" else 0
    _run(layers.encode, spec, [patches.detach().contiguous().numpy(), stacks, width], out, len(patches))
    return out


def decode(spec: CellSpec, weights: Weights, M: Tensor, W: Tensor, ratio: Tensor, grid: Grid) -> Tensor:
    """Images before their smoothing.

    Args:
        spec: Of the cells.
        weights: Theirs.
        M: (C, B, N, V, D).
        W: (C, B, N, D, D) float64, right singular vectors as columns.
        ratio: (C, B, N, D), the factor of each mode.
        grid: Rows and columns of patches.

    Returns:
        (C, B, channels, height, width).
    """
    C, B, N = M.shape[:3]
    out = M.new_empty(C, B, spec.channels, grid[0] * spec.patch_size, grid[1] * spec.patch_size)
    axes = W.mT  # which is how the solver leaves them in memory
    rows = (x.reshape(C * B * N, *x.shape[3:]) for x in (M.flatten(3), axes, ratio))
    arrays = [x.detach().contiguous().numpy() for x in rows]
    _run(layers.decode, spec, [*arrays, _layers(spec, weights, "dec"), spec.patch_size], out, B * N)
    return out


def _run(kernel: Any, spec: CellSpec, arguments: list[Any], out: Tensor, patches: int) -> None:
    chunks = -(-patches // layers.CHUNK)
    work = partial(kernel, *arguments, out.numpy())
    compiled.share(work, len(out) * chunks, NANOSECONDS * spec.parameters * min(patches, layers.CHUNK))


def _layers(spec: CellSpec, weights: Weights, half: str) -> tuple[tuple[Any, ...], ...]:
    """Weights and biases of all layers of a half in order, gains and shifts of its norms."""
    blocks = [f"{half}_blocks.{block}" for block in range(spec.depth)]
    linear = [f"{half}_in", *(f"{block}.{part}" for block in blocks for part in (1, 3)), f"{half}_out"]
    norms = [f"{block}.0" for block in blocks]
    return tuple(
        tuple(_readable(weights[f"{name}.{part}"]) for name in names)
        for names, part in ((linear, "weight"), (linear, "bias"), (norms, "weight"), (norms, "bias"))
    )


def _readable(tensor: Tensor) -> Any:
    """As an array that cannot be written: such are those of a mapped file, and a kernel is compiled for one kind."""
    array = tensor.detach().contiguous().numpy().view()
    array.flags.writeable = False
    return array


@lru_cache
def _load(depth: int) -> Any:
    """The kernels, compiled for cells of that depth, or None."""
    spec = CellSpec(V=5, D=2, patch_size=1, hidden=1, depth=depth, channels=1, heads=1)
    ones = partial(torch.ones, dtype=torch.float32, device="cpu")
    weights = {name: ones(1, *shape) for name, shape in spec.tensor_shapes().items()}

    def trial(_: Any) -> None:
        M = encode(spec, weights, ones(1, 1)).view(1, 1, 1, 5, 2)
        decode(spec, weights, M, ones(1, 1, 1, 2, 2).double(), ones(1, 1, 1, 2), (1, 1))

    return compiled.load(lambda: layers.decode, trial)
