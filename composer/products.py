"""Cross products of many pairs of tokens, and the orthogonal matrices nearest to them: the kernels of :mod:`composer.crossing`.

Importing this module imports numba; :mod:`composer.crossing` does so on the first call that can use it, and only there.

A pair at a time stays in the processor's first caches, where torch's operators go over all pairs again for each step, and take
longer to set up a product of two small matrices than to compute it. The width is a constant of the compiled code and a vector
is a row of a matrix; four rows of a product are summed in registers. Nothing is summed across pairs or threads: the answer for
a pair depends on that pair alone, to the bit.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from batteries.compiled import kernel
from composer.doubles import Row, add_outer, load, load_several, spread, store, store_several, sum_of, width_of
from composer.lanes import Array, njit

__all__ = ["BLOCK", "Kernels", "kernels"]

BLOCK = 4  # rows of a product that are summed at a time, enough to hide a multiply-add's latency; it divides every width
CHUNK = 64  # rows of tokens that are centred before they are multiplied: in the first cache

TINY = np.finfo(np.float64).tiny

Matrix = tuple[Array, int]  # memory, and where the first element is; rows adjoin


class Kernels(NamedTuple):
    """The two kernels of one width."""

    moments: Callable[..., None]
    polar: Callable[..., None]


@njit
def _block(row: Row) -> Any:
    """BLOCK times the same row."""
    return row, row, row, row


@njit
def _means(x: Matrix, y: Matrix, there: Array, zero: Row) -> tuple[Row, Row]:
    """Of the rows of both ends that are there."""
    one, other, count, D = zero, zero, 0, width_of(zero)
    for row in range(len(there)):
        if there[row]:
            one = one + load(x[0], x[1] + row * D, zero)
            other = other + load(y[0], y[1] + row * D, zero)
            count += 1
    counts = spread(float(count), zero)
    return one / counts, other / counts


@njit
def _centre(ends: tuple[Matrix, Matrix], means: Any, there: Array, span: tuple[int, int], into: Any, squares: Any) -> Any:
    """Rows of a span that are there less their means, one after the other: how many, and their squares added to others."""
    (x, first), (y, second) = ends
    (left, right), count, D = squares, 0, width_of(means[0])
    for row in range(span[0], span[1]):
        if there[row]:
            u = load(x, first + row * D, left) - means[0]
            v = load(y, second + row * D, right) - means[1]
            left, right = left + u * u, right + v * v
            store(into[0], count * D, u)
            store(into[1], count * D, v)
            count += 1
    return count, (left, right)


@njit
def _add_products(x: Array, y: Array, count: int, into: Matrix, zero: Row) -> None:
    """Adds x'y of ``count`` rows."""
    (memory, first), D = into, width_of(zero)
    for i in range(0, D, BLOCK):
        sums = load_several(memory, first + i * D, _block(zero))
        for row in range(count):
            sums = add_outer(sums, x, row * D + i, 1, load(y, row * D, zero))
        store_several(memory, first + i * D, sums)


@njit
def _multiply(a: Matrix, steps: tuple[int, int], b: Matrix, into: Matrix, zero: Row) -> None:
    """``into = a b``, where the elements of a are as far apart as ``steps`` says, down and across."""
    D = width_of(zero)
    for i in range(0, D, BLOCK):
        sums = _block(zero)
        for k in range(D):
            sums = add_outer(sums, a[0], a[1] + i * steps[0] + k * steps[1], steps[0], load(b[0], b[1] + k * D, zero))
        store_several(into[0], into[1] + i * D, sums)


@njit
def _spread_out(axes: Array, singular: Array, into: Array) -> None:
    """V / s, from V'."""
    for i in range(len(singular)):
        share = 1.0 / singular[i]
        for k in range(len(singular)):
            into[k * len(singular) + i] = axes[i, k] * share


@njit
def _shrink(error: Array, singular: Array, zero: Row) -> None:
    """From U'U to the Newton step (U'U - 1)_ij s_i / (s_i + s_j)."""
    lengths, D = load(singular, 0, zero), width_of(zero)
    for i in range(D):
        error[i * D + i] -= 1.0
        own = spread(singular[i], zero)
        store(error, i * D, load(error, i * D, zero) * own / (own + lengths))


@njit
def _sign(matrix: Array, zero: Row) -> float:
    """Of the determinant, by elimination with partial pivoting; the matrix is used up."""
    found, D = 1.0, width_of(zero)
    for column in range(D):
        pivot = column
        for row in range(column + 1, D):
            if abs(matrix[row * D + column]) > abs(matrix[pivot * D + column]):
                pivot = row
        largest, leading = matrix[pivot * D + column], load(matrix, pivot * D, zero)
        if largest == 0.0:
            return 0.0
        if (pivot != column) != (largest < 0.0):
            found = -found
        store(matrix, pivot * D, load(matrix, column * D, zero))
        for row in range(column + 1, D):
            factor = spread(matrix[row * D + column] / largest, zero)
            store(matrix, row * D, load(matrix, row * D, zero) - factor * leading)
    return found


@njit
def _trace(one: Matrix, other: Matrix, copy: Array, zero: Row) -> float:
    """Of one' other; the first is copied."""
    along, D = zero, width_of(zero)
    for i in range(D):
        row = load(one[0], one[1] + i * D, zero)
        along = along + row * load(other[0], other[1] + i * D, zero)
        store(copy, i * D, row)
    return sum_of(along)


def kernels(D: int) -> Kernels:
    """The kernels of a width, a multiple of BLOCK, compiled on their first call."""

    def moments(x: Array, y: Array, rows: Array, means: Array, cross: Array, squares: Array, start: int, stop: int) -> None:
        """Means of both ends, x'y and the squared lengths about them, for pairs ``start`` to ``stop``.

        Args:
            x: (n, r, D) float64, contiguous, or (1, r, D) for all pairs the same.
            y: The same of the other end.
            rows: (n, r) boolean or (1, r); what stands in a row that is not there is not looked at.
            means: (2, n, D), written.
            cross: (n, D, D), written.
            squares: (2, n), written.
            start: First pair.
            stop: Pair after the last one.
        """
        zero, height = spread(0.0, D), rows.shape[1]
        centred = np.empty(CHUNK * D), np.empty(CHUNK * D)
        for n in range(start, stop):
            ends = (x, n % len(x) * height * D), (y, n % len(y) * height * D)
            there = rows[n % len(rows)]
            mean = _means(*ends, there, zero)
            store(means, n * D, mean[0])
            store(means, (len(cross) + n) * D, mean[1])
            cross[n] = 0.0
            lengths = zero, zero
            for first in range(0, height, CHUNK):
                span = first, min(first + CHUNK, height)
                count, lengths = _centre(ends, mean, there, span, centred, lengths)
                _add_products(*centred, count, (cross, n * D * D), zero)
            squares[0, n], squares[1, n] = sum_of(lengths[0]), sum_of(lengths[1])

    def polar(cross: Array, squares: Array, axes: Array, rotation: Array, found: Array, start: int, stop: int) -> None:
        """U V' of matrices U diag(s) V', from V and the squares of s; see :mod:`composer.turning` for the formula.

        Args:
            cross: (n, D, D) float64, contiguous.
            squares: (n, D).
            axes: (n, D, D), V'.
            rotation: (n, D, D), written.
            found: (2, n), written: the trace of rotation' cross, and the sign of the rotation's determinant.
            start: First matrix.
            stop: Matrix after the last one.
        """
        zero, down, across = spread(0.0, D), (D, 1), (1, D)
        left, scratch, error, singular = np.empty(D * D), np.empty(D * D), np.empty(D * D), np.empty(D)
        for n in range(start, stop):
            own, frame, into = (cross, n * D * D), (axes, n * D * D), (rotation, n * D * D)
            for i in range(D):
                singular[i] = math.sqrt(max(squares[n, i], TINY))
            _spread_out(axes[n], singular, scratch)
            _multiply(own, down, (scratch, 0), (left, 0), zero)
            _multiply((left, 0), across, (left, 0), (error, 0), zero)
            _shrink(error, singular, zero)
            _multiply((left, 0), down, (error, 0), (scratch, 0), zero)
            for i in range(0, D * D, D):
                store(left, i, load(left, i, zero) - load(scratch, i, zero))
            _multiply((left, 0), down, frame, into, zero)
            found[0, n] = _trace(into, own, scratch, zero)
            found[1, n] = _sign(scratch, zero)

    return Kernels(kernel(moments), kernel(polar))
