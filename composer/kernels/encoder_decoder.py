"""The encoders and decoders of many cells, each with its own weights: kernels for the container.

Importing this module imports numba; :mod:`composer.container.encoder_decoder` does so on the first call that can use it, and
only there.

The patches of an image go through all layers a tile at a time, which stays in the processor's caches, and so do the weights of
the one cell that is under way, transposed. A vector is a stretch of a patch's features. The sums of ROWS patches are held in
registers, so that a vector of weights is loaded once for all of them, and the multiply-add units are what there is to wait for.

Nothing is summed across patches or threads: what a patch becomes depends on it and its cell alone, to the bit.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from batteries.kernels.kernel_cache import kernel
from batteries.kernels.vectors import Array, add_outer, add_several, njit, root, store, store_part, store_several, total
from composer.kernels.float32_vectors import WIDTH, fill, load, load_part, load_several, zero_several
from composer.kernels.gelu import gelu
from composer.kernels.row_operations import gate_rows, repeated, unit_rows
from composer.kernels.weight_packing import norms, pack, whole

__all__ = ["CHUNK", "decode", "encode"]

ROWS = 6  # patches at a time: six by four registers of sums, of thirty-two
TILE = 48  # patches that go through all layers together
STRETCH = 128  # products that are added one after another before they join the others: rounding grows with the number of terms
CHUNK = 384  # patches of a cell that a thread takes at a time; the weights are transposed for each
NORM_FLOOR = 1e-5  # of layer norm's variance, as torch has it
ROW_FLOOR = 1e-12  # as in batteries.model.spectral

Layer = tuple[int, int, int]  # where a matrix begins, its bias behind it; its inputs; how long its rows are
Rows = tuple[Array, int, int]  # memory, where the first row begins, and from one to the next


# ---- a tile ----------------------------------------------------------------------------------------------------------


@njit
def _apart(count: int) -> int:
    """From one long row to the next: a vector more than it fills, lest rows of a power of two compete for the same places."""
    return whole(count) + WIDTH


@njit
def _memory(layers: Any) -> Any:
    """For a cell's layers, and for the tiles of :func:`_through`."""
    weights = layers[0]
    width, out = whole(weights[0].shape[1]), _apart(weights[-1].shape[1])
    packed = np.empty(norms(weights) + 2 * len(layers[2]) * width, np.float32)
    hidden, inner = np.empty(TILE * width, np.float32), np.empty(TILE * width, np.float32)
    normed = np.zeros(TILE * width, np.float32)  # zeros beyond the features, which nobody writes
    return packed, (hidden, normed, inner, np.empty(TILE * out, np.float32))


def _product(count: int) -> Callable[..., None]:
    """Product of ``count`` rows with a vector's width of a layer's columns."""

    @njit
    def product(given: Rows, row: int, packed: Array, layer: Layer, column: int, into: Rows, more: bool) -> None:
        memory, at, stride = given
        first, inputs, width = layer
        out, to, step = into
        place, bias = to + row * step + column, first + inputs * width + column
        # stride 0: every row begins with the same stretch of the bias
        sums = load_several(out, place, step, count) if more else load_several(packed, bias, 0, count)
        for begin in range(0, inputs, STRETCH):
            # sums so far wait in memory: most registers are taken
            if begin:
                store_several(out, place, step, sums)
                sums = zero_several(count)
            # the inner loop of all this: one vector of weights, and a number of each row spread over the lanes
            for i in range(begin, min(begin + STRETCH, inputs)):
                sums = add_outer(sums, load(packed, first + i * width + column), memory, at + row * stride + i, stride)
            if begin:
                sums = add_several(sums, out, place, step)
        store_several(out, place, step, sums)

    return product


_several, _one = _product(ROWS), _product(1)


@njit
def _multiply(given: Rows, rows: int, packed: Array, layer: Layer, into: Rows, more: bool) -> None:
    """Rows times a layer's matrix, and its bias; or added to what is there, without the bias, where ``more`` says so."""
    # a stretch of columns for all rows before the next: its weights are read from the second cache once for each six rows
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
    """Layer norm of every row; the rows themselves get the bias of the layer whose products will be added to them."""
    width = whole(features)
    share = np.float32(1.0) / np.float32(features)
    for row in range(0, rows * width, width):
        summed = fill(0.0)
        for x in range(row, row + width, WIDTH):  # beyond the features there are zeros
            summed = summed + load(hidden, x)
        mean = fill(total(summed) * share)
        # the row itself is read here for the last time before products are added to it, so the bias of those goes in now
        for x in range(0, width, WIDTH):
            before = load(hidden, row + x)
            store_part(into, row + x, before - mean, features - x)
            store(hidden, row + x, before + load(packed, bias + x))
        # of what is centred, not as a difference of two means, which would cancel
        squares = fill(0.0)
        for x in range(row, row + width, WIDTH):
            centred = load(into, x)
            squares = squares + centred * centred
        scale = fill(1.0) / root(fill(total(squares) * share + np.float32(NORM_FLOOR)))
        for x in range(0, width, WIDTH):
            gain, shift = load(packed, norm + x), load(packed, norm + width + x)
            # the zeros beyond the features stay zeros, whatever became of this row
            store_part(into, row + x, load(into, row + x) * scale * gain + shift, features - x)


@njit
def _through(given: Rows, rows: int, layers: Any, packed: Array, tiles: Any) -> None:
    """All layers for the rows of a tile; what comes out is in the last of the tiles.

    Args:
        given: The rows.
        rows: How many, at most TILE.
        layers: Of all cells, for their shapes.
        packed: Those of the cell.
        tiles: Memory for the hidden layer, for two of its kind beside it, and for the last layer.
    """
    weights = layers[0]
    inputs, features, outputs = weights[0].shape[2], weights[0].shape[1], weights[-1].shape[1]
    width, size = whole(features), rows * whole(features)
    hidden, normed, inner = (tiles[0], 0, width), (tiles[1], 0, width), (tiles[2], 0, width)
    _multiply(given, rows, packed, (0, inputs, width), hidden, False)
    _activate(tiles[0], size)
    # two layers a block, in the order of `pack`; `last` is where the second one of a block begins
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
    """M of every patch, by the cells' encoders.

    Args:
        patches: (n, P) float32, contiguous, the same for every cell.
        layers: Weights (C, outputs, inputs) of every layer in order, biases (C, outputs), and of every norm gains and shifts.
        width: D, one of NARROW, where rows are to be divided by their length; 0 where they are to be left.
        out: (C, n, V D), written.
        start: First piece: of cell ``start // pieces of a cell``, where a piece is CHUNK patches.
        stop: Piece after the last one.
    """
    count, inputs = patches.shape
    features = out.shape[2]
    chunks, stride = -(-count // CHUNK), _apart(features)
    packed, tiles = _memory(layers)
    raw, ready = tiles[3], -1
    for piece in range(start, stop):
        cell, begin = piece // chunks, piece % chunks * CHUNK
        # pieces come cell by cell: a thread that goes on with a cell has its weights transposed already
        if cell != ready:
            pack(layers, cell, packed)
            ready = cell
        end = min(begin + CHUNK, count)
        for first in range(begin, end, TILE):
            rows = min(TILE, end - first)
            _through((patches, first * inputs, inputs), rows, layers, packed, tiles)
            for row in range(rows):
                to = (cell * count + first + row) * features
                # WIDTH is a multiple of D: a vector holds whole rows of M, and their lengths are sums within it
                for x in range(0, features, WIDTH):
                    found = load(raw, row * stride + x)
                    if width:
                        found = unit_rows(found, width, ROW_FLOOR)
                    store_part(out, to + x, found, features - x)


@njit
def _sandwich(axes: Array, ratio: Array, n: int, lines: Array, matrix: Array) -> None:
    """W diag(ratio) W' of patch n, each of its rows repeated over a whole vector."""
    width = axes.shape[1]
    # in a form that gates as many rows of M at once as a vector holds, each lane with the column of the matrix that is its own
    for m in range(width):
        store(lines, m * WIDTH, repeated(axes, (n * width + m) * width, width))
    for k in range(width):
        row = fill(0.0)
        for m in range(width):
            row = row + fill(axes[n, m, k] * ratio[n, m]) * load(lines, m * WIDTH)
        store(matrix, k * WIDTH, row)


@njit
def _stitch(tile: Array, stride: int, rows: int, first: int, side: int, out: Array, cell: int) -> None:
    """Patches of a tile into a cell's images."""
    _, images, channels, height, tall = out.shape
    across = tall // side
    patches = height // side * across
    for row in range(rows):
        image, patch = (first + row) // patches, (first + row) % patches
        # the corner of the patch in the memory of all images; lines of a channel are `tall` apart, channels `height` of those
        corner = ((cell * images + image) * channels * height + patch // across * side) * tall + patch % across * side
        for line in range(channels * side):
            at, to = row * stride + line * side, corner + (line // side * height + line % side) * tall
            for x in range(0, side, WIDTH):
                store_part(out, to + x, load_part(tile, at + x, side - x), side - x)


@kernel
def decode(M: Array, axes: Array, ratio: Array, layers: Any, side: int, out: Array, start: int, stop: int) -> None:
    """Images, before their smoothing, by the cells' decoders.

    Args:
        M: (C n, V D) float32, contiguous.
        axes: (C n, D, D) float64, right singular vectors as rows, D one of NARROW.
        ratio: (C n, D) float32, the factor of each mode.
        layers: As in :func:`encode`.
        side: Of a patch.
        out: (C, B, channels, height, width), written.
        start: As in :func:`encode`.
        stop: As in :func:`encode`.
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
