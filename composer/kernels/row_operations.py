"""Operations on float32 rows in vectors, for the kernels of encoders and decoders.

A vector holds a segment of one long row, or several whole rows of a narrow matrix side by side. Importing this module imports
numba and llvmlite.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-subclassing-any, allow-any-generics

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from batteries.kernels.float32_vectors import WIDTH, fill, floats
from batteries.kernels.vector_type import INT, address, intrinsic, multiply_add, transpose
from batteries.kernels.vectors import Array, Vector, njit, root, where_above

__all__ = ["BLOCK", "NARROW", "gate_rows", "repeated", "turn_block", "unit_rows"]

BLOCK = 16  # rows and columns transposed at a time
NARROW = (2, 4, 8, 16)  # widths of rows that fit a vector as a whole
_LINE = ir.VectorType(ir.FloatType(), BLOCK)

_kind = floats.kind


def _exchanged(builder: Any, x: Any, lane: Any) -> Any:
    """Return the vector whose lane i is lane ``lane(i)`` of x."""
    places = ir.Constant(ir.VectorType(INT, WIDTH), [lane(i) for i in range(WIDTH)])
    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), places)


@intrinsic
def _sum_within(typing: Any, x: Any, width: Any) -> Any:
    """Return in every lane the sum of its row of ``width`` lanes, a power of two."""
    if not isinstance(width, types.IntegerLiteral):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found, step = args[0], 1
        while step < width.literal_value:
            found = builder.fadd(found, _exchanged(builder, found, lambda lane, step=step: lane ^ step))
            step *= 2
        return found

    return x(x, width), emit


@njit
def unit_rows(x: Vector, width: int, floor: float) -> Vector:
    """Divide rows, of a width in NARROW, by their length, or by ``floor`` if that is larger."""
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
    """Multiply rows of ``width`` lanes by a matrix, whose rows are stored in an array, each repeated over a vector."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    count = width.literal_value

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = ir.Constant(x.llvm, None)
        for row in range(count):
            spread = _exchanged(builder, args[0], lambda lane, row=row: lane // count * count + row)
            where = address(context, builder, memory, args[1], ir.Constant(ir.IntType(64), row * WIDTH), to=x.llvm)
            found = multiply_add(builder, spread, builder.load(where, align=x.size), found)
        return found

    return x(x, memory, width), emit


@njit
def gate_rows(x: Vector, matrix: Array, width: int) -> Vector:
    """Multiply rows, of a width in NARROW, by a matrix of that width, with each of its rows repeated over a vector."""
    if width == 2:
        return _times(x, matrix, 2)
    if width == 4:
        return _times(x, matrix, 4)
    if width == 8:
        return _times(x, matrix, 8)
    return _times(x, matrix, 16)


@intrinsic
def _repeated(typing: Any, memory: Any, at: Any, width: Any) -> Any:
    """Fill a vector by repeating ``width`` elements of a float64 array from ``at``."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    wide, narrow = (ir.VectorType(kind, width.literal_value) for kind in (ir.DoubleType(), ir.FloatType()))

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = address(context, builder, memory, args[0], args[1], to=wide)
        line = builder.fptrunc(builder.load(where, align=memory.dtype.bitwidth // 8), narrow)
        return _exchanged(builder, line, lambda lane: lane % narrow.count)

    return _kind(memory, types.intp, width), emit


@njit
def repeated(memory: Array, at: int, width: int) -> Vector:
    """Fill a vector by repeating ``width`` elements, a width in NARROW, of a float64 array from ``at``."""
    if width == 2:
        return _repeated(memory, at, 2)
    if width == 4:
        return _repeated(memory, at, 4)
    if width == 8:
        return _repeated(memory, at, 8)
    return _repeated(memory, at, 16)


@intrinsic
def turn_block(typing: Any, source: Any, at: Any, stride: Any, into: Any, to: Any, step: Any) -> Any:
    """Transpose BLOCK rows of BLOCK elements, ``stride`` apart, to rows ``step`` apart in another array."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines, place = [], args[1]
        for _ in range(BLOCK):
            lines.append(builder.load(address(context, builder, source, args[0], place, to=_LINE), align=_kind.size))
            place = builder.add(place, args[2])
        place = args[4]
        for line in transpose(builder, lines):
            builder.store(line, address(context, builder, into, args[3], place, to=_LINE), align=_kind.size)
            place = builder.add(place, args[5])
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, into, types.intp, types.intp), emit
