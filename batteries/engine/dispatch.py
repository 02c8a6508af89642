"""Tests before a kernel reads memory: does torch, or the user's program, trace, transform or observe these tensors?

A kernel writes NumPy views of tensors, hidden from tracers, transforms, modes and subclasses. Where one of these is active,
torch's own operators do the work; the results agree to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C import _functorch
from torch._C._functorch import is_legacy_batchedtensor as _stands_for_many
from torch.autograd import forward_ad
from torch.fx.experimental import proxy_tensor
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from batteries.errors import InputError

__all__ = [
    "batched",
    "followed",
    "numbers_of",
    "plain",
    "recorded",
    "refuse_derivative",
    "refuse_transform",
    "transformed",
    "watched",
]

_CLASSES = (Tensor, torch.nn.Parameter)
_TRACING = tuple(torch._C._TorchDispatchModeKey.__members__.values())  # modes of proxy, fake and functional tensors


def plain(*given: Tensor) -> bool:
    """Return True if kernels may read these tensors: real, strided, on the CPU, and not :func:`watched`."""
    return not watched(*given) and all(map(_is_array, given))


def watched(*given: Tensor) -> bool:
    """Return True if :func:`followed`, or if a mode of the user's sees each call, such as a counter of operators."""
    return followed(*given) or is_in_torch_dispatch_mode() or _in_function_mode()


def followed(*given: Tensor) -> bool:
    """Return True if a compiler, tracer or transform records operators, so that shapes and values may not exist yet."""
    return torch.compiler.is_compiling() or transformed() or _in_tracing_mode() or any(map(_is_foreign, given))


def transformed() -> bool:
    """Return True if a graph tracer, a transform of ``torch.func`` or forward-mode differentiation is active.

    None of these supports an ``autograd.Function`` with only a backward pass.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._is_tracing() or _functorch.maybe_current_level() is not None or forward_ad._current_level >= 0


def batched(*given: Tensor | None) -> bool:
    """Return True if any tensor represents a batch, as gradients under ``is_grads_batched`` do."""
    return any(part is not None and _stands_for_many(part) for part in given)


def recorded(*given: Tensor) -> bool:
    """Return True if ``make_fx`` traces any tensor as an input of its graph or a result: the graph must suit other values."""
    mode = proxy_tensor.get_proxy_mode()
    return mode is not None and any(proxy_tensor.has_proxy_slot(part, mode.tracer) for part in given)


def numbers_of(part: Tensor) -> Tensor | None:
    """Return a tensor's values, the axes of each ``vmap`` in front; None if a derivative with respect to it is requested."""
    while not _is_differentiated(part):
        if not _functorch.is_functorch_wrapped_tensor(part):
            return part
        axis = _functorch.maybe_get_bdim(part)
        part = _functorch.get_unwrapped(part)
        part = part if axis < 0 else part.movedim(axis, 0)
    return None


def refuse_derivative(what: str, *given: Tensor) -> None:
    """Refuse to differentiate or trace a computation that autograd treats as a constant.

    Raises:
        InputError: gradient, transform or trace requested (``DERIVATIVE``).
    """
    if followed(*given) or (torch.is_grad_enabled() and any(part.requires_grad for part in given)):
        raise _no_derivative(what)


def refuse_transform(what: str, *given: Tensor) -> None:
    """Refuse to transform or trace a computation that branches on values or returns Python numbers, where gradients end.

    Raises:
        InputError: transform or trace requested (``DERIVATIVE``).
    """
    if transformed() or _in_tracing_mode() or any(map(_is_foreign, given)):
        raise _no_derivative(what)


def _no_derivative(what: str) -> InputError:
    return InputError(
        f"no derivative and no trace of {what}",
        code="DERIVATIVE",
        expected="tensors without a gradient, outside torch.func and tracers",
        remedy="Compute it first, unbatched, under torch.no_grad(): it is a constant, and only its use is differentiated.",
    )


def _is_differentiated(part: Tensor) -> bool:
    if torch.is_grad_enabled() and part.requires_grad:
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(part).tangent is not None


def _in_tracing_mode() -> bool:
    if torch._ops._len_torch_dispatch_stack_pre_dispatch():
        return True
    return is_in_torch_dispatch_mode() and any(torch._C._get_dispatch_mode(key) is not None for key in _TRACING)


def _in_function_mode() -> bool:
    """Return True if a function mode is active other than the default device's, which observes nothing."""
    places = range(torch._C._len_torch_function_stack())
    return any(not isinstance(torch._C._get_function_stack_at(place), DeviceContext) for place in places)


def _is_foreign(part: Tensor) -> bool:
    """Return True for a tensor whose class handles operators itself, or that represents a batch."""
    kind = type(part)
    return (kind not in _CLASSES and kind.__torch_dispatch__ is not Tensor.__torch_dispatch__) or _stands_for_many(part)


def _is_array(part: Tensor) -> bool:
    """Return True if the tensor's memory holds its values as NumPy would read them."""
    if type(part) not in _CLASSES or part.device.type != "cpu" or part.layout != torch.strided:
        return False
    return not (part.is_complex() or part.is_neg() or part._is_zerotensor())
