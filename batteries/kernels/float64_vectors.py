"""Eight doubles as a numba type: the words in which the kernels behind :mod:`batteries.kernels.eigensolver` are written.

Importing this module imports numba and llvmlite.

Element (i, j) of eight matrices is one *slot* of eight doubles, one vector register on AVX-512 and two on AVX2, so that every
operation below is one for eight matrices. The type is our own rather than left to the compiler: it cannot know that two rows
of one scratch array do not overlap, and an inner loop of eight with a check for that in front is slower than scalars.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-subclassing-any, allow-any-generics

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from batteries.kernels.vector_arithmetic import arithmetic, intrinsic

__all__ = [
    "WIDTH",
    "Array",
    "Vector",
    "any_above",
    "fill",
    "load",
    "magnitude",
    "njit",
    "root",
    "scratch",
    "store",
    "store_turned",
    "where_above",
]

WIDTH = 8  # matrices side by side

Array = np.ndarray
Vector = Any  # eight doubles inside a kernel

njit: Any = numba.njit  # its declared type takes a function of integers for a signature
_DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
_MASK = ir.IntType(WIDTH)


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
def load(typing: Any, scratch: Any, slot: Any) -> Any:
    """The slot of a scratch array from :func:`scratch`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature, args), align=8 * WIDTH)

    return _lanes(scratch, types.intp), emit


@intrinsic
def store(typing: Any, scratch: Any, slot: Any, value: Any) -> Any:
    """To the slot of a scratch array."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature, args), align=8 * WIDTH)
        return context.get_dummy_value()

    return types.void(scratch, types.intp, _lanes), emit


@intrinsic
def store_turned(typing: Any, scratch: Any, slot: Any, source: Any, first: Any, stride: Any) -> Any:
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
def fill(typing: Any, value: Any) -> Any:
    """The same number in every lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.Constant(_DOUBLES, ir.Undefined)
        first = builder.insert_element(nothing, args[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))

    return _lanes(types.float64), emit


@intrinsic
def where_above(typing: Any, x: Any, y: Any, then: Any, otherwise: Any) -> Any:
    """``then`` in the lanes with x > y, else ``otherwise``; a NaN is above nothing."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return _lanes(x, y, then, otherwise), emit


@intrinsic
def any_above(typing: Any, x: Any, y: Any) -> Any:
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


root = _unary("llvm.sqrt")
magnitude = _unary("llvm.fabs")


arithmetic(_Lanes)


@njit
def scratch(slots: int) -> Array:
    """Slots on 64-byte boundaries: a vector that straddles a cache line costs two accesses."""
    memory = np.empty((slots + 1) * WIDTH)
    skip = (-memory.ctypes.data % (8 * WIDTH)) // 8
    return memory[skip : skip + slots * WIDTH]
