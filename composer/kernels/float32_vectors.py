"""Vectors of float32 as a numba type: the words in which the kernels of this package are written.

Importing this module imports numba and llvmlite. The reasons for a type of our own are those of
:mod:`batteries.kernels.float64_vectors`: what the compiler must prove before it vectorises a loop, the author of the loop
knows.

One vector is four registers of AVX-512's thirty-two; the compiler takes it apart. Four rather than one because a multiply-add
needs others beside it to hide its latency, and because a number is then spread once for all four. Elsewhere, with sixteen
registers of half the size or less, it is two or four of those: with four times as many the sums of a convolution would not fit
(23 nanoseconds a pixel became 57).
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-subclassing-any, allow-any-generics

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import models, register_model

from batteries.kernels.vector_arithmetic import CONTRACT, arithmetic, intrinsic

__all__ = [
    "WIDTH",
    "Array",
    "Vector",
    "add_dot",
    "add_products",
    "add_several",
    "fill",
    "load",
    "load_part",
    "load_several",
    "magnitude",
    "njit",
    "spread_several",
    "store",
    "store_part",
    "store_several",
    "where_above",
    "zero_several",
]

_config: Any = numba.config  # its attributes are made from the environment
FEATURES = binding.get_host_cpu_features().flatten() if _config.CPU_FEATURES is None else _config.CPU_FEATURES  # as numba does
WIDTH = 64 if "+avx512f" in FEATURES else 16  # floats of a vector

njit: Any = numba.njit  # its declared type takes a function of integers for a signature
Array = np.ndarray
Vector = Any  # WIDTH floats inside a kernel

ALIGN = 4  # bytes: rows are read at any offset
INT = ir.IntType(32)
FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
INTS = ir.VectorType(INT, WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)
_POINTER = ir.PointerType(FLOATS)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Floats{WIDTH}")


lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, FLOATS)


# ---- memory ----------------------------------------------------------------------------------------------------------


def address(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Where element ``at`` of a contiguous array is, whatever its axes."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def splat(builder: Any, value: Any, vector: Any = FLOATS) -> Any:
    """One number in every lane."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(INTS, [0] * WIDTH))


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.bitcast(address(context, builder, signature.args[0], args[0], args[1]), _POINTER)


def _first(builder: Any, count: Any) -> Any:
    """A mask of the first ``count`` lanes."""
    numbers = ir.Constant(INTS, list(range(WIDTH)))
    return builder.icmp_signed("<", numbers, splat(builder, builder.trunc(count, INT), INTS))


@intrinsic
def load(typing: Any, memory: Any, at: Any) -> Any:
    """A vector from element ``at`` of an array on, all of which must be there."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature, args), align=ALIGN)

    return lanes(memory, types.intp), emit


@intrinsic
def store(typing: Any, memory: Any, at: Any, value: Any) -> Any:
    """The inverse of :func:`load`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature, args), align=ALIGN)
        return context.get_dummy_value()

    return types.void(memory, types.intp, lanes), emit


@intrinsic
def load_part(typing: Any, memory: Any, at: Any, count: Any) -> Any:
    """As :func:`load`, but the first ``count`` elements only, and zeros after them; nothing beyond them is touched."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(FLOATS, [_POINTER, INT, _BITS, FLOATS])
        masked = builder.module.declare_intrinsic(f"llvm.masked.load.v{WIDTH}f32.p0", (), kind)
        where = _pointer(context, builder, signature, args)
        return builder.call(masked, [where, ir.Constant(INT, ALIGN), _first(builder, args[2]), ir.Constant(FLOATS, None)])

    return lanes(memory, types.intp, types.intp), emit


@intrinsic
def store_part(typing: Any, memory: Any, at: Any, value: Any, count: Any) -> Any:
    """The inverse of :func:`load_part`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [FLOATS, _POINTER, INT, _BITS])
        masked = builder.module.declare_intrinsic(f"llvm.masked.store.v{WIDTH}f32.p0", (), kind)
        where = _pointer(context, builder, signature, args)
        builder.call(masked, [args[2], where, ir.Constant(INT, ALIGN), _first(builder, args[3])])
        return context.get_dummy_value()

    return types.void(memory, types.intp, lanes, types.intp), emit


@intrinsic
def fill(typing: Any, value: Any) -> Any:
    """A number in every lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return splat(builder, builder.fptrunc(args[0], ir.FloatType()))

    return lanes(types.float64), emit


# ---- several vectors at once -----------------------------------------------------------------------------------------
# A tuple of vectors stays in registers where an array would not. How many they are is part of their type, so ``count`` must be
# a constant of the compiled code.


def _numbers(context: Any, builder: Any, kind: Any, array: Any, at: Any, count: int) -> list[Any]:
    """``count`` elements of an array from ``at`` on, each in every lane."""
    first = address(context, builder, kind, array, at)
    return [splat(builder, builder.load(builder.gep(first, [ir.Constant(at.type, i)]))) for i in range(count)]


def each(builder: Any, vectors: Any, kind: Any) -> list[Any]:
    return [builder.extract_value(vectors, i) for i in range(kind.count)]


def multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    return builder.fadd(builder.fmul(x, y, flags=CONTRACT), total, flags=CONTRACT)


@intrinsic
def spread_several(typing: Any, memory: Any, at: Any, count: Any) -> Any:
    """``count`` elements of an array from ``at`` on, each in every lane of a vector."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    several = types.UniTuple(lanes, count.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = _numbers(context, builder, signature.args[0], args[0], args[1], several.count)
        return context.make_tuple(builder, several, found)

    return several(memory, types.intp, count), emit


@intrinsic
def load_several(typing: Any, memory: Any, at: Any, stride: Any, count: Any) -> Any:
    """``count`` vectors of an array, the first from ``at`` on, the others ``stride`` apart."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    several = types.UniTuple(lanes, count.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = [builder.load(where, align=ALIGN) for where in _apart(context, builder, signature.args, args, several.count)]
        return context.make_tuple(builder, several, found)

    return several(memory, types.intp, types.intp, count), emit


@intrinsic
def zero_several(typing: Any, count: Any) -> Any:
    """``count`` vectors of zeros."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    several = types.UniTuple(lanes, count.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, several, [ir.Constant(FLOATS, None)] * several.count)

    return several(count), emit


@intrinsic
def add_several(typing: Any, sums: Any, memory: Any, at: Any, stride: Any) -> Any:
    """Each of the sums, and a vector of an array: the first from ``at`` on, the others ``stride`` apart."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _apart(context, builder, signature.args[1:], args[1:], sums.count)
        pairs = zip(each(builder, args[0], sums), places, strict=True)
        return context.make_tuple(builder, sums, [builder.fadd(x, builder.load(where, align=ALIGN)) for x, where in pairs])

    return sums(sums, memory, types.intp, types.intp), emit


@intrinsic
def store_several(typing: Any, memory: Any, at: Any, stride: Any, vectors: Any) -> Any:
    """The inverse of :func:`load_several`."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _apart(context, builder, signature.args, args, vectors.count)
        for vector, where in zip(each(builder, args[3], vectors), places, strict=True):
            builder.store(vector, where, align=ALIGN)
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, vectors), emit


def _apart(context: Any, builder: Any, kinds: Any, args: Any, count: int) -> list[Any]:
    """Where ``count`` vectors begin, given an array, the first one's place and the stride."""
    array, at, stride = args[:3]
    places = []
    for _ in range(count):
        places.append(builder.bitcast(address(context, builder, kinds[0], array, at), _POINTER))
        at = builder.add(at, stride)
    return places


@intrinsic
def add_products(typing: Any, sums: Any, x: Any, memory: Any, at: Any) -> Any:
    """Each of the sums, and x times its own element of an array, from ``at`` on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors = _numbers(context, builder, memory, args[2], args[3], sums.count)
        pairs = zip(factors, each(builder, args[0], sums), strict=True)
        return context.make_tuple(builder, sums, [multiply_add(builder, args[1], factor, total) for factor, total in pairs])

    return sums(sums, lanes, memory, types.intp), emit


@intrinsic
def add_dot(typing: Any, total: Any, vectors: Any, memory: Any, at: Any) -> Any:
    """A vector, and each of the vectors times its own element of an array, from ``at`` on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, factors = args[0], _numbers(context, builder, memory, args[2], args[3], vectors.count)
        for vector, factor in zip(each(builder, args[1], vectors), factors, strict=True):
            total = multiply_add(builder, vector, factor, total)
        return total

    return lanes(lanes, vectors, memory, types.intp), emit


# ---- arithmetic ------------------------------------------------------------------------------------------------------


@intrinsic
def where_above(typing: Any, x: Any, y: Any, then: Any, otherwise: Any) -> Any:
    """``then`` in the lanes with x > y, else ``otherwise``; a NaN is above nothing, nor anything above it."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return lanes(x, y, then, otherwise), emit


@intrinsic
def magnitude(typing: Any, x: Any) -> Any:
    """|x|."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(FLOATS, [FLOATS])
        return builder.call(builder.module.declare_intrinsic(f"llvm.fabs.v{WIDTH}f32", (), kind), args)

    return lanes(x), emit


arithmetic(_Lanes)
