"""Arithmetic for numba types that are vectors of the processor, as the modules of vectors define them.

Importing this module imports numba.
"""

# mypy: allow-untyped-calls, allow-untyped-decorators, allow-any-generics

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from numba import extending, types
from numba.extending import overload

__all__ = ["CONTRACT", "arithmetic", "intrinsic"]

CONTRACT = ("contract",)  # may become a fused multiply-add

intrinsic: Any = extending.intrinsic  # its declared type leaves the typing context in the signature


def arithmetic(kind: type[types.Type]) -> None:
    """+, -, * and / on two vectors of one type, by LLVM instructions that may be contracted to a fused multiply-add."""
    for operation, instruction in (
        (operator.add, "fadd"),
        (operator.sub, "fsub"),
        (operator.mul, "fmul"),
        (operator.truediv, "fdiv"),
    ):
        _define(kind, operation, instruction)


def _define(kind: type[types.Type], operation: Callable[..., Any], instruction: str) -> None:
    def typed(typing: Any, x: Any, y: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], args[1], flags=CONTRACT)

        return x(x, y), emit

    emitted = intrinsic(typed)

    @overload(operation)
    def chosen(x: Any, y: Any) -> Any:
        if isinstance(x, kind) and x == y:
            return spelled
        return None

    def spelled(x: Any, y: Any) -> Any:
        return emitted(x, y)
