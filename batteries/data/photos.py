"""Photographs from folders: decoded once, kept as 8-bit pyramids, cropped at random positions and scales.

Crops are RGB in [-1, 1]: x / 127.5 - 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from batteries import path_patterns, short_repr
from batteries.arguments import each
from batteries.engine.torch_settings import neutral
from batteries.errors import InputError, NotFoundError
from batteries.images.decoding import SUFFIXES, read_image

SMALLEST_SIDE = 16  # shorter side of the smallest scale kept
LONGEST_SIDE = 2048  # longer side of the largest scale kept: finer pixels are mostly camera noise


@dataclass(frozen=True)
class Skipped:
    """File with the suffix of an image that could not be read."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Photos:
    """Photographs in memory. Two are equal if their digests are.

    Attributes:
        names: File names relative to the folder, sorted.
        pyramids: Scales of each photograph, largest first, each (3, height, width) uint8.
        digest: SHA-256 over names and file bytes.
        skipped: Files that could not be read.

    >>> import batteries
    >>> from PIL import Image
    >>> Image.linear_gradient("L").save("gradient.png")
    >>> photos = batteries.read_photos("gradient.png")
    >>> photos.crops(batch=4, size=64, seed=0).shape
    torch.Size([4, 3, 64, 64])
    """

    names: tuple[str, ...]
    pyramids: tuple[tuple[Tensor, ...], ...]
    digest: str
    skipped: tuple[Skipped, ...]

    def __repr__(self) -> str:
        such = f" such as {self.names[0]}" if self.names else ""
        names = f"{short_repr.counted(len(self.names), 'photograph')}{such}"
        return short_repr.headed(self, names, f"{len(self.skipped)} skipped", f"digest={short_repr.digest(self.digest)}")

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Photos) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    @neutral()
    def crops(self, batch: int, size: int, seed: int) -> Tensor:
        """Cut random crops: photograph, scale, position and left-right flip are each uniform.

        Args:
            batch: Number of crops.
            size: Side in pixels.
            seed: Seed of the random choices.

        Returns:
            Crops (batch, 3, size, size), float32 in [-1, 1].

        Raises:
            InputError: every photograph is smaller than ``size``.
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
def read_photos(*sources: str | Path | Iterable[str | Path]) -> Photos:
    """Read photographs; unreadable files are skipped and recorded.

    Args:
        sources: Folders, searched with their subfolders for the usual image formats; files; glob patterns; or lists of these.

    Raises:
        NotFoundError: missing folder, or no readable image in any source.
        InputError: source that is neither a string nor a path (``PLACE``).

    >>> import batteries
    >>> from PIL import Image
    >>> Image.linear_gradient("L").save("gradient.png")
    >>> photos = batteries.read_photos("*.png")
    >>> photos.names
    ('gradient.png',)
    """
    listed = each(sources, (str, Path))
    names, pyramids, skipped = [], [], []
    digest = hashlib.sha256()
    for folder, path in _files_of(listed):
        name = path.relative_to(folder).as_posix()
        try:
            picture = read_image(path)
            with path.open("rb") as file:  # in pieces: a file is bounded, but may be far larger than its picture
                contents = hashlib.file_digest(file, "sha256").digest()
            digest.update(f"{name}\0".encode() + contents)
        except InputError as error:
            skipped.append(Skipped(path, str(error.found)))
            continue
        except UnicodeEncodeError:
            skipped.append(Skipped(path, "file name not Unicode"))
            continue
        names.append(name)
        pyramids.append(_pyramid(picture))
    if not names:
        raise NotFoundError(
            "no readable photograph",
            code="NO_IMAGES",
            expected=f"at least one of {' '.join(sorted(SUFFIXES))}",
            found=f"{len(skipped)} unreadable, such as {skipped[0].path}: {skipped[0].reason}" if skipped else "none",
            where=", ".join(str(place) for place in listed),
        )
    return Photos(tuple(names), tuple(pyramids), digest.hexdigest(), tuple(skipped))


def to_tensor(picture: Image.Image) -> Tensor:
    """Convert an RGB picture to (3, height, width) uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def to_float(pixels: Tensor) -> Tensor:
    """Convert pixels 0..255 to float32 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def _files_of(given: Sequence[object]) -> Iterator[tuple[Path, Path]]:
    """Yield (folder, file) of every image of the sources, sorted within each source."""
    for one in given:
        if not isinstance(one, str | Path):
            expected = "folders, files or glob patterns"
            raise InputError("not a source of photographs", code="PLACE", expected=expected, found=repr(one)[:60])
        place = Path(one)
        if not place.is_dir() and not place.exists() and not path_patterns.is_pattern(place):
            raise NotFoundError("no such folder", code="NO_FOLDER", where=place)
        folder, found = (place, path_patterns.below(place)) if place.is_dir() else path_patterns.matching(place)
        if not folder.is_dir():
            raise NotFoundError("no such folder", code="NO_FOLDER", where=place)
        yield from ((folder, path) for path in found if path.suffix.lower() in SUFFIXES)


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
