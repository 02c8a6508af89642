"""Kernels for the encoders and decoders of a container's cells, each with its own weights.

Importing this module imports numba; only :mod:`composer.container.encoder_decoder` does, on the first call that can use it.

Patches go through all layers one tile at a time, which stays in the caches together with the transposed weights of the current
cell. A vector is a segment of a patch's features. The sums of ROWS patches stay in registers, so that each vector of weights is
loaded once for all of them, and speed is bound by the multiply-add units.

Nothing is summed across patches or threads: the result for a patch depends only on the patch and its cell, bit by bit.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from batteries.kernels.float32_vectors import WIDTH, fill, load, load_part, load_several, zero_several
from batteries.kernels.gelu import gelu
from batteries.kernels.kernel_cache import kernel
from batteries.kernels.vectors import Array, add_outer, add_several, njit, root, store, store_part, store_several, total
from composer.kernels.row_operations import gate_rows, repeated, unit_rows
from composer.kernels.weight_packing import norms, pack, whole

__all__ = ["CHUNK", "decode", "encode"]

ROWS = 6  # patches at a time: their sums take 6 x 4 of 32 registers
TILE = 48  # patches that go through all layers together
STRETCH = 128  # products summed sequentially before they are added to the total: rounding grows with the number of terms
CHUNK = 384  # patches of a cell that a thread takes at a time; the weights are transposed for each chunk
NORM_FLOOR = 1e-5  # added to layer norm's variance, as in torch
ROW_FLOOR = 1e-12  # as in batteries.model.spectral

Layer = tuple[int, int, int]  # start of a matrix, which its bias follows; number of inputs; length of rows
Rows = tuple[Array, int, int]  # memory, start of the first row, and stride


# ---- a tile ----------------------------------------------------------------------------------------------------------


@njit
def _apart(count: int) -> int:
    """Return the stride of long rows: one vector more than needed, so that powers of two do not collide in the cache."""
    return whole(count) + WIDTH


@njit
def _memory(layers: Any) -> Any:
    """Allocate memory for a cell's packed layers, and for the tiles of :func:`_through`."""
    weights = layers[0]
    width, out = whole(weights[0].shape[1]), _apart(weights[-1].shape[1])
    packed = np.empty(norms(weights) + 2 * len(layers[2]) * width, np.float32)
    hidden, inner = np.empty(TILE * width, np.float32), np.empty(TILE * width, np.float32)
    normed = np.zeros(TILE * width, np.float32)  # the zeros beyond the features are never overwritten
    return packed, (hidden, normed, inner, np.empty(TILE * out, np.float32))


def _product(count: int) -> Callable[..., None]:
    """Build the product of ``count`` rows with one vector's width of a layer's columns."""

    @njit
    def product(given: Rows, row: int, packed: Array, layer: Layer, column: int, into: Rows, more: bool) -> None:
        memory, at, stride = given
        first, inputs, width = layer
        out, to, step = into
        place, bias = to + row * step + column, first + inputs * width + column
        # stride 0: every row starts from the same segment of the bias
        sums = load_several(out, place, step, count) if more else load_several(packed, bias, 0, count)
        for begin in range(0, inputs, STRETCH):
            # keep the previous sums in memory, since most registers are in use
            if begin:
                store_several(out, place, step, sums)
                sums = zero_several(count)
            # innermost loop: one vector of weights, times a number of each row broadcast over the lanes
            for i in range(begin, min(begin + STRETCH, inputs)):
                sums = add_outer(sums, load(packed, first + i * width + column), memory, at + row * stride + i, stride)
            if begin:
                sums = add_several(sums, out, place, step)
        store_several(out, place, step, sums)

    return product


_several, _one = _product(ROWS), _product(1)


@njit
def _multiply(given: Rows, rows: int, packed: Array, layer: Layer, into: Rows, more: bool) -> None:
    """Multiply rows by a layer's matrix and add its bias; with ``more``, add to ``into`` without the bias instead."""
    # one segment of columns for all rows before the next: its weights are read from the L2 cache once per ROWS rows
    for column in range(0, layer[2], WIDTH):
        whole = rows - rows % ROWS
        for row in range(0, whole, ROWS):
            _several(given, row, packed, layer, column, into, more)
        for row in range(whole, rows):
            _one(given, row, packed, layer, column, into, more)


@njit
def _activate(tile: Array, size: int) -> None:
    for x in range(0, size, WIDTH):
        store(tile, x, gelu(load(tile, x)))


@njit
def _normalise(hidden: Array, rows: int, features: int, packed: Array, norm: int, bias: int, into: Array) -> None:
    """Layer-normalise every row into ``into``, and add to the rows the bias of the layer whose products they will receive."""
    width = whole(features)
    share = np.float32(1.0) / np.float32(features)
    for row in range(0, rows * width, width):
        summed = fill(0.0)
        for x in range(row, row + width, WIDTH):  # zeros beyond the features
            summed = summed + load(hidden, x)
        mean = fill(total(summed) * share)
        # the last read of the row before products are added to it, so add their bias now
        for x in range(0, width, WIDTH):
            before = load(hidden, row + x)
            store_part(into, row + x, before - mean, features - x)
            store(hidden, row + x, before + load(packed, bias + x))
        # from centred values, since a difference of two means would cancel
        squares = fill(0.0)
        for x in range(row, row + width, WIDTH):
            centred = load(into, x)
            squares = squares + centred * centred
        scale = fill(1.0) / root(fill(total(squares) * share + np.float32(NORM_FLOOR)))
        for x in range(0, width, WIDTH):
            gain, shift = load(packed, norm + x), load(packed, norm + width + x)
            # keep the zeros beyond the features, even if this row is not finite
            store_part(into, row + x, load(into, row + x) * scale * gain + shift, features - x)


@njit
def _through(given: Rows, rows: int, layers: Any, packed: Array, tiles: Any) -> None:
    """Run the rows of a tile through all layers; the output is in the last of the tiles.

    Args:
        given: Input rows.
        rows: Number of rows, at most TILE.
        layers: Layers of all cells, read only for their shapes.
        packed: Packed layers of the cell.
        tiles: Memory for the hidden layer, for two temporaries of its size, and for the last layer.
    """
    weights = layers[0]
    inputs, features, outputs = weights[0].shape[2], weights[0].shape[1], weights[-1].shape[1]
    width, size = whole(features), rows * whole(features)
    hidden, normed, inner = (tiles[0], 0, width), (tiles[1], 0, width), (tiles[2], 0, width)
    _multiply(given, rows, packed, (0, inputs, width), hidden, False)
    _activate(tiles[0], size)
    # two layers per block, in the order of `pack`; `last` is the start of a block's second layer
    place, norm = (inputs + 1) * width, norms(weights)
    for _ in range((len(weights) - 2) // 2):
        last = place + (features + 1) * width
        _normalise(tiles[0], rows, features, packed, norm, last + features * width, tiles[1])
        _multiply(normed, rows, packed, (place, features, width), inner, False)
        _activate(tiles[2], size)
        _multiply(inner, rows, packed, (last, features, width), hidden, True)
        place, norm = last + (features + 1) * width, norm + 2 * width
    _multiply(hidden, rows, packed, (place, features, whole(outputs)), (tiles[3], 0, _apart(outputs)), False)


# ---- kernels ---------------------------------------------------------------------------------------------------------


@kernel
def encode(patches: Array, layers: Any, width: int, out: Array, start: int, stop: int) -> None:
    """Encode every patch to M, by the encoder of every cell.

    Args:
        patches: Patches (n, P), float32, contiguous, shared by all cells.
        layers: Weights (C, outputs, inputs) and biases (C, outputs) of every layer, and gains and shifts of every norm.
        width: D, one of NARROW, to divide rows by their length; 0 to leave rows unchanged.
        out: Rows of M (C, n, V D), written.
        start: First piece of CHUNK patches, counted cell by cell.
        stop: Piece after the last one.
    """
    count, inputs = patches.shape
    features = out.shape[2]
    chunks, stride = -(-count // CHUNK), _apart(features)
    packed, tiles = _memory(layers)
    raw, ready = tiles[3], -1
    for piece in range(start, stop):
        cell, begin = piece // chunks, piece % chunks * CHUNK
        # pieces come cell by cell, so a thread that stays with a cell has its weights transposed already
        if cell != ready:
            pack(layers, cell, packed)
            ready = cell
        end = min(begin + CHUNK, count)
        for first in range(begin, end, TILE):
            rows = min(TILE, end - first)
            _through((patches, first * inputs, inputs), rows, layers, packed, tiles)
            for row in range(rows):
                to = (cell * count + first + row) * features
                # WIDTH is a multiple of D, so a vector holds whole rows of M, whose lengths are sums within it
                for x in range(0, features, WIDTH):
                    found = load(raw, row * stride + x)
                    if width:
                        found = unit_rows(found, width, ROW_FLOOR)
                    store_part(out, to + x, found, features - x)


@njit
def _sandwich(axes: Array, ratio: Array, n: int, lines: Array, matrix: Array) -> None:
    """Compute W diag(ratio) W' of patch n, with each row repeated over a whole vector."""
    width = axes.shape[1]
    # the repetition lets one vector of several rows of M be gated at once, each lane with its own column
    for m in range(width):
        store(lines, m * WIDTH, repeated(axes, (n * width + m) * width, width))
    for k in range(width):
        row = fill(0.0)
        for m in range(width):
            row = row + fill(axes[n, m, k] * ratio[n, m]) * load(lines, m * WIDTH)
        store(matrix, k * WIDTH, row)


@njit
def _stitch(tile: Array, stride: int, rows: int, first: int, side: int, out: Array, cell: int) -> None:
    """Copy the patches of a tile into a cell's images."""
    _, images, channels, height, tall = out.shape
    across = tall // side
    patches = height // side * across
    for row in range(rows):
        image, patch = (first + row) // patches, (first + row) % patches
        # corner of the patch in the memory of all images; lines are `tall` apart, and channels `height` lines
        corner = ((cell * images + image) * channels * height + patch // across * side) * tall + patch % across * side
        for line in range(channels * side):
            at, to = row * stride + line * side, corner + (line // side * height + line % side) * tall
            for x in range(0, side, WIDTH):
                store_part(out, to + x, load_part(tile, at + x, side - x), side - x)


@kernel
def decode(M: Array, axes: Array, ratio: Array, layers: Any, side: int, out: Array, start: int, stop: int) -> None:
    """Decode matrices to images before smoothing, by the decoder of each cell.

    Args:
        M: Matrices (C n, V D), float32, contiguous.
        axes: Right singular vectors as rows (C n, D, D), float64, D one of NARROW.
        ratio: Factor (C n, D) of each mode, float32.
        layers: Weights and biases of every layer, and gains and shifts of every norm, see :func:`encode`.
        side: Side of a patch in pixels.
        out: Images (C, B, channels, height, width), written.
        start: First piece of CHUNK patches, counted cell by cell.
        stop: Piece after the last one.
    """
    count, features, width = len(M) // len(out), M.shape[1], axes.shape[1]
    chunks, stride = -(-count // CHUNK), _apart(features)
    packed, tiles = _memory(layers)
    ready = -1
    gated = np.empty(TILE * stride, np.float32)
    lines, matrix = np.empty(width * WIDTH, np.float32), np.empty(width * WIDTH, np.float32)
    for piece in range(start, stop):
        cell, begin = piece // chunks, piece % chunks * CHUNK
        if cell != ready:
            pack(layers, cell, packed)
            ready = cell
        end = min(begin + CHUNK, count)
        for first in range(begin, end, TILE):
            rows = min(TILE, end - first)
            for row in range(rows):
                n = cell * count + first + row
                _sandwich(axes, ratio, n, lines, matrix)
                for x in range(0, features, WIDTH):
                    store(gated, row * stride + x, gate_rows(load_part(M, n * features + x, features - x), matrix, width))
            _through((gated, 0, stride), rows, layers, packed, tiles)
            _stitch(tiles[3], _apart(layers[0][-1].shape[1]), rows, first, side, out, cell)
