"""Tiles of eight matrices interleaved for SIMD, gathered from a batch as they are or as M'M, and scaled.

First stage of the kernels of :mod:`batteries.kernels.jacobi` and :mod:`batteries.kernels.tridiagonal`. Element (i, j) of eight
matrices is one slot of eight doubles, one register on AVX-512 and two on AVX2, so that every operation on a slot is one for
eight matrices. Only the upper triangle of a symmetric matrix is stored, element (i, j) in slot ``i * width + j``. Importing
this module imports numba and llvmlite.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from batteries.kernels.vector_type import VectorType, address, intrinsic, transpose
from batteries.kernels.vectors import Array, Vector, magnitude, njit, vectors, where_above
from batteries.kernels.vectors import store_slot as store

__all__ = ["ROWS", "WIDTH", "fill", "gather_gram", "gather_symmetric", "load", "scale_down", "scratch"]

WIDTH = 8  # matrices side by side
ROWS = 8  # rows of M transposed into slots at a time: whole vectors for any width
ADDED = 4  # rows added to a Gram matrix at a time: one load and store of each sum for four products
EXPONENT = 1000  # largest power of two scaled by; 2**EXPONENT and its inverse are both normal numbers

_eight = vectors(np.float64, WIDTH)
fill, load, scratch = _eight.fill, _eight.load_slot, _eight.scratch


@intrinsic
def store_turned(typing: Any, scratch: Any, slot: Any, source: Any, first: Any, stride: Any) -> Any:
    """Transpose eight elements of eight matrices, ``stride`` apart in a float array, into eight slots of a scratch array."""
    doubles, given = _eight.kind, VectorType(source.dtype, WIDTH)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, slot, memory, at, apart = args
        lines = []
        for _ in range(WIDTH):
            lines.append(builder.load(address(context, builder, source, memory, at, to=given.llvm), align=given.size))
            at = builder.add(at, apart)
        for i, line in enumerate(transpose(builder, lines)):
            element = builder.mul(builder.add(slot, ir.Constant(slot.type, i)), ir.Constant(slot.type, WIDTH))
            where = address(context, builder, scratch, array, element, to=doubles.llvm)
            wide = line if given == doubles else builder.fpext(line, doubles.llvm)
            builder.store(wide, where, align=doubles.size * WIDTH)
        return context.get_dummy_value()

    return types.void(scratch, types.intp, source, types.intp, types.intp), emit


@njit
def gather_symmetric(source: Array, first: int, a: Array, width: int) -> None:
    """Gather the lower triangles of eight matrices from ``first``, as LAPACK reads them; repeat the last matrix if short."""
    count, given, _ = source.shape
    a[:] = 0.0
    for lane in range(WIDTH):
        matrix = source[min(first + lane, count - 1)]
        # scalar: each element is read once, and about D operations on it follow
        for i in range(given):
            for j in range(i + 1):
                a[(j * width + i) * WIDTH + lane] = matrix[i, j]


@njit
def gather_gram(source: Array, first: int, rows: Array, a: Array, width: int) -> None:
    """Gather M'M of eight M, summed in float64 without a float64 copy of M in memory."""
    a[:] = 0.0
    # a short block is copied, so that the main loop needs no test of lanes
    if first + WIDTH <= len(source):
        _add_gram(source, first, rows, a, width)
    else:
        _add_gram(_repeated(source, first), 0, rows, a, width)


@njit
def _repeated(source: Array, first: int) -> Array:
    """Return a short block filled with copies of its last matrix."""
    block = np.empty((WIDTH, *source.shape[1:]), dtype=source.dtype)
    for lane in range(WIDTH):
        block[lane] = source[min(first + lane, len(source) - 1)]
    return block


@njit
def _add_gram(source: Array, first: int, rows: Array, a: Array, width: int) -> None:
    _, height, given = source.shape
    # a few rows of eight M at a time, which stay in the first cache until their products are summed
    for row in range(0, height, ROWS):
        _gather_rows(source, first, row, rows)
        for added in range(0, min(ROWS, height - row), ADDED):
            _add_products(rows, added * given, a, given, width)


@njit
def _gather_rows(source: Array, first: int, row: int, rows: Array) -> None:
    """Gather up to ROWS rows of eight matrices, padded with zero rows to a multiple of ADDED."""
    _, height, given = source.shape
    present = min(ROWS, height - row)
    size = present * given
    # rows are contiguous: elements are transposed in blocks of eight for any width, the last few one by one
    whole = size - size % WIDTH
    rows[whole * WIDTH : (present + -present % ADDED) * given * WIDTH] = 0.0
    for i in range(0, whole, WIDTH):
        store_turned(rows, i, source, (first * height + row) * given + i, height * given)
    for i in range(whole, size):
        for lane in range(WIDTH):
            rows[i * WIDTH + lane] = source[first + lane, row + i // given, i % given]


@njit
def _add_products(rows: Array, row: int, a: Array, given: int, width: int) -> None:
    """Add the products of four rows of M to the sums, two rows of sums at a time, which halves the loads per product."""
    for i in range(0, given - 1, 2):
        x0, x1, x2, x3 = _four(rows, row + i, given)
        z0, z1, z2, z3 = _four(rows, row + i + 1, given)
        upper, lower = i * width, (i + 1) * width
        for j in range(i, given):  # computes one element of row i + 1 left of the diagonal too, which is never read
            y0, y1, y2, y3 = _four(rows, row + j, given)
            store(a, upper + j, load(a, upper + j) + x0 * y0 + x1 * y1 + x2 * y2 + x3 * y3)
            store(a, lower + j, load(a, lower + j) + z0 * y0 + z1 * y1 + z2 * y2 + z3 * y3)
    if given % 2:
        i = (given - 1) * (width + 1)
        x0, x1, x2, x3 = _four(rows, row + given - 1, given)
        store(a, i, load(a, i) + x0 * x0 + x1 * x1 + x2 * x2 + x3 * x3)


@njit
def _four(rows: Array, first: int, given: int) -> tuple[Vector, Vector, Vector, Vector]:
    """Load one column of ADDED rows."""
    return load(rows, first), load(rows, first + given), load(rows, first + 2 * given), load(rows, first + 3 * given)


@njit
def scale_down(a: Array, top: Array, bad: Array, scale: Array, width: int) -> None:
    """Scale every matrix by a power of two, which is exact, so that its largest element is in [0.5, 1).

    A matrix with a non-finite element becomes zero and its scale, by which the result is multiplied, NaN.
    """
    zero, one = fill(0.0), fill(1.0)
    largest, poison = zero, zero
    for i in range(width):
        for j in range(i, width):
            x = magnitude(load(a, i * width + j))
            # comparisons skip a NaN when finding the largest: both NaN and infinity make 0 x a NaN
            largest = where_above(x, largest, x, largest)
            poison = poison + x * zero
    store(top, 0, largest)
    store(bad, 0, poison)
    # scalar: one power of two per lane
    for lane in range(WIDTH):
        exponent = max(-EXPONENT, min(EXPONENT, math.frexp(top[lane])[1])) if bad[lane] == 0.0 else 0
        top[lane] = math.ldexp(1.0, -exponent)
        scale[lane] = math.ldexp(1.0, exponent) + bad[lane]
    shrink = load(top, 0)
    for i in range(width):
        for j in range(i, width):
            x = load(a, i * width + j)
            store(a, i * width + j, where_above(one, poison, x * shrink, zero))
