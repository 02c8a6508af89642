"""Images as a cell's arithmetic takes them: real numbers, on its device, in its dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from batteries.errors import InputError


def taken(images: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The images in the dtype of weights, on whose device they are.

    Raises:
        InputError: no real numbers (``IMAGE_DTYPE``), or images on another device (``DEVICE``).
    """
    if not images.is_floating_point():
        remedy = "Photographs: x / 127.5 - 1; batteries.to_input takes them to a cell's own scale."
        raise InputError(
            "images that are no real numbers", code="IMAGE_DTYPE", expected="float", found=images.dtype, remedy=remedy
        )
    if images.device != device:
        remedy = "Move the one to the other: model.to(images.device)."
        raise InputError("images on another device", code="DEVICE", expected=device, found=images.device, remedy=remedy)
    return images.to(dtype)
