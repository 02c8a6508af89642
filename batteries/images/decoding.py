"""Decoding of image files and Pillow images to upright 8-bit pixels, for photographs, probes and users' images."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from batteries.errors import InputError
from batteries.io.filesystem_errors import typed
from batteries.io.texts import placeholders

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"}
MAX_FILE = 2**30  # bytes: those of so many pixels, uncompressed, of three colours in 16 bits
MAX_PIXELS = 2**27  # pixels of an image: 1.6 GB as RGB in float32, and four times a camera's
GRAY = {"1", "L", "LA"}
SIXTEEN_AS_I = "PPM"  # format whose 16-bit pixels Pillow opens in mode I, as 0..65535
EXACT = 2**24  # integers up to here are exact in float32
UNREADABLE = Exception  # Pillow has forty decoders, and a damaged file may raise anything from them
OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}  # errors that say nothing of the image
DRAWN = {"EPS"}  # formats for which Pillow starts another program


def read_image(path: Path) -> Image.Image:
    """Read an image as RGB, rotated by its EXIF orientation, with transparency composited on white.

    Raises:
        InputError: not an image that Pillow can read completely and by itself, more than 2^27 pixels, or 32-bit pixels, which
            have no known scale (``IMAGE``).
    """
    picture = open_image(path)
    if picture.mode == "F":
        raise InputError("not a readable image", code="IMAGE", found="32-bit pixels, which have no scale", where=path)
    return picture.convert("RGB")


def open_image(path: Path) -> Image.Image:
    """Read an image as :func:`read_image` does, but keep gray as mode L and 32-bit pixels as mode F.

    Raises:
        InputError: not an image that Pillow can read completely and by itself, more than 2^27 pixels, or integers beyond 2^24
            (``IMAGE``).
        StoreError: too many open files, no memory or a failing disk: nothing is known of the image then.
    """
    try:
        if (size := path.stat().st_size) > MAX_FILE:
            raise ValueError(f"{size} bytes, more than {MAX_FILE}")
        with Image.open(path) as file:
            if file.format in DRAWN:
                raise ValueError(f"{file.format}, which another program would have to draw")
            return upright(file)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            with typed(path):
                raise
        found = placeholders.words_of(path) or error
        raise InputError("not a readable image", code="IMAGE", found=found, where=path) from error


def upright(picture: Image.Image) -> Image.Image:
    """Convert an image to mode RGB, L or F, rotated by its EXIF orientation, with transparency composited on white.

    Raises:
        ValueError: more than 2^27 pixels, or integers beyond 2^24.
        OSError: truncated file, detected by Pillow.
    """
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels, more than {MAX_PIXELS}")
    turned = _eight_bits(ImageOps.exif_transpose(picture), picture.format)
    if turned.mode == "F":
        return turned
    gray = turned.mode in GRAY
    if "A" in turned.getbands() or "transparency" in turned.info:
        layered = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return turned.convert("L" if gray else "RGB")


def _eight_bits(picture: Image.Image, made_by: str | None) -> Image.Image:
    """Scale 16-bit greys to 8 bits, which Pillow's own conversion would clip to white; convert 32-bit integers to mode F."""
    if picture.mode != "I" and not picture.mode.startswith("I;16"):
        return picture
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if picture.mode != "I" or (made_by == SIXTEEN_AS_I and 0 <= low <= high <= 65535):
        return Image.fromarray((values >> 8).astype(np.uint8))
    if not -EXACT <= low <= high <= EXACT:
        raise ValueError(f"integers from {low} to {high}, beyond {EXACT}, up to which float32 is exact")
    return picture.convert("F")
