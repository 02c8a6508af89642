"""Operations on tuples of vectors, which stay in registers, unlike arrays.

The length of a tuple is part of its type, so ``count`` must be a constant of the compiled code. Importing this module imports
numba and llvmlite; :mod:`batteries.kernels.vectors` re-exports its operations.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from batteries.kernels.vector_type import VectorType, address, each, intrinsic, multiply_add, splat

__all__ = [
    "add_dot",
    "add_outer",
    "add_products",
    "add_several",
    "add_shifted",
    "make_load_several",
    "make_spread_several",
    "make_zero_several",
    "store_several",
]


def _several(kind: VectorType, count: Any) -> Any:
    return types.UniTuple(kind, count.literal_value) if isinstance(count, types.IntegerLiteral) else None


def _numbers(context: Any, builder: Any, memory: Any, args: Any, tuple_type: Any) -> list[Any]:
    """Broadcast one element per vector of a tuple, consecutive in an array from a given place."""
    array, at = args
    first = address(context, builder, memory, array, at)
    places = [builder.gep(first, [ir.Constant(at.type, i)]) for i in range(tuple_type.count)]
    return [splat(builder, builder.load(place), tuple_type.dtype.width) for place in places]


def _apart(context: Any, builder: Any, memory: Any, args: Any, tuple_type: Any) -> list[Any]:
    """Return pointers to the vectors of a tuple, given an array, the first one's place and the stride."""
    array, at, stride = args
    places = []
    for _ in range(tuple_type.count):
        places.append(address(context, builder, memory, array, at, to=tuple_type.dtype.llvm))
        at = builder.add(at, stride)
    return places


def make_spread_several(kind: VectorType) -> Any:
    """See :class:`batteries.kernels.vectors.Vectors`."""

    def spread_several(typing: Any, memory: Any, at: Any, count: Any) -> Any:
        several = _several(kind, count)

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return context.make_tuple(builder, several, _numbers(context, builder, memory, args[:2], several))

        return several and (several(memory, types.intp, count), emit)

    return intrinsic(spread_several)


def make_load_several(kind: VectorType) -> Any:
    """See :class:`batteries.kernels.vectors.Vectors`."""

    def load_several(typing: Any, memory: Any, at: Any, stride: Any, count: Any) -> Any:
        several = _several(kind, count)

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            places = _apart(context, builder, memory, args[:3], several)
            return context.make_tuple(builder, several, [builder.load(place, align=kind.size) for place in places])

        return several and (several(memory, types.intp, types.intp, count), emit)

    return intrinsic(load_several)


def make_zero_several(kind: VectorType) -> Any:
    """See :class:`batteries.kernels.vectors.Vectors`."""

    def zero_several(typing: Any, count: Any) -> Any:
        several = _several(kind, count)

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return context.make_tuple(builder, several, [ir.Constant(kind.llvm, None)] * several.count)

        return several and (several(count), emit)

    return intrinsic(zero_several)


@intrinsic
def store_several(typing: Any, memory: Any, at: Any, stride: Any, vectors: Any) -> Any:
    """Store the vectors of a tuple in an array: the first at ``at``, the others ``stride`` apart."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _apart(context, builder, memory, args[:3], vectors)
        for vector, place in zip(each(builder, args[3], vectors), places, strict=True):
            builder.store(vector, place, align=vectors.dtype.size)
        return context.get_dummy_value()

    return types.void(memory, types.intp, types.intp, vectors), emit


@intrinsic
def add_several(typing: Any, sums: Any, memory: Any, at: Any, stride: Any) -> Any:
    """Add a vector of an array to each of the sums: the first at ``at``, the others ``stride`` apart."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _apart(context, builder, memory, args[1:], sums)
        pairs = zip(each(builder, args[0], sums), places, strict=True)
        found = [builder.fadd(x, builder.load(place, align=sums.dtype.size)) for x, place in pairs]
        return context.make_tuple(builder, sums, found)

    return sums(sums, memory, types.intp, types.intp), emit


@intrinsic
def add_products(typing: Any, sums: Any, x: Any, memory: Any, at: Any) -> Any:
    """Add to each of the sums x times its own element of an array, consecutive from ``at``."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        factors = _numbers(context, builder, memory, args[2:], sums)
        pairs = zip(factors, each(builder, args[0], sums), strict=True)
        return context.make_tuple(builder, sums, [multiply_add(builder, args[1], factor, total) for factor, total in pairs])

    return sums(sums, x, memory, types.intp), emit


@intrinsic
def add_shifted(typing: Any, sums: Any, x: Any, memory: Any, at: Any) -> Any:
    """Add to each of the sums x times its own vector of an array: the first at ``at``, the others one element further each."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = _apart(context, builder, memory, (*args[2:], ir.Constant(args[3].type, 1)), sums)
        pairs = zip(each(builder, args[0], sums), places, strict=True)
        found = [multiply_add(builder, args[1], builder.load(place, align=sums.dtype.size), so_far) for so_far, place in pairs]
        return context.make_tuple(builder, sums, found)

    return sums(sums, x, memory, types.intp), emit


@intrinsic
def add_outer(typing: Any, sums: Any, x: Any, memory: Any, at: Any, stride: Any) -> Any:
    """Add products as :func:`add_products` does, of elements ``stride`` apart: a row of one matrix times a column."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at, found = args[3], []
        for so_far in each(builder, args[0], sums):
            factor = splat(builder, builder.load(address(context, builder, memory, args[2], at)), x.width)
            found.append(multiply_add(builder, args[1], factor, so_far))
            at = builder.add(at, args[4])
        return context.make_tuple(builder, sums, found)

    return sums(sums, x, memory, types.intp, types.intp), emit


@intrinsic
def add_dot(typing: Any, total: Any, vectors: Any, memory: Any, at: Any) -> Any:
    """Add to a vector each of the vectors times its own element of an array, consecutive from ``at``."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, factors = args[0], _numbers(context, builder, memory, args[2:], vectors)
        for vector, factor in zip(each(builder, args[1], vectors), factors, strict=True):
            total = multiply_add(builder, vector, factor, total)
        return total

    return total(total, vectors, memory, types.intp), emit
