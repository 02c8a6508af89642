"""Cropping, padding or resizing of images to sides that a cell accepts, only on request.

Letters: C channels; sizes are (height, width) in pixels.
"""

from __future__ import annotations

from operator import index
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from batteries.errors import InputError

Fit = Literal["crop", "pad", "resize"]
Size = tuple[int, int]

MAX_SIDE = 2**15  # pixels of a requested side


def checked_fit(fit: object) -> None:
    """Refuse an unknown fit.

    Raises:
        InputError: neither None nor one of crop, pad, resize (``FIT``).
    """
    if fit is not None and fit not in get_args(Fit):
        raise InputError("unknown fit", code="FIT", expected=" | ".join(get_args(Fit)), found=repr(fit)[:40])


def checked_size(size: object, patch: int) -> Size | None:
    """Return a size as height and width, from one side of a square or from both.

    Raises:
        InputError: neither one positive integer nor two (``SIZE``), or not multiples of the patch size (``IMAGE_SIZE``).
    """
    if size is None:
        return None
    sides = size if isinstance(size, tuple | list) else (size, size)
    whole = [number for side in sides if 0 < (number := _whole(side)) <= MAX_SIDE]
    if not len(sides) == len(whole) == 2:
        expected = f"a side, or (height, width), of 1 to {MAX_SIDE} pixels"
        raise InputError("invalid image size", code="SIZE", expected=expected, found=repr(size)[:40])
    height, width = whole
    if height % patch or width % patch:
        raise _not_divided(patch, (height, width), "size", f"size={height - height % patch or patch}, for example.")
    return height, width


def _whole(side: Any) -> int:
    """Convert an integer of any library; return 0 for anything else."""
    try:
        return 0 if isinstance(side, bool) or getattr(side, "dtype", None) == torch.bool else index(side)
    except TypeError:
        return 0


def framed(image: Tensor, patch: int, size: Size | None, fit: Fit | None, where: str) -> Tensor:
    """Fit a picture (C, height, width) to the requested size, or to multiples of the patch size.

    ``crop`` keeps the middle, ``pad`` repeats the edges, as evenly on both sides as possible, and ``resize`` scales the picture
    to cover the size and crops the excess.

    Raises:
        InputError: sides that do not fit, without a ``fit`` or with one that cannot be applied (``IMAGE_SIZE``).
    """
    found = (image.shape[1], image.shape[2])
    if fit is None:
        _refuse_unfit(found, patch, size, where)
        return image
    wanted = size or _nearest(found, patch, fit, where)
    if fit == "resize":
        image = _covering(image, wanted)
    elif fit == "pad":
        image = _padded(image, wanted, where)
    return _cropped(image, wanted, where)


def _refuse_unfit(found: Size, patch: int, size: Size | None, where: str) -> None:
    if size is not None and found != size:
        remedy = "fit='crop' keeps the middle, fit='pad' repeats the edges, fit='resize' scales and crops."
        raise InputError("wrong image size", code="IMAGE_SIZE", expected=size, found=found, where=where, remedy=remedy)
    if found[0] % patch or found[1] % patch:
        remedy = f"fit='crop' cuts to multiples of {patch}, fit='pad' repeats the edges up to them."
        raise _not_divided(patch, found, where, remedy)


def _not_divided(patch: int, found: Size, where: str, remedy: str) -> InputError:
    expected = f"multiples of {patch} pixels"
    what = "image sides not multiples of the patch size"
    return InputError(what, code="IMAGE_SIZE", expected=expected, found=f"{found[0]} x {found[1]}", where=where, remedy=remedy)


def _nearest(found: Size, patch: int, fit: Fit, where: str) -> Size:
    """Return the nearest multiples of the patch size: below for a crop, above for padding."""
    if fit == "resize":
        raise InputError("missing size to resize to", code="SIZE", expected="size=(height, width)", found=None, where=where)
    more = patch - 1 if fit == "pad" else 0
    height, width = ((side + more) // patch * patch for side in found)
    return max(height, patch), max(width, patch)


def _covering(image: Tensor, wanted: Size) -> Tensor:
    factor = max(wanted[0] / image.shape[1], wanted[1] / image.shape[2])
    sides = [max(side, round(old * factor)) for side, old in zip(wanted, image.shape[1:], strict=True)]
    return F.interpolate(image[None], size=sides, mode="bilinear", antialias=True, align_corners=False)[0]


def _padded(image: Tensor, wanted: Size, where: str) -> Tensor:
    height, width = wanted[0] - image.shape[1], wanted[1] - image.shape[2]
    if height < 0 or width < 0:
        raise _too("large to pad", image, wanted, where, "fit='crop' or fit='resize' takes larger ones.")
    return F.pad(image[None], (width // 2, width - width // 2, height // 2, height - height // 2), mode="replicate")[0]


def _cropped(image: Tensor, wanted: Size, where: str) -> Tensor:
    top, left = (image.shape[1] - wanted[0]) // 2, (image.shape[2] - wanted[1]) // 2
    if top < 0 or left < 0:
        raise _too("small to crop", image, wanted, where, "fit='pad' or fit='resize' takes smaller ones.")
    return image[:, top : top + wanted[0], left : left + wanted[1]]


def _too(what: str, image: Tensor, wanted: Size, where: str, remedy: str) -> InputError:
    found = (image.shape[1], image.shape[2])
    return InputError(f"image too {what}", code="IMAGE_SIZE", expected=wanted, found=found, where=where, remedy=remedy)
