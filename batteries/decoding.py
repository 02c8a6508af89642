"""Image files and Pillow's pictures as upright 8-bit pixels: the one decoder of photographs, probes and a user's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from batteries import placeholders
from batteries.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"}
MAX_PIXELS = 2**27  # of a picture: 400 MB as RGB in float32 and four times a camera's
GRAY = {"1", "L", "LA", "I"}
UNREADABLE = (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_image(path: Path) -> Image.Image:
    """One image as RGB, turned as its EXIF orientation says, transparency laid on white.

    Raises:
        InputError: not an image that Pillow can read whole, one of more than 2^27 pixels, or one of floating-point pixels,
            which have no scale (``IMAGE``).
    """
    picture = open_image(path)
    if picture.mode == "F":
        raise InputError("not a readable image", code="IMAGE", found="floating-point pixels have no scale", where=path)
    return picture.convert("RGB")


def open_image(path: Path) -> Image.Image:
    """As :func:`read_image`, but gray stays gray (mode L), and floating-point pixels stay as they are (mode F).

    Raises:
        InputError: not an image that Pillow can read whole, or one of more than 2^27 pixels (``IMAGE``).
    """
    try:
        with Image.open(path) as file:
            return upright(file)
    except UNREADABLE as error:
        found = placeholders.words_of(path) or error
        raise InputError("not a readable image", code="IMAGE", found=found, where=path) from error


def upright(picture: Image.Image) -> Image.Image:
    """A picture in mode RGB, L or F, turned as its EXIF orientation says, transparency laid on white.

    Raises:
        ValueError: more than 2^27 pixels.
        OSError: a file that ends too early, as Pillow finds it.
    """
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels, more than {MAX_PIXELS}")
    turned = _without_wide_integers(ImageOps.exif_transpose(picture), picture.format)
    gray = turned.mode in GRAY
    if "A" in turned.getbands() or "transparency" in turned.info:
        layered = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return turned if turned.mode == "F" else turned.convert("L" if gray else "RGB")


def _without_wide_integers(picture: Image.Image, kind: str | None) -> Image.Image:
    """Greys of 16 bits, which Pillow's own conversion would clip to white, scaled to eight; wider ones, without a scale, as F.

    Pillow holds the greys of some files of sixteen bits in 32; a PNG has no more than sixteen.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind == "PNG"):
        return Image.fromarray((np.asarray(picture).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return picture.convert("F") if picture.mode == "I" else picture
