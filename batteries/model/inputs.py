"""Images as a cell's arithmetic takes them: on its device, in its dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from batteries.errors import InputError


def taken(images: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Images in the dtype of weights, on whose device they are.

    Raises:
        InputError: images on another device (``DEVICE``).
    """
    if images.device != device:
        remedy = "Move the one to the other: model.to(images.device)."
        if device.type == "meta":  # from where nothing moves
            remedy = "Weights on meta have no values: make the model again of its cells. Shapes alone: images.to('meta')."
        raise InputError("images on another device", code="DEVICE", expected=device, found=images.device, remedy=remedy)
    return images.to(dtype)
