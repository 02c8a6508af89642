"""Conversion of arrays to pictures (channels, height, width) in [-1, 1], refusing ambiguous axes or scales.

Letters: B pictures, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from batteries.errors import InputError, NotFoundError

Scale = Literal["byte", "unit", "signed", "noise"]
Layout = Literal["channels first", "channels last"]

CHANNELS = (1, 2, 3, 4)  # gray, gray and alpha, RGB, RGB and alpha
RANGES: dict[str, tuple[float, float]] = {"byte": (0, 255), "unit": (0, 1), "signed": (-1, 1)}
FULL = {torch.uint8: 255.0, torch.uint16: 65535.0}  # dtypes that imply their scale
SCALES = "scale='unit' for [0, 1], 'byte' for 0..255, 'signed' for [-1, 1], or 'noise' to keep the values as they are"
MASKS = "For a mask: mask.astype('uint8') * 255. Complex values: their real part or magnitude. Sparse tensors: .to_dense()."


def checked_scale(scale: object) -> None:
    """Refuse an unknown scale.

    Raises:
        InputError: neither None nor one of byte, unit, signed, noise (``IMAGE_SCALE``).
    """
    if scale is not None and scale not in get_args(Scale):
        raise InputError("unknown scale of pixels", code="IMAGE_SCALE", expected=SCALES, found=repr(scale)[:40])


def pictures_of(array: Any, scale: Scale | None, layout: Layout | None, channels: int, where: str) -> Iterator[Tensor]:
    """Yield the pictures (C, H, W) of an array or tensor, float32 in [-1, 1]; noise is not rescaled.

    Args:
        array: Picture (H, W), (H, W, C) or (C, H, W), or batch (B, H, W, C) or (B, C, H, W).
        scale: Scale of the values; not needed for 8 or 16 unsigned bits.
        layout: Place of the channels, for a shape that does not determine it.
        channels: Channels of the cell, which may be more than the four that pictures have.
        where: Name of the array in messages.

    Raises:
        InputError: unusable dtype, scale or range (``IMAGE_DTYPE``, ``IMAGE_SCALE``, ``NOT_FINITE``), or axes that are unusable
            or ambiguous (``IMAGE_SHAPE``).
        NotFoundError: empty batch (``NO_IMAGES``).
    """
    values = _tensor(array, where)
    batch = _channels_first(values, layout, {*CHANNELS, channels}, where)
    for picture in batch:
        yield _on_our_scale(picture, scale, where)


def laid_on_white(picture: Tensor) -> Tensor:
    """Composite on white a picture (C, H, W) in [-1, 1] whose last channel is alpha, giving (C - 1, H, W)."""
    alpha = (picture[-1:] + 1) / 2
    return picture[:-1] * alpha + (1 - alpha)


def _tensor(array: Any, where: str) -> Tensor:
    if isinstance(array, np.ndarray):
        if array.dtype.kind in "OSTU":
            raise _no_pixels(array, where)
        if array.dtype.kind not in "uifb":
            raise _wrong_type(array.dtype, where)
        wide = array.astype(np.float64) if array.dtype.kind == "f" and array.dtype.itemsize > 8 else array
        native = wide.astype(wide.dtype.newbyteorder("="))  # a copy: no memory is shared with the caller
        array = torch.from_numpy(np.ascontiguousarray(native))
    if array.layout != torch.strided or array.is_quantized or array.is_complex() or array.is_meta:
        raise _wrong_type(f"{array.dtype}, {array.layout}", where)
    if array.dtype == torch.bool:
        raise _wrong_type(array.dtype, where)
    return array.detach().cpu()


def _wrong_type(found: object, where: str, remedy: str = MASKS) -> InputError:
    expected = "unsigned integers of 8 or 16 bits, or floating-point"
    return InputError("unsupported pixel dtype", code="IMAGE_DTYPE", expected=expected, found=found, where=where, remedy=remedy)


def _no_pixels(array: np.ndarray, where: str) -> InputError:
    """Return the error for an array of strings or objects."""
    texts = "array.astype(str)" if array.dtype.kind == "S" else "array"
    entries = texts if array.ndim == 1 else f"{texts}.flat"
    return _wrong_type(array.dtype, where, f"Paths or pictures: list({entries}). Numbers: array.astype(float).")


def _channels_first(values: Tensor, layout: Layout | None, channels: set[int], where: str) -> Tensor:
    """Convert values to a batch (B, C, H, W)."""
    if values.ndim == 4 and len(values) == 0:
        found = f"none: {tuple(values.shape)}"
        raise NotFoundError("no images", code="NO_IMAGES", expected="at least one", found=found, where=where)
    if values.numel() == 0 or values.ndim not in (2, 3, 4):
        raise _wrong_axes(values, "a picture (H, W), (H, W, C) or (C, H, W), or a batch of them", where)
    if values.ndim == 2:
        return values[None, None]
    if layout not in (None, *get_args(Layout)):
        raise InputError("unknown layout", code="LAYOUT", expected=" | ".join(get_args(Layout)), found=repr(layout)[:40])
    first, last = values.shape[-3] in channels, values.shape[-1] in channels
    if layout is None and first and last:
        raise _wrong_axes(values, "layout='channels first' or 'channels last', as the shape is ambiguous", where)
    in_first = layout == "channels first" or (layout is None and first)
    if not (first if in_first else last):
        raise _wrong_axes(values, f"an axis of {', '.join(map(str, sorted(channels)))} channels, first or last", where)
    batch = values if values.ndim == 4 else values[None]
    return batch if in_first else batch.permute(0, 3, 1, 2)


def _wrong_axes(values: Tensor, expected: str, where: str) -> InputError:
    found = tuple(values.shape)
    remedy = "For gray pictures in a batch (B, H, W): images[:, None]." if values.numel() else "An empty axis: no pixels."
    return InputError(
        "invalid axes of pictures", code="IMAGE_SHAPE", expected=expected, found=found, where=where, remedy=remedy
    )


def _on_our_scale(picture: Tensor, scale: Scale | None, where: str) -> Tensor:
    if picture.dtype in FULL:
        if scale not in (None, "byte") or (scale == "byte" and picture.dtype != torch.uint8):
            full = f"0..{FULL[picture.dtype]:.0f}"
            raise InputError("scale contradicts the dtype", code="IMAGE_SCALE", expected=full, found=f"{scale=}", where=where)
        half = FULL[picture.dtype] / 2
        return picture.float().div_(half).sub_(1)
    values = _floats(picture, where)
    if scale is None or (not picture.is_floating_point() and scale != "byte"):
        raise InputError(
            "unknown scale of pixels",
            code="IMAGE_SCALE",
            expected=SCALES if picture.is_floating_point() else "scale='byte' for integers from 0 to 255",
            found=f"{picture.dtype} from {float(values.min()):.4g} to {float(values.max()):.4g}",
            where=where,
        )
    _refuse_range(values, scale, where)
    ours = {"byte": lambda v: v / 127.5 - 1, "unit": lambda v: 2 * v - 1, "signed": lambda v: v, "noise": lambda v: v}[scale](
        values
    )
    return ours.float()


def _floats(picture: Tensor, where: str) -> Tensor:
    try:
        return picture.double() if picture.dtype == torch.float64 else picture.float()
    except NotImplementedError as error:  # dtypes that torch can only store, such as two values in a byte
        raise _wrong_type(picture.dtype, where) from error


def refuse_infinite(values: Tensor, where: str) -> None:
    """Refuse non-finite pixels.

    Raises:
        InputError: NaN, infinity, or values beyond the range of float32 (``NOT_FINITE``).
    """
    if not bool(values.float().isfinite().all()):
        found = (float(values.min()), float(values.max()))
        remedy = "Use torch.nan_to_num, or leave the picture out."
        what = "pixels NaN or infinite in float32"
        raise InputError(what, code="NOT_FINITE", found=found, where=where, remedy=remedy)


def _refuse_range(values: Tensor, scale: Scale, where: str) -> None:
    refuse_infinite(values, where)
    low, high = float(values.min()), float(values.max())
    if scale in RANGES and (low < RANGES[scale][0] or high > RANGES[scale][1]):
        found = f"{low:.4g} to {high:.4g}"
        expected = "{} to {}".format(*RANGES[scale]) + f" for scale='{scale}'"
        raise InputError(
            "pixels outside their scale", code="IMAGE_SCALE", expected=expected, found=found, where=where, remedy=SCALES
        )
