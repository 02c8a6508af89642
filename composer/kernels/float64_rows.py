"""Rows of float64 as a numba type, each as wide as the matrices it is taken from: the words of the cross products.

Importing this module imports numba and llvmlite. :mod:`composer.kernels.float32_vectors` has the words for float32 and for
long rows, and says why they are needed. Here a vector is one row of a small matrix: the compiler makes of it what registers
the processor has.

A row from memory is as wide as another that is given as a pattern; the first is that of :func:`spread`.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-subclassing-any, allow-any-generics

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from batteries.kernels.vector_arithmetic import arithmetic, intrinsic
from composer.kernels.float32_vectors import address, each, multiply_add

__all__ = ["Row", "add_outer", "load", "load_several", "spread", "store", "store_several", "sum_of", "width_of"]

Row = Any  # doubles inside a kernel

ALIGN = 8  # bytes: rows are read at any offset
_ANY_ORDER = ("reassoc",)
_INT = ir.IntType(32)


class _Doubles(types.Type):
    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Doubles{width}")


@register_model(_Doubles)
class _DoublesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.DoubleType(), kind.width))


def _splat(builder: Any, value: Any, width: int) -> Any:
    nothing = ir.Constant(ir.VectorType(ir.DoubleType(), width), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INT, width), [0] * width))


@intrinsic
def spread(typing: Any, value: Any, width: Any) -> Any:
    """A number in every element of a row; ``width`` is a constant of the compiled code, or another row."""
    if isinstance(width, types.IntegerLiteral):
        kind = _Doubles(width.literal_value)
    elif isinstance(width, _Doubles):
        kind = width
    else:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0], kind.width)

    return kind(types.float64, width), emit


@intrinsic
def width_of(typing: Any, row: Any) -> Any:
    """How many elements a row has."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.intp, row.width)

    return types.intp(row), emit


# ---- memory ----------------------------------------------------------------------------------------------------------


def _places(context: Any, builder: Any, memory: Any, given: Any, like: Any, count: int = 1) -> list[Any]:
    """Pointers to ``count`` rows one after the other, the first at an element of an array."""
    array, at = given
    pointer = ir.PointerType(context.get_value_type(like))
    first = address(context, builder, memory, array, at)
    steps = [ir.Constant(at.type, i * like.width) for i in range(count)]
    return [builder.bitcast(builder.gep(first, [step]), pointer) for step in steps]


@intrinsic
def load(typing: Any, memory: Any, at: Any, like: Any) -> Any:
    """The row from element ``at`` of a contiguous array on, all of which must be there."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (place,) = _places(context, builder, memory, args[:2], like)
        return builder.load(place, align=ALIGN)

    return like(memory, types.intp, like), emit


@intrinsic
def store(typing: Any, memory: Any, at: Any, row: Any) -> Any:
    """The inverse of :func:`load`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (place,) = _places(context, builder, memory, args[:2], row)
        builder.store(args[2], place, align=ALIGN)
        return context.get_dummy_value()

    return types.void(memory, types.intp, row), emit


@intrinsic
def load_several(typing: Any, memory: Any, at: Any, like: Any) -> Any:
    """As many rows as ``like`` has, one after the other in memory."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _places(context, builder, memory, args[:2], like.dtype, like.count)
        return context.make_tuple(builder, like, [builder.load(place, align=ALIGN) for place in places])

    return like(memory, types.intp, like), emit


@intrinsic
def store_several(typing: Any, memory: Any, at: Any, rows: Any) -> Any:
    """The inverse of :func:`load_several`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _places(context, builder, memory, args[:2], rows.dtype, rows.count)
        for row, place in zip(each(builder, args[2], rows), places, strict=True):
            builder.store(row, place, align=ALIGN)
        return context.get_dummy_value()

    return types.void(memory, types.intp, rows), emit


# ---- arithmetic ------------------------------------------------------------------------------------------------------


@intrinsic
def add_outer(typing: Any, sums: Any, memory: Any, at: Any, step: Any, row: Any) -> Any:
    """Each of the sums, and its own element of an array times ``row``: from ``at`` on, ``step`` apart."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given, array, at, step, row = args
        found = []
        for total in each(builder, given, sums):
            factor = builder.load(address(context, builder, memory, array, at))
            found.append(multiply_add(builder, _splat(builder, factor, sums.dtype.width), row, total))
            at = builder.add(at, step)
        return context.make_tuple(builder, sums, found)

    return sums(sums, memory, types.intp, types.intp, row), emit


@intrinsic
def sum_of(typing: Any, row: Any) -> Any:
    """Of the elements."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(row)
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType(), vector])
        reduce = builder.module.declare_intrinsic(f"llvm.vector.reduce.fadd.v{row.width}f64", (), kind)
        return builder.call(reduce, [ir.Constant(ir.DoubleType(), 0.0), args[0]], fastmath=_ANY_ORDER)

    return types.float64(row), emit


arithmetic(_Doubles)
