"""Reconstructions as PNG files in a folder, each with what it was made from in its metadata."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from batteries.images.decoding import UNREADABLE
from batteries.io import atomic_files, canonical_json
from batteries.io.texts.hostile_json import load_loose

ORIGIN = "svae-batteries"  # key of the text chunk
UNSAFE = re.compile(r"[^\w.-]+")
MAX_ORIGIN = 2**12  # bytes of that text
LONGEST = 60  # characters of a file's name, of up to four bytes each
SUFFIX = ".png"
EFFORT = 1  # of compression: a quarter of the time of the usual 6, and a tenth more bytes


@dataclass(frozen=True)
class Pictured:
    """A picture that is to be in a folder.

    Attributes:
        path: Path of the file.
        key: Digest of everything that it depends on.
    """

    path: Path
    key: str

    def error(self) -> float | None:
        """Return the error that the picture in the folder states; None where there is none of that key, or one that changed."""
        try:
            with Image.open(self.path, formats=["PNG"]) as picture:
                said = load_loose(picture.info[ORIGIN].encode(), where=self.path, limit=MAX_ORIGIN)
                whole = said["key"] == self.key and said["pixels"] == _digest(picture)
                return float(said["error"]) if whole else None
        except UNREADABLE:
            return None

    def write(self, picture: Image.Image, error: float) -> None:
        """Write the picture, in place of one that is there.

        Raises:
            StoreError: no space, no permission, a failing disk.
        """
        said = PngInfo()
        said.add_text(ORIGIN, json.dumps({"key": self.key, "error": error, "pixels": _digest(picture)}))
        data = io.BytesIO()
        picture.save(data, "PNG", pnginfo=said, compress_level=EFFORT)
        atomic_files.replace(self.path, data.getvalue())


class PictureFolder:
    """Names of pictures: ``CELL/IMAGE.png`` in a folder, each once.

    Args:
        folder: The folder.
        cells: Names of the cells.
    """

    def __init__(self, folder: Path, cells: Sequence[str]) -> None:
        used: set[str] = set()
        self._folders = [folder.joinpath(*_unused(cell.split("/"), used)) for cell in cells]
        self._names: set[str] = set()

    def pictures(self, name: str, keys: Sequence[str]) -> list[Pictured]:
        """Return the pictures of the next image, one for every cell.

        Args:
            name: Name of the image.
            keys: Key of each picture.
        """
        (stem,) = _unused([Path(name).stem], self._names)
        return [Pictured(folder / f"{stem}{SUFFIX}", key) for folder, key in zip(self._folders, keys, strict=True)]


def picture_of(image: Tensor) -> Image.Image:
    """Return an image (C, height, width) in [-1, 1] as a picture of 8 bits; values beyond are cut, and NaN is black."""
    values = ((image.nan_to_num(-1.0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    pixels = values[0] if len(values) == 1 else values.permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy())


def _unused(parts: Sequence[str], used: set[str]) -> list[str]:
    """Return names fit for a file system, with a number behind the last where they are used already."""
    safe = [(UNSAFE.sub("-", part).strip("-.") or "unnamed")[:LONGEST] for part in parts]
    number, last = 1, safe[-1]
    while (name := "/".join(safe).casefold()) in used:  # some file systems do not tell capitals apart
        number += 1
        safe[-1] = f"{last}-{number}"
    used.add(name)
    return safe


def _digest(picture: Image.Image) -> str:
    return canonical_json.sha256(picture.tobytes())
