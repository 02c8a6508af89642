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

    >>> import batteries
    >>> scale = batteries.InputScale(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> given = batteries.images.to_input(batteries.probe("photos-64").images[:4], scale)  # what the model takes
    >>> given.shape
    torch.Size([4, 3, 64, 64])
    """
    mean, std = _columns(images, scale)
    return ((images.double() - mean) / std).to(images.dtype)


def from_input(images: Tensor, scale: InputScale) -> Tensor:
    """Convert images (B, channels, height, width) back from a cell's input scale, the inverse of :func:`to_input`.

    Raises:
        InputError: any error of :func:`to_input`.

    >>> import batteries, torch
    >>> scale = batteries.InputScale(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> images = batteries.probe("photos-64").images[:4]
    >>> torch.allclose(batteries.images.from_input(batteries.images.to_input(images, scale), scale), images, atol=1e-6)
    True
    """
    mean, std = _columns(images, scale)
    return (images.double() * std + mean).to(images.dtype)


def _columns(images: Tensor, scale: InputScale) -> tuple[Tensor, Tensor]:
    """Return mean and std as float64 (channels, 1, 1): float32 would change images in their last digit."""
    check_batch(images, len(scale.mean))
    wide = images.new_zeros(0, dtype=torch.float64)
    return wide.new_tensor(scale.mean)[:, None, None], wide.new_tensor(scale.std)[:, None, None]
