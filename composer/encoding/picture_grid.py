"""Reconstructions as one picture: a row for every image, the original first, then a column for every cell."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from batteries.errors import PolicyError
from batteries.images.decoding import MAX_PIXELS

GAP = 4  # pixels between pictures
LINE = 14  # pixels of a line of text
ORIGINAL = "original"


class PictureGrid:
    """Rows of pictures, put together at the end.

    Args:
        cells: Names of the cells.
    """

    def __init__(self, cells: Sequence[str]) -> None:
        self._titles = (ORIGINAL, *cells)
        self._rows: list[tuple[list[str], list[Image.Image]]] = []
        self._font = ImageFont.load_default()
        self._wide, self._high = int(max(map(self._font.getlength, self._titles))), LINE

    def add(self, name: str, pictures: Sequence[Image.Image], errors: Sequence[float]) -> None:
        """Add a row.

        Args:
            name: Name of the image.
            pictures: The original, and the reconstruction of each cell.
            errors: Error of each reconstruction.

        Raises:
            PolicyError: more than 2^27 pixels in all (``TOO_LARGE``).
        """
        self._wide = max(self._wide, pictures[0].width)
        self._high += GAP + pictures[0].height + LINE
        width, height = self._size
        if width * height > MAX_PIXELS:
            remedy = "Write to a folder, or give fewer images or a smaller size."
            found, expected = f"{width} x {height} pixels", f"at most {MAX_PIXELS} pixels"
            raise PolicyError("picture too large", code="TOO_LARGE", expected=expected, found=found, where=name, remedy=remedy)
        self._rows.append(([Path(name).name, *(f"MSE {error:.4g}" for error in errors)], list(pictures)))

    def to_bytes(self) -> bytes:
        """Return the whole as a PNG file."""
        sheet = Image.new("RGB", self._size, "white")
        draw = ImageDraw.Draw(sheet)
        self._write(draw, 0, self._titles)
        top = LINE + GAP
        for labels, pictures in self._rows:
            for column, picture in enumerate(pictures):
                sheet.paste(picture, (column * (self._wide + GAP), top))
            top += pictures[0].height
            self._write(draw, top, labels)
            top += LINE + GAP
        data = io.BytesIO()
        sheet.save(data, "PNG")
        return data.getvalue()

    @property
    def _size(self) -> tuple[int, int]:
        return len(self._titles) * (self._wide + GAP) - GAP, self._high

    def _write(self, draw: ImageDraw.ImageDraw, top: int, labels: Sequence[str]) -> None:
        """Write a line of labels, each cut to its column; of a path the end is what tells."""
        for column, label in enumerate(labels):
            text = label.encode("ascii", "replace").decode() if isinstance(self._font, ImageFont.ImageFont) else label
            while text and self._font.getlength(text) > self._wide:
                text = text[1:]
            draw.text((column * (self._wide + GAP), top), text, "black", self._font)
