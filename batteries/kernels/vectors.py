"""SIMD vectors: the operations that kernels are written in, here and in composer.

Importing this module imports numba and llvmlite.

:func:`vectors` makes the operations that create vectors of one dtype and width: from a number or from memory. The others are
shared by all vectors and take the type from their arguments. An explicit vector type replaces automatic vectorisation, which
would need a proof that two rows of one scratch array do not overlap; a loop of eight with a run-time check of that is slower
than scalar code.

An array is addressed by element, at any offset, ignoring its axes. A *slot* is a whole vector of a *scratch* array, which is
aligned to vectors, so that reading a slot touches as few cache lines as possible.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from batteries.kernels.vector_tuples import (
    add_dot,
    add_outer,
    add_products,
    add_several,
    add_shifted,
    make_load_several,
    make_spread_several,
    make_zero_several,
    store_several,
)
from batteries.kernels.vector_type import (
    CONTRACT,
    INT,
    Array,
    Vector,
    VectorType,
    address,
    call,
    intrinsic,
    njit,
    splat,
)

__all__ = [
    "Array",
    "Vector",
    "Vectors",
    "add_dot",
    "add_outer",
    "add_products",
    "add_several",
    "add_shifted",
    "any_above",
    "magnitude",
    "njit",
    "root",
    "store",
    "store_part",
    "store_several",
    "store_slot",
    "total",
    "vectors",
    "where_above",
]


class Vectors(NamedTuple):
    """Operations that create vectors of one dtype and width.

    Attributes:
        kind: Type of the vectors.
        fill: ``(number)`` to that number in every lane.
        load: ``(array, at)`` to the elements from ``at``, all within the array.
        load_part: ``(array, at, count)`` to the first ``count`` elements, then zeros; reads nothing beyond them.
        load_slot: ``(scratch array, slot)`` to the slot.
        load_several: ``(array, at, stride, count)`` to a tuple of vectors, ``stride`` apart.
        spread_several: ``(array, at, count)`` to a tuple of vectors, each with one of consecutive elements in every lane.
        zero_several: ``(count)`` to a tuple of zero vectors.
        scratch: ``(slots)`` to an uninitialised array of slots.
    """

    kind: VectorType
    fill: Any
    load: Any
    load_part: Any
    load_slot: Any
    load_several: Any
    spread_several: Any
    zero_several: Any
    scratch: Any


@cache
def vectors(dtype: type[np.float32 | np.float64], width: int) -> Vectors:
    """Make the operations for vectors of ``width`` float32 or float64 numbers."""
    kind = VectorType(types.float32 if dtype is np.float32 else types.float64, width)
    return Vectors(
        kind,
        fill=_fill(kind),
        load=_load(kind),
        load_part=_load_part(kind),
        load_slot=_load_slot(kind),
        load_several=make_load_several(kind),
        spread_several=make_spread_several(kind),
        zero_several=make_zero_several(kind),
        scratch=_scratch(kind, dtype),
    )


# ---- one vector ------------------------------------------------------------------------------------------------------


def _fill(kind: VectorType) -> Any:
    def fill(typing: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = args[0] if kind.dtype == types.float64 else builder.fptrunc(args[0], kind.element)
            return splat(builder, value, kind.width)

        return kind(types.float64), emit

    return intrinsic(fill)


def _load(kind: VectorType) -> Any:
    def load(typing: Any, memory: Any, at: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(address(context, builder, memory, *args, to=kind.llvm), align=kind.size)

        return kind(memory, types.intp), emit

    return intrinsic(load)


@intrinsic
def store(typing: Any, memory: Any, at: Any, value: Any) -> Any:
    """Store a vector in an array, from element ``at``."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], address(context, builder, memory, *args[:2], to=value.llvm), align=value.size)
        return context.get_dummy_value()

    return types.void(memory, types.intp, value), emit


def _load_part(kind: VectorType) -> Any:
    def load_part(typing: Any, memory: Any, at: Any, count: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            where = address(context, builder, memory, *args[:2], to=kind.llvm)
            given = [where, ir.Constant(INT, kind.size), _first(builder, kind, args[2]), ir.Constant(kind.llvm, None)]
            return call(builder, kind, "masked.load", given, suffix=".p0")

        return kind(memory, types.intp, types.intp), emit

    return intrinsic(load_part)


@intrinsic
def store_part(typing: Any, memory: Any, at: Any, value: Any, count: Any) -> Any:
    """Store the first ``count`` lanes of a vector in an array, from element ``at``."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = address(context, builder, memory, *args[:2], to=value.llvm)
        given = [args[2], where, ir.Constant(INT, value.size), _first(builder, value, args[3])]
        call(builder, value, "masked.store", given, result=ir.VoidType(), suffix=".p0")
        return context.get_dummy_value()

    return types.void(memory, types.intp, value, types.intp), emit


def _first(builder: Any, kind: VectorType, count: Any) -> Any:
    """Make the mask of the first ``count`` lanes."""
    numbers = ir.Constant(kind.integers, list(range(kind.width)))
    return builder.icmp_signed("<", numbers, splat(builder, builder.trunc(count, INT), kind.width))


# ---- slots of scratch arrays -----------------------------------------------------------------------------------------


def _scratch(kind: VectorType, dtype: type[np.float32 | np.float64]) -> Any:
    width, size = kind.width, kind.size

    @njit
    def scratch(slots: int) -> Array:
        memory = np.empty((slots + 1) * width, dtype)
        skip = (-memory.ctypes.data % (size * width)) // size
        return memory[skip : skip + slots * width]

    return scratch


def _slot(context: Any, builder: Any, memory: Any, kind: VectorType, args: Any) -> Any:
    array, slot = args
    return address(context, builder, memory, array, builder.mul(slot, ir.Constant(slot.type, kind.width)), to=kind.llvm)


def _load_slot(kind: VectorType) -> Any:
    def load_slot(typing: Any, memory: Any, slot: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_slot(context, builder, memory, kind, args), align=kind.size * kind.width)

        return kind(memory, types.intp), emit

    return intrinsic(load_slot)


@intrinsic
def store_slot(typing: Any, memory: Any, slot: Any, value: Any) -> Any:
    """Store a vector in a slot of a scratch array."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _slot(context, builder, memory, value, args[:2]), align=value.size * value.width)
        return context.get_dummy_value()

    return types.void(memory, types.intp, value), emit


# ---- arithmetic ------------------------------------------------------------------------------------------------------


@intrinsic
def where_above(typing: Any, x: Any, y: Any, then: Any, otherwise: Any) -> Any:
    """Select ``then`` in the lanes with x > y, else ``otherwise``; comparisons with NaN are false."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return x(x, y, then, otherwise), emit


@intrinsic
def any_above(typing: Any, x: Any, y: Any) -> Any:
    """Return True if x > y in any lane."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = ir.IntType(x.width)
        mask = builder.bitcast(builder.fcmp_ordered(">", args[0], args[1]), bits)
        return builder.icmp_unsigned("!=", mask, ir.Constant(bits, 0))

    return types.boolean(x, y), emit


@intrinsic
def total(typing: Any, x: Any) -> Any:
    """Sum the lanes, in the fastest order."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        given = [ir.Constant(x.element, 0.0), args[0]]
        return call(builder, x, "vector.reduce.fadd", given, result=x.element, fast=("reassoc",))

    return x.dtype(x), emit


def _function(name: str) -> Any:
    """Make an operation of an LLVM intrinsic of one vector."""

    def typed(typing: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return call(builder, x, name, args)

        return x(x), emit

    return intrinsic(typed)


root = _function("sqrt")
magnitude = _function("fabs")


def _define(operation: Callable[..., Any], instruction: str) -> None:
    """Define an operator on two vectors of one type, which may be contracted to a fused multiply-add."""

    def typed(typing: Any, x: Any, y: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], args[1], flags=CONTRACT)

        return x(x, y), emit

    emitted = intrinsic(typed)

    @overload(operation)
    def chosen(x: Any, y: Any) -> Any:
        return spelled if isinstance(x, VectorType) and x == y else None

    def spelled(x: Any, y: Any) -> Any:
        return emitted(x, y)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")
