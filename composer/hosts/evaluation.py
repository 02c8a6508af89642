"""Evaluation of any host: its mode, and its output on a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from batteries.errors import InputError


@contextmanager
def evaluated(host: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and restore every module's own mode.

    Raises:
        InputError: no module (``HOST``).
    """
    refuse_no_module(host)
    modes = {module: module.training for module in host.modules()}
    host.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def output_of(host: nn.Module, x: Tensor) -> Tensor:
    """Run a host on a batch.

    Raises:
        InputError: inputs of a shape or dtype that the host does not take (``BATCHES``).
    """
    try:
        output: Tensor = host(x)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        found = f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}: {str(error)[:200]}"
        raise InputError("host does not take the inputs", code="BATCHES", found=found, where=type(host).__name__) from error
    return output


def refuse_no_module(host: object) -> None:
    """Check that a host is a module.

    Raises:
        InputError: no module (``HOST``).
    """
    if not isinstance(host, nn.Module):
        raise InputError("not a module", code="HOST", expected="a torch.nn.Module", found=type(host).__name__)
