"""Kernels for the boundary smoothing of cells, each with its own weights.

Importing this module imports numba; only :mod:`batteries.model.smoothing_kernels` does, on the first call that can use it.

An image is processed row by row. A row of the output needs three rows of the image and three of the hidden layer ("middle"),
each with a zero at both ends, which fit the L1 cache. A vector is a segment of a row. The sums of a few output channels stay in
registers and share every load, so that speed is bound by the multiply-add units.

Nothing is summed across images or threads: the result for an image, its share of a gradient on the weights included, depends
only on the image and its cell, bit by bit.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from batteries.kernels.float32_vectors import WIDTH, load, load_part, spread_several
from batteries.kernels.gelu import gelu, slope
from batteries.kernels.kernel_cache import kernel
from batteries.kernels.vectors import (
    Array,
    add_products,
    add_shifted,
    njit,
    store,
    store_part,
    store_several,
    total,
    vectors,
)

__all__ = ["FEW", "MANY", "pull", "pull_all", "smooth"]

MANY, FEW = 4, 3  # output channels at a time, of the convolutions to the middle and to the image
EDGE = 16  # zeros between two rows
TAPS, SIDE = 9, 3

LANES = 16 if WIDTH == 64 else 8  # of the sums of a gradient on weights: nine of them, and an operand, stay in registers
_narrow = vectors(np.float32, LANES)
_load, _load_part, _load_several = _narrow.load, _narrow.load_part, _narrow.load_several

Layer = tuple[Array, Array]  # weight (C, groups, inputs, 9, outputs of a group) and bias (C, groups * outputs of a group)


# ---- rows ------------------------------------------------------------------------------------------------------------


@njit
def _stride(width: int) -> int:
    """Return the distance between rows: whole vectors, followed by zeros as right padding."""
    return -(-width // WIDTH) * WIDTH + EDGE


@njit
def _rows(count: int, stride: int) -> Array:
    return np.zeros(count * stride + EDGE, dtype=np.float32)


@njit
def _slot(y: int, channels: int, stride: int) -> int:
    """Return the start of row y >= -1 of the first channel in a ring buffer of three rows."""
    return EDGE + (y + 3) % 3 * channels * stride


@njit
def _feed(images: Array, n: int, y: int, ring: Array, stride: int) -> None:
    """Copy row y of all channels of an image into a ring buffer, with zeros below the image."""
    _, channels, height, width = images.shape
    into = _slot(y, channels, stride)
    # partial loads, since another image or the end of memory follows; their zero fill is the padding
    for channel in range(channels):
        row = ((n * channels + channel) * height + y) * width
        for x in range(0, width, WIDTH):
            there = width - x if y < height else 0
            store(ring, into + channel * stride + x, load_part(images, row + x, there))


@njit
def _emit(ring: Array, change: Array, out: Array, n: int, y: int, stride: int) -> None:
    """Add a change to row y of a ring buffer, and write the sum to an image."""
    _, channels, height, width = out.shape
    here = _slot(y, channels, stride)
    for channel in range(channels):
        row = ((n * channels + channel) * height + y) * width
        for x in range(0, width, WIDTH):
            at = channel * stride + x
            store_part(out, row + x, load(ring, here + at) + load(change, EDGE + at), width - x)


@njit
def _clear(middle: Array, at: int, channels: int, stride: int) -> None:
    middle[at : at + channels * stride - EDGE] = 0.0


@njit
def _activate(middle: Array, at: int, channels: int, stride: int, width: int) -> None:
    """Apply GELU to a row in place, and clear the element right of the image, which the convolution may have set."""
    for channel in range(channels):
        row = at + channel * stride
        for x in range(row, row + width, WIDTH):
            store(middle, x, gelu(load(middle, x)))
        middle[row + width] = 0.0  # the only element beyond the image that a convolution reads


@njit
def _weigh(before: Array, middle: Array, at: int, channels: int, stride: int, width: int) -> None:
    """Multiply a row in place by the slope of GELU at another row."""
    for channel in range(channels):
        row, given = at + channel * stride, EDGE + channel * stride
        for x in range(0, width, WIDTH):
            store(middle, row + x, load(middle, row + x) * slope(load(before, given + x)))
        middle[row + width] = 0.0


# ---- the convolution -------------------------------------------------------------------------------------------------


def _convolution(count: int) -> Callable[..., None]:
    """Build a convolution of rows, for ``count`` output channels at a time."""

    @njit
    def along(sums: Any, source: Array, at: int, weights: Array, tap: int) -> Any:
        """Add the three taps of one row."""
        sums = add_products(sums, load(source, at - 1), weights, tap)
        sums = add_products(sums, load(source, at), weights, tap + count)
        return add_products(sums, load(source, at + 1), weights, tap + 2 * count)

    @njit
    def convolve(
        layer: Layer, cell: int, source: Array, y: int, depth: int, into: Array, at: int, stride: int, width: int
    ) -> None:
        """Write row y of a cell's convolution of a ring buffer, ``depth`` channels deep, to the rows from ``at``."""
        weights, bias = layer
        _, groups, inputs, _, _ = weights.shape
        above, here, below = _slot(y - 1, depth, stride), _slot(y, depth, stride), _slot(y + 1, depth, stride)
        # a group's sums stay in registers for all channels and taps, and each loaded row is used by the whole group
        for group in range(groups):
            first = (cell * groups + group) * inputs * TAPS * count
            for x in range(0, width, WIDTH):
                sums = spread_several(bias, (cell * groups + group) * count, count)
                for channel in range(inputs):
                    tap, offset = first + channel * TAPS * count, channel * stride + x
                    sums = along(sums, source, above + offset, weights, tap)
                    sums = along(sums, source, here + offset, weights, tap + 3 * count)
                    sums = along(sums, source, below + offset, weights, tap + 6 * count)
                store_several(into, at + group * count * stride + x, stride, sums)

    return convolve


_to_middle, _to_image = _convolution(MANY), _convolution(FEW)


# ---- the gradient on weights -----------------------------------------------------------------------------------------


@njit
def _correlate(rows: Array, at: int, count: int, ring: Array, y: int, depth: int, sums: Array, stride: int, width: int) -> None:
    """Add the products of ``count`` rows from ``at`` and the rows of a ring buffer around y, shifted by each tap.

    The sums are LANES partial ones for each row, channel of the ring buffer and tap.
    """
    slots = _slot(y - 1, depth, stride) - 1, _slot(y, depth, stride) - 1, _slot(y + 1, depth, stride) - 1
    for channel in range(count):
        for source in range(depth):
            first, offset = (channel * depth + source) * TAPS * LANES, source * stride
            above = _load_several(sums, first, LANES, SIDE)
            here = _load_several(sums, first + SIDE * LANES, LANES, SIDE)
            below = _load_several(sums, first + 2 * SIDE * LANES, LANES, SIDE)
            for x in range(0, width, LANES):
                given = _load(rows, at + channel * stride + x)
                above = add_shifted(above, given, ring, slots[0] + offset + x)
                here = add_shifted(here, given, ring, slots[1] + offset + x)
                below = add_shifted(below, given, ring, slots[2] + offset + x)
            store_several(sums, first, LANES, above)
            store_several(sums, first + SIDE * LANES, LANES, here)
            store_several(sums, first + 2 * SIDE * LANES, LANES, below)


@njit
def _add_rows(rows: Array, at: int, count: int, sums: Array, stride: int, width: int) -> None:
    """Add rows to LANES partial sums each."""
    for channel in range(count):
        found = _load(sums, channel * LANES)
        for x in range(0, width, LANES):
            found = found + _load_part(rows, at + channel * stride + x, width - x)
        store(sums, channel * LANES, found)


@njit
def _total(sums: Array, out: Array, first: int, count: int) -> None:
    """Write each sum of LANES partial ones, and clear them."""
    for i in range(count):
        out[first + i] = total(_load(sums, i * LANES))
    sums[:] = 0.0


# ---- kernels ---------------------------------------------------------------------------------------------------------


@kernel
def smooth(images: Array, first: Layer, last: Layer, out: Array, start: int, stop: int) -> None:
    """Compute ``out = x + conv(GELU(conv(x)))`` for images ``start`` to ``stop``.

    Args:
        images: Images (C B, channels, height, width), float32, contiguous: B images of each cell, cell by cell.
        first: Weights and biases of the first convolution, in groups of MANY outputs.
        last: Weights and biases of the last convolution, in groups of FEW outputs.
        out: Output of the shape of images, written.
        start: First image.
        stop: Image after the last one.
    """
    _, channels, height, width = images.shape
    per_cell, middles, stride = len(images) // len(first[0]), first[1].shape[1], _stride(width)
    rows, middle, change = _rows(3 * channels, stride), _rows(3 * middles, stride), _rows(last[1].shape[1], stride)
    for n in range(start, stop):
        # the row above the first is zero; the ring buffers still hold the previous image
        rows[:] = 0.0
        middle[:] = 0.0
        _feed(images, n, 0, rows, stride)
        for y in range(height + 1):
            _feed(images, n, y + 1, rows, stride)
            at = _slot(y, middles, stride)
            if y < height:
                _to_middle(first, n // per_cell, rows, y, channels, middle, at, stride, width)
                _activate(middle, at, middles, stride, width)
            else:
                _clear(middle, at, middles, stride)
            # one row behind: row y - 1 of the output needs row y of the middle
            if y > 0:
                _to_image(last, n // per_cell, middle, y - 1, middles, change, EDGE, stride, width)
                _emit(rows, change, out, n, y - 1, stride)


def _pulling(whole: bool) -> Callable[..., None]:
    """Build the gradient of :func:`smooth`, on its images alone, or on its weights too."""

    def pull(
        images: Array,
        grad: Array,
        first: Layer,
        back: Layer,
        home: Layer,
        out: Array,
        on_first: Array,
        on_bias: Array,
        on_last: Array,
        start: int,
        stop: int,
    ) -> None:
        """Compute the gradient of :func:`smooth`, recomputing the middle.

        Args:
            images: Images (C B, channels, height, width), float32, contiguous.
            grad: Gradient of the output, of the shape of images, float32, contiguous.
            first: Weights and biases of the first convolution, in groups of MANY outputs.
            back: Transpose of the last convolution, in groups of MANY outputs.
            home: Transpose of the first convolution, in groups of FEW outputs.
            out: Gradient of the images, of their shape, written.
            on_first: Gradient of the first weights (C B middles channels 9), flat, by image; written if wanted.
            on_bias: Gradient of the first biases (C B middles), likewise.
            on_last: Gradient of the last weights, with the taps reversed, (C B middles channels 9), likewise.
            start: First image.
            stop: Image after the last one.
        """
        _, channels, height, width = images.shape
        per_cell, middles, stride = len(images) // len(first[0]), first[1].shape[1], _stride(width)
        rows, grads, change = _rows(3 * channels, stride), _rows(3 * channels, stride), _rows(home[1].shape[1], stride)
        before, middle = _rows(middles, stride), _rows(3 * middles, stride)
        products = middles * channels * TAPS
        sums_first, sums_last = np.zeros(products * LANES, np.float32), np.zeros(products * LANES, np.float32)
        sums_bias = np.zeros(middles * LANES, np.float32)
        for n in range(start, stop):
            rows[:], grads[:], middle[:] = 0.0, 0.0, 0.0
            _feed(images, n, 0, rows, stride)
            _feed(grad, n, 0, grads, stride)
            for y in range(height + 1):
                _feed(images, n, y + 1, rows, stride)
                _feed(grad, n, y + 1, grads, stride)
                at = _slot(y, middles, stride)
                if y < height:
                    _to_middle(first, n // per_cell, rows, y, channels, before, EDGE, stride, width)
                    _to_middle(back, n // per_cell, grads, y, channels, middle, at, stride, width)
                    _weigh(before, middle, at, middles, stride, width)
                    if whole:
                        _correlate(middle, at, middles, rows, y, channels, sums_first, stride, width)
                        _add_rows(middle, at, middles, sums_bias, stride, width)
                        _activate(before, EDGE, middles, stride, width)
                        _correlate(before, EDGE, middles, grads, y, channels, sums_last, stride, width)
                else:
                    _clear(middle, at, middles, stride)
                if y > 0:
                    _to_image(home, n // per_cell, middle, y - 1, middles, change, EDGE, stride, width)
                    _emit(grads, change, out, n, y - 1, stride)
            if whole:
                _total(sums_first, on_first, n * products, products)
                _total(sums_last, on_last, n * products, products)
                _total(sums_bias, on_bias, n * middles, middles)

    return pull


pull, pull_all = kernel(_pulling(whole=False)), kernel(_pulling(whole=True))
