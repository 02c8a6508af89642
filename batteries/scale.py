"""The input scale of a cell: from images as this package has them to what the cell was trained on, and back. No torch here.

Ours are photographs in [-1, 1] and noise as generated. A network trained elsewhere may have seen (u - mean) / std of images
u in [0, 1]; with u = (x + 1) / 2 that is (x - (2 mean - 1)) / (2 std).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from batteries.errors import InputError
from batteries.manifest import InputScale

if TYPE_CHECKING:
    from torch import Tensor


def of_unit_images(mean: Sequence[float], std: Sequence[float]) -> InputScale:
    """The scale of a network that took (u - mean) / std of images u in [0, 1], on ours.

    >>> of_unit_images((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) == InputScale()
    True
    """
    return InputScale(mean=tuple(2 * value - 1 for value in mean), std=tuple(2 * value for value in std))


IMAGENET = of_unit_images((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def to_input(images: Tensor, scale: InputScale) -> Tensor:
    """Images (B, channels, height, width) as a cell of this scale takes them.

    Raises:
        InputError: not four axes, or another number of channels than the scale has.
    """
    mean, std = _columns(images, scale)
    return ((images.double() - mean) / std).to(images.dtype)


def from_input(images: Tensor, scale: InputScale) -> Tensor:
    """The reverse of :func:`to_input`: what a cell of this scale gives, as this package has images.

    Raises:
        InputError: as :func:`to_input`.
    """
    mean, std = _columns(images, scale)
    return (images.double() * std + mean).to(images.dtype)


def _columns(images: Tensor, scale: InputScale) -> tuple[Tensor, Tensor]:
    """Mean and std, float64, (channels, 1, 1). float32 would move images by one unit in their last place."""
    if images.ndim != 4 or not len(scale.mean) == len(scale.std) == images.shape[1]:
        expected, found = f"(batch, {len(scale.mean)}, height, width)", tuple(images.shape)
        raise InputError("images of another number of channels", code="IMAGE_SHAPE", expected=expected, found=found)
    wide = images.new_zeros(0).double()
    return wide.new_tensor(scale.mean)[:, None, None], wide.new_tensor(scale.std)[:, None, None]
