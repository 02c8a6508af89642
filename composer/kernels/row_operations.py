"""Rows of float32 in vectors: what the kernels of encoders and decoders do beside the vectors' own arithmetic.

A vector holds a stretch of one long row, or several whole rows of a narrow matrix side by side. Importing this module imports
numba and llvmlite.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-subclassing-any, allow-any-generics

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from batteries.kernels.vector_arithmetic import intrinsic
from composer.kernels.float32_vectors import (
    ALIGN,
    FLOATS,
    INT,
    INTS,
    WIDTH,
    Array,
    Vector,
    address,
    each,
    fill,
    lanes,
    multiply_add,
    njit,
    splat,
    where_above,
)

__all__ = ["BLOCK", "NARROW", "add_rows", "gate_rows", "repeated", "root", "total", "turn_block", "unit_rows"]

BLOCK = 16  # rows and columns that are transposed at a time
NARROW = (2, 4, 8, 16)  # widths of which a vector holds whole rows
_LINE = ir.VectorType(ir.FloatType(), BLOCK)


@intrinsic
def add_rows(typing: Any, sums: Any, x: Any, memory: Any, at: Any, stride: Any) -> Any:
    """Each of the sums, and x times its own element of an array, from ``at`` on, ``stride`` apart."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at, found = args[3], []
        for so_far in each(builder, args[0], sums):
            factor = splat(builder, builder.load(address(context, builder, memory, args[2], at)))
            found.append(multiply_add(builder, args[1], factor, so_far))
            at = builder.add(at, args[4])
        return context.make_tuple(builder, sums, found)

    return sums(sums, lanes, memory, types.intp, types.intp), emit


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """The sum of the lanes, in the order that is quickest."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), FLOATS])
        summed = builder.module.declare_intrinsic(f"llvm.vector.reduce.fadd.v{WIDTH}f32", (), kind)
        return builder.call(summed, [ir.Constant(ir.FloatType(), 0.0), args[0]], fastmath=("reassoc",))

    return types.float32(x), emit


@intrinsic
def root(typing: Any, x: Any) -> Any:
    """The square root."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(FLOATS, [FLOATS])
        return builder.call(builder.module.declare_intrinsic(f"llvm.sqrt.v{WIDTH}f32", (), kind), args)

    return lanes(x), emit


def _exchanged(builder: Any, x: Any, lane: Any) -> Any:
    """The vector whose lane i is lane ``lane(i)`` of x."""
    places = ir.Constant(INTS, [lane(i) for i in range(WIDTH)])
    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), places)


@intrinsic
def _sum_within(typing: Any, x: Any, width: Any) -> Any:
    """In every lane the sum of the row that it is in, rows being ``width`` lanes, a power of two."""
    if not isinstance(width, types.IntegerLiteral):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found, step = args[0], 1
        while step < width.literal_value:
            found = builder.fadd(found, _exchanged(builder, found, lambda lane, step=step: lane ^ step))
            step *= 2
        return found

    return lanes(x, width), emit


@njit
def unit_rows(x: Vector, width: int, floor: float) -> Vector:
    """Rows of a width of NARROW, each divided by its length, which is taken for ``floor`` at least."""
    squares = x * x
    if width == 2:
        squares = _sum_within(squares, 2)
    elif width == 4:
        squares = _sum_within(squares, 4)
    elif width == 8:
        squares = _sum_within(squares, 8)
    else:
        squares = _sum_within(squares, 16)
    length, least = root(squares), fill(floor)
    return x / where_above(least, length, least, length)


@intrinsic
def _times(typing: Any, x: Any, memory: Any, width: Any) -> Any:
    """Rows of ``width`` lanes times a matrix, whose rows stand in an array, each repeated over a whole vector."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    count = width.literal_value

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = ir.Constant(FLOATS, None)
        for row in range(count):
            spread = _exchanged(builder, args[0], lambda lane, row=row: lane // count * count + row)
            where = address(context, builder, memory, args[1], ir.Constant(ir.IntType(64), row * WIDTH))
            found = multiply_add(builder, spread, builder.load(builder.bitcast(where, FLOATS.as_pointer()), align=ALIGN), found)
        return found

    return lanes(x, memory, width), emit


@njit
def gate_rows(x: Vector, matrix: Array, width: int) -> Vector:
    """Rows of a width of NARROW times a matrix of that width, each of its rows repeated over a whole vector."""
    if width == 2:
        return _times(x, matrix, 2)
    if width == 4:
        return _times(x, matrix, 4)
    if width == 8:
        return _times(x, matrix, 8)
    return _times(x, matrix, 16)


@intrinsic
def _repeated(typing: Any, memory: Any, at: Any, width: Any) -> Any:
    """``width`` elements of a float64 array from ``at`` on, over and over."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    wide, narrow = (ir.VectorType(kind, width.literal_value) for kind in (ir.DoubleType(), ir.FloatType()))

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.bitcast(address(context, builder, memory, args[0], args[1]), wide.as_pointer())
        line = builder.fptrunc(builder.load(where, align=2 * ALIGN), narrow)
        return _exchanged(builder, line, lambda lane: lane % narrow.count)

    return lanes(memory, types.intp, width), emit


@njit
def repeated(memory: Array, at: int, width: int) -> Vector:
    """Elements of a float64 array from ``at`` on, as many as a width of NARROW says, over and over."""
    if width == 2:
        return _repeated(memory, at, 2)
    if width == 4:
        return _repeated(memory, at, 4)
    if width == 8:
        return _repeated(memory, at, 8)
    return _repeated(memory, at, 16)


@intrinsic
def turn_block(typing: Any, source: Any, at: Any, stride: Any, into: Any, to: Any, step: Any) -> Any:
    """BLOCK rows of BLOCK elements, ``stride`` apart, as columns: rows ``step`` apart in another array."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines, place = [], args[1]
        for _ in range(BLOCK):
            pointer = builder.bitcast(address(context, builder, source, args[0], place), _LINE.as_pointer())
            lines.append(builder.load(pointer, align=ALIGN))
            place = builder.add(place, args[2])
        half = BLOCK // 2
        while half:
            _swap(builder, lines, half)
            half //= 2
        place = args[4]
        for line in lines:
            pointer = builder.bitcast(address(context, builder, into, args[3], place), _LINE.as_pointer())
            builder.store(line, pointer, align=ALIGN)
            place = builder.add(place, args[5])
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, into, types.intp, types.intp), emit


def _swap(builder: Any, lines: list[Any], half: int) -> None:
    """Of every two lines ``half`` apart, the upper right block and the lower left one change places."""
    kept = [lane if not lane & half else lane - half + BLOCK for lane in range(BLOCK)]
    moved = [lane + half if not lane & half else lane + BLOCK for lane in range(BLOCK)]
    masks = [ir.Constant(ir.VectorType(INT, BLOCK), mask) for mask in (kept, moved)]
    for i in range(BLOCK):
        if not i & half:
            upper, lower = lines[i], lines[i + half]
            lines[i], lines[i + half] = (builder.shuffle_vector(upper, lower, mask) for mask in masks)
