"""Numba type of a SIMD vector, and helpers to emit instructions on it.

Importing this module imports numba and llvmlite. :mod:`batteries.kernels.vectors` has the operations that kernels are written
in; a kernel that needs another instruction emits it with these helpers.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-subclassing-any, allow-any-generics

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.extending import models, register_model

__all__ = [
    "CONTRACT",
    "INT",
    "Array",
    "Vector",
    "VectorType",
    "address",
    "call",
    "each",
    "intrinsic",
    "multiply_add",
    "njit",
    "splat",
    "transpose",
]

Array = np.ndarray
Vector = Any  # a vector inside a kernel

njit: Any = numba.njit  # its declared type mistakes a function of integers for a signature
intrinsic: Any = extending.intrinsic  # its declared type leaves the typing context in the signature
CONTRACT = ("contract",)  # may become a fused multiply-add
INT = ir.IntType(32)


class VectorType(types.Type):
    """Vector of a number of elements of one dtype; the compiler splits it over several registers if necessary.

    The name includes both, since names of compiled functions contain it: two types of one name would share code.

    Args:
        dtype: numba's float32 or float64.
        width: Number of elements.
    """

    def __init__(self, dtype: Any, width: int) -> None:
        self.dtype = dtype
        self.width = width
        super().__init__(name=f"{dtype}x{width}")

    @property
    def size(self) -> int:
        """Size of an element in bytes."""
        return int(self.dtype.bitwidth) // 8

    @property
    def element(self) -> Any:
        """LLVM type of an element."""
        return ir.FloatType() if self.dtype == types.float32 else ir.DoubleType()

    @property
    def llvm(self) -> Any:
        """LLVM type of the vector."""
        return ir.VectorType(self.element, self.width)

    @property
    def integers(self) -> Any:
        """LLVM type of as many 32-bit integers: for a float32 vector, the type of its bits."""
        return ir.VectorType(INT, self.width)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.llvm)


def address(context: Any, builder: Any, array_type: Any, array: Any, at: Any, *, to: Any = None) -> Any:
    """Return a pointer to element ``at`` of a contiguous array of any number of axes, cast to an LLVM type if given."""
    place = builder.gep(context.make_array(array_type)(context, builder, array).data, [at])
    return builder.bitcast(place, to.as_pointer()) if to else place


def splat(builder: Any, value: Any, width: int) -> Any:
    """Broadcast a number to every lane."""
    nothing = ir.Constant(ir.VectorType(value.type, width), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INT, width), [0] * width))


def call(builder: Any, kind: Any, name: str, given: Any, *, result: Any = None, suffix: str = "", fast: Any = ()) -> Any:
    """Call the LLVM intrinsic of a name for this type of vector."""
    declared = ir.FunctionType(result or kind.llvm, [argument.type for argument in given])
    typed = f"llvm.{name}.v{kind.width}f{kind.dtype.bitwidth}{suffix}"
    return builder.call(builder.module.declare_intrinsic(typed, (), declared), given, fastmath=fast)


def each(builder: Any, vectors: Any, kind: Any) -> list[Any]:
    """Extract the vectors of a tuple."""
    return [builder.extract_value(vectors, i) for i in range(kind.count)]


def multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """Compute ``x y + total``, rounded once if the processor can."""
    return builder.fadd(builder.fmul(x, y, flags=CONTRACT), total, flags=CONTRACT)


def transpose(builder: Any, lines: list[Any]) -> list[Any]:
    """Transpose a square block of LLVM vectors, whose width is a power of two.

    In registers: swaps the off-diagonal halves, then quarters within the halves, and so on down to single elements.
    """
    lines, step = list(lines), len(lines) // 2
    while step:
        _exchange(builder, lines, step)
        step //= 2
    return lines


def _exchange(builder: Any, lines: list[Any], step: int) -> None:
    """Swap the upper right and lower left blocks of every two lines ``step`` apart."""
    width = len(lines)
    kept = [lane if not lane & step else lane - step + width for lane in range(width)]
    moved = [lane + step if not lane & step else lane + width for lane in range(width)]
    masks = [ir.Constant(ir.VectorType(INT, width), mask) for mask in (kept, moved)]
    for i in range(width):
        if not i & step:
            upper, lower = lines[i], lines[i + step]
            lines[i], lines[i + step] = (builder.shuffle_vector(upper, lower, mask) for mask in masks)
