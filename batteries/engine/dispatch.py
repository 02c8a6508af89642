"""The one question before a kernel reads memory: does torch, or a program of the user's, watch these tensors?

A kernel writes NumPy views of tensors, which no tracer, transform, mode or subclass sees. Where one of them is at work, torch's
own operators do the work; the answers agree to rounding.
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
_TRACING = tuple(torch._C._TorchDispatchModeKey.__members__.values())  # modes of proxies, fakes and functional tensors


def plain(*given: Tensor) -> bool:
    """All are real strided tensors on the CPU, and nothing follows or watches operators: kernels may take them."""
    return not watched(*given) and all(map(_is_array, given))


def watched(*given: Tensor) -> bool:
    """As :func:`followed`, or a mode of the user's sees each call, as one that counts does."""
    return followed(*given) or is_in_torch_dispatch_mode() or _in_function_mode()


def followed(*given: Tensor) -> bool:
    """Compiler, a tracer or a transform records operators, so that shapes and values may be none yet."""
    return torch.compiler.is_compiling() or transformed() or _in_tracing_mode() or any(map(_is_foreign, given))


def transformed() -> bool:
    """Tracer of graphs, a transform of ``torch.func`` or forward-mode differentiation is at work.

    None of these can take an ``autograd.Function`` that has but a backward.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._is_tracing() or _functorch.maybe_current_level() is not None or forward_ad._current_level >= 0


def batched(*given: Tensor | None) -> bool:
    """One of the tensors stands for many, as gradients under ``is_grads_batched`` do."""
    return any(part is not None and _stands_for_many(part) for part in given)


def recorded(*given: Tensor) -> bool:
    """``make_fx`` follows one of the tensors, an input of its graph or made of one: the graph is for other values too."""
    mode = proxy_tensor.get_proxy_mode()
    return mode is not None and any(proxy_tensor.has_proxy_slot(part, mode.tracer) for part in given)


def numbers_of(part: Tensor) -> Tensor | None:
    """Values of a tensor, in front of which are the axes of each ``vmap``; None where a derivative on it is asked for."""
    while not _is_differentiated(part):
        if not _functorch.is_functorch_wrapped_tensor(part):
            return part
        axis = _functorch.maybe_get_bdim(part)
        part = _functorch.get_unwrapped(part)
        part = part if axis < 0 else part.movedim(axis, 0)
    return None


def refuse_derivative(what: str, *given: Tensor) -> None:
    """For what is a constant to autograd, and cannot be followed.

    Raises:
        InputError: a gradient, a transform or a trace is asked for (``DERIVATIVE``).
    """
    if followed(*given) or (torch.is_grad_enabled() and any(part.requires_grad for part in given)):
        raise _no_derivative(what)


def refuse_transform(what: str, *given: Tensor) -> None:
    """For what decides by its numbers or gives plain ones: a gradient ends there, and nothing can follow it.

    Raises:
        InputError: a transform or a trace is asked for (``DERIVATIVE``).
    """
    if transformed() or _in_tracing_mode() or any(map(_is_foreign, given)):
        raise _no_derivative(what)


def _no_derivative(what: str) -> InputError:
    return InputError(
        f"no derivative and no trace of {what}",
        code="DERIVATIVE",
        expected="tensors without a gradient, outside torch.func and tracers",
        remedy="Make it first, one at a time, under torch.no_grad(); what a map maps is differentiated, and it is a constant.",
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
    """Default device is such a mode too, and watches nothing."""
    places = range(torch._C._len_torch_function_stack())
    return any(not isinstance(torch._C._get_function_stack_at(place), DeviceContext) for place in places)


def _is_foreign(part: Tensor) -> bool:
    """Tensor whose class takes each operator itself, or that stands for many."""
    kind = type(part)
    return (kind not in _CLASSES and kind.__torch_dispatch__ is not Tensor.__torch_dispatch__) or _stands_for_many(part)


def _is_array(part: Tensor) -> bool:
    """Memory of the tensor holds its values, as NumPy would read them."""
    if type(part) not in _CLASSES or part.device.type != "cpu" or part.layout != torch.strided:
        return False
    return not (part.is_complex() or part.is_neg() or part._is_zerotensor())
