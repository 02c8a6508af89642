"""Apart from a program's global settings: what is made or measured has the same bits whatever the caller's surroundings are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import torch
from torch.utils._device import DeviceContext

CPU = torch.device("cpu")
PINNED: Final[dict[str, Any]] = {"dtype": torch.float32, "device": "cpu"}  # of new weights and seeded numbers


@contextmanager
def neutral() -> Iterator[None]:
    """As in a fresh program: the CPU is the default device, no autocast, no inference mode; gradients as they were.

    The default dtype is one for all threads of a process and so left alone: whatever is made names its own. The device is set
    where it is another only: a context of torch's for it goes between every operator and its work, which halves small ones'
    speed.
    """
    cast = torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False)
    tracked = torch.is_grad_enabled()  # leaving inference mode would turn it on
    device = nullcontext() if _cpu_is_default() else CPU
    with torch.inference_mode(False), torch.set_grad_enabled(tracked), device, cast[0], cast[1]:
        yield


def _cpu_is_default() -> bool:
    """Whether tensors without a device are made on the CPU, asked without an operator that a mode of the user's would see.

    ``torch.get_default_device`` does not answer it: before torch 2.8 it passes over contexts, and it never sees a default
    tensor type.
    """
    places = range(torch._C._len_torch_function_stack())
    modes = (torch._C._get_function_stack_at(place) for place in places)
    named = [mode.device.type for mode in modes if isinstance(mode, DeviceContext)]
    return {torch._C._get_default_device(), *named} == {"cpu"}


def uncast(device: torch.device) -> AbstractContextManager[Any]:
    """Without autocast there: the dtype of a cell's arithmetic is that of its weights, whatever a host prefers."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()


def uncast_backward(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Backward pass of our own without autocast, which is on where a caller goes back under it."""

    @functools.wraps(backward)
    def run(ctx: Any, *grads: Any) -> Any:
        with uncast(grads[0].device):
            return backward(ctx, *grads)

    return run


def seed_cpu(seed: int) -> None:
    """Set the global generator of the CPU, and no accelerator's: for use under ``torch.random.fork_rng(devices=[])``."""
    torch.default_generator.manual_seed(seed)
