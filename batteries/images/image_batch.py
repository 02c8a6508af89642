"""Checks of a batch of images for a cell: errors that name the next step, and a warning if the scale looks wrong.

Used wherever images enter: a cell's model, a container, a composition, a measurement, a host.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from batteries.cell.manifest import InputScale
from batteries.engine import dispatch
from batteries.errors import InputError

FARTHEST = 8.0  # largest plausible value: twice that of the noise, in [-4, 4]
RGB, RGBA = 3, 4
LOOKS = 16  # batches examined on a device that must be synchronised

READ = "batteries.images.load(..., cell=cell) reads it on the cell's scale."


class ScaleWarning(UserWarning):
    """Images whose values look as if they were not on the cell's scale.

    >>> import warnings
    >>> import batteries
    >>> model = batteries.untrained(batteries.CellSpec.preset("low"), seed=0)
    >>> with warnings.catch_warnings(action="ignore", category=batteries.images.ScaleWarning):
    ...     out = model((batteries.probe("photos-64").images[:1] + 1) / 2)  # in [0, 1] on purpose
    """


def check_batch(images: object, channels: int) -> None:
    """Refuse anything but a real batch of images (B, channels, height, width), without reading its values.

    Raises:
        InputError: not a tensor, other axes or channels (``IMAGE_SHAPE``), or not floating-point of 16 bits or more
            (``IMAGE_DTYPE``).
    """
    if not isinstance(images, Tensor):
        raise _shape_error(channels, type(images).__name__, _step_to_tensor(images))
    if step := _step_to_floats(images):
        found = f"{images.dtype}, {images.layout}" if images.layout != torch.strided else images.dtype
        expected = "floating-point of 16 bits or more"
        raise InputError("unsupported dtype of images", code="IMAGE_DTYPE", expected=expected, found=found, remedy=step)
    if images.ndim != 4 or images.shape[1] != channels:
        raise _shape_error(channels, tuple(images.shape), _step_to_axes(tuple(images.shape), channels))


def _shape_error(channels: int, found: object, step: str) -> InputError:
    expected = f"(batch, {channels}, height, width)"
    what = "wrong shape of a batch of images"
    return InputError(what, code="IMAGE_SHAPE", expected=expected, found=found, remedy=step)


def _step_to_tensor(images: object) -> str:
    if isinstance(images, np.ndarray):
        bytes_ = f" Bytes and other axes: {READ}" if images.dtype == np.uint8 or images.ndim != 4 else ""
        return f"torch.from_numpy(images) makes it a tensor.{bytes_}"
    if isinstance(images, Image.Image | str | Path):
        return READ
    if isinstance(images, list | tuple) and images and all(isinstance(one, Tensor) for one in images):
        return (
            "torch.stack(images) makes one batch of images of one size; batteries.images.load(images, cell=cell) takes a list."
        )
    return "A tensor is required; batteries.images.load(..., cell=cell) reads files, folders, Pillow images and arrays."


def _step_to_floats(images: Tensor) -> str | None:
    """Advise how to convert to floating-point; None if the dtype is one that torch computes in."""
    if images.layout != torch.strided:
        return "images.to_dense() makes it dense."
    if images.is_quantized:
        return "images.dequantize() gives real numbers."
    if images.is_complex():
        return "images.real or images.abs() gives real numbers."
    if images.dtype == torch.bool:
        return "images.float() * 2 - 1 puts a mask on the scale of photographs."
    if not images.is_floating_point():
        return "Bytes: images.float() / 127.5 - 1, or batteries.images.load(images, cell=cell), which does it."
    if images.dtype.itemsize == 1:  # float8, for which torch has no arithmetic
        return "images.float() gives a type that a cell computes in."
    return None


def _step_to_axes(shape: tuple[int, ...], channels: int) -> str:
    match shape:
        case (_, _):
            return "A single picture of one channel: images[None, None]" + _spread(channels) + "."
        case (first, _, last) if first != channels and last in (channels, RGBA):
            return f"Channels last: images.permute(2, 0, 1)[None]{_cut(last, channels)}."
        case (first, _, _) if first in (channels, RGBA, 1):
            return f"A single picture: images[None]{_cut(first, channels)}."
        case (_, _, _):
            return f"Pictures of one channel: images[:, None]{_spread(channels)}."
        case (_, first, _, last) if first not in (channels, 1, RGBA) and last in (channels, RGBA, 1):
            return f"Channels last: images.permute(0, 3, 1, 2){_cut(last, channels)}."
        case (_, first, _, _) if first != channels and _cut(first, channels):
            return f"{first} channels: images{_cut(first, channels)}."
        case (_, _, _, _, _):
            return "Five axes: images.flatten(0, 1) makes one batch of them."
        case _:
            return f"batteries.images.load(images, cell=cell) takes gray, RGB and RGBA to {channels} channels where it can."


def _cut(found: int, channels: int) -> str:
    """Return the end of an expression that converts to the cell's channels; empty if none is needed."""
    if found == RGBA and channels == RGB:
        return "[:, :3]"
    if found == 1:
        return _spread(channels)
    return ".mean(dim=1, keepdim=True)" if found == RGB and channels == 1 else ""


def _spread(channels: int) -> str:
    return f".expand(-1, {channels}, -1, -1)" if channels > 1 else ""


_given: set[str] = set()  # kinds of warnings given by this process
_looks = [0]
_lock = threading.Lock()
_unjudged: ContextVar[bool] = ContextVar("unjudged", default=False)


@contextmanager
def unjudged() -> Iterator[None]:
    """Turn off the warning about scales: for probes, whose scale is known, and for a host's inputs to a cell under test."""
    if torch.compiler.is_compiling():  # never warns, and a compiler cannot trace a context variable
        yield
        return
    token = _unjudged.set(True)
    try:
        yield
    finally:
        _unjudged.reset(token)


def judge_scale(images: Tensor, scale: InputScale) -> None:
    """Warn, once per process and kind, about values that are implausible on a cell's scale.

    Inputs computed with gradients (by a host's stem) are not judged, nor is anything under a tracer, a compiler, a transform or
    a graph capture. The cost is one pass over the images for their minimum and maximum.

    Args:
        images: Input of the cell (B, channels, height, width).
        scale: Input scale of the cell, which may make all values nonnegative.

    Warns:
        ScaleWarning: no negative value, as in images in [0, 1] or 0..255; too large values; NaN or infinity.
    """
    if torch.compiler.is_compiling():  # first: a compiler traces every line before it
        return
    if len(_given) == len(_WORDS) or _unjudged.get() or not _is_readable(images):
        return
    low, high = (float(value) for value in torch.aminmax(images.detach()))
    kind = _kind(low, high, scale)
    if kind is not None:
        _warn_once(kind, low, high)


_WORDS = {
    "nonnegative": "no value of the images is negative",
    "large": "some values of the images are far beyond those of photographs in [-1, 1] and noise in [-4, 4]",
    "not finite": "some values of the images are NaN or infinite",
}


def _kind(low: float, high: float, scale: InputScale) -> str | None:
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        return "not finite"
    ends = [(end - mean) / std for mean, std in zip(scale.mean, scale.std, strict=True) for end in (-1.0, 1.0)]
    if low >= 0 and high > 0 and min(ends) < 0:
        return "nonnegative"
    far = [(end - mean) / std for mean, std in zip(scale.mean, scale.std, strict=True) for end in (-FARTHEST, FARTHEST)]
    return "large" if low < min(far) or high > max(far) else None


def _warn_once(kind: str, low: float, high: float) -> None:
    with _lock:
        if kind in _given:
            return
        _given.add(kind)
    words = (
        f"{_WORDS[kind]} ({low:.3g} to {high:.3g}); a cell takes photographs as x / 127.5 - 1, and noise as generated, on its "
        "own input scale: errors on another scale are not comparable. batteries.images.load(..., cell=cell) reads images on it."
    )
    warnings.warn(words, ScaleWarning, stacklevel=4)


def _is_readable(images: Tensor) -> bool:
    """Return True if values may be examined: not a result with gradients, and no mode records operators."""
    if dispatch.watched(images) or type(images) not in (Tensor, torch.nn.Parameter) or images.grad_fn is not None:
        return False
    return images.numel() > 0 and (images.device.type == "cpu" or _is_worth_waiting(images))


def _is_worth_waiting(images: Tensor) -> bool:
    """Return True for the first batches on another device, which must be synchronised to examine them."""
    if images.is_meta or (images.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    _looks[0] += 1
    return _looks[0] <= LOOKS
