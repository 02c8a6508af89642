"""Powers 2**x of vectors of :mod:`batteries.kernels.float32_vectors`. Importing this module imports numba and llvmlite."""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

from typing import Any

from llvmlite import ir

from batteries.kernels.float32_vectors import fill
from batteries.kernels.vector_type import intrinsic
from batteries.kernels.vectors import Vector, njit, where_above

__all__ = ["exp2"]

# coefficients of 2**r for |r| <= 1/2 beside the constant 1: minimax fit by Lawson's reweighting (1961), relative error 9e-8
POWERS = 0.6931469775988576, 0.24022242085173126, 0.05550733743691008, 0.009671512648917302, 0.0013264727065392945
SMALLEST = -127.0  # exponent at and below which the result is zero
ROUNDER = 1.5 * 2**23 + 127  # adding this rounds to an integer, and leaves the biased exponent in the last bits
MANTISSA = 23  # bits


@intrinsic
def _exponent(typing: Any, x: Any) -> Any:
    """Return the number whose exponent is in the last bits of x."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.bitcast(args[0], x.integers), ir.Constant(x.integers, [MANTISSA] * x.width))
        return builder.bitcast(bits, x.llvm)

    return x(x), emit


@njit
def exp2(x: Vector) -> Vector:
    """Compute 2**x for x < 127.

    The relative error is at most 2e-7 (measured at a million points of [-1/2, 1/2] in float32; elsewhere only the exponent
    differs). NaN gives NaN, and x below -126.5, including minus infinity, gives zero.
    """
    smallest, rounder = fill(SMALLEST), fill(ROUNDER)
    x = where_above(smallest, x, smallest, x)
    rounded = x + rounder
    r = x - (rounded - rounder)
    y = fill(POWERS[4]) * r + fill(POWERS[3])
    y = y * r + fill(POWERS[2])
    y = y * r + fill(POWERS[1])
    y = y * r + fill(POWERS[0])
    return (y * r + fill(1.0)) * _exponent(rounded)
