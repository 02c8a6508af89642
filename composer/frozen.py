"""Weights that cannot be trained, cast or written by accident: one copy per spec, stacked over cells.

A stack is a module without parameters. Its buffers are non-persistent (a host's state dict does not carry them), keep their
dtype through ``half()`` and the like, and are of a tensor class that refuses in-place writes. What goes around torch, by
``.data`` or by the memory itself, is found by the digests of :mod:`composer.container`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batteries import cellfile
from batteries.errors import FrozenError

WRITERS = {"__set__", "__setitem__", "__delitem__", "swap_tensors"}  # __set__: assignment to .data, .grad, .requires_grad


class FrozenTensor(torch.Tensor):
    """A tensor that refuses to be written, and so do its views; what it computes in memory of its own is an ordinary tensor.

    Two ways around it stay open, for computing and for the determined: ``as_subclass(torch.Tensor)`` and ``.data``.
    """

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        written = [kwargs["out"]] if "out" in kwargs else [*args, *kwargs.values()][:1] if _writes(func.__name__) else []
        if any(isinstance(target, cls) for target in _flat(written)):
            raise FrozenError("a write to frozen weights", code="FROZEN", found=func.__name__, remedy=_REMEDY)
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **kwargs)
            if func in OPEN or not isinstance(found, torch.Tensor) or not args or not isinstance(args[0], cls):
                return found
            shares = found.untyped_storage().data_ptr() == args[0].untyped_storage().data_ptr()
            return found.as_subclass(cls) if shares else found

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTensor:
        copied = self.as_subclass(torch.Tensor).clone().as_subclass(FrozenTensor)
        memo[id(self)] = copied
        return copied


OPEN = {torch.Tensor.as_subclass, torch.Tensor.data.__get__}  # type: ignore[attr-defined]
_REMEDY = "A container's cells never change; work on a copy: PatchSVAE.from_cell(cell)."


class Stack(nn.Module):
    """The weights of some cells of one spec.

    Args:
        weights: Per cell its arrays; all with the same names and shapes.
    """

    def __init__(self, weights: Sequence[Mapping[str, np.ndarray]]) -> None:
        super().__init__()
        self._names = tuple(weights[0])
        for name in self._names:
            stacked = torch.from_numpy(np.stack([arrays[name] for arrays in weights]))  # (C, *shape)
            self.register_buffer(_attribute(name), stacked.as_subclass(FrozenTensor), persistent=False)
        self._sealed = True

    def cell(self, index: int) -> dict[str, Tensor]:
        """The weights of one cell, as views."""
        return {name: tensor[index] for name, tensor in self.tensors().items()}

    def tensors(self) -> dict[str, Tensor]:
        """All weights (C, *shape) by tensor name, as ordinary tensors over the same memory, for computing."""
        return {name: self._buffers[_attribute(name)].as_subclass(torch.Tensor) for name in self._names}  # type: ignore[union-attr]

    def digest(self, index: int) -> str:
        """The tensor digest of one cell, computed from the memory as it is now."""
        return cellfile.tensor_digest({name: tensor.detach().cpu().numpy() for name, tensor in self.cell(index).items()})

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get("_sealed") and name in self._buffers:
            raise FrozenError("a write to frozen weights", code="FROZEN", found=f"assignment to {name}", remedy=_REMEDY)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._buffers:
            raise FrozenError("a write to frozen weights", code="FROZEN", found=f"deletion of {name}", remedy=_REMEDY)
        super().__delattr__(name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stack:
        """Follow a move to another device; keep the dtype whatever is asked."""
        for name, tensor in self._buffers.items():
            assert tensor is not None
            plain = tensor.as_subclass(torch.Tensor)
            self._buffers[name] = plain.to(fn(plain[:0]).device).as_subclass(FrozenTensor)
        return self


def _attribute(name: str) -> str:
    return name.replace(".", "__")


def _flat(targets: Sequence[Any]) -> list[Any]:
    """Targets of a write; those of torch's foreach functions come in lists."""
    return [item for target in targets for item in (target if isinstance(target, list | tuple) else [target])]


def _writes(name: str) -> bool:
    in_place_operator = name.startswith("__i") and name not in {"__invert__", "__index__", "__int__", "__iter__"}
    in_place_method = name.endswith("_") and not name.endswith("__")
    return name in WRITERS or in_place_operator or in_place_method
