"""Cross products of many pairs of tokens, and their polar factors: the kernels behind :mod:`composer.procrustes.moments`.

Importing this module imports numba; :mod:`composer.procrustes.moments` does so on the first call that can use it, and only
there.

A pair at a time stays in the processor's first caches, where torch's operators go over all pairs again for each step, and take
longer to set up a product of two small matrices than to compute it. The width is a constant of the compiled code and a vector
is a row of a matrix; four rows of a product are summed in registers. Nothing is summed across pairs or threads: the answer for
a pair depends on that pair alone, to the bit.

Polar factors are found by products alone, which is half the work of an eigenvalue problem here: odd polynomials of a matrix,
one after the other, bring all its singular values to 1.

Source: Amsel, Persson, Musco and Gower, The Polar Express (2025), for polynomials that do so fastest.
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

BLOCK = 4  # rows of a product that are summed at a time, enough to hide a multiply-add's latency; it divides every width
CHUNK = 64  # rows of tokens that are centred before they are multiplied: in the first cache

SMALLEST = 1e-140  # norm of a matrix whose squares are normal numbers; its inverse is that of the largest
# polynomials x (a + b x^2 + c x^4) that bring [0.01, 1] to 1, each the interval that the one before leaves as near as it can be
STEPS = (
    (8.0933688, -23.62043104, 17.44615217),
    (3.63658621, -2.72192717, 0.53654635),
    (2.6613, -1.97715481, 0.45261652),
    (1.95617162, -1.33750777, 0.38385273),
    (1.87514357, -1.2501394, 0.37499585),
    (1.875, -1.25, 0.375),
)
PASSES = 3  # through the steps: each raises singular values below 0.01 five hundredfold, so that the third reaches from 4e-8
NEAR = 2e-5  # norm of U'U - 1 before the last step, where 32 singular values are within 1.2e-6 of 1; it leaves a cube of that

Matrix = tuple[Array, int]  # memory, and where the first element is; rows adjoin


class PairKernels(NamedTuple):
    """The two kernels of one width."""

    moments: Callable[..., None]
    polar: Callable[..., None]


@njit
def _block(row: Vector) -> Any:
    """BLOCK times the same row."""
    return row, row, row, row


@njit
def _means(x: Matrix, y: Matrix, there: Array, zero: Vector) -> tuple[Vector, Vector]:
    """Of the rows of both ends that are there."""
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
    """Rows of a span that are there less their means, one after the other: how many, and their squares added to others."""
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
    """Adds x'y of ``count`` rows."""
    (memory, first), D = into, width_of(zero)
    for i in range(0, D, BLOCK):
        sums = load_several_like(memory, first + i * D, _block(zero))
        for row in range(count):
            sums = add_outer(sums, load_like(y, row * D, zero), x, row * D + i, 1)
        store_several(memory, first + i * D, D, sums)


@njit
def _multiply(a: Matrix, steps: tuple[int, int], b: Matrix, into: Matrix, zero: Vector) -> None:
    """``into = a b``, where the elements of a are as far apart as ``steps`` says, down and across."""
    D = width_of(zero)
    for i in range(0, D, BLOCK):
        sums = _block(zero)
        for k in range(D):
            sums = add_outer(sums, load_like(b[0], b[1] + k * D, zero), a[0], a[1] + i * steps[0] + k * steps[1], steps[0])
        store_several(into[0], into[1] + i * D, D, sums)


@njit
def _norm(matrix: Matrix, zero: Vector) -> float:
    """Frobenius's."""
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
    """a + b gram + c gram^2."""
    a, b, c = coefficients
    linear, quadratic, D = fill_like(b, zero), fill_like(c, zero), width_of(zero)
    _multiply((gram, 0), (D, 1), (gram, 0), (into, 0), zero)
    for i in range(D):
        store(into, i * D, linear * load_like(gram, i * D, zero) + quadratic * load_like(into, i * D, zero))
        into[i * D + i] += a


@njit
def _orthogonalise(x: Array, gram: Array, scratch: Array, turned: Array, zero: Vector) -> tuple[bool, Array]:
    """Polar factor of x, which has norm 1, in one of the arrays; and whether it was found."""
    down, across, D = (width_of(zero), 1), (1, width_of(zero)), width_of(zero)
    _multiply((x, 0), across, (x, 0), (gram, 0), zero)
    _scale((x, 0), 1 / math.sqrt(_norm((gram, 0), zero)), x, zero)  # no singular value is above 1, the largest near it
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
    """Of the determinant, by elimination with partial pivoting; the matrix is used up."""
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
    """Of one' other; the first is copied."""
    along, D = zero, width_of(zero)
    for i in range(D):
        row = load_like(one[0], one[1] + i * D, zero)
        along = along + row * load_like(other[0], other[1] + i * D, zero)
        store(copy[0], copy[1] + i * D, row)
    return total(along)


def kernels(D: int) -> PairKernels:
    """Kernels of a width, a multiple of BLOCK, compiled on their first call."""

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
        """Orthogonal factors of matrices ``start`` to ``stop``.

        Args:
            cross: (n, D, D) float64, contiguous.
            rotation: (n, D, D), written.
            found: (2, n), written: the trace of rotation' cross, and the sign of the rotation's determinant. The sign is 0, and
                the others nothing, where the matrix is too near to singular; all are NaN where it is not finite.
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
