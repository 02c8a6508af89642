"""Conversion of images to the dtype of a cell's weights, and a check of their device."""

from __future__ import annotations

import torch
from torch import Tensor

from batteries.errors import InputError


def taken(images: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Convert images to the dtype of the weights, after a check that both are on the same device.

    Raises:
        InputError: images on another device (``DEVICE``).
    """
    if images.device != device:
        remedy = "Move the model: model.to(images.device)."
        if device.type == "meta":  # which has no values to move
            remedy = "Weights on meta have no values: make the model again from its cells. For shapes alone: images.to('meta')."
        raise InputError("images on another device", code="DEVICE", expected=device, found=images.device, remedy=remedy)
    return images.to(dtype)
