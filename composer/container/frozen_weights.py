"""Frozen weights, which cannot be trained, cast or overwritten by accident: one copy per spec, stacked over cells.

A stack is a module without parameters. Its buffers are non-persistent (absent from a host's state dict), keep their dtype
through ``half()`` and the like, and are of a tensor class that refuses writes. Writes that bypass torch, by ``.data`` or
through memory, are detected by the digests of :mod:`composer.container.container`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from batteries.cell import weights_file
from batteries.engine import dispatch
from batteries.engine.torch_settings import neutral
from batteries.errors import FrozenError

NO_CELL = "0" * 64  # matches no digest
WRITERS = {"__set__", "__setitem__", "__delitem__"}  # __set__: assignment to .data, .grad, .requires_grad
STATISTICS = {"running_mean", "running_var"}  # written by a batch norm in training, though not marked in its schema
TRAINING = {"training", "train", "use_input_stats"}
IN_PLACE = {"copy_", "lerp_", "add_", "sub_", "addcmul_", "addcdiv_"}  # used to average and synchronise buffers
OUT = {"lerp", "add", "sub", "addcmul", "addcdiv"}  # the same operators with ``out=``
AVERAGING = {*IN_PLACE, *OUT, *(f"_foreach_{name}" for name in IN_PLACE), "__iadd__", "__isub__", "__setitem__"}
COLLECTIVES = "c10d"  # operators whose schemas do not mark what they write
ROUNDING = 4  # units in the last place by which a mean of equal numbers may differ from them
IDENTITY = {"__class__", "__dict__"}  # attributes that torch.utils.swap_tensors exchanges first


class FrozenTensor(torch.Tensor):
    """Tensor that refuses writes, as do its views; results in new memory are ordinary tensors.

    Torch calls two hooks: one for each function called by name, and one for each operator that a function dispatches. Writes
    that bypass both are listed in docs/decisions/0004-frozen-container.md. A copy, an average or a broadcast that would leave
    every number unchanged is accepted, and writes nothing: docs/decisions/0018-state.md.
    """

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        decided_here = _writes(func.__name__) and func.__name__ not in AVERAGING
        written = [*args, *kwargs.values()][:1] if decided_here else []
        if func is torch.Tensor.__dlpack__ or any(isinstance(target, cls) for target in _flat(written)):
            raise _refusal(func)
        with torch._C.DisableTorchFunctionSubclass():
            if func in READERS:
                return _read(func, *args, **kwargs)
            if func in OPEN:
                with torch._C._DisableTorchDispatch():
                    return func(*args, **kwargs)
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        targets = [target for target in _flat(_targets(func, args, kwargs)) if isinstance(target, cls)]
        if targets:
            return _passed_over(func, args, kwargs, targets)
        with torch._C._DisableTorchDispatch():
            held = {_memory(value) for value in _flat([*args, *kwargs.values()]) if isinstance(value, cls)}
            return _faced(func(*args, **kwargs), held)

    def as_subclass(self, cls: type[Any]) -> Any:
        """Return a view as another class, writable if that class is, without calling ``__torch_function__``."""
        with torch._C._DisableTorchDispatch():
            return super().as_subclass(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in IDENTITY:
            raise FrozenError("write to frozen weights", code="FROZEN", found=f"assignment to {name}", remedy=_REMEDY)
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTensor:
        copied = self.as_subclass(torch.Tensor).clone().as_subclass(FrozenTensor)
        memo[id(self)] = copied
        return copied


# _base: export follows a view to its base repeatedly
OPEN = {torch.Tensor.data.__get__, torch.Tensor._base.__get__}  # type: ignore[attr-defined, union-attr]
_TENSOR: Any = torch.Tensor
READERS = {_TENSOR.numpy, _TENSOR.__array__, _TENSOR.tolist, _TENSOR.__repr__, _TENSOR.__format__}
_REMEDY = (
    "A container's cells are never changed or differentiated: average parameters, or the state dict, which has no weights of "
    "cells; pass only parameters to functional_call; or work on a copy: PatchSVAE.from_cell(cell)."
)


class Stack(nn.Module):
    """Stacked weights of cells of one spec.

    Args:
        tensors: Weights (C, *shape) by tensor name, all of one dtype; not copied.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = tuple(tensors)
        self._held = {name: tensor.as_subclass(torch.Tensor) for name, tensor in tensors.items()}
        self._faces = {name: _face(tensor) for name, tensor in self._held.items()}
        for name, face in self._faces.items():
            self.register_buffer(_attribute(name), face, persistent=False)
        self._sealed = True

    @classmethod
    @neutral()
    def of(cls, weights: Sequence[Mapping[str, np.ndarray]], dtype: torch.dtype = torch.float32) -> Stack:
        """Stack the arrays of cells, all with the same names and shapes."""
        numbers = np.float64 if dtype == torch.float64 else np.float32
        return cls({name: torch.from_numpy(np.stack([w[name] for w in weights], dtype=numbers)) for name in weights[0]})

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return next(iter(self._held.values())).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(iter(self._held.values())).device

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights (C, *shape) by tensor name, as tensors that refuse writes."""
        return {name: self.get_buffer(_attribute(name)) for name in self._names}

    def chosen(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return the weights (c, *shape) of some cells for computing: views if the cells are adjacent, otherwise copies.

        They are ordinary tensors, which export and compilers can trace, and do not refuse writes.

        Raises:
            FrozenError: as in :meth:`refuse_others`.
        """
        self.refuse_others()
        tensors, first = self._held, places[0]
        if list(places) == list(range(first, first + len(places))):
            return {name: tensor[first : first + len(places)] for name, tensor in tensors.items()}
        return {name: tensor[list(places)] for name, tensor in tensors.items()}

    def refuse_others(self) -> None:
        """Refuse buffers substituted by ``torch.func.functional_call``, unless their numbers are equal or they have none.

        Raises:
            FrozenError: buffers with other numbers, with numbers where the cells are on the meta device, with a derivative, or
                as inputs of a graph.
        """
        in_dynamo = torch.compiler.is_dynamo_compiling()
        if torch.compiler.is_compiling() and not in_dynamo:  # an export, which substitutes its own buffers
            return
        are_inputs = not in_dynamo and dispatch.recorded(*self._faces.values())
        for name, face in self._faces.items():
            given = self._buffers[_attribute(name)]
            if given is None or (given is face and not are_inputs):
                continue
            if not self._is_ours(name, given):
                raise FrozenError(
                    "substituted frozen weights", code="FROZEN", found=f"other numbers for {name}", remedy=_REMEDY
                )

    def _is_ours(self, name: str, given: Tensor) -> bool:
        held = self._held[name]
        if dispatch.recorded(given):
            return False
        if given.is_meta or is_fake(given):
            return True
        numbers = dispatch.numbers_of(given)
        if numbers is None or held.is_meta or numbers.shape[numbers.ndim - held.ndim :] != held.shape:
            return False
        with _disable_current_modes():  # hide the comparison from modes that record or count operators
            return bool((numbers.as_subclass(torch.Tensor) == held).all())

    def digest(self, index: int) -> str:
        """Compute the tensor digest of one cell from memory."""
        arrays = {name: tensor[index].detach().cpu().numpy() for name, tensor in self._held.items()}
        if self.dtype == torch.float64 and any((array.astype(np.float32) != array).any() for array in arrays.values()):
            return NO_CELL  # not representable in the float32 of a cell's file, so it was overwritten
        return weights_file.tensor_digest(arrays)

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__dict__.get("_sealed") and name in self._buffers:
            raise FrozenError("write to frozen weights", code="FROZEN", found=f"assignment to {name}", remedy=_REMEDY)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._buffers:
            raise FrozenError("write to frozen weights", code="FROZEN", found=f"deletion of {name}", remedy=_REMEDY)
        super().__delattr__(name)

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in self.__dict__.items() if name not in {"_held", "_faces"}
        }  # restored from the buffers

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        faces = ((name, self._buffers[_attribute(name)]) for name in self._names)
        self._faces = {name: face for name, face in faces if isinstance(face, FrozenTensor)}
        self._held = {name: face.as_subclass(torch.Tensor).data for name, face in self._faces.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stack:
        """Move to another device, but never change the dtype."""
        for name, tensor in self._held.items():
            moved = self._held[name] = tensor.to(fn(tensor[:0]).device)
            self._buffers[_attribute(name)] = self._faces[name] = _face(moved)
        return self


def _face(tensor: Tensor) -> FrozenTensor:
    """Return a frozen tensor over the same memory, with its own version counter, so that accepted writes break no backward."""
    return tensor.data.as_subclass(FrozenTensor)


def _attribute(name: str) -> str:
    return name.replace(".", "__")


def _refusal(func: Callable[..., Any]) -> FrozenError:
    found = getattr(func, "__name__", str(func))
    return FrozenError("write to frozen weights", code="FROZEN", found=found, remedy=_REMEDY)


def _flat(values: Sequence[Any]) -> list[Any]:
    """Flatten values and lists of values, as torch's foreach functions and collectives take them."""
    return tree_flatten(list(values))[0]


def _writes(name: str) -> bool:
    """Return whether a function of this name writes its first argument, for those without an operator, such as ``apply_``."""
    in_place_operator = name.startswith("__i") and name not in {"__invert__", "__index__", "__int__", "__iter__"}
    in_place_method = name.endswith("_") and not name.endswith("__")
    return name in WRITERS or in_place_operator or in_place_method


def _targets(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the arguments that an operator writes."""
    schema = getattr(func, "_schema", None)  # missing in higher-order operators, such as cond
    if schema is None:
        return []
    if func.namespace == COLLECTIVES:  # type: ignore[attr-defined]
        return [*args, *kwargs.values()]
    places = [argument.name for argument in schema.arguments]
    given = dict(zip(places, args, strict=False)) | dict(kwargs)
    written = {argument.name for argument in schema.arguments if argument.alias_info and argument.alias_info.is_write}
    if any(given.get(name) for name in TRAINING):
        written |= STATISTICS
    return [value for name, value in given.items() if name in written]


def _passed_over(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], targets: Sequence[FrozenTensor]
) -> Any:
    """Run an operator that copies or averages on copies of the frozen tensors that it would write.

    Raises:
        FrozenError: any other operator, or a result that would change a number.
    """
    if func.namespace != COLLECTIVES and func._schema.name.split("::")[-1] not in AVERAGING:  # type: ignore[attr-defined]
        raise _refusal(func)
    with torch._C._DisableTorchDispatch():
        copies = {id(target): target.as_subclass(torch.Tensor).clone() for target in targets}
        given, named = tree_map(lambda value: copies.get(id(value), value), (tuple(args), dict(kwargs)))
        found = func(*given, **named)
        if func.namespace == COLLECTIVES:  # type: ignore[attr-defined]
            found[-1].wait()
        if not all(_is_same(copies[id(target)], target) for target in targets):
            raise _refusal(func)
    frozen = {id(copies[id(target)]): target for target in targets}
    return tree_map(lambda value: frozen.get(id(value), value), found)


def _is_same(found: Tensor, frozen: FrozenTensor) -> bool:
    """Return whether numbers equal the frozen ones, up to the rounding of a mean."""
    bounds = torch.finfo(frozen.dtype)
    return torch.allclose(found, frozen.as_subclass(torch.Tensor), rtol=ROUNDING * bounds.eps, atol=bounds.tiny)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _faced(found: Any, held: set[int]) -> Any:
    """Freeze those tensors of an operator's result that are views of frozen memory."""
    if isinstance(found, list | tuple):
        return type(found)(_faced(item, held) for item in found)
    ordinary = isinstance(found, Tensor) and not isinstance(found, FrozenTensor) and found.layout == torch.strided
    return found.as_subclass(FrozenTensor) if ordinary and _memory(found) in held else found


def _read(func: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Call a function that needs an ordinary tensor, and make an array over its memory read-only."""
    plain = tensor.as_subclass(torch.Tensor)
    found = func(plain, *args, **kwargs)
    if isinstance(found, np.ndarray) and found.ctypes.data == plain.data_ptr():
        found.flags.writeable = False
    return found
