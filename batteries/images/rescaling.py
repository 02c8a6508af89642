"""Conversion of images between this package's scale and a cell's own input scale."""

from __future__ import annotations

import torch
from torch import Tensor

from batteries.cell.manifest import InputScale
from batteries.images.image_batch import check_batch


def to_input(images: Tensor, scale: InputScale) -> Tensor:
    """Convert images (B, channels, height, width) to a cell's input scale.

    Raises:
        InputError: not a batch of images with the channels of the scale (``IMAGE_SHAPE``, ``IMAGE_DTYPE``).
    """
    mean, std = _columns(images, scale)
    return ((images.double() - mean) / std).to(images.dtype)


def from_input(images: Tensor, scale: InputScale) -> Tensor:
    """Convert images (B, channels, height, width) back from a cell's input scale, the inverse of :func:`to_input`.

    Raises:
        InputError: any error of :func:`to_input`.
    """
    mean, std = _columns(images, scale)
    return (images.double() * std + mean).to(images.dtype)


def _columns(images: Tensor, scale: InputScale) -> tuple[Tensor, Tensor]:
    """Return mean and std as float64 (channels, 1, 1): float32 would change images in their last digit."""
    check_batch(images, len(scale.mean))
    wide = images.new_zeros(0, dtype=torch.float64)
    return wide.new_tensor(scale.mean)[:, None, None], wide.new_tensor(scale.std)[:, None, None]
