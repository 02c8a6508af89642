"""Images from the scale of this package to a cell's own input scale, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from batteries.cell.manifest import InputScale
from batteries.images.image_batch import check_batch


def to_input(images: Tensor, scale: InputScale) -> Tensor:
    """Images (B, channels, height, width) as a cell of this scale takes them.

    Raises:
        InputError: no batch of images of the channels that the scale has (``IMAGE_SHAPE``, ``IMAGE_DTYPE``).
    """
    mean, std = _columns(images, scale)
    return ((images.double() - mean) / std).to(images.dtype)


def from_input(images: Tensor, scale: InputScale) -> Tensor:
    """Reverse of :func:`to_input`: what a cell of this scale gives, as this package has images.

    Raises:
        InputError: as :func:`to_input`.
    """
    mean, std = _columns(images, scale)
    return (images.double() * std + mean).to(images.dtype)


def _columns(images: Tensor, scale: InputScale) -> tuple[Tensor, Tensor]:
    """Mean and std, float64, (channels, 1, 1). float32 would move images by one unit in their last place."""
    check_batch(images, len(scale.mean))
    wide = images.new_zeros(0, dtype=torch.float64)
    return wide.new_tensor(scale.mean)[:, None, None], wide.new_tensor(scale.std)[:, None, None]
