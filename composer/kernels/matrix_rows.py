"""Rows of small square matrices as float64 vectors, each as wide as its matrix, for the kernels of cross products.

The width is a compile-time constant of the vector's type: all functions except :func:`zero_row` take it from an existing row
passed as a pattern. The compiler splits a row into the processor's registers.

Importing this module imports numba and llvmlite.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from batteries.kernels.vector_type import VectorType, address, intrinsic, splat

__all__ = ["fill_like", "load_like", "load_several_like", "width_of", "zero_row"]


@intrinsic
def zero_row(typing: Any, width: Any) -> Any:
    """Return a row of ``width`` zeros."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    kind = VectorType(types.float64, width.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(kind.llvm, None)

    return kind(width), emit


@intrinsic
def fill_like(typing: Any, value: Any, like: Any) -> Any:
    """Return a row with a number in every element."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return splat(builder, args[0], like.width)

    return like(types.float64, like), emit


@intrinsic
def width_of(typing: Any, row: Any) -> Any:
    """Return the number of elements of a row, a compile-time constant."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.intp, row.width)

    return types.intp(row), emit


@intrinsic
def load_like(typing: Any, memory: Any, at: Any, like: Any) -> Any:
    """Load a whole row from element ``at`` of a contiguous array."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(address(context, builder, memory, *args[:2], to=like.llvm), align=like.size)

    return like(memory, types.intp, like), emit


@intrinsic
def load_several_like(typing: Any, memory: Any, at: Any, like: Any) -> Any:
    """Load as many adjacent rows as ``like`` has."""
    row = like.dtype

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = address(context, builder, memory, *args[:2])
        places = [builder.gep(first, [ir.Constant(args[1].type, i * row.width)]) for i in range(like.count)]
        rows = [builder.load(builder.bitcast(place, row.llvm.as_pointer()), align=row.size) for place in places]
        return context.make_tuple(builder, like, rows)

    return like(memory, types.intp, like), emit
