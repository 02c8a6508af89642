"""Photographs from folders: decoded once, kept as 8-bit pyramids, cropped at random positions and scales.

Values leave as RGB in [-1, 1]: x / 127.5 - 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from batteries.errors import InputError, NotFoundError
from batteries.settings import neutral

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"}
SMALLEST_SIDE = 16  # of the smallest scale kept
WILD = set("*?[")
LONGEST_SIDE = 2048  # of the largest scale kept; a wallpaper's finest pixels are mostly the camera's noise


@dataclass(frozen=True)
class Skipped:
    """A file that looked like an image and could not be read."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Photos:
    """Photographs in memory.

    Attributes:
        names: File names relative to the folder, sorted.
        pyramids: Per photograph its scales, largest first, each (3, height, width) uint8.
        digest: SHA-256 over names and file bytes.
        skipped: What could not be read.
    """

    names: tuple[str, ...]
    pyramids: tuple[tuple[Tensor, ...], ...]
    digest: str
    skipped: tuple[Skipped, ...]

    @neutral()
    def crops(self, batch: int, size: int, seed: int) -> Tensor:
        """Random crops: photograph, scale, position and left-right flip, each uniform.

        Args:
            batch: Crops.
            size: Side in pixels.
            seed: Of the choice.

        Returns:
            (batch, 3, size, size) float32 in [-1, 1].

        Raises:
            InputError: no photograph is as large as ``size``.
        """
        usable = [large for pyramid in self.pyramids if (large := _at_least(pyramid, size))]
        if not usable:
            raise InputError(
                "photographs smaller than the crop",
                code="CROP_SIZE",
                expected=f"sides of at least {size} pixels",
                found=f"{len(self.names)} smaller ones",
            )
        rng = np.random.default_rng(seed)
        return to_float(torch.stack([_crop(usable, size, rng) for _ in range(batch)]))


@neutral()
def read_photos(*places: str | Path) -> Photos:
    """Read photographs; what cannot be read is named, counted and skipped.

    Args:
        places: Folders, searched with their subfolders for the usual image formats; or glob patterns of files.

    Raises:
        NotFoundError: no such folder, or no readable image in any of the places.
    """
    names, pyramids, skipped = [], [], []
    digest = hashlib.sha256()
    for folder, path in _files_of(places):
        name = path.relative_to(folder).as_posix()
        try:
            picture = read_image(path)
            digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        except InputError as error:
            skipped.append(Skipped(path, str(error.found)))
            continue
        except UnicodeEncodeError:
            skipped.append(Skipped(path, "a file name that is not Unicode"))
            continue
        names.append(name)
        pyramids.append(_pyramid(picture))
    if not names:
        raise NotFoundError(
            "no photograph to read",
            code="NO_IMAGES",
            expected=f"at least one of {' '.join(sorted(SUFFIXES))}",
            found=f"{len(skipped)} unreadable" if skipped else "none",
            where=", ".join(str(place) for place in places),
        )
    return Photos(tuple(names), tuple(pyramids), digest.hexdigest(), tuple(skipped))


def read_image(path: Path) -> Image.Image:
    """One image as RGB, turned as its EXIF orientation says, transparency laid on white.

    Raises:
        InputError: not an image that Pillow can read whole.
    """
    try:
        with Image.open(path) as file:
            upright = _eight_bits(ImageOps.exif_transpose(file))
            if "A" in upright.getbands() or "transparency" in upright.info:
                layered = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
            return upright.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("not a readable image", code="IMAGE", found=error, where=path) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Sixteen-bit greys, which Pillow's own conversion would clip to white, scaled to eight."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no scale")
    return picture


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture as (3, height, width) uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def to_float(pixels: Tensor) -> Tensor:
    """Pixels 0..255 to [-1, 1] in float32."""
    return pixels.float().div_(127.5).sub_(1)


def _files_of(places: Sequence[str | Path]) -> Iterator[tuple[Path, Path]]:
    """(folder, file) of every image named by the places, sorted within each place."""
    for place in map(Path, places):
        folder, pattern = (place, "**/*") if place.is_dir() else _split(place)
        if not folder.is_dir() or not (place.exists() or WILD & set(pattern)):
            raise NotFoundError("no such folder", code="NO_FOLDER", where=place)
        found = sorted(path for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES and path.is_file())
        yield from ((folder, path) for path in found)


def _split(place: Path) -> tuple[Path, str]:
    """A glob's last folder without a wild card, and the pattern below it."""
    tame = next((n for n, part in enumerate(place.parts[:-1]) if WILD & set(part)), len(place.parts) - 1)
    return Path(*place.parts[:tame]), str(Path(*place.parts[tame:]))


def _pyramid(picture: Image.Image) -> tuple[Tensor, ...]:
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=None)
    scales = [to_tensor(picture)]
    while min(picture.size) // 2 >= SMALLEST_SIDE:
        picture = picture.reduce(2)
        scales.append(to_tensor(picture))
    return tuple(scales)


def _at_least(pyramid: tuple[Tensor, ...], size: int) -> tuple[Tensor, ...]:
    return tuple(scale for scale in pyramid if min(scale.shape[1:]) >= size)


def _crop(usable: Sequence[tuple[Tensor, ...]], size: int, rng: np.random.Generator) -> Tensor:
    scales = usable[int(rng.integers(len(usable)))]
    picture = scales[int(rng.integers(len(scales)))]
    top = int(rng.integers(picture.shape[1] - size + 1))
    left = int(rng.integers(picture.shape[2] - size + 1))
    crop = picture[:, top : top + size, left : left + size]
    return crop.flip(2) if rng.integers(2) else crop
