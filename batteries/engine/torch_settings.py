"""Isolation from torch's global settings, so that they do not change a bit of what is made or measured."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import torch
from torch.utils._device import DeviceContext

CPU = torch.device("cpu")
PINNED: Final[dict[str, Any]] = {"dtype": torch.float32, "device": "cpu"}  # for new weights and seeded numbers


@contextmanager
def neutral() -> Iterator[None]:
    """Restore the settings of a fresh program: default device CPU, no autocast, no inference mode; gradients as they were.

    The default dtype is shared by all threads of a process and so not changed: new tensors name their own. The device is set
    only if it differs, since torch's context for it intercepts every operator, which halves the speed of small ones.
    """
    cast = torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False)
    tracked = torch.is_grad_enabled()  # leaving inference mode would turn it on
    device = nullcontext() if _cpu_is_default() else CPU
    with torch.inference_mode(False), torch.set_grad_enabled(tracked), device, cast[0], cast[1]:
        yield


def _cpu_is_default() -> bool:
    """Return True if tensors are made on the CPU by default, found without an operator that a mode of the user's would see.

    ``torch.get_default_device`` is not enough: before torch 2.8 it ignores contexts, and it always ignores a default tensor
    type.
    """
    places = range(torch._C._len_torch_function_stack())
    modes = (torch._C._get_function_stack_at(place) for place in places)
    named = [mode.device.type for mode in modes if isinstance(mode, DeviceContext)]
    return {torch._C._get_default_device(), *named} == {"cpu"}


def uncast(device: torch.device) -> AbstractContextManager[Any]:
    """Turn off autocast on a device, so that a cell computes in the dtype of its weights."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()


def uncast_backward(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Turn off autocast in a custom backward pass, which may run under a caller's autocast."""

    @functools.wraps(backward)
    def run(ctx: Any, *grads: Any) -> Any:
        with uncast(grads[0].device):
            return backward(ctx, *grads)

    return run


_global_generator = threading.RLock()


@contextmanager
def own_draws(seed: int | None = None) -> Iterator[None]:
    """Restore the CPU's global generator afterwards, and keep other draws of this kind in other threads out meanwhile.

    Args:
        seed: Seed of the draws; None where they do not matter.
    """
    with _global_generator, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
