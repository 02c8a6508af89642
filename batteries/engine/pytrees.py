"""Registration of outputs as pytrees, which torch's transforms, exports and graph tracers flatten and rebuild.

They treat any other object as a constant: ``make_fx`` would store its tensors in the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch.utils import _pytree

__all__ = ["register", "register_fields"]

T = TypeVar("T")


def register(cls: type[T], parts: Callable[[T], tuple[Sequence[Any], tuple[Any, ...]]], whole: Callable[..., T]) -> None:
    """Register a class as a pytree.

    Args:
        cls: Class to register.
        parts: Function that splits an object into its parts with tensors and its other fields, names and numbers in tuples.
        whole: Function that makes an object of the parts with tensors, one argument each, followed by the other fields.
    """
    _pytree.register_pytree_node(
        cls,
        lambda made: (list(parts(made)[0]), parts(made)[1]),
        lambda children, rest: whole(*children, *rest),
        serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        to_dumpable_context=list,
        from_dumpable_context=_tuples,
    )


def register_fields(cls: type[Any], tensors: Sequence[str], rest: Sequence[str] = ()) -> None:
    """Register a dataclass as a pytree, by the names of its fields."""

    def parts(made: Any) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(made, name) for name in tensors], tuple(getattr(made, name) for name in rest)

    register(cls, parts, lambda *given: cls(**dict(zip((*tensors, *rest), given, strict=True))))


def _tuples(rest: Any) -> Any:
    """JSON has no tuples."""
    return tuple(map(_tuples, rest)) if isinstance(rest, list) else rest
