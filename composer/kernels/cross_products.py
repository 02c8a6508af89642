"""Kernels for cross products of many pairs of tokens and their polar factors, used by :mod:`composer.procrustes.moments`.

Importing this module imports numba; only :mod:`composer.procrustes.moments` does, on the first call that can use it.

One pair at a time stays in the caches, whereas torch's operators traverse all pairs for each step, and spend more time on
setting up a product of two small matrices than on computing it. The width is a compile-time constant, a vector is a row of a
matrix, and four rows of a product are summed in registers. Nothing is summed across pairs or threads: the result for a pair
depends only on that pair, bit by bit.

Polar factors need only products, half the work of an eigenvalue problem here: odd polynomials, applied in turn, bring all
singular values of a matrix to 1.

Source: Amsel, Persson, Musco and Gower, The Polar Express (2025), for the polynomials of fastest convergence.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from batteries.kernels.kernel_cache import kernel
from batteries.kernels.vectors import Array, Vector, add_outer, njit, store, store_several, total
from composer.kernels.matrix_rows import fill_like, load_like, load_several_like, width_of, zero_row

__all__ = ["BLOCK", "PairKernels", "kernels"]

BLOCK = 4  # rows of a product summed at a time, enough to hide a multiply-add's latency; divides every width
CHUNK = 64  # rows of tokens centred before they are multiplied, to fit the L1 cache

SMALLEST = 1e-140  # least norm of a matrix whose squares are normal numbers; its inverse is the largest norm
# polynomials x (a + b x^2 + c x^4) that bring [0.01, 1] to 1, each optimal for the interval left by the previous one
STEPS = (
    (8.0933688, -23.62043104, 17.44615217),
    (3.63658621, -2.72192717, 0.53654635),
    (2.6613, -1.97715481, 0.45261652),
    (1.95617162, -1.33750777, 0.38385273),
    (1.87514357, -1.2501394, 0.37499585),
    (1.875, -1.25, 0.375),
)
PASSES = 3  # over all steps, each of which raises singular values below 0.01 by a factor of 500: three reach 4e-8
NEAR = 2e-5  # norm of U'U - 1 before the last step: 32 singular values are within 1.2e-6 of 1, and the step cubes that error

Matrix = tuple[Array, int]  # memory, and index of the first element; rows are adjacent


class PairKernels(NamedTuple):
    """Kernels of one width."""

    moments: Callable[..., None]
    polar: Callable[..., None]


@njit
def _block(row: Vector) -> Any:
    """Repeat a row BLOCK times."""
    return row, row, row, row


@njit
def _means(x: Matrix, y: Matrix, there: Array, zero: Vector) -> tuple[Vector, Vector]:
    """Compute the means of both ends over the rows present."""
    one, other, count, D = zero, zero, 0, width_of(zero)
    for row in range(len(there)):
        if there[row]:
            one = one + load_like(x[0], x[1] + row * D, zero)
            other = other + load_like(y[0], y[1] + row * D, zero)
            count += 1
    counts = fill_like(float(count), zero)
    return one / counts, other / counts


@njit
def _centre(ends: tuple[Matrix, Matrix], means: Any, there: Array, span: tuple[int, int], into: Any, squares: Any) -> Any:
    """Centre the present rows of a span into adjacent rows; return their number, and the squares with theirs added."""
    (x, first), (y, second) = ends
    (left, right), count, D = squares, 0, width_of(means[0])
    for row in range(span[0], span[1]):
        if there[row]:
            u = load_like(x, first + row * D, left) - means[0]
            v = load_like(y, second + row * D, right) - means[1]
            left, right = left + u * u, right + v * v
            store(into[0], count * D, u)
            store(into[1], count * D, v)
            count += 1
    return count, (left, right)


@njit
def _add_products(x: Array, y: Array, count: int, into: Matrix, zero: Vector) -> None:
    """Add x'y of ``count`` rows."""
    (memory, first), D = into, width_of(zero)
    for i in range(0, D, BLOCK):
        sums = load_several_like(memory, first + i * D, _block(zero))
        for row in range(count):
            sums = add_outer(sums, load_like(y, row * D, zero), x, row * D + i, 1)
        store_several(memory, first + i * D, D, sums)


@njit
def _multiply(a: Matrix, steps: tuple[int, int], b: Matrix, into: Matrix, zero: Vector) -> None:
    """Compute ``into = a b``; ``steps`` are the strides of a, down and across."""
    D = width_of(zero)
    for i in range(0, D, BLOCK):
        sums = _block(zero)
        for k in range(D):
            sums = add_outer(sums, load_like(b[0], b[1] + k * D, zero), a[0], a[1] + i * steps[0] + k * steps[1], steps[0])
        store_several(into[0], into[1] + i * D, D, sums)


@njit
def _norm(matrix: Matrix, zero: Vector) -> float:
    """Compute the Frobenius norm."""
    squares, D = zero, width_of(zero)
    for i in range(D):
        row = load_like(matrix[0], matrix[1] + i * D, zero)
        squares = squares + row * row
    return math.sqrt(total(squares))


@njit
def _scale(matrix: Matrix, by: float, into: Array, zero: Vector) -> None:
    factor, D = fill_like(by, zero), width_of(zero)
    for i in range(D):
        store(into, i * D, load_like(matrix[0], matrix[1] + i * D, zero) * factor)


@njit
def _polynomial(gram: Array, coefficients: tuple[float, float, float], into: Array, zero: Vector) -> None:
    """Evaluate a + b gram + c gram^2."""
    a, b, c = coefficients
    linear, quadratic, D = fill_like(b, zero), fill_like(c, zero), width_of(zero)
    _multiply((gram, 0), (D, 1), (gram, 0), (into, 0), zero)
    for i in range(D):
        store(into, i * D, linear * load_like(gram, i * D, zero) + quadratic * load_like(into, i * D, zero))
        into[i * D + i] += a


@njit
def _orthogonalise(x: Array, gram: Array, scratch: Array, turned: Array, zero: Vector) -> tuple[bool, Array]:
    """Compute the polar factor of x, which has norm 1; return whether it converged, and the array that holds it."""
    down, across, D = (width_of(zero), 1), (1, width_of(zero)), width_of(zero)
    _multiply((x, 0), across, (x, 0), (gram, 0), zero)
    _scale((x, 0), 1 / math.sqrt(_norm((gram, 0), zero)), x, zero)  # no singular value is above 1, and the largest is near 1
    for _ in range(PASSES):
        for coefficients in STEPS:
            _multiply((x, 0), across, (x, 0), (gram, 0), zero)
            _polynomial(gram, coefficients, scratch, zero)
            _multiply((x, 0), down, (scratch, 0), (turned, 0), zero)
            x, turned = turned, x
        for i in range(D):
            gram[i * D + i] -= 1.0
        if _norm((gram, 0), zero) <= NEAR:
            return True, x
    return False, x


@njit
def _sign(matrix: Array, zero: Vector) -> float:
    """Compute the sign of the determinant by elimination with partial pivoting, which overwrites the matrix."""
    found, D = 1.0, width_of(zero)
    for column in range(D):
        pivot = column
        for row in range(column + 1, D):
            if abs(matrix[row * D + column]) > abs(matrix[pivot * D + column]):
                pivot = row
        largest, leading = matrix[pivot * D + column], load_like(matrix, pivot * D, zero)
        if largest == 0.0:
            return 0.0
        if (pivot != column) != (largest < 0.0):
            found = -found
        store(matrix, pivot * D, load_like(matrix, column * D, zero))
        for row in range(column + 1, D):
            factor = fill_like(matrix[row * D + column] / largest, zero)
            store(matrix, row * D, load_like(matrix, row * D, zero) - factor * leading)
    return found


@njit
def _trace(one: Matrix, other: Matrix, copy: Matrix, zero: Vector) -> float:
    """Compute the trace of one' other, and copy the first."""
    along, D = zero, width_of(zero)
    for i in range(D):
        row = load_like(one[0], one[1] + i * D, zero)
        along = along + row * load_like(other[0], other[1] + i * D, zero)
        store(copy[0], copy[1] + i * D, row)
    return total(along)


def kernels(D: int) -> PairKernels:
    """Build the kernels of a width, a multiple of BLOCK; they are compiled on their first call."""

    def moments(x: Array, y: Array, rows: Array, means: Array, cross: Array, squares: Array, start: int, stop: int) -> None:
        """Compute means, centred cross products x'y and squared lengths of pairs ``start`` to ``stop``.

        Args:
            x: Source tokens (n, r, D), float64, contiguous, or (1, r, D) shared by all pairs.
            y: Target tokens (n, r, D) or (1, r, D), float64, contiguous.
            rows: Mask (n, r) or (1, r) of the rows present; missing rows are not read.
            means: Means (2, n, D) of both ends, written.
            cross: Cross products (n, D, D), written.
            squares: Squared lengths (2, n) of both ends, written.
            start: First pair.
            stop: Pair after the last one.
        """
        zero, height = zero_row(D), rows.shape[1]
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
            squares[0, n], squares[1, n] = total(lengths[0]), total(lengths[1])

    def polar(cross: Array, rotation: Array, found: Array, start: int, stop: int) -> None:
        """Compute the orthogonal factors of matrices ``start`` to ``stop``.

        Args:
            cross: Matrices (n, D, D), float64, contiguous.
            rotation: Orthogonal factors (n, D, D), written.
            found: Traces of rotation' cross and signs of the rotation's determinant (2, n), written. For a matrix too close to
                singular the sign is 0, and the other values are undefined; for one that is not finite all are NaN.
            start: First matrix.
            stop: Matrix after the last one.
        """
        zero = zero_row(D)
        x, gram, scratch, turned = np.empty(D * D), np.empty(D * D), np.empty(D * D), np.empty(D * D)
        for n in range(start, stop):
            own, into = (cross, n * D * D), (rotation, n * D * D)
            norm = _norm(own, zero)
            if not norm < 1 / SMALLEST:
                rotation[n], found[:, n] = np.nan, np.nan
                continue
            found[1, n] = 0.0
            if norm > SMALLEST:
                _scale(own, 1 / norm, x, zero)
                there, factor = _orthogonalise(x, gram, scratch, turned, zero)
                if there:
                    found[0, n] = _trace((factor, 0), own, into, zero)
                    found[1, n] = _sign(factor, zero)

    return PairKernels(kernel(moments), kernel(polar))
