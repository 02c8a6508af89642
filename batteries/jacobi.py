"""Cyclic Jacobi for many small symmetric float64 matrices at once: the kernels behind :mod:`batteries.eigen`.

Importing this module imports numba; :mod:`batteries.eigen` does so on the first call that can use it, and only there.

Eight matrices are solved side by side. Element (i, j) of all eight is one *slot* of eight doubles, one vector register on
AVX-512 and two on AVX2, so every operation below is one for eight matrices. A round of a tournament pairs all D indices,
D / 2 disjoint rotations at once; D - 1 rounds are a sweep (Brent and Luk 1985). Rotations as in Golub and Van Loan, 8.5.

What makes the answer for one matrix independent of its neighbours and of the number of threads, to the bit: a matrix that
has converged gets the rotation c = 1, s = 0, which changes nothing, while its neighbours go on; nothing is summed across
lanes; and a last, short block is filled with copies of the last matrix.

Vectors of eight are a numba type of our own rather than left to the compiler: it cannot know that two rows of one scratch
array do not overlap, and an inner loop of eight with a check for that in front is slower than scalars.
The file is one because numba's cache looks at the age of the compiled function's own file only.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-subclassing-any, allow-any-generics

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.extending import models, overload, register_model

from batteries.compiled import kernel

__all__ = ["WIDTH", "schedule", "solve_gram", "solve_symmetric"]

WIDTH = 8  # matrices side by side
ROWS = 8  # rows of M turned into slots at a time: whole vectors of its elements, whatever its width
ADDED = 4  # of them added to a Gram matrix at a time: one load and store of each sum for four products
SWEEPS = 40  # of which random matrices need 4 (D=4) to 8 (D=32)
CONVERGED = 1e-30  # squared off-diagonal norm over squared norm: 1e-15 of the matrix, below what float64 holds of it
NEGLIGIBLE = 1e-100  # of a scaled element, whose square still is a normal number
TINY = 1e-300  # keeps 0 / 0 out of a rotation that turns nothing
EXPONENT = 1000  # largest power of two scaled by; 2**EXPONENT and its inverse are both normal numbers

Array = np.ndarray
Vector = Any  # eight doubles inside a kernel

intrinsic: Any = extending.intrinsic  # its declared type leaves the typing context in the signature
_DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
_MASK = ir.IntType(WIDTH)


# ---- eight doubles as a numba type -----------------------------------------------------------------------------------


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes{WIDTH}")


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _DOUBLES)


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    first = builder.gep(data, [builder.mul(args[1], ir.Constant(args[1].type, WIDTH))])
    return builder.bitcast(first, _DOUBLES.as_pointer())


@intrinsic
def _load(typing: Any, scratch: Any, slot: Any) -> Any:
    """The slot of a scratch array from :func:`_scratch`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature, args), align=8 * WIDTH)

    return _lanes(scratch, types.intp), emit


@intrinsic
def _store(typing: Any, scratch: Any, slot: Any, value: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature, args), align=8 * WIDTH)
        return context.get_dummy_value()

    return types.void(scratch, types.intp, _lanes), emit


@intrinsic
def _store_turned(typing: Any, scratch: Any, slot: Any, source: Any, first: Any, stride: Any) -> Any:
    """Eight elements of eight matrices, ``stride`` apart in a float32 or float64 array, as eight slots of a scratch array.

    An 8x8 transpose: the halves, the quarters and the neighbours off its diagonal change places, in registers.
    """
    eight = ir.VectorType(ir.FloatType() if source.dtype == types.float32 else ir.DoubleType(), WIDTH)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        memory = context.make_array(source)(context, builder, args[2]).data
        lines, at = [], args[3]
        for _ in range(WIDTH):
            pointer = builder.bitcast(builder.gep(memory, [at]), eight.as_pointer())
            lines.append(builder.load(pointer, align=source.dtype.bitwidth // 8))
            at = builder.add(at, args[4])
        for step in (4, 2, 1):
            _exchange(builder, lines, step)
        for i, line in enumerate(lines):
            where = _address(context, builder, signature, [args[0], builder.add(args[1], ir.Constant(args[1].type, i))])
            builder.store(line if eight == _DOUBLES else builder.fpext(line, _DOUBLES), where, align=8 * WIDTH)
        return context.get_dummy_value()

    return types.void(scratch, types.intp, source, types.intp, types.intp), emit


def _exchange(builder: Any, lines: list[Any], step: int) -> None:
    """Of every two lines ``step`` apart, the upper right block and the lower left one."""
    kept = [lane if not lane & step else lane - step + WIDTH for lane in range(WIDTH)]
    moved = [lane + step if not lane & step else lane + WIDTH for lane in range(WIDTH)]
    masks = [ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), mask) for mask in (kept, moved)]
    for i in range(WIDTH):
        if not i & step:
            upper, lower = lines[i], lines[i + step]
            lines[i], lines[i + step] = (builder.shuffle_vector(upper, lower, mask) for mask in masks)


@intrinsic
def _fill(typing: Any, value: Any) -> Any:
    """The same number in every lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.Constant(_DOUBLES, ir.Undefined)
        first = builder.insert_element(nothing, args[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))

    return _lanes(types.float64), emit


@intrinsic
def _where_above(typing: Any, x: Any, y: Any, then: Any, otherwise: Any) -> Any:
    """``then`` in the lanes with x > y, else ``otherwise``; a NaN is above nothing."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return _lanes(x, y, then, otherwise), emit


@intrinsic
def _any_above(typing: Any, x: Any, y: Any) -> Any:
    """Whether x > y in any lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask = builder.bitcast(builder.fcmp_ordered(">", args[0], args[1]), _MASK)
        return builder.icmp_unsigned("!=", mask, ir.Constant(_MASK, 0))

    return types.boolean(x, y), emit


def _unary(name: str) -> Any:
    """An LLVM function of one vector."""

    def typed(typing: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(_DOUBLES, [_DOUBLES])
            return builder.call(builder.module.declare_intrinsic(f"{name}.v{WIDTH}f64", (), kind), args)

        return _lanes(x), emit

    return intrinsic(typed)


_root = _unary("llvm.sqrt")
_magnitude = _unary("llvm.fabs")


def _define(operation: Callable[..., Any], instruction: str) -> None:
    """``operation`` on two vectors, by an LLVM instruction that may be contracted to a fused multiply-add."""

    def typed(typing: Any, x: Any, y: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], args[1], flags=("contract",))

        return _lanes(x, y), emit

    emitted = intrinsic(typed)

    @overload(operation)
    def chosen(x: Any, y: Any) -> Any:
        if isinstance(x, _Lanes) and isinstance(y, _Lanes):
            return spelled
        return None

    def spelled(x: Any, y: Any) -> Any:
        return emitted(x, y)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")


# ---- the solver ------------------------------------------------------------------------------------------------------


def schedule(width: int) -> Array:
    """The rounds of a tournament: every pair p < q of ``width`` indices (made even) meets once.

    Returns:
        (width - 1, width / 2, 2) int64, for an even width.
    """
    width += width % 2
    ring = list(range(width))
    rounds = []
    for _ in range(width - 1):
        rounds.append([sorted((ring[i], ring[width - 1 - i])) for i in range(width // 2)])
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return np.array(rounds, dtype=np.int64)


@njit
def _scratch(slots: int) -> Array:
    """Slots on 64-byte boundaries: a vector that straddles a cache line costs two accesses."""
    memory = np.empty((slots + 1) * WIDTH)
    skip = (-memory.ctypes.data % (8 * WIDTH)) // 8
    return memory[skip : skip + slots * WIDTH]


@njit
def _scale(a: Array, top: Array, bad: Array, scale: Array, width: int) -> None:
    """Brings the largest element of every matrix into [0.5, 1) by a power of two, which is exact.

    A matrix with an element that is not finite becomes zero and its scale NaN, which the answer is multiplied by.
    """
    zero, one = _fill(0.0), _fill(1.0)
    largest, poison = zero, zero
    for i in range(width):
        for j in range(i, width):
            x = _magnitude(_load(a, i * width + j))
            largest = _where_above(x, largest, x, largest)
            poison = poison + x * zero
    _store(top, 0, largest)
    _store(bad, 0, poison)
    for lane in range(WIDTH):
        exponent = max(-EXPONENT, min(EXPONENT, math.frexp(top[lane])[1])) if bad[lane] == 0.0 else 0
        top[lane] = math.ldexp(1.0, -exponent)
        scale[lane] = math.ldexp(1.0, exponent) + bad[lane]
    shrink = _load(top, 0)
    for i in range(width):
        for j in range(i, width):
            x = _load(a, i * width + j)
            _store(a, i * width + j, _where_above(one, poison, x * shrink, zero))


@njit
def _norms(a: Array, width: int) -> tuple[Vector, Vector]:
    """Squared norms of the diagonal and of what is off it."""
    diagonal, off = _fill(0.0), _fill(0.0)
    for i in range(width):
        x = _load(a, i * width + i)
        diagonal = diagonal + x * x
        for j in range(i + 1, width):
            x = _load(a, i * width + j)
            off = off + (x * x + x * x)
    return diagonal, off


@njit
def _choose(a: Array, c: Array, s: Array, pairs: Array, width: int, active: Vector) -> None:
    """The rotation that annuls a[p, q] for every pair, applied to the pair's own 2x2 block."""
    zero, one, tiny, negligible = _fill(0.0), _fill(1.0), _fill(TINY), _fill(NEGLIGIBLE)
    for i in range(width // 2):
        p, q = pairs[i, 0], pairs[i, 1]
        kept = _load(a, p * width + q)
        h = _where_above(active, zero, kept, zero)
        h = _where_above(_magnitude(h), negligible, h, zero)
        ap, aq = _load(a, p * width + p), _load(a, q * width + q)
        d, twice = aq - ap, h + h
        t = twice / (_magnitude(d) + _root(d * d + twice * twice) + tiny)
        t = _where_above(zero, d, zero - t, t)
        cosine = one / _root(one + t * t)
        _store(c, i, cosine)
        _store(s, i, t * cosine)
        _store(a, p * width + p, ap - t * h)
        _store(a, q * width + q, aq + t * h)
        _store(a, p * width + q, kept - h)


@njit
def _turn(a: Array, c: Array, s: Array, pairs: Array, width: int, i: int) -> None:
    """Rotations i and j on the 2x2 block where they meet, for every j > i; only the upper triangle is kept."""
    p, q = pairs[i, 0], pairs[i, 1]
    ci, si = _load(c, i), _load(s, i)
    for j in range(i + 1, width // 2):
        u, v = pairs[j, 0], pairs[j, 1]
        cj, sj = _load(c, j), _load(s, j)
        pu = p * width + u if p < u else u * width + p
        pv = p * width + v if p < v else v * width + p
        qu = q * width + u if q < u else u * width + q
        qv = q * width + v if q < v else v * width + q
        xpu, xpv, xqu, xqv = _load(a, pu), _load(a, pv), _load(a, qu), _load(a, qv)
        ypu, yqu = ci * xpu - si * xqu, si * xpu + ci * xqu
        ypv, yqv = ci * xpv - si * xqv, si * xpv + ci * xqv
        _store(a, pu, ypu * cj - ypv * sj)
        _store(a, pv, ypu * sj + ypv * cj)
        _store(a, qu, yqu * cj - yqv * sj)
        _store(a, qv, yqu * sj + yqv * cj)


@njit
def _sweep(a: Array, w: Array, c: Array, s: Array, pairs: Array, width: int, active: Vector, vectors: bool) -> None:
    for turn in range(width - 1):
        _choose(a, c, s, pairs[turn], width, active)
        for i in range(width // 2):
            _turn(a, c, s, pairs[turn], width, i)
            if vectors:
                p, q = pairs[turn, i, 0] * width, pairs[turn, i, 1] * width
                ci, si = _load(c, i), _load(s, i)
                for k in range(width):
                    x, y = _load(w, p + k), _load(w, q + k)
                    _store(w, p + k, ci * x - si * y)
                    _store(w, q + k, si * x + ci * y)


@njit
def _diagonalise(a: Array, w: Array, c: Array, s: Array, pairs: Array, width: int, vectors: bool) -> None:
    """The eigenvalues to the diagonal of a, the eigenvectors to the rows of w."""
    zero, one = _fill(0.0), _fill(1.0)
    if vectors:
        for i in range(width):
            for k in range(width):
                _store(w, i * width + k, one if i == k else zero)
    diagonal, off = _norms(a, width)
    enough = (diagonal + off) * _fill(CONVERGED)
    for _ in range(SWEEPS):
        active = off - enough
        if not _any_above(active, zero):
            break
        _sweep(a, w, c, s, pairs, width, active, vectors)
        _, off = _norms(a, width)


@njit
def _rank(a: Array, rank: Array, width: int, given: int) -> None:
    """The place of every eigenvalue in ascending order; of equal ones the first comes first."""
    zero, one = _fill(0.0), _fill(1.0)
    for i in range(given):
        x = _load(a, i * width + i)
        place = zero
        for j in range(given):
            y = _load(a, j * width + j)
            place = place + _where_above(x, y, one, zero)
            if j < i:
                place = place + _where_above(x, y, zero, _where_above(y, x, zero, one))
        _store(rank, i, place)


@njit
def _gather_symmetric(source: Array, first: int, a: Array) -> None:
    """The lower triangles of eight matrices, as LAPACK reads them."""
    count, given, _ = source.shape
    width = given + given % 2
    for lane in range(WIDTH):
        matrix = source[min(first + lane, count - 1)]
        for i in range(given):
            for j in range(i + 1):
                a[(j * width + i) * WIDTH + lane] = matrix[i, j]


@njit
def _gather_rows(source: Array, first: int, row: int, rows: Array) -> None:
    """Up to ROWS rows of eight matrices, and zeros after the last up to a multiple of ADDED."""
    _, height, given = source.shape
    present = min(ROWS, height - row)
    size = present * given
    whole = size - size % WIDTH
    rows[whole * WIDTH : (present + -present % ADDED) * given * WIDTH] = 0.0
    for i in range(0, whole, WIDTH):
        _store_turned(rows, i, source, (first * height + row) * given + i, height * given)
    for i in range(whole, size):
        for lane in range(WIDTH):
            rows[i * WIDTH + lane] = source[first + lane, row + i // given, i % given]


@njit
def _add_products(rows: Array, row: int, a: Array, given: int, width: int) -> None:
    for i in range(row, row + given):
        x0, x1 = _load(rows, i), _load(rows, given + i)
        x2, x3 = _load(rows, 2 * given + i), _load(rows, 3 * given + i)
        sums = (i - row) * width - row
        for j in range(i, row + given):
            y0, y1 = _load(rows, j), _load(rows, given + j)
            y2, y3 = _load(rows, 2 * given + j), _load(rows, 3 * given + j)
            _store(a, sums + j, _load(a, sums + j) + ((x0 * y0 + x1 * y1) + (x2 * y2 + x3 * y3)))


@njit
def _gather_gram(source: Array, first: int, rows: Array, a: Array) -> None:
    """The upper triangles of M'M for eight M, summed in float64 without a float64 copy of M in memory."""
    _, height, given = source.shape
    for row in range(0, height, ROWS):
        _gather_rows(source, first, row, rows)
        for added in range(0, min(ROWS, height - row), ADDED):
            _add_products(rows, added * given, a, given, given + given % 2)


@njit
def _repeated(source: Array, first: int) -> Array:
    """The matrices of a short block, filled with copies of the last."""
    block = np.empty((WIDTH, *source.shape[1:]), dtype=source.dtype)
    for lane in range(WIDTH):
        block[lane] = source[min(first + lane, len(source) - 1)]
    return block


@njit
def _scatter(a: Array, w: Array, rank: Array, scale: Array, values: Array, vectors: Array, first: int, width: int) -> None:
    """Eight answers to their places in the batch; of vectors of size zero, none."""
    count, given = values.shape
    for lane in range(min(WIDTH, count - first)):
        poison = 0.0 * scale[lane]
        for i in range(given):
            place = int(rank[i * WIDTH + lane])
            values[first + lane, place] = a[(i * width + i) * WIDTH + lane] * scale[lane]
            if vectors.size:
                for k in range(given):
                    vectors[first + lane, place, k] = w[(i * width + k) * WIDTH + lane] + poison


@njit
def _memory(given: int, vectors: Array) -> tuple[Array, ...]:
    """Scratch of one thread: a, w, c, s, rank, rows, top, bad, scale."""
    width = given + given % 2  # an odd matrix gets a zero row and column, which no rotation touches
    turned = width * width if vectors.size else 1
    small = _scratch(1), _scratch(1), _scratch(1)
    return (
        _scratch(width * width),
        _scratch(turned),
        _scratch(width),
        _scratch(width),
        _scratch(width),
        _scratch(ROWS * width),
        *small,
    )


@njit
def _solve(memory: tuple[Array, ...], ridge: float, pairs: Array, values: Array, vectors: Array, first: int) -> None:
    """Eight matrices whose upper triangles are in memory, from ``first`` on."""
    a, w, c, s, rank, _, top, bad, scale = memory
    given = values.shape[1]
    width = given + given % 2
    for i in range(given):
        _store(a, i * width + i, _load(a, i * width + i) + _fill(ridge))
    _scale(a, top, bad, scale, width)
    _diagonalise(a, w, c, s, pairs, width, vectors.size > 0)
    _rank(a, rank, width, given)
    _scatter(a, w, rank, scale, values, vectors, first, width)


@kernel
def solve_symmetric(source: Array, ridge: float, pairs: Array, values: Array, vectors: Array, start: int, stop: int) -> None:
    """Solves blocks ``start`` to ``stop``, of eight matrices each.

    Args:
        source: (n, D, D) float64, contiguous; the lower triangles are read.
        ridge: Added to every diagonal.
        pairs: ``schedule(D)``.
        values: (n, D) float64, written, ascending.
        vectors: (n, D, D) float64, written, eigenvectors as *rows*; of size zero if they are not wanted.
        start: First block.
        stop: Block after the last one.
    """
    memory = _memory(source.shape[2], vectors)
    for block in range(start, stop):
        memory[0][:] = 0.0
        _gather_symmetric(source, block * WIDTH, memory[0])
        _solve(memory, ridge, pairs, values, vectors, block * WIDTH)


@kernel
def solve_gram(source: Array, ridge: float, pairs: Array, values: Array, vectors: Array, start: int, stop: int) -> None:
    """The same for M'M + ridge I, of ``source`` (n, V, D) float32 or float64, contiguous."""
    memory = _memory(source.shape[2], vectors)
    for block in range(start, stop):
        memory[0][:] = 0.0
        first = block * WIDTH
        if first + WIDTH <= len(source):
            _gather_gram(source, first, memory[5], memory[0])
        else:
            _gather_gram(_repeated(source, first), 0, memory[5], memory[0])
        _solve(memory, ridge, pairs, values, vectors, block * WIDTH)
