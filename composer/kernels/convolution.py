"""The boundary smoothing of many cells, each with its own weights: kernels for the container.

Importing this module imports numba; :mod:`composer.container.boundary_smoothing` does so on the first call that can use it,
and only there.

An image is taken row by row. Three rows of it and three of the middle, with a zero at either end, are all that a row of the
answer needs, and stay in the processor's first cache. A vector is a stretch of a row. The sums of a few output channels are
held in registers and what is loaded serves them all: the multiply-add units are what there is to wait for, and nothing else.

Nothing is summed across lanes or threads: the answer for an image depends on the image and its cell alone, to the bit.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from batteries.kernels.kernel_cache import kernel
from batteries.kernels.vectors import Array, add_products, njit, store, store_part, store_several
from composer.kernels.float32_vectors import WIDTH, load, load_part, spread_several
from composer.kernels.gelu import gelu, slope

__all__ = ["FEW", "MANY", "pull", "smooth"]

MANY, FEW = 4, 3  # output channels at a time, of the convolution to the middle and of the one to the image
EDGE = 16  # floats between two rows, zeros
TAPS = 9

Layer = tuple[Array, Array]  # weight (C, groups, inputs, 9, outputs of a group) and bias (C, groups * outputs of a group)


# ---- rows ------------------------------------------------------------------------------------------------------------


@njit
def _stride(width: int) -> int:
    """From one row to the next: whole vectors, and zeros up to the next row, which is what is right of this one."""
    return -(-width // WIDTH) * WIDTH + EDGE


@njit
def _rows(count: int, stride: int) -> Array:
    return np.zeros(count * stride + EDGE, dtype=np.float32)


@njit
def _slot(y: int, channels: int, stride: int) -> int:
    """Where row y of the first channel starts in a ring of three rows; y is at least -1."""
    return EDGE + (y + 3) % 3 * channels * stride


@njit
def _feed(images: Array, n: int, y: int, ring: Array, stride: int) -> None:
    """Row y of all channels of an image into a ring; zeros below the image."""
    _, channels, height, width = images.shape
    into = _slot(y, channels, stride)
    # by parts: beyond an image is another image, or the end of memory; the zeros that a part is filled up with are the padding
    for channel in range(channels):
        row = ((n * channels + channel) * height + y) * width
        for x in range(0, width, WIDTH):
            there = width - x if y < height else 0
            store(ring, into + channel * stride + x, load_part(images, row + x, there))


@njit
def _emit(ring: Array, change: Array, out: Array, n: int, y: int, stride: int) -> None:
    """Row y of the ring, and what is to be added to it, into an image."""
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
    """GELU of a row, in place. Right of the image it is zero, whatever the convolution made of the last vector there."""
    for channel in range(channels):
        row = at + channel * stride
        for x in range(row, row + width, WIDTH):
            store(middle, x, gelu(load(middle, x)))
        middle[row + width] = 0.0  # the only one of them that a convolution reads: it looks one to the right


@njit
def _weigh(before: Array, middle: Array, at: int, channels: int, stride: int, width: int) -> None:
    """Row times the slope of GELU at another, in place."""
    for channel in range(channels):
        row, given = at + channel * stride, EDGE + channel * stride
        for x in range(0, width, WIDTH):
            store(middle, row + x, load(middle, row + x) * slope(load(before, given + x)))
        middle[row + width] = 0.0


# ---- the convolution -------------------------------------------------------------------------------------------------


def _convolution(count: int) -> Callable[..., None]:
    """Convolution of rows, for ``count`` output channels at a time."""

    @njit
    def along(sums: Any, source: Array, at: int, weights: Array, tap: int) -> Any:
        """Three taps of one row."""
        sums = add_products(sums, load(source, at - 1), weights, tap)
        sums = add_products(sums, load(source, at), weights, tap + count)
        return add_products(sums, load(source, at + 1), weights, tap + 2 * count)

    @njit
    def convolve(
        layer: Layer, cell: int, source: Array, y: int, depth: int, into: Array, at: int, stride: int, width: int
    ) -> None:
        """Row y of a cell's convolution of a ring that is ``depth`` channels deep, into the rows from ``at`` on."""
        weights, bias = layer
        _, groups, inputs, _, _ = weights.shape
        above, here, below = _slot(y - 1, depth, stride), _slot(y, depth, stride), _slot(y + 1, depth, stride)
        # a group's sums stay in registers through all channels and taps, and a row that is loaded serves the whole group
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


# ---- kernels ---------------------------------------------------------------------------------------------------------


@kernel
def smooth(images: Array, first: Layer, last: Layer, out: Array, start: int, stop: int) -> None:
    """``out = x + conv(GELU(conv(x)))`` for images ``start`` to ``stop``.

    Args:
        images: (C B, channels, height, width) float32, contiguous: B for each cell, one cell after the other.
        first: Weights and biases to the middle, in groups of MANY outputs.
        last: From the middle, in groups of FEW.
        out: As images, written.
        start: First image.
        stop: Image after the last one.
    """
    _, channels, height, width = images.shape
    per_cell, middles, stride = len(images) // len(first[0]), first[1].shape[1], _stride(width)
    rows, middle, change = _rows(3 * channels, stride), _rows(3 * middles, stride), _rows(last[1].shape[1], stride)
    for n in range(start, stop):
        # the row above the first, in both rings: zeros, as the next image begins where the last one ended
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
            # a row behind: the answer's row y - 1 needs the middle's row y
            if y > 0:
                _to_image(last, n // per_cell, middle, y - 1, middles, change, EDGE, stride, width)
                _emit(rows, change, out, n, y - 1, stride)


@kernel
def pull(images: Array, grad: Array, first: Layer, back: Layer, home: Layer, out: Array, start: int, stop: int) -> None:
    """Gradient of :func:`smooth` on its images, the middle being computed again.

    Args:
        images: (C B, channels, height, width) float32, contiguous.
        grad: The same, on the output.
        first: As in :func:`smooth`.
        back: The transpose of the last convolution, in groups of MANY outputs.
        home: The transpose of the first one, in groups of FEW.
        out: As images, written.
        start: First image.
        stop: Image after the last one.
    """
    _, channels, height, width = images.shape
    per_cell, middles, stride = len(images) // len(first[0]), first[1].shape[1], _stride(width)
    rows, grads, change = _rows(3 * channels, stride), _rows(3 * channels, stride), _rows(home[1].shape[1], stride)
    before, middle = _rows(middles, stride), _rows(3 * middles, stride)
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
            else:
                _clear(middle, at, middles, stride)
            if y > 0:
                _to_image(home, n // per_cell, middle, y - 1, middles, change, EDGE, stride, width)
                _emit(grads, change, out, n, y - 1, stride)
